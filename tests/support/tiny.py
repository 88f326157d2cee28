"""A miniature run: a real policy of tiny size, so that a training step takes milliseconds."""

import torch

from artune.config.run import RUNS, PolicyRun
from artune.models.policies.build import build_policy

TINY = {
    "name": "tiny", "base": "tiny", "seed": 0, "scale": "smoke", "preset": "paper", "method": "grpo",
    "data": {"source": "mnist", "image_size": 8, "classes": 4, "class_names": ["a", "b", "c", "d"]},
    "backbone_name": "tiny",
    "backbone": {"family": "llamagen", "tokenizer": "vq", "dim": 16, "layers": 2, "heads": 2, "classes": 4,
                 "codebook_size": 8, "tokens": 4, "ffn_multiple_of": 8},
    "tokenizer": {"family": "vq", "channels": 8, "channel_multipliers": [1, 1, 1], "residual_blocks": 1,
                  "latent_channels": 8, "codebook_size": 8, "codebook_dim": 4, "norm_groups": 4},
    "networks": {},
    "sampling": {"cfg": 1.5},
    "grpo": {"iterations": 6, "prompts": 3, "group_size": 4, "epochs": 2, "clip": 0.2, "beta": 3.0,
             "learning_rate": 1e-3, "micro_batch": 12, "save_every": 2},
    "entropy": {"c0": 2e-2, "c_min": 7e-4, "c_max": 4e-2, "warmup": 0.05, "decay_from": 0.85, "target": 0.08,
                "target_is": "offset", "deadband": 0.015, "gain": 3.0},
    "rewards": {"terms": ["clip"], "weights": {"clip": 1.0, "loo_fid": 1.0}, "units": {"clip": 1.0, "loo_fid": 1.0},
                "networks": {"clip": "clip", "hps": "hps", "maniqa": "maniqa"},
                "loo_fid": {"network": "inception", "start": "first_batch"}},
}  # fmt: skip


def tiny_run(**changes) -> PolicyRun:
    """The miniature run with sections changed, e.g. ``grpo={"epochs": 1}``."""
    spec = {key: dict(value) if isinstance(value, dict) else value for key, value in TINY.items()}
    for key, value in changes.items():
        spec[key] = {**spec.get(key, {}), **value} if isinstance(value, dict) else value
    if spec["method"] != "grpo":
        spec = {key: value for key, value in spec.items() if key not in ("grpo", "entropy", "rewards")}
    return RUNS[spec["method"]].model_validate(spec)


def tiny_policy(run: PolicyRun, seed: int = 0):
    """A policy whose head is not zero, so that classes and tokens matter."""
    policy = build_policy(run.backbone, torch.Generator().manual_seed(seed))
    draw = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draw))
    return policy


def tiny_renderer(run: PolicyRun):
    """Tokens as grey squares, brighter for higher ids: images uint8 [B, 3, 2, 2]."""

    def render(tokens):
        side = round(tokens.shape[1] ** 0.5)
        grey = (tokens * (255 // (run.backbone.codebook_size - 1))).to(torch.uint8)
        return grey.view(-1, 1, side, side).expand(-1, 3, -1, -1)

    return render


class Brightness:
    """A reward that a policy can learn in a few steps: bright images."""

    name = "clip"

    def __call__(self, batch):
        return batch.images.float().mean((1, 2, 3)) / 255
