"""Every number that is logged or scored, once, with what it means.

A new score is one entry of :data:`SCORES`: its column in the tables, its names in MLflow, whether a claim may name it
and whatever else depends on which scores there are is read from that entry.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from artune.config.fields import Column, Score
from artune.config.methods import REWARDS

# Role of a network that computes the paper's scores -> the role of the reward's network, which is the same one in the
# paper, and its name there.
ROLES = {
    "features": ("reward_features", "inception"),
    "classifier": ("reward_features", "inception"),
    "clip": ("reward_clip", "clip"),
}
THIRD = "an ImageNet classifier that nobody trained here"
# Ways to compute a standard error.
JACKKNIFE = "jackknife over samples"
BINOMIAL = "binomial"
OF_MEAN = "standard deviation over the square root of the number of samples"


SCORES: dict[str, Score] = {
    "fid": Score(
        "Fréchet distance to the reference, features of the judge's network",
        Column("FID", better=-1, decimals=2, paper_decimals=2),
        standard_error=JACKKNIFE,
        against_reference=True,
        compared=True,
        role="features",
        others=("fd_dinov2", "cmmd", "fd_efficientnet"),
        beside={
            "bias_corrected": "fid without the jackknife's estimate of the bias of a finite sample; "
            "missing where that estimate is outside its own error, as with fewer than 10 samples per feature"
        },
    ),
    "kid": Score(
        "unbiased polynomial-kernel distance to the reference, features of the judge's network",
        Column("KID", better=-1, decimals=4, paper_decimals=4),
        standard_error=JACKKNIFE,
        against_reference=True,
        compared=True,
        role="features",
        others=("kid_efficientnet",),
    ),
    "inception_score": Score(
        "Inception Score by the judge's classifier",
        Column("IS", better=+1, decimals=2, paper_decimals=2),
        standard_error=JACKKNIFE,
        compared=True,
        role="classifier",
        beside={"std": "standard deviation of inception_score over chunks of samples"},
    ),
    "precision": Score(
        "share of samples inside the reference's neighbourhoods, in the mode of the evaluation",
        Column("Precision", better=+1, decimals=3, paper_decimals=2),
        standard_error=BINOMIAL,
        against_reference=True,
        compared=True,
        role="features",
        others=("precision_dinov2", "precision_efficientnet"),
        beside={
            "exact": "precision with exact distances",
            "adm_half": "precision with distances rounded as the official evaluator does",
        },
    ),
    "recall": Score(
        "share of the reference inside the samples' neighbourhoods, in the mode of the evaluation",
        Column("Recall", better=+1, decimals=3, paper_decimals=2),
        standard_error=None,
        binomial=True,
        against_reference=True,
        compared=True,
        role="features",
        others=("recall_dinov2", "recall_efficientnet"),
        beside={
            "exact": "recall with exact distances",
            "adm_half": "recall with distances rounded as the official evaluator does",
        },
    ),
    "clip_score": Score(
        "mean cosine of sample and class prompt, CLIP network of the judge",
        Column("CLIPScore", better=+1, decimals=4, paper_decimals=4),
        standard_error=OF_MEAN,
        compared=True,
        role="clip",
    ),
    "accuracy": Score(
        "share of samples that the judge's classifier gives the class they were drawn for",
        Column("Accuracy", better=+1, decimals=3, paper_decimals=3),
        standard_error=None,
        binomial=True,
        compared=True,
        role="classifier",
    ),
    "fid_reward": Score(
        "Fréchet distance in the features of the LOO-FID reward's own network",
        Column("FID (reward's network)", better=-1, decimals=2, paper_decimals=2),
        standard_error=JACKKNIFE,
    ),
    "clip_score_reward": Score(
        "mean cosine by the CLIP reward's own network",
        Column("CLIPScore (reward's network)", better=+1, decimals=4, paper_decimals=4),
        standard_error=OF_MEAN,
    ),
    "sfid": Score(
        "Fréchet distance in spatial features of the judge's network",
        Column("sFID", better=-1, decimals=2, paper_decimals=2),
        standard_error=None,
        against_reference=True,
        judge=True,
    ),
    "density": Score(
        "reference neighbourhoods that a sample lies in, over their k",
        Column("Density", better=+1, decimals=3, paper_decimals=3),
        standard_error=None,
        against_reference=True,
        judge=True,
    ),
    "coverage": Score(
        "share of the reference's neighbourhoods that hold a sample",
        Column("Coverage", better=+1, decimals=3, paper_decimals=3),
        standard_error=None,
        against_reference=True,
        judge=True,
    ),
    "cmmd": Score(
        "Gaussian-kernel distance of CLIP embeddings to the reference, a thousandfold",
        Column("CMMD", better=-1, decimals=3, paper_decimals=3),
        standard_error=JACKKNIFE,
        against_reference=True,
        judge=True,
        role="cmmd",
    ),
    "fd_dinov2": Score(
        "Fréchet distance in DINOv2's features",
        Column("FD-DINOv2", better=-1, decimals=1, paper_decimals=1),
        standard_error=JACKKNIFE,
        against_reference=True,
        judge=True,
        role="dinov2",
    ),
    "fd_efficientnet": Score(
        f"Fréchet distance in the features of {THIRD}",
        Column("FD (EfficientNet)", better=-1, decimals=1, paper_decimals=1),
        standard_error=JACKKNIFE,
        against_reference=True,
        judge=True,
        role="efficientnet",
    ),
    "loo_fid_ms": Score(
        "median time of the LOO-FID reward in an iteration, milliseconds",
        Column("LOO-FID time (ms)", better=-1, decimals=1, paper_decimals=0),
        standard_error=None,
    ),
}


def _by(metric: str, network: str, meant: str, role: str = "") -> Score:
    """The entry of the score ``metric`` by another network: the reward's own, or that of a judge's ``role``."""
    score = SCORES[metric]
    column = replace(score.column, heading=f"{score.column.heading} ({network})")
    return Score(
        f"{metric} {meant}",
        column,
        standard_error=score.standard_error,
        binomial=score.binomial,
        against_reference=bool(role),
        judge=bool(role),
        of_reward=not role,
        role=role,
    )


for _metric in ("inception_score", "precision", "recall", "kid", "accuracy"):
    SCORES[f"{_metric}_reward"] = _by(_metric, "reward's network", "by the LOO-FID reward's own network")
for _metric, _network, _whose in (
    ("precision", "DINOv2", "DINOv2"), ("recall", "DINOv2", "DINOv2"), ("kid", "EfficientNet", THIRD),
    ("precision", "EfficientNet", THIRD), ("recall", "EfficientNet", THIRD),
):  # fmt: skip
    _role = _network.lower()
    SCORES[f"{_metric}_{_role}"] = _by(_metric, _network, f"in the features of {_whose}", _role)


# Numbers that ``scores.json`` may lack -> the reason, which stands there under ``missing`` and in a table's ``note``.
MAY_BE_MISSING = {
    "fid_bias_corrected": "too few samples for the number of features: "
    "the correction would be outside its own error (docs/evaluation.md)"
}


def _names(chosen: Callable[[Score], bool]) -> tuple[str, ...]:
    return tuple(name for name, score in SCORES.items() if chosen(score))


COLUMNS: dict[str, Column] = {name: score.column for name, score in SCORES.items()}
JUDGES = _names(lambda score: score.judge)
WHERE_COMPUTED = (*_names(lambda score: score.of_reward), *JUDGES)  # every table shows those that the evaluation has
AGAINST = _names(lambda score: score.against_reference)
COMPARED = _names(lambda score: score.compared)
CLAIMABLE = _names(lambda score: score.error_known)  # a claim needs scores with a standard error


def _meanings(name: str, score: Score) -> Iterator[tuple[str, str]]:
    """Names and meanings of the numbers in ``scores.json`` that belong to a score, the score itself first."""
    yield name, score.meaning
    if score.standard_error:
        yield f"{name}_se", f"standard error of {name} ({score.standard_error})"
    for suffix, meaning in score.beside.items():
        yield f"{name}_{suffix}", meaning


# Every number of the scores in ``scores.json``, with what it means.
MEANINGS: dict[str, str] = dict(pair for name, score in SCORES.items() for pair in _meanings(name, score))
# Names in older logs -> the names that the same numbers have now. An old name is never given to another number.
FORMER = {"policy/clip_fraction": "policy/ratio_outside_fraction"}


def renamed(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of a log, old or new, under the present names of its metrics."""
    return {FORMER.get(key, key): value for key, value in line.items()}


