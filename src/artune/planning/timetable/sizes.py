"""Bytes of the files that a job leaves, and of those that it removes when it ends."""

import re

from artune.config.run import PolicyRun
from artune.config.sizes import crops_per_image, parameters
from artune.planning.floors import TRAINING_IMAGES
from artune.planning.plan import Plan
from artune.planning.recipes import code_sequences
from artune.planning.timetable.jobs import Job

UNITS = {"MB": 1e6, "GB": 1e9}
STATES = 3  # two states are kept while a third is written
# Weights of the networks and tokenizers, by architecture or family; a test counts them again.
NETWORK_WEIGHTS = {
    "ViT-L-14-quickgelu": 427_616_513,
    "ViT-L-14-336-quickgelu": 427_944_193,
    "ViT-B-32-quickgelu": 151_277_313,
    "ViT-H-14": 986_109_441,
    "inception-v3-compat": 23_885_392,
    "inception_v3": 27_197_584,
    "vit_base_patch8_224": 135_748_816,
    "vit_large_patch14_dinov2": 304_368_640,
}
TOKENIZER_WEIGHTS = {"vq": 71_883_403, "vqgan": 76_073_859}
# Numbers per image that an evaluation keeps, by network: features, and Inception's probabilities and spatial features.
WIDTHS = {"inception-v3-compat": 2048, "ViT-L-14-336-quickgelu": 768, "vit_large_patch14_dinov2": 1024}
PROBABILITIES, SPATIAL = 1008, 2023


def asset_bytes(plan: Plan, key: str) -> float:
    """Approximate bytes of an external file, as ``config/assets.yaml`` states them."""
    match = re.fullmatch(r"~?([\d.]+) (MB|GB)", plan.registry.assets[key].size or "0 MB")
    return float(match[1]) * UNITS[match[2]] if match else 0.0


def brought_bytes(plan: Plan, jobs: list[Job]) -> float:
    """Bytes of the external files that the user must bring, which lie on the disk before the first job."""
    keys = [job.name for job in jobs if job.rule == "asset" and not plan.registry.assets[job.name].url]
    return sum(asset_bytes(plan, key) for key in keys)


def kept_bytes(plan: Plan, job: Job) -> float:
    """Bytes of the files that a job leaves; 1 MB where they are small."""
    registry, protocol = plan.registry, plan.registry.evaluation
    image = registry.data.image_size**2 * 3
    if job.rule == "asset":
        return asset_bytes(plan, job.name) if registry.assets[job.name].url else 0.0
    if job.rule == "network":
        return NETWORK_WEIGHTS[registry.networks[job.name].architecture] * 4.0
    if job.rule == "tokenizer":
        return TOKENIZER_WEIGHTS[registry.tokenizers[job.name].family] * 4.0
    if job.rule == "pretrained_policy":
        return parameters(registry.backbones[registry.split_prior(job.name)[0]]) * 4.0
    if job.rule == "external_policy":
        return parameters(registry.backbones[plan.external_backbone(job.name)]) * 4.0
    if job.rule == "codes":
        tokens = (registry.data.image_size // registry.tokenizers[job.name].downsampling) ** 2
        crops = crops_per_image(code_sequences(registry, job.name), TRAINING_IMAGES)
        return TRAINING_IMAGES * crops * (tokens * 2.0 + 8)
    if job.rule in ("sample", "real_samples"):
        return protocol.samples * image + 1e6
    if job.rule == "features":
        return protocol.samples * (_judged(plan) + PROBABILITIES + SPATIAL + 1) * 4.0
    if job.rule in ("reference", "further_reference", "train_moments"):
        images = {"reference": 10_000, "further_reference": 50_000}.get(job.rule, 0)
        return images * _judged(plan) * 4.0 + (WIDTHS["inception-v3-compat"] ** 2 + SPATIAL**2) * 8.0
    if job.rule == "train":
        return _weights(plan, job.name) * 4.0 + 1e6
    if job.rule == "figure_samples":
        layout = registry.figures[job.name.split()[0]]
        return (len(layout.classes) or layout.number) * layout.per_class * image
    if job.rule == "study_samples":
        return (
            sum(setting.pairs * 2 for setting in registry.study.settings.values() if job.name in setting.runs) * image
        )
    return 1e6


def passing_bytes(plan: Plan, job: Job) -> float:
    """Bytes that a job holds while it runs, beside what it leaves, and removes when it ends.

    Chunks of samples before they become one file, shards of codes, saved states of a training.
    """
    if job.rule == "sample":
        return kept_bytes(plan, job) + plan.registry.evaluation.samples * _judged(plan) * 4.0
    if job.rule == "codes":
        return kept_bytes(plan, job)
    if job.rule == "train":
        return STATES * 3 * 4.0 * _weights(plan, job.name)  # weights and the two moments of AdamW, float32
    return 0.0


def _judged(plan: Plan) -> int:
    """Numbers per image in all features of an evaluation."""
    protocol = plan.registry.evaluation
    names = {protocol.features, *protocol.judges.values()}
    return sum(WIDTHS.get(plan.registry.networks[name].architecture, 0) for name in names)


def _weights(plan: Plan, run: str) -> int:
    resolved = plan.registry.resolve(run)
    return parameters(resolved.backbone) if isinstance(resolved, PolicyRun) else 0
