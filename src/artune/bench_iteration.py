"""``artune bench iteration``: one GRPO iteration at any scale's sizes on random weights, timed stage by stage."""

import json
from pathlib import Path

import torch

from artune.config import Run
from artune.encoders import build_network
from artune.errors import ArtuneError
from artune.files import write_json, write_text
from artune.layers import parse
from artune.models import build_policy
from artune.progress import track
from artune.provenance import provenance
from artune.registry import Registry
from artune.rewards import build_rewards
from artune.rewards.distribution import DistributionReward
from artune.rollout import make_renderer
from artune.tokenizers import build_tokenizer
from artune.trainer import GRPOTrainer

ON_CPU = (2, 16)  # images and tokens at the imagenet scale on a CPU, where a whole iteration takes hours


def sized_run(registry: Registry, backbone: str, images: int | None, tokens: int | None) -> Run:
    """``{backbone}-ours`` with fewer images an iteration or fewer tokens an image.

    Raises:
        ArtuneError: an unknown backbone, fewer than 2 images, or tokens that are no square.
    """
    spec = registry.spec(f"{backbone}-ours")
    if images is not None:
        if images < 2:
            raise ArtuneError(f"bench: --images {images}; a group needs at least 2")
        group = min(images, spec["grpo"]["group_size"])
        spec["grpo"] = spec["grpo"] | {"group_size": group, "prompts": images // group}
    if tokens is not None:
        spec["backbone"] = spec["backbone"] | {"tokens": tokens}
    return parse(Run, spec, "bench: --tokens or --images")


def benchmarked(registry: Registry, backbone: str, device: torch.device, images: int | None, tokens: int | None) -> Run:
    """:func:`sized_run` of what the device can do in minutes: at the imagenet scale a CPU times :data:`ON_CPU`."""
    if device.type == "cpu" and registry.data.source == "imagenet":
        images, tokens = images or ON_CPU[0], tokens or ON_CPU[1]
    return sized_run(registry, backbone, images, tokens)


def random_trainer(run: Run, device: torch.device) -> GRPOTrainer:
    """The run's trainer with random weights and a reference of standard normal features."""
    assert run.rewards is not None and run.grpo is not None  # noqa: PT018
    torch.manual_seed(0)
    policy = build_policy(run.backbone).to(device)
    side = round(run.backbone.tokens**0.5) * run.tokenizer.downsampling
    tokenizer = build_tokenizer(run.tokenizer, image_size=side).to(device).requires_grad_(False)
    networks = {
        name: build_network(settings, run.data).to(device).eval().requires_grad_(False)
        for name, settings in run.networks.items()
    }
    loo_fid = None
    if "loo_fid" in run.rewards.terms:
        network, side = networks[run.rewards.loo_fid.network], run.data.image_size
        width = network.features(torch.zeros(1, 3, side, side, dtype=torch.uint8, device=device)).shape[1]
        moments = torch.zeros(width), torch.eye(width)
        loo_fid = DistributionReward(network, run.rewards.loo_fid, *moments, device)
    render = make_renderer(tokenizer, run, getattr(torch, run.grpo.decode_dtype))
    return GRPOTrainer(run, policy, render, build_rewards(run, networks), loo_fid, device)


def bench_iteration(
    registry: Registry,
    backbone: str,
    device: torch.device,
    images: int | None = None,
    tokens: int | None = None,
    repeats: int = 3,
    output: Path | None = None,
) -> list[dict[str, float]]:
    """Seconds of every stage of ``repeats`` iterations, after one to warm up.

    Args:
        registry: of the scale whose sizes are timed.
        backbone: such as ``llamagen_l``.
        device: where to run.
        images: an iteration; default the scale's, on a CPU at the imagenet scale :data:`ON_CPU`.
        tokens: an image, a square; the same default.
        repeats: iterations.
        output: timings.jsonl to write, manifest.json beside it, as a training leaves them.

    Raises:
        ArtuneError: as :func:`sized_run`, or not a single iteration asked for.
    """
    if repeats < 1:
        raise ArtuneError(f"bench: --repeats {repeats}; time at least 1 iteration")
    run = benchmarked(registry, backbone, device, images, tokens)
    trainer = random_trainer(run, device)
    trainer.step(0)
    lines = [
        {"iteration": at, **trainer.step(at)[1]}
        for at in track(range(1, repeats + 1), f"bench iteration {backbone}", repeats)
    ]
    if output is not None:
        whole = registry.resolve(f"{backbone}-ours")
        assert whole.grpo is not None and run.grpo is not None  # noqa: PT018
        sizes, full = [(r.grpo.prompts * r.grpo.group_size, r.backbone.tokens) for r in (run, whole)]
        manifest = {"run": run.name, "weights": "random", "config": run.model_dump(mode="json")}
        manifest |= {} if sizes == full else {"reduced": f"{sizes[0]} images of {sizes[1]} tokens only"}
        write_json(output.with_name("manifest.json"), manifest | {"provenance": provenance(device)})
        write_text(output, "".join(json.dumps(line) + "\n" for line in lines))
    return lines
