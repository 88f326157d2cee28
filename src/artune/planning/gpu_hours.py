"""Hours of one GPU for a training or an evaluation, from its floors or from measurements on a GPU.

Never imports torch.
"""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from artune.config.registry import Registry
from artune.config.run import Evaluation, GrpoRun, MleRun, Network, PolicyRun, Run, grpo_run
from artune.errors import ArtuneError, brief
from artune.planning.floors import (
    DECODER_FLOPS,
    ENCODER_FLOPS,
    FLOAT32,
    NETWORK_FLOPS,
    PUBLISHED,
    Work,
    rollout,
    update,
)

# Stage -> its lines in costs.csv. No timed iteration has MANIQA: it is given HPSv2's ratio of seconds to floor.
LINES = {
    "generate": ("generate",),
    "decode": ("decode",),
    "clip": ("CLIP",),
    "hps": ("HPS",),
    "maniqa": ("HPS",),
    "loo_fid": ("LOO-FID features", "LOO-FID"),
    "features": ("LOO-FID features",),  # all networks of an evaluation are given Inception's ratio
    "update": ("reference policy", "backward and update"),
}
Seconds = dict[str, float]


class Gpu(NamedTuple):
    """A GPU: the card whose published peaks are used, and measured seconds over floor for each stage."""

    peaks: str
    times: dict[str, float]
    name: str


def floor_machine(peaks: str = "H100") -> Gpu:
    """An ideal GPU that reaches its published peaks."""
    return Gpu(peaks, dict.fromkeys(LINES, 1.0), f"{peaks} by floors (published peaks, nothing measured)")


def networks_floor(networks: Iterable[Network], images: int, half: bool, peaks: str) -> float:
    """Floor in seconds of frozen networks over images; networks of unknown FLOPs count as 0."""
    flops = sum(NETWORK_FLOPS.get(network.architecture, 0.0) for network in networks)
    return Work(0, images * flops).seconds((PUBLISHED if half else FLOAT32)[peaks])


def update_floor(run: GrpoRun) -> Work:
    """Bytes and FLOPs of the update in an iteration of GRPO."""
    grpo = run.grpo
    return update(run.backbone, grpo.prompts * grpo.group_size, grpo.epochs, reference=grpo.beta > 0)


def iteration_floor(run: GrpoRun, peaks: str) -> Seconds:
    """Floor in seconds of each stage of an iteration of GRPO."""
    half, images = PUBLISHED[peaks], run.grpo.prompts * run.grpo.group_size
    decoder = half if run.grpo.decode_dtype == "bfloat16" else FLOAT32[peaks]
    item = 2 if run.sampling.weights_dtype == "bfloat16" else 4
    drawn = rollout(run.backbone, images, run.sampling.cfg > 1, item=item)
    found = {
        "generate": drawn.seconds(half if item == 2 else FLOAT32[peaks]),
        "decode": Work(0, images * run.backbone.tokens * DECODER_FLOPS).seconds(decoder),
        "update": update_floor(run).seconds(half if run.grpo.autocast == "bfloat16" else FLOAT32[peaks]),
    }
    for term in run.rewards.terms:
        if term == "loo_fid":
            found[term] = networks_floor([run.networks[run.rewards.loo_fid.network]], images, False, peaks)
        elif (name := run.rewards.networks[term]) is not None:
            found[term] = networks_floor([run.networks[name]], images, run.rewards.autocast == "bfloat16", peaks)
    return found


def training_hours(run: Run, machine: Gpu) -> float:
    """GPU hours of a training; likelihood continuation counts as passes in float32."""
    if isinstance(run, MleRun):
        step = update(run.backbone, run.mle.batch).seconds(FLOAT32[machine.peaks]) * machine.times["update"]
        return run.mle.iterations * step / 3600
    if not isinstance(run, GrpoRun):
        raise ArtuneError(f"{run.name}: a training of method {run.method} has no counted floor")
    return run.grpo.iterations * _total(iteration_floor(run, machine.peaks), machine) / 3600


