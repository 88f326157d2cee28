"""Types of a run's settings: frozen; unknown keys are errors; a default is the behaviour before the key existed.

A field's name is its YAML key and its MLflow parameter (``grpo.beta``). The values and their sources are in
``config/*.yaml``; :mod:`artune.config.registry` merges the layers. This module says what is tuned and how it is scored;
:mod:`artune.config.methods` says how it is tuned. Never imports torch.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from artune.config.fields import SOURCES, Fraction, Frozen, NonNegative, Positive, check_source
from artune.config.methods import DISTRIBUTION, GRPO, MLE, Entropy, Rewards, VAPi
from artune.config.yaml_layers import Tree, parse, read_yaml
from artune.errors import ArtuneError, brief, unknown

JUDGING = ("cmmd", "dinov2")  # roles of networks that embed images for a metric of their own


class Data(Frozen):
    """The image data set of a scale."""

    source: str  # a key of SOURCES
    files: tuple[str, ...] = ()  # keys of assets.yaml; with a second half, all held-out images are taken from that
    image_size: Positive  # side in pixels, as rewards and evaluation see it
    classes: Positive
    class_names: tuple[str, ...] = ()  # empty: ImageNet's first aliases, from torchvision
    prompt: str = "a photo of {}"  # open choice 28
    templates: tuple[str, ...] = ()  # further wordings for networks that are trained on captions here; empty: digits'
    train_per_class: Positive | None = None
    validation_per_class: Positive | None = None
    heldout_per_class: Positive | None = None  # the evaluation reference
    moment_images: Annotated[int, Field(ge=2)] | None = None  # ImageNet images for LOO-FID's moments; None: all

    @property
    def embedded(self) -> bool:
        """Whether the images lie in data.npz with splits of their own, on which all networks are trained."""
        return SOURCES[self.source].embedded

    @model_validator(mode="after")
    def _consistent(self) -> "Data":
        check_source(self.source, len(self.files))
        for key, text in [("prompt", self.prompt), *(("templates", text) for text in self.templates)]:
            if text.count("{}") != 1:
                raise ValueError(f"{key}: {brief(text)} must hold {{}} once, where the class name goes")
        return self


class Training(Frozen):
    """Supervised training of a tokenizer, prior or frozen network at a scale that has no released weights."""

    steps: Positive
    batch: Positive
    learning_rate: Annotated[float, Field(gt=0.0)]
    weight_decay: NonNegative = 0.0
    class_dropout: Fraction = 0.0  # label replaced by the null class (classifier-free guidance)
    dropout: Fraction = 0.0
    per_class: Positive | None = None  # images of each class that a network learns from; None: all
    jitter: bool = True  # whether classifiers and CLIP see their images moved, scaled and with noise


class Tokenizer(Frozen):
    """An image tokenizer: VQ-16 of LlamaGen (``vq``) or taming's VQGAN (``vqgan``)."""

    family: Literal["vq", "vqgan"]
    channels: Positive
    channel_multipliers: tuple[Positive, ...]
    residual_blocks: Positive
    latent_channels: Positive
    codebook_size: Positive
    codebook_dim: Positive
    norm_groups: Positive = 32
    attention_resolutions: tuple[Positive, ...] = ()  # vqgan only; vq attends at its lowest resolution
    checkpoint: str | None = None  # a key of assets.yaml
    train: Training | None = None

    @property
    def downsampling(self) -> int:
        """Pixels per token along each side."""
        return 2 ** (len(self.channel_multipliers) - 1)


