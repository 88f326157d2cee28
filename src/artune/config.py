"""Types of the configuration: frozen, unknown keys refused, every default the behaviour before the key existed.

Field names are YAML keys are MLflow parameter names (``grpo.beta``); the values and their sources are in
``config/*.yaml``, the merging of layers in :mod:`artune.registry`. This module never imports torch.
"""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
RewardName = Literal["clip", "hps", "loo_fid", "maniqa"]
REWARDS: tuple[RewardName, ...] = get_args(RewardName)


class Frozen(BaseModel):
    """Immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Data(Frozen):
    """The image data set of a scale."""

    source: Literal["mnist", "imagenet"]
    image_size: Positive  # side, pixels; what rewards and evaluation see
    classes: Positive
    class_names: tuple[str, ...] = ()  # empty: ImageNet's, from open_clip
    prompt: str = "a photo of {}"  # open choice 28
    train_per_class: Positive | None = None
    validation_per_class: Positive | None = None
    heldout_per_class: Positive | None = None  # the evaluation reference

    @model_validator(mode="after")
    def _prompt_has_a_place(self) -> "Data":
        if self.prompt.count("{}") != 1:
            raise ValueError(f"prompt: {self.prompt!r} must hold {{}} once, where the class name goes")
        return self


class Training(Frozen):
    """Supervised training of a tokenizer, prior or frozen network at a scale that has no released weights."""

    steps: Positive
    batch: Positive
    learning_rate: Annotated[float, Field(gt=0.0)]
    weight_decay: NonNegative = 0.0
    class_dropout: Fraction = 0.0  # label replaced by the null class (classifier-free guidance)
    dropout: Fraction = 0.0


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
        """Pixels a token side."""
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

    kind: Literal["classifier", "clip", "preference", "quality", "inception", "open_clip", "hpsv2", "maniqa"]
    architecture: str
    checkpoint: str | None = None
    train: Training | None = None


class Sampling(Frozen):
    """How tokens are drawn, the same while tuning and while evaluating (App. D)."""

    cfg: Annotated[float, Field(ge=1.0)] = 1.5
    cfg_interval: Annotated[int, Field(ge=-1)] = -1  # -1: guidance on every token
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0  # 0: off
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0


class GRPO(Frozen):
    """Policy optimisation (Sec. 3.1, Alg. 1). The literals are the readings of config/README.md's open choices."""

    iterations: Positive
    prompts: Positive  # distinct classes of an iteration
    group_size: Annotated[int, Field(ge=2)]  # G
    epochs: Positive  # K
    clip: Annotated[float, Field(gt=0.0)]  # epsilon of Eq. 2
    beta: NonNegative  # weight of Eq. 3
    learning_rate: Annotated[float, Field(gt=0.0)]
    warmup: Annotated[int, Field(ge=0)] = 0  # iterations
    decay_from: Fraction = 1.0  # share of the iterations after which the rate falls linearly to 0
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    weight_decay: NonNegative = 0.01
    grad_clip: Annotated[float, Field(gt=0.0)] = 1.0
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
    score_softmax: Literal["full", "truncated"] = "full"  # truncated: over what top-k and top-p leave
    class_dropout: Fraction = 0.0  # while scoring
    dropout: Fraction = 0.0  # while scoring
    reduction: Literal["mean", "sum"] = "mean"  # over the samples of the loss
    weights_dtype: Literal["float32", "bfloat16"] = "float32"
    autocast: Literal["off", "bfloat16"] = "off"
    micro_batch: Positive = 144  # sequences a forward; changes rounding, and what entropy.over: slice and dropouts see
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
    save_every: Positive = 50


class Entropy(Frozen):
    """Adaptive entropy bonus (Sec. 3.3, App. C)."""

    enabled: bool = True
    c0: NonNegative
    c_min: NonNegative
    c_max: NonNegative
    warmup: Fraction
    decay_from: Fraction
    decay_to: Literal["zero", "c_min"] = "zero"
    target: float  # a fraction of log K, or what is added to the initial one
    target_is: Literal["absolute", "offset"] = "absolute"
    deadband: NonNegative
    gain: NonNegative  # k of Eq. 33
    over: Literal["batch", "slice"] = "batch"  # the mean that the feedback sees

    @model_validator(mode="after")
    def _ordered(self) -> "Entropy":
        if self.c_min > self.c_max:
            raise ValueError(f"c_min {self.c_min} is above c_max {self.c_max}")
        if self.warmup > self.decay_from:
            raise ValueError(f"warmup {self.warmup} is above decay_from {self.decay_from}")
        return self


