"""Types of the tuning methods: GRPO, likelihood continuation, VA-pi, entropy bonus, rewards.

The literals are the readings of the paper's open choices, listed in config/README.md. Never imports torch.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from artune.config.fields import Fraction, Frozen, NonNegative, Positive
from artune.config.yaml_layers import one_of
from artune.errors import ArtuneError, unknown

# Reward -> its meaning, shown beside the reward's curve in MLflow. Instance-level ones are modules of ``rewards/``.
REWARDS = {
    "clip": "cosine of image and prompt (paper, Sec. 3.2)",
    "hps": "a CLIP tuned on human preferences (paper, Sec. 3.2)",
    "loo_fid": "what one image contributes to the Fréchet distance between generated and reference features",
    "loo_fid_second": "LOO-FID in the features of another network (beyond the paper)",
    "maniqa": "no-reference image quality (paper, Table 4)",
}
DISTRIBUTION = ("loo_fid", "loo_fid_second")  # distribution-level rewards; each has its settings under its own name


def _known_reward(name: str) -> str:
    if name not in REWARDS:
        raise ValueError(unknown(name, REWARDS, "reward"))
    return name


RewardName = Annotated[str, AfterValidator(_known_reward)]


class GRPO(Frozen):
    """Policy optimisation (Sec. 3.1, Alg. 1)."""

    iterations: Positive
    prompts: Positive  # classes per iteration, each once unless prompts_drawn is with_replacement
    group_size: Annotated[int, Field(ge=2)]  # G
    epochs: Positive  # K
    clip: Annotated[float, Field(gt=0.0)]  # epsilon of Eq. 2
    beta: NonNegative  # weight of Eq. 3
    learning_rate: Annotated[float, Field(gt=0.0)]
    warmup: Annotated[int, Field(ge=0)] = 0  # iterations
    decay_from: Fraction = 1.0  # share of the iterations after which the learning rate falls linearly to 0
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    weight_decay: NonNegative = 0.01
    grad_clip: Annotated[float, Field(gt=0.0)] = 1.0
    gradients: Literal["synchronised", "local"] = "synchronised"  # local: not summed; rank 0's policy is kept
    ratio: Literal["mean", "product", "token"] = "mean"
    kl: Literal["mean", "product", "token"] = "mean"
    clip_sign: Literal["eq2", "alg1"] = "eq2"
    advantage_over: Literal["prompt", "batch"] = "prompt"
    advantage_std: Literal["n", "n-1"] = "n"
    advantage_epsilon: Annotated[float, Field(gt=0.0)] = 1e-4
    prompts_drawn: Literal["distinct", "with_replacement"] = "distinct"
    reference: Literal["frozen", "ema"] = "frozen"
    reference_decay: Fraction = 0.999
    score_logits: Literal["conditional", "guided"] = "conditional"
    score_softmax: Literal["full", "truncated"] = "full"  # truncated: over the tokens that top-k and top-p keep
    class_dropout: Fraction = 0.0  # rate while scoring
    dropout: Fraction = 0.0  # rate while scoring
    reduction: Literal["mean", "sum"] = "mean"  # how the loss is reduced over the samples of a group
    weights_dtype: Literal["float32", "bfloat16"] = "float32"
    decode_dtype: Literal["float32", "bfloat16"] = "float32"  # type of the token-to-image decoder while tuning
    autocast: Literal["off", "bfloat16"] = "off"
    # sequences per forward pass and process; auto: as many as fit. Rounding, slices and dropout depend on the number
    micro_batch: Positive | Literal["auto"] = 144
    checkpointing: Literal["off", "on", "auto"] = "off"  # recompute blocks in the backward pass; no number changes
    save_every: Positive = 10  # iterations between saved states


class MLE(Frozen):
    """Likelihood continuation (Table 12)."""

    iterations: Positive
    batch: Positive
    learning_rate: Annotated[float, Field(gt=0.0)]
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    weight_decay: NonNegative = 0.05
    grad_clip: Annotated[float, Field(gt=0.0)] = 1.0
    class_dropout: Fraction = 0.1
    dropout: Fraction = 0.1
    micro_batch: Positive | None = None  # sequences per forward pass and process; None: the process' whole share
    save_every: Positive = 50


class VAPi(Frozen):
    """VA-pi's policy alignment (Table 5), for a scale without its released policy."""

    iterations: Positive
    images: Positive  # training images per step
    group_size: Annotated[int, Field(ge=2)]  # G, sequences per image
    context_noise: Fraction  # share of the context's tokens that random tokens replace
    mse: NonNegative  # weight in the reward
    perceptual: NonNegative  # weight in the reward
    network: str  # network whose feature distance stands in for LPIPS
    advantage_epsilon: Annotated[float, Field(gt=0.0)] = 1e-8
    advantage_clip: Annotated[float, Field(gt=0.0)] = 5.0
    clip: Annotated[float, Field(gt=0.0)]  # epsilon of the ratio of each token
    epochs: Positive = 1
    cross_entropy: NonNegative  # weight of the likelihood of the image's own tokens
    learning_rate: Annotated[float, Field(gt=0.0)]
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    weight_decay: NonNegative = 1e-4
    grad_clip: Annotated[float, Field(gt=0.0)] = 1.0
    save_every: Positive = 10