class Backbone(Frozen):
    """An autoregressive policy and where its pretrained weights come from."""

    family: Literal["llamagen", "vqgan"]
    tokenizer: str
    dim: Positive
    layers: Positive
    heads: Positive
    classes: Positive
    codebook_size: Positive
    tokens: Positive  # T, the square of the grid side
    ffn_multiple_of: Positive = 256
    uint8_rule: Literal["llamagen", "taming"] = "llamagen"  # open choice 30
    checkpoint: str | None = None
    train: Training | None = None

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Backbone":
        if self.dim % self.heads or (self.dim // self.heads) % 4:
            raise ValueError("dim: must be a multiple of 4 * heads (two rotary axes of channel pairs)")
        if round(self.tokens**0.5) ** 2 != self.tokens:
            raise ValueError(f"tokens: {self.tokens} is not a square")
        return self


class Network(Frozen):
    """A frozen network behind a reward or a metric."""

    kind: Literal[
        "classifier", "clip", "preference", "quality",  # trained here
        "inception", "inception_torchvision", "open_clip", "hpsv2", "maniqa", "dinov2", "efficientnet",  # released
    ]  # fmt: skip
    architecture: str
    checkpoint: str | None = None
    train: Training | None = None


class Sampling(Frozen):
    """How tokens are drawn, both while tuning and while evaluating (App. D)."""

    cfg: Annotated[float, Field(ge=1.0)] = 1.5
    cfg_interval: Annotated[int, Field(ge=-1)] = -1  # -1: guidance on every token
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0  # 0: off
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    weights_dtype: Literal["own", "bfloat16"] = "own"  # type of weights and cache while drawing; logits are float32
    rows: Positive | None = None  # images drawn at once, which changes no draw; None: as many as fit the device


class Evaluation(Frozen):
    """How samples are scored; one protocol for all runs of a scale."""

    samples: Positive
    batch: Positive
    seed: int
    labels: Literal["random", "balanced"]
    features: str  # network of FID, KID, Precision, Recall
    classifier: str  # network of IS and accuracy
    clip: str  # network of CLIPScore
    reward_features: str  # the LOO-FID reward's own network, in separate columns
    reward_clip: str  # the CLIP reward's own network, in a separate column
    reference: str  # name of the reference, which every row carries
    precision_recall: Literal["exact", "adm_half"]
    neighbours: Positive = 3
    inception_split: Positive = 5000
    inception_shuffle: bool = False  # shuffle the file order (evaluation.seed) before it is split
    references: tuple[str, ...] = ()  # further references (keys of assets.yaml), each scored beside the first
    density_neighbours: Positive | None = None  # k of density and coverage; None: neither
    cmmd: str | None = None  # network of CMMD; None: no CMMD
    dinov2: str | None = None  # network of FD-DINOv2; None: no FD-DINOv2
    efficientnet: str | None = None  # embedded scales: a judge that nobody here trained; None: none
    grid_classes: Positive = 10
    grid_per_class: Positive = 6

    @property
    def networks(self) -> dict[str, str]:
        """Role -> network, for the roles that are filled."""
        roles = ("features", "classifier", "clip", "reward_features", "reward_clip", *JUDGING, "efficientnet")
        return {role: getattr(self, role) for role in roles if getattr(self, role) is not None}

    @property
    def judges(self) -> dict[str, str]:
        """As :attr:`networks`, for the roles whose embeddings of real images a reference holds."""
        return {role: name for role, name in self.networks.items() if role in JUDGING}


class BaseRun(Frozen):
    """Settings of every run: everything that decides its weights and its samples, and nothing else."""

    name: str
    base: str  # the registry's name, without the seed
    seed: Annotated[int, Field(ge=0)]
    tokenizer_seed: Annotated[int, Field(ge=0)] = 0
    networks_seed: Annotated[int, Field(ge=0)] = 0  # number of the set of frozen networks, of rewards and evaluation
    scale: str
    preset: str
    method: str
    data: Data
    networks: dict[str, Network]  # frozen networks of the rewards


class PolicyRun(BaseRun):
    """A run whose samples are drawn from a policy."""

    policy: str | None = None  # the run whose policy is sampled; None: its own
    at: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None  # share of the iterations after which it is sampled
    tokenizer: Tokenizer
    backbone_name: str
    backbone: Backbone
    sampling: Sampling

    @model_validator(mode="after")
    def _policy_fits(self) -> "PolicyRun":
        if self.backbone.family == "vqgan" and self.sampling.cfg != 1.0:
            raise ValueError("sampling.cfg: the VQGAN policy has no null class; only 1.0 is possible")
        if self.backbone.codebook_size != self.tokenizer.codebook_size:
            raise ValueError("backbone.codebook_size: differs from the tokenizer's")
        return self


class GrpoRun(PolicyRun):
    """A policy tuned by GRPO: the paper's method, its baselines and its ablations."""

    method: Literal["grpo"]
    grpo: GRPO
    entropy: Entropy
    rewards: Rewards

    @model_validator(mode="after")
    def _batch_fits(self) -> "GrpoRun":
        if self.grpo.prompts_drawn == "distinct" and self.grpo.prompts > self.data.classes:
            raise ValueError(f"grpo.prompts: {self.grpo.prompts} distinct prompts of {self.data.classes} classes")
        images = self.grpo.prompts * self.grpo.group_size
        for name in DISTRIBUTION:
            shards = getattr(self.rewards, name).shards
            if images % shards or images // shards < 2:
                raise ValueError(f"rewards.{name}.shards: {images} images cannot be cut into {shards} equal slices")
        return self


class MleRun(PolicyRun):
    """A policy whose pre-training is continued (Table 12)."""

    method: Literal["mle"]
    mle: MLE


class VapiRun(PolicyRun):
    """A policy tuned by VA-pi (Table 5)."""

    method: Literal["vapi"]
    vapi: VAPi

    @model_validator(mode="after")
    def _images_are_there(self) -> "VapiRun":
        if not self.data.embedded:
            raise ValueError("method: vapi needs the images behind the token codes; use external")
        return self


class SampledRun(PolicyRun):
    """A policy that is sampled without tuning: the pretrained one, or one that others released."""

    method: Literal["pretrained", "external"]
    checkpoint: str | None = None  # external only: a key of assets.yaml


class RealRun(BaseRun):
    """Real images in place of samples."""

    method: Literal["real"]
    images: str  # a split of the scale's data, or a key of assets.yaml


Run = GrpoRun | MleRun | VapiRun | SampledRun | RealRun
RUNS: dict[str, type[Run]] = {
    "grpo": GrpoRun, "mle": MleRun, "vapi": VapiRun, "pretrained": SampledRun, "external": SampledRun, "real": RealRun,
}  # fmt: skip


def parse_run(tree: Tree, where: str) -> Run:
    """The typed settings of a run.

    Raises:
        ArtuneError: an unknown method, an unknown key, or a value out of range; names ``where`` and the key.
    """
    method = tree.get("method") if isinstance(tree, dict) else None
    if not isinstance(method, str) or method not in RUNS:
        raise ArtuneError(f"{where}: method: {unknown(method, RUNS)}")
    return parse(RUNS[method], tree, where)


def read_run(path: Path | str) -> Run:
    """The resolved settings in a run's config.yaml. Raises ArtuneError: as :func:`parse_run`, or no such file."""
    return parse_run(read_yaml(Path(path)), str(path))


def read_policy_run(path: Path | str) -> PolicyRun:
    """As :func:`read_run`, for a run with a policy. Raises ArtuneError: the run has no policy."""
    return policy_run(read_run(path), path)


def policy_run(run: Run, path: Path | str) -> PolicyRun:
    """The run itself, if it has a policy. Raises ArtuneError: the run of the file ``path`` has none."""
    if isinstance(run, RealRun):
        raise ArtuneError(f"{path}: method real has no policy; name a run that has one")
    return run


def grpo_run(run: Run) -> GrpoRun:
    """The run itself, if GRPO tunes it. Raises ArtuneError: another method does."""
    if not isinstance(run, GrpoRun):
        raise ArtuneError(f"{run.name}: method {run.method}; a run of method grpo is needed")
    return run
