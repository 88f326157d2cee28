"""The command ``train``: run a trainer to its end, saving states on the way, and go on from the last one."""

import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import yaml

from artune.build import build_grpo, start_moments
from artune.config.run import Run, read_run
from artune.continuation import MLETrainer
from artune.data.prompts import class_names, prompts_digest
from artune.errors import ArtuneError, SharedError, StoppedError
from artune.models.encoders.build import load_network
from artune.models.policies.checkpoint import load_policy, save_policy
from artune.models.policies.policy import Policy
from artune.runtime import fence
from artune.runtime.distributed import ALONE, World
from artune.runtime.files import sha256, write_json, write_text
from artune.runtime.processes import StopRequest
from artune.runtime.progress import Progress, warn
from artune.runtime.resume import clear_states, give_back, keep, load_state, save_state
from artune.runtime.seeds import seed_for
from artune.sampling.grids import draw_grid, grid_images
from artune.sampling.rollout import load_renderer
from artune.tracking.provenance import provenance
from artune.tracking.run_logger import RunLogger
from artune.trainer import GRPOTrainer
from artune.vapi import VAPiTrainer

VQGAN_CAP = 0.709  # log 971 / log 16384: the encoder of the released VQGAN uses about 971 of its codes
GRIDS = 4  # pictures of a training's samples, evenly over it