class Entropy(Frozen):
    """Adaptive entropy bonus (Sec. 3.3, App. C)."""

    enabled: bool = True
    c0: NonNegative
    c_min: NonNegative
    c_max: NonNegative
    warmup: Fraction
    decay_from: Fraction
    decay_to: Literal["zero", "c_min"] = "zero"
    target: float  # fraction of log K; with target_is: offset, the difference to the initial fraction
    target_is: Literal["absolute", "offset"] = "absolute"
    deadband: NonNegative
    gain: NonNegative  # k of Eq. 33
    over: Literal["batch", "slice"] = "batch"  # the feedback sees the mean entropy of the batch, or of a slice

    @model_validator(mode="before")
    @classmethod
    def _off(cls, values: Any) -> Any:
        """``{enabled: false}`` is complete: nothing else is used."""
        needed = ("c0", "c_min", "c_max", "warmup", "decay_from", "target", "deadband", "gain")
        return dict.fromkeys(needed, 0.0) | values if values == {"enabled": False} else values

    @model_validator(mode="after")
    def _ordered(self) -> "Entropy":
        if self.c_min > self.c_max:
            raise ValueError(f"c_min {self.c_min} is above c_max {self.c_max}")
        if self.warmup > self.decay_from:
            raise ValueError(f"warmup {self.warmup} is above decay_from {self.decay_from}")
        return self


class LooFidSettings(Frozen):
    """The distribution-level reward (Sec. 3.2, App. B)."""

    network: str
    mode: Literal["ema", "batch"] = "ema"
    alpha: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    epsilon: NonNegative = 1e-6  # for covariance: diag; a full covariance needs none
    covariance: Literal["diag", "full"] = "diag"
    pca: Positive | None = None
    start: Literal["pretrained", "first_batch", "assign", "zero"] = "pretrained"
    reference: Literal["marginal", "class_matched"] = "marginal"  # moments of the data set, or of the batch's classes
    shards: Positive = 1  # slices of the batch, each with its own leave-one-out; 1: the whole batch
    start_samples: Positive = 1024  # images drawn from the pretrained policy for start: pretrained

    @model_validator(mode="after")
    def _matches_variances(self) -> "LooFidSettings":
        if self.reference == "class_matched" and (self.covariance != "diag" or self.pca is not None):
            raise ValueError("reference: class_matched holds only variances; it needs covariance: diag and pca: null")
        return self


class Rewards(Frozen):
    """The rewards, their weights, and how they are combined into one advantage (Eq. 4)."""

    terms: tuple[RewardName, ...] = Field(min_length=1)
    weights: dict[RewardName, NonNegative]  # 1 for a reward without an entry
    units: dict[RewardName, Annotated[float, Field(gt=0.0)]]  # 1 for a reward without an entry
    combine: Literal["sum", "separate"] = "sum"
    groups: tuple[tuple[RewardName, ...], ...] | None = None  # for separate: normalised together; None: each alone
    group_weights: tuple[NonNegative, ...] | None = None
    add: Literal["advantages", "losses"] = "advantages"  # for separate: what is summed over the groups
    networks: dict[RewardName, str | None]  # networks of the instance-level rewards; null: none needed
    autocast: Literal["off", "bfloat16"] = "off"  # for the rewards' networks; LOO-FID's features are always float32
    loo_fid: LooFidSettings = LooFidSettings(network="")  # unused unless it is one of terms
    loo_fid_second: LooFidSettings = LooFidSettings(network="")  # likewise; a run's are loo_fid's where it names none

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("terms"), list | tuple):
            return values
        ones = {term: 1.0 for term in values["terms"] if isinstance(term, str)}
        return values | {key: ones | values[key] for key in ("weights", "units") if isinstance(values.get(key), dict)}

    @model_validator(mode="after")
    def _consistent(self) -> "Rewards":
        if len(set(self.terms)) != len(self.terms):
            raise ValueError(f"terms: {list(self.terms)} names a reward twice")
        for name, settings in self.distribution.items():
            if not settings.network:
                raise ValueError(f"{name}: missing; the reward {name} needs its settings")
            if settings.reference == "class_matched" and name != "loo_fid":
                raise ValueError(f"{name}.reference: class_matched is for loo_fid alone; set it to marginal")
        for name in self.terms:
            if name not in (*self.networks, *DISTRIBUTION):
                raise ValueError(f"networks: need an entry for {name}, null if it looks at the images alone")
        grouped = [name for group in self.groups or () for name in group]
        if len(set(grouped)) != len(grouped):
            raise ValueError("groups: a reward is in two groups and would count twice")
        if self.groups is not None and not set(self.terms) <= set(grouped):
            raise ValueError("groups: every reward of terms must be in a group")
        if self.group_weights is not None and len(self.group_weights) != len(self.groups or ()):
            raise ValueError("group_weights: give one weight per group")
        return self

    @property
    def distribution(self) -> dict[str, LooFidSettings]:
        """The settings of each distribution-level reward among the terms."""
        return {name: getattr(self, name) for name in DISTRIBUTION if name in self.terms}


