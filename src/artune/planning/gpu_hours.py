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
    """A GPU: the card whose published peaks are used, and seconds over floor for each stage.

    Where ``times`` lacks a stage of the name ``decode_float32`` or ``update_float32``, that of ``decode`` or ``update``
    is used.
    """

    peaks: str
    times: dict[str, float]
    name: str


def floor_machine(peaks: str = "H100") -> Gpu:
    """An ideal GPU that reaches its published peaks."""
    return Gpu(peaks, dict.fromkeys(LINES, 1.0), f"{peaks} by floors (published peaks, nothing measured)")


def assumed_machine(peaks: str, share: float, share_float32: float) -> Gpu:
    """A GPU that reaches assumed shares of its published peaks, in (0, 1]: of bfloat16, and of float32."""
    single = ("loo_fid", "features", "decode_float32", "update_float32")
    times = dict.fromkeys(LINES, 1 / share) | dict.fromkeys(single, 1 / share_float32)
    return Gpu(peaks, times, f"{peaks} at {share:.0%} of its peaks, in float32 at {share_float32:.0%}")


def networks_floor(networks: Iterable[Network], images: int, half: bool, peaks: str) -> float:
    """Floor in seconds of frozen networks over images; networks of unknown FLOPs count as 0."""
    flops = sum(NETWORK_FLOPS.get(network.architecture, 0.0) for network in networks)
    return Work(0, images * flops).seconds((PUBLISHED if half else FLOAT32)[peaks])


def update_floor(run: GrpoRun, processes: int = 1) -> Work:
    """Bytes and FLOPs of the update in an iteration of GRPO, on each of so many GPUs."""
    grpo = run.grpo
    images = grpo.prompts * grpo.group_size // processes
    return update(run.backbone, images, grpo.epochs, reference=grpo.beta > 0)


def iteration_floor(run: GrpoRun, peaks: str, processes: int = 1) -> Seconds:
    """Floor in seconds of each stage of an iteration of GRPO, whose images ``processes`` GPUs share."""
    half, images = PUBLISHED[peaks], run.grpo.prompts * run.grpo.group_size // processes
    decoder = half if run.grpo.decode_dtype == "bfloat16" else FLOAT32[peaks]
    item = 2 if run.sampling.weights_dtype == "bfloat16" else 4
    drawn = rollout(run.backbone, images, run.sampling.cfg > 1, item=item)
    found = {
        "generate": drawn.seconds(half if item == 2 else FLOAT32[peaks]),
        "decode": Work(0, images * run.backbone.tokens * DECODER_FLOPS).seconds(decoder),
        "update": update_floor(run, processes).seconds(half if run.grpo.autocast == "bfloat16" else FLOAT32[peaks]),
    }
    for term in run.rewards.terms:
        if term in run.rewards.distribution:
            network = run.rewards.distribution[term].network
            found[term] = networks_floor([run.networks[network]], images, False, peaks)
        elif (name := run.rewards.networks[term]) is not None:
            found[term] = networks_floor([run.networks[name]], images, run.rewards.autocast == "bfloat16", peaks)
    return found


def training_hours(run: Run, machine: Gpu, processes: int = 1) -> float:
    """Hours of a training on ``processes`` GPUs; likelihood continuation counts as passes in float32."""
    if isinstance(run, MleRun):
        step = update(run.backbone, run.mle.batch // processes).seconds(FLOAT32[machine.peaks])
        return run.mle.iterations * _total({"update_float32": step}, machine) / 3600
    if not isinstance(run, GrpoRun):
        raise ArtuneError(f"{run.name}: a training of method {run.method} has no counted floor")
    return run.grpo.iterations * _total(iteration_floor(run, machine.peaks, processes), machine) / 3600


def drawing_hours(run: PolicyRun, images: int, batch: int, machine: Gpu) -> float:
    """GPU hours of drawing images in batches, and of decoding them in float32."""
    peaks, item = machine.peaks, 2 if run.sampling.weights_dtype == "bfloat16" else 4
    floor = rollout(run.backbone, batch, run.sampling.cfg > 1, item=item).seconds(
        (PUBLISHED if item == 2 else FLOAT32)[peaks]
    )
    decoded = Work(0, images * run.backbone.tokens * DECODER_FLOPS).seconds(FLOAT32[peaks])
    return _total({"generate": floor * images / batch, "decode_float32": decoded}, machine) / 3600


def evaluation_hours(run: Run, evaluation: Evaluation, networks: dict[str, Network], machine: Gpu) -> float:
    """GPU hours of drawing and decoding samples, and of their features in float32; real images need only features."""
    judges = [networks[name] for name in set(evaluation.networks.values())]
    hours = features_hours(judges, evaluation.samples, machine)
    if isinstance(run, PolicyRun):
        hours += drawing_hours(run, evaluation.samples, evaluation.batch, machine)
    return hours


def encoding_hours(crops: int, tokens: int, machine: Gpu) -> float:
    """GPU hours of encoding ``crops`` crops of ``tokens`` tokens each, in float32; the decoder's ratio is its ratio."""
    floor = Work(0, crops * tokens * ENCODER_FLOPS).seconds(FLOAT32[machine.peaks])
    return _total({"decode_float32": floor}, machine) / 3600


def features_hours(networks: Iterable[Network], images: int, machine: Gpu) -> float:
    """GPU hours of frozen networks over ``images``, in float32."""
    return _total({"features": networks_floor(networks, images, False, machine.peaks)}, machine) / 3600


def _total(seconds: Seconds, machine: Gpu) -> float:
    times = machine.times
    return sum(
        value * times.get(stage, times.get(stage.removesuffix("_float32"), 1.0)) for stage, value in seconds.items()
    )


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