def evaluation_hours(run: Run, evaluation: Evaluation, networks: dict[str, Network], machine: Gpu) -> float:
    """GPU hours of drawing and decoding samples, and of their features in float32; real images need only features."""
    count, peaks = evaluation.samples, machine.peaks
    judges = [networks[name] for name in set(evaluation.networks.values())]
    seconds = {"features": networks_floor(judges, count, False, peaks)}
    if isinstance(run, PolicyRun):
        item = 2 if run.sampling.weights_dtype == "bfloat16" else 4
        drawn = rollout(run.backbone, evaluation.batch, run.sampling.cfg > 1, item=item)
        floor = drawn.seconds((PUBLISHED if item == 2 else FLOAT32)[peaks])
        seconds["generate"] = floor * count / evaluation.batch
        seconds["decode"] = Work(0, count * run.backbone.tokens * DECODER_FLOPS).seconds(FLOAT32[peaks])
    return _total(seconds, machine) / 3600


def encoding_hours(crops: int, tokens: int, machine: Gpu) -> float:
    """GPU hours of encoding ``crops`` crops of ``tokens`` tokens each, in float32; the decoder's ratio is its ratio."""
    floor = Work(0, crops * tokens * ENCODER_FLOPS).seconds(FLOAT32[machine.peaks])
    return _total({"decode": floor}, machine) / 3600


def features_hours(networks: Iterable[Network], images: int, machine: Gpu) -> float:
    """GPU hours of frozen networks over ``images``, in float32."""
    return _total({"features": networks_floor(networks, images, False, machine.peaks)}, machine) / 3600


def _total(seconds: Seconds, machine: Gpu) -> float:
    return sum(value * machine.times.get(stage, 1.0) for stage, value in seconds.items())


def measured_machine(registry: Registry, path: Path) -> Gpu:
    """The GPU on which costs.csv was measured, with each stage's measured seconds over its floor.

    Raises:
        ArtuneError: no costs.csv of a whole iteration at the imagenet scale, or one of a GPU whose peaks are not known.
    """
    try:
        rows = {row.get("stage", ""): row for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())}
    except (OSError, UnicodeDecodeError) as error:
        raise ArtuneError(f"{path}: cannot be read ({error})") from error
    about = rows.get("iteration", {})
    device, backbone = about.get("device") or "", about.get("backbone") or ""
    if about.get("scale") != "imagenet" or backbone not in registry.backbones:
        raise ArtuneError(f"{path}: is not a costs.csv of the imagenet scale; benchmarks/gpu_suite.sh makes one")
    peaks = [name for name in PUBLISHED if name in device.replace("H200", "H100")]
    if not peaks:
        raise ArtuneError(f"{path}: measured on {brief(device)}; the peaks of {' and '.join(PUBLISHED)} are known")
    run = grpo_run(registry.resolve(f"{backbone}-ours"))
    whole = (str(run.grpo.prompts * run.grpo.group_size), str(run.backbone.tokens))
    if (about.get("images"), about.get("tokens")) != whole:
        raise ArtuneError(f"{path}: is not of {whole[0]} images of {whole[1]} tokens; leave out --images and --tokens")
    floor = iteration_floor(run, peaks[0])
    floor |= {"features": floor["loo_fid"]} | ({"maniqa": floor["hps"]} if "hps" in floor else {})
    try:
        seconds = {stage: sum(float(rows[line]["ours"]) for line in lines) for stage, lines in LINES.items()}
    except (KeyError, ValueError) as error:
        raise ArtuneError(f"{path}: lacks the seconds of a stage ({error}); make it again") from error
    times = {stage: value / floor[stage] for stage, value in seconds.items() if floor.get(stage)}
    return Gpu(peaks[0], times, f"{device} as measured ({path})")
