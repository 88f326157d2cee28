"""Every number that is logged or scored, once, with what it means."""

from typing import NamedTuple

from artune.config.methods import REWARDS

SCORES = {
    "fid": "Fréchet distance to the reference, features of the judge's network",
    "fid_se": "its jackknife standard error",
    "fid_bias_corrected": "it without the jackknife's estimate of the bias of a finite sample",
    "kid": "unbiased polynomial-kernel distance to the reference, same features",
    "kid_se": "its standard error",
    "inception_score": "Inception Score by the judge's classifier",
    "inception_score_se": "its jackknife standard error",
    "inception_score_std": "its standard deviation over chunks of samples",
    "precision": "share of samples inside the reference's neighbourhoods, in the mode of the evaluation",
    "precision_se": "its binomial standard error",
    "precision_exact": "precision with exact distances",
    "precision_adm_half": "precision with distances rounded as the official evaluator does",
    "recall": "share of the reference inside the samples' neighbourhoods, in the mode of the evaluation",
    "recall_exact": "recall with exact distances",
    "recall_adm_half": "recall with distances rounded as the official evaluator does",
    "clip_score": "mean cosine of sample and class prompt, CLIP network of the judge",
    "clip_score_se": "its standard error",
    "accuracy": "share of samples that the judge's classifier gives the class they were drawn for",
    "fid_reward": "Fréchet distance in the features of the LOO-FID reward's own network",
    "fid_reward_se": "its jackknife standard error",
    "clip_score_reward": "mean cosine by the CLIP reward's own network",
    "clip_score_reward_se": "its standard error",
    "sfid": "Fréchet distance in spatial features of the judge's network",
    "density": "reference neighbourhoods that a sample lies in, over their k",
    "coverage": "share of the reference's neighbourhoods that hold a sample",
    "cmmd": "Gaussian-kernel distance of CLIP embeddings to the reference, a thousandfold",
    "cmmd_se": "its standard error",
    "fd_dinov2": "Fréchet distance in DINOv2's features",
    "fd_dinov2_se": "its jackknife standard error",
    "loo_fid_ms": "median time of the LOO-FID reward in an iteration, milliseconds",
}
# Every logged metric, once, with what it means.
METRICS: dict[str, str] = {
    "reward/total": "mean over the batch of the weighted sum of rewards (Eq. 4)",
    **{f"reward/{name}": f"batch mean: {meaning}" for name, meaning in REWARDS.items()},
    **{f"reward/{name}_std_within": f"{name}: standard deviation inside a prompt's group" for name in REWARDS},
    **{f"reward/{name}_std_between": f"{name}: standard deviation of the groups' means" for name in REWARDS},
    "fid/ema": "distance between the moving average of generated moments and the reference (Eq. 24)",
    "policy/loss": "clipped policy loss alone (Eq. 2); starts at 0 and says little, watch the rewards",
    "policy/ratio": "mean probability ratio of new and old policy (Eq. 1)",
    "policy/clip_fraction": "share of samples whose ratio lies outside 1 +- epsilon (Eq. 2)",
    "policy/kl": "mean estimate of the divergence from the reference policy (Eq. 3)",
    "policy/entropy": "mean token entropy as a fraction of log K (Eq. 32)",
    "policy/advantage_abs": "mean absolute group advantage",
    "entropy/coefficient": "coefficient of the entropy bonus in force (Eq. 33)",
    "entropy/bonus": "coefficient times mean token entropy, as it enters the loss",
    "optim/learning_rate": "learning rate of the step",
    "optim/grad_norm": "norm of the gradient before clipping",
    "vapi/reward": "batch mean of VA-pi's reward: minus the distance of reconstruction and training image",
    "vapi/mse": "its mean squared error, pixels in [-1, 1]",
    "vapi/perceptual": "its feature distance, the stand-in for LPIPS",
    "vapi/cross_entropy": "cross-entropy of the image's own tokens under the context, nats a token",
    "mle/loss": "cross-entropy of the training batch, nats a token",
    "time/generate": "seconds drawing tokens",
    "time/decode": "seconds decoding tokens to images",
    **{f"time/reward_{name}": f"seconds of the {name} reward's network" for name in REWARDS},
    "time/reward_vapi": "seconds comparing VA-pi's images with the training images",
    "time/loo_fid": "seconds of the LOO-FID arithmetic after its features",
    "time/reference": "seconds scoring under the reference policy",
    "time/update": "seconds of forward, backward and optimiser step",
    "time/optimizer": "seconds of the optimiser step alone",
    "time/iteration": "seconds of the whole iteration",
    **{f"eval/{name}": f"final samples: {meaning}" for name, meaning in SCORES.items()},
    **{f"paper/{name}": f"the paper's value: {text}" for name, text in SCORES.items() if "_se" not in name},
}  # fmt: skip


class Column(NamedTuple):
    """How a metric is shown; its name is its key in ``scores.json``."""

    heading: str
    better: int  # +1: higher, -1: lower
    decimals: int
    paper_decimals: int


COLUMNS: dict[str, Column] = {
    "fid": Column("FID", -1, 2, 2),
    "inception_score": Column("IS", +1, 2, 2),
    "clip_score": Column("CLIPScore", +1, 4, 4),
    "precision": Column("Precision", +1, 3, 2),
    "recall": Column("Recall", +1, 3, 2),
    "fid_reward": Column("FID (reward's network)", -1, 2, 2),
    "clip_score_reward": Column("CLIPScore (reward's network)", +1, 4, 4),
    "accuracy": Column("Accuracy", +1, 3, 3),
    "kid": Column("KID", -1, 4, 4),
    "sfid": Column("sFID", -1, 2, 2),
    "density": Column("Density", +1, 3, 3),
    "coverage": Column("Coverage", +1, 3, 3),
    "cmmd": Column("CMMD", -1, 3, 3),
    "fd_dinov2": Column("FD-DINOv2", -1, 1, 1),
    "loo_fid_ms": Column("LOO-FID time (ms)", -1, 1, 0),
}
WITH_STANDARD_ERROR = (
    "fid", "fid_reward", "kid", "inception_score", "precision", "clip_score", "clip_score_reward", "cmmd", "fd_dinov2",
)  # fmt: skip
JUDGES = ("sfid", "density", "coverage", "cmmd", "fd_dinov2")  # in every table of a scale whose evaluation has them
AGAINST = ("fid", "kid", "precision", "recall", *JUDGES)  # what a reference decides