class LooFid(Frozen):
    """The distribution-level reward (Sec. 3.2, App. B)."""

    network: str
    mode: Literal["ema", "batch"] = "ema"
    alpha: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    epsilon: NonNegative = 1e-6  # covariance: diag only; a full covariance needs none
    covariance: Literal["diag", "full"] = "diag"
    pca: Positive | None = None
    start: Literal["pretrained", "first_batch", "assign", "zero"] = "pretrained"
    shards: Positive = 1  # slices that leave one out of themselves; 1: of the whole batch
    start_samples: Positive = 1024  # images of the pretrained policy behind start: pretrained


class Rewards(Frozen):
    """Which rewards, their weights, and how they become one advantage (Eq. 4)."""

    terms: tuple[RewardName, ...] = Field(min_length=1)
    weights: dict[RewardName, NonNegative]
    units: dict[RewardName, Annotated[float, Field(gt=0.0)]]
    combine: Literal["sum", "separate"] = "sum"
    groups: tuple[tuple[RewardName, ...], ...] | None = None  # separate: normalised together; None: each alone
    group_weights: tuple[NonNegative, ...] | None = None
    add: Literal["advantages", "losses"] = "advantages"  # separate: where the groups are added
    networks: dict[RewardName, str]  # of the instance-level rewards
    loo_fid: LooFid

    @model_validator(mode="after")
    def _consistent(self) -> "Rewards":
        if len(set(self.terms)) != len(self.terms):
            raise ValueError(f"terms: {list(self.terms)} names a reward twice")
        for name in self.terms:
            if name not in self.weights or name not in self.units or name not in (*self.networks, "loo_fid"):
                raise ValueError(f"weights, units and networks: need an entry for {name}")
        grouped = [name for group in self.groups or () for name in group]
        if len(set(grouped)) != len(grouped):
            raise ValueError("groups: a reward stands in two groups and would count twice")
        if self.groups is not None and not set(self.terms) <= set(grouped):
            raise ValueError("groups: every reward of terms must be in a group")
        if self.group_weights is not None and len(self.group_weights) != len(self.groups or ()):
            raise ValueError("group_weights: one weight a group")
        return self


class Evaluation(Frozen):
    """How samples are scored; one protocol for all runs of a scale."""

    samples: Positive
    batch: Positive
    seed: int
    labels: Literal["random", "balanced"]
    features: str  # network of FID, KID, Precision, Recall
    classifier: str  # network of IS and accuracy
    clip: str  # network of CLIPScore
    reward_features: str  # the reward's own, in columns of their own
    reward_clip: str
    reference: str  # the name that every row carries
    precision_recall: Literal["exact", "adm_half"]
    neighbours: Positive = 3
    inception_split: Positive = 5000
    inception_shuffle: bool = False  # shuffle the file order (evaluation.seed) before it is split
    references: tuple[str, ...] = ()  # further references (keys of assets.yaml), each scored beside the first
    density_neighbours: Positive | None = None  # k of density and coverage; None: neither
    cmmd: str | None = None  # network of CMMD; None: no CMMD
    grid_classes: Positive = 10
    grid_per_class: Positive = 6

    @property
    def networks(self) -> dict[str, str]:
        """Role -> network, of the roles that are filled."""
        roles = ("features", "classifier", "clip", "reward_features", "reward_clip", "cmmd")
        return {role: getattr(self, role) for role in roles if getattr(self, role) is not None}


class Run(Frozen):
    """A run, resolved: everything that decides its weights and its samples, and nothing else."""

    name: str
    base: str  # the registry's name, without the seed
    seed: Annotated[int, Field(ge=0)]
    scale: str
    preset: str
    method: Literal["grpo", "mle", "pretrained", "external"]
    checkpoint: str | None = None  # external only: a key of assets.yaml
    data: Data
    tokenizer: Tokenizer
    backbone_name: str
    backbone: Backbone
    networks: dict[str, Network]
    sampling: Sampling
    grpo: GRPO | None = None
    mle: MLE | None = None
    entropy: Entropy | None = None
    rewards: Rewards | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Run":
        if self.backbone.family == "vqgan" and self.sampling.cfg != 1.0:
            raise ValueError("sampling.cfg: the VQGAN policy has no null class; only 1.0 is possible")
        if self.method == "grpo" and self.grpo is not None and self.rewards is not None:
            if self.grpo.prompts_drawn == "distinct" and self.grpo.prompts > self.data.classes:
                raise ValueError(f"grpo.prompts: {self.grpo.prompts} distinct of {self.data.classes} classes")
            images, shards = self.grpo.prompts * self.grpo.group_size, self.rewards.loo_fid.shards
            if images % shards or images // shards < 2:
                raise ValueError(f"rewards.loo_fid.shards: {images} images cannot be cut into {shards} equal slices")
        if self.backbone.codebook_size != self.tokenizer.codebook_size:
            raise ValueError("backbone.codebook_size: differs from the tokenizer's")
        return self