class Trainer(Protocol):
    """What :func:`fit` asks of a method; a new method is a class like this."""

    iterations: int
    save_every: int
    policy: Policy
    world: World

    def step(self, iteration: int) -> tuple[dict[str, float], dict[str, float]]:
        """Metrics and seconds of iteration ``iteration``."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next iteration depends on."""

    def good_state(self) -> dict[str, Any]:
        """After :meth:`step` raised: the state before it."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""

    def note(self, metrics: dict[str, float]) -> str:
        """The numbers that matter, for the progress line."""


def draw_progress(trainer: GRPOTrainer, iteration: int, folder: Path) -> Path:
    """A grid of samples of the policy after ``iteration``, the same draws every time; returns the PNG."""
    names = class_names(trainer.run.data)[:10]
    images = grid_images(trainer.run, list(range(len(names))), 4, 0, trainer.policy, trainer.render, trainer.device)
    title = f"{trainer.run.name} after iteration {iteration}, {trainer.run.scale} scale"
    path = folder / f"iteration-{iteration:06d}.png"
    draw_grid([images], names, [""], title, path)
    return path


def check_target(run: Run) -> None:
    """Warn of an entropy that the policy cannot reach."""
    entropy = run.entropy
    if run.backbone.family != "vqgan" or entropy is None or not entropy.enabled or entropy.target_is != "absolute":
        return
    if entropy.target > VQGAN_CAP:
        warn(
            f"entropy.target {entropy.target} is out of reach on VQGAN, whose live codes cap the normalised entropy at "
            f"about {VQGAN_CAP}: the bonus will stay high; entropy.target_is offset with target 0.08 is the alternative"
        )


def stop_if_asked(request: StopRequest, world: World, run: Run, iteration: int, iterations: int) -> None:
    """Stop all processes if a signal came to any; they wait here for rank 0, which may have saved or drawn.

    Raises:
        StoppedError: it did.
    """
    if world.any(request.name is not None):
        raise StoppedError(
            f"{run.name} by {request.name or 'a signal to another process'} after {iteration} of {iterations} "
            "iterations; the state is saved, the same command goes on from it"
        )


def run_to_end(
    trainer: Trainer, run: Run, folder: Path, logger: RunLogger, config: str
) -> tuple[int, dict[str, float]]:
    """Train to the end from the newest intact state in ``folder``; returns the first iteration run and the metrics.

    Rank 0 alone reads torn states, writes and shows progress; the state is the same for any number of processes.

    Raises:
        ArtuneError: a number was not finite, or another process died; the state before the step is saved.
        StoppedError: a signal asked for it; the state is saved.
    """
    world, start = trainer.world, 0
    found = load_state(folder, config) if world.leads else None
    if world.from_leader(found is not None) and not world.leads:
        found = load_state(folder, config)
    if found is not None:
        start, state = found
        trainer.load_state_dict(state["trainer"])
    else:
        if world.leads:
            clear_states(folder)
            shutil.rmtree(folder.parent / "grids", ignore_errors=True)
        if isinstance(trainer, GRPOTrainer):
            start_moments(trainer)
    if world.leads:
        logger.resume(start)
    metrics: dict[str, float] = {}
    with StopRequest() as request:
        progress = Progress(f"train {run.name}", trainer.iterations, start)
        for iteration in range(start, trainer.iterations):
            own = (world.rank,) if world.rank else ()
            torch.manual_seed(seed_for(run.seed, "global", iteration, *own))  # layer dropout, where a method has it
            try:
                stop_if_asked(request, world, run, iteration, trainer.iterations)
                metrics, seconds = trainer.step(iteration)
            except ArtuneError as error:
                if world.leads:
                    save_state(folder, iteration, {"config": config, "trainer": trainer.good_state()})
                if isinstance(error, SharedError):  # torchrun ends the rest soon after the first end
                    world.wait()
                raise
            if world.leads:
                logger.log(iteration, metrics, seconds)
                if isinstance(trainer, GRPOTrainer) and iteration % max(1, trainer.iterations // GRIDS) == 0:
                    logger.show(iteration, draw_progress(trainer, iteration, folder.parent / "grids"))
                if (iteration + 1) % trainer.save_every == 0 and iteration + 1 < trainer.iterations:
                    save_state(folder, iteration + 1, {"config": config, "trainer": trainer.state_dict()})
                progress.update(iteration + 1, trainer.note(metrics))
    return start, metrics


@dataclass(frozen=True)
class Inputs:
    """The files that a training starts from; a method needs some of them only."""

    policy: Path  # pretrained weights
    tokenizer: Path  # its weights
    networks: dict[str, Path]  # weights of the rewards' networks, by name
    codes: Path | None = None  # token codes of the training set (methods mle and vapi)
    data: Path | None = None  # its images (method vapi)
    reference: Path | None = None  # reference.npz (LOO-FID)
    class_moments: Path | None = None  # class_moments.npz (LOO-FID with ``reference: class_matched``)

    def all(self) -> list[Path]:
        """Those that were given."""
        files = [self.policy, self.tokenizer, self.codes, self.data, self.reference, self.class_moments]
        return [path for path in [*files, *self.networks.values()] if path is not None]


def build_trainer(run: Run, policy: Policy, inputs: Inputs, device: torch.device, world: World) -> Trainer:
    """The trainer of the run's method.

    Raises:
        ArtuneError: a method that has nothing to train, or a file that is missing or broken.
        SharedError: method vapi in several processes.
    """
    if run.grpo is not None:
        render = load_renderer(run, inputs.tokenizer, device, getattr(torch, run.grpo.decode_dtype))
        reference = inputs.reference or Path()
        return build_grpo(run, policy, render, inputs.networks, reference, device, world, inputs.class_moments)
    if run.method == "mle":
        return MLETrainer(run, policy, inputs.codes or Path(), device, world)
    if run.vapi is not None:
        if world.size > 1:
            raise SharedError(f"{run.name}: method vapi is trained by one process; start it without torchrun")
        render, name = load_renderer(run, inputs.tokenizer, device), run.vapi.network
        network = load_network(inputs.networks[name], run.networks[name], run.data, device)
        return VAPiTrainer(run, policy, render, network, inputs.codes or Path(), inputs.data or Path(), device)
    raise ArtuneError(f"{run.name}: method {run.method} has nothing to train")


def write_manifest(
    path: Path, trainer: Trainer, run: Run, config: dict[str, Any], start: int, seconds: float, device: torch.device
) -> None:
    """What a training was: its settings, code, device, and the iteration that it last went on from."""
    manifest = {
        "run": run.name,
        "iterations": trainer.iterations,
        "resumed_at": start,
        "seconds": round(seconds, 1),
        "processes": trainer.world.size,
        "provenance": provenance(device),
        "prompts_sha256": prompts_digest(run.data),
        "command": " ".join(sys.argv[:2]),
        "config": config,
    }
    write_json(path, manifest)


def train(
    config: Path,
    inputs: Inputs,
    output: Path,
    tracking_uri: str | None,
    tags: dict[str, str],
    device: torch.device,
    world: World = ALONE,
) -> str:
    """Tune a policy and write ``output`` (policy.safetensors), metrics.jsonl, timings.jsonl and manifest.json.

    Args:
        config: the run's config.yaml.
        inputs: what it starts from.
        output: policy.safetensors of the run's folder.
        tracking_uri: MLflow store, or None.
        tags: of the MLflow run.
        device: where to run.
        world: the processes that run it; rank 0 writes.

    Returns:
        The line that ends the command.
    """
    began = time.time()
    run, folder = read_run(config), output.parent
    work = folder / "training"  # undeclared: Snakemake removes the declared outputs of a job that failed
    text = config.read_text(encoding="utf-8")
    # Another prior, tokenizer or network is another training, whatever the settings say.
    digests = (sha256(path) for path in inputs.all() if path.exists() and world.leads)
    identity = world.from_leader("\n".join([text, *digests]))
    outputs = [output, *(folder / name for name in ("metrics.jsonl", "timings.jsonl", "manifest.json"))]
    if world.from_leader(world.leads and give_back(folder, identity, outputs)):
        return f"{output}: finished before by this code, given back"
    policy = load_policy(run.backbone, inputs.policy, device)
    if world.leads:
        check_target(run)
    trainer = build_trainer(run, policy, inputs, device, world)
    work.mkdir(parents=True, exist_ok=True)
    logger = RunLogger(work, run.name, run.scale, yaml.safe_load(text), tags, tracking_uri)
    try:
        start, metrics = run_to_end(trainer, run, work, logger, identity)
    except BaseException:
        logger.close(finished=False)
        raise
    logger.close()
    if not world.leads:
        return ""
    save_policy(output, policy, {"run": run.name, "iterations": str(trainer.iterations)})
    seconds = time.time() - began
    for name in ("metrics.jsonl", "timings.jsonl"):
        write_text(folder / name, (work / name).read_text(encoding="utf-8"))
    write_manifest(folder / "manifest.json", trainer, run, yaml.safe_load(text), start, seconds, device)
    keep(folder, identity, outputs)
    fence.check()
    shutil.rmtree(work)
    return f"{output}: {trainer.iterations} iterations, {trainer.note(metrics)}, {seconds:.0f} s"