def reward_networks(rewards: Any, networks: Mapping[str, Any], where: str) -> list[str]:
    """The networks that a section ``rewards`` needs, of all ``networks``.

    Raises:
        ArtuneError: a reward or a network is unknown; the message begins with ``where``.
    """
    terms = rewards.get("terms") if isinstance(rewards, dict) else None
    if not isinstance(terms, list) or not all(isinstance(term, str) for term in terms):
        raise ArtuneError(f"{where}: rewards.terms: must be a list such as [clip, hps]")
    named = rewards["networks"] | {name: rewards.get(name, {}).get("network") for name in DISTRIBUTION}
    needed = set()
    for term in terms:
        if term not in REWARDS:
            raise ArtuneError(f"{where}: rewards: {unknown(term, REWARDS)}")
        network = named.get(term, "none given")
        if network is None and term in DISTRIBUTION:
            raise ArtuneError(f"{where}: rewards.{term}.network: missing; name one of {', '.join(networks)}")
        if network is None:
            continue
        if not one_of(network, networks):
            raise ArtuneError(f"{where}: rewards: {unknown(network, networks, 'network')}")
        needed.add(network)
    return sorted(needed)


def used_rewards(rewards: dict[str, Any]) -> dict[str, Any]:
    """The part of a section ``rewards`` that decides anything: what belongs to a reward outside ``terms`` is left out.

    A run's settings hold only this part, so that a new reward or another reward's setting outdates no run. A second
    LOO-FID takes what it does not set from the first.
    """
    terms = rewards["terms"]
    unused = {*(name for name in DISTRIBUTION if name not in terms),
              *(["groups", "group_weights", "add"] if rewards.get("combine", "sum") == "sum" else [])}  # fmt: skip
    used = {key: value for key, value in rewards.items() if key not in unused}
    if isinstance(used.get("loo_fid_second"), dict) and isinstance(rewards.get("loo_fid"), dict):
        used["loo_fid_second"] = rewards["loo_fid"] | used["loo_fid_second"]
    for key in ("weights", "units", "networks"):
        if isinstance(used.get(key), dict):
            used[key] = {name: value for name, value in used[key].items() if name in terms}
    return used


# Settings of a run that change no number: how often a state is saved, what a backward pass computes twice.
NO_NUMBER = (("grpo", "save_every"), ("grpo", "checkpointing"), ("mle", "save_every"), ("vapi", "save_every"))


def deciding(spec: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run without those that change no number: a change of them outdates nothing."""
    kept = dict(spec)
    for section, key in NO_NUMBER:
        if isinstance(kept.get(section), dict):
            kept[section] = {name: value for name, value in kept[section].items() if name != key}
    return kept


def with_present(spec: dict[str, Any], present: dict[str, Any]) -> dict[str, Any]:
    """A run's settings with the present values of those that change no number."""
    kept = dict(spec)
    for section, key in NO_NUMBER:
        if isinstance(kept.get(section), dict) and key in (present.get(section) or {}):
            kept[section] = kept[section] | {key: present[section][key]}
    return kept


def used(spec: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run that decide anything, so that a setting that it does not use outdates nothing of it."""
    kept = dict(spec)
    if isinstance(kept.get("rewards"), dict):
        kept["rewards"] = used_rewards(kept["rewards"])
    if isinstance(kept.get("entropy"), dict) and kept["entropy"].get("enabled") is False:
        kept["entropy"] = {"enabled": False}
    if isinstance(kept.get("data"), dict):  # how many images a reference takes is a matter of that reference
        kept["data"] = {key: value for key, value in kept["data"].items() if key != "moment_images"}
    return kept


def snapshot_name(share: float) -> str:
    """The file, in a run's folder, of the weights after a share of the iterations: ``snapshots/25.safetensors``."""
    return f"snapshots/{100 * share:g}.safetensors"