# Every logged metric, once, with what it means.
METRICS: dict[str, str] = {
    "reward/total": "mean over the batch of the weighted sum of rewards (Eq. 4)",
    **{f"reward/{name}": f"batch mean: {meaning}" for name, meaning in REWARDS.items()},
    **{f"reward/{name}_std_within": f"{name}: standard deviation inside a prompt's group" for name in REWARDS},
    **{f"reward/{name}_std_between": f"{name}: standard deviation of the groups' means" for name in REWARDS},
    "fid/ema": "distance between the moving average of generated moments and the reference (Eq. 24)",
    "fid/ema_second": "as fid/ema, in the features of loo_fid_second",
    "policy/loss": "clipped policy loss alone (Eq. 2); starts at 0 and says little, watch the rewards",
    "policy/ratio": "mean probability ratio of new and old policy (Eq. 1)",
    "policy/ratio_outside_fraction": "share of ratios outside 1 +- epsilon (Eq. 2), whether or not the clip acts",
    "policy/clip_acting_fraction": "share of ratios that the clip cuts off from the gradient (Eq. 2; TRL's clip ratio)",
    "policy/kl": "mean estimate of the divergence from the reference policy (Eq. 3)",
    "policy/entropy": "mean token entropy as a fraction of log K (Eq. 32)",
    "policy/advantage_abs": "mean absolute group advantage",
    "entropy/coefficient": "coefficient of the entropy bonus in force (Eq. 33)",
    "entropy/bonus": "coefficient times mean token entropy, as it enters the loss",
    "optim/learning_rate": "learning rate of the step",
    "optim/grad_norm": "norm of the gradient before clipping",
    "vapi/reward": "batch mean of VA-pi's reward: minus the distance of reconstruction and training image",
    "vapi/mse": "mean squared error in VA-pi's reward, pixels in [-1, 1]",
    "vapi/perceptual": "feature distance in VA-pi's reward, the stand-in for LPIPS",
    "vapi/cross_entropy": "cross-entropy of the image's own tokens under the context, nats per token",
    "mle/loss": "cross-entropy of the training batch, nats per token",
    "time/generate": "seconds drawing tokens",
    "time/decode": "seconds decoding tokens to images",
    **{f"time/reward_{name}": f"seconds of the {name} reward's network" for name in REWARDS},
    "time/reward_vapi": "seconds comparing VA-pi's images with the training images",
    "time/loo_fid": "seconds of the LOO-FID arithmetic after its features",
    "time/loo_fid_second": "the same for loo_fid_second",
    "time/reference": "seconds scoring under the reference policy",
    "time/update": "seconds of forward, backward and optimiser step",
    "time/keep": "seconds copying the state to host memory before a second epoch, part of the update",
    "time/optimizer": "seconds of the optimiser step alone",
    "time/iteration": "seconds of the whole iteration",
    **{f"eval/{name}": f"final samples: {meaning}" for name, meaning in MEANINGS.items()},
    **{f"paper/{name}": f"the paper's value: {text}" for name, text in MEANINGS.items() if not name.endswith("_se")},
}
