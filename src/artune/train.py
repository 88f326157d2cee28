"""The command ``train``: run a trainer to its end, saving states on the way, and go on from the last one."""

import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import torch
import yaml

import artune
from artune.checkpoints import load_into, save_policy
from artune.config import Run
from artune.continuation import MLETrainer
from artune.encoders import load_network
from artune.errors import ArtuneError
from artune.files import load_npz, write_json, write_text
from artune.models import Policy, build_policy
from artune.progress import Progress
from artune.registry import parse, read_yaml
from artune.rewards import build_rewards
from artune.rewards.distribution import DistributionReward
from artune.rollout import Renderer, make_renderer, roll_out
from artune.seeds import generator_for, seed_for
from artune.state import load_state, save_state
from artune.tokenizers import build_tokenizer
from artune.tracking import RunLogger
from artune.trainer import GRPOTrainer


class Trainer(Protocol):
    """What :func:`fit` asks of a method; a new method is a class like this."""

    iterations: int
    save_every: int
    consistent: bool
    policy: Policy

    def step(self, iteration: int) -> tuple[dict[str, float], dict[str, float]]:
        """Metrics and seconds of iteration ``iteration``."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next iteration depends on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""

    def note(self, metrics: dict[str, float]) -> str:
        """The numbers that matter, for the progress line."""


def read_run(path: Path | str) -> Run:
    """The resolved settings of a run's folder."""
    return parse(Run, read_yaml(Path(path)), str(path))


def load_policy(run: Run, path: Path | str, device: torch.device) -> Policy:
    """The run's policy with the weights of ``path``, on ``device`` in float32."""
    policy = build_policy(run.backbone)
    load_into(policy, path)
    return policy.to(device)


def load_renderer(run: Run, path: Path | str, device: torch.device) -> Renderer:
    """The run's decoder from tokens to images."""
    side = round(run.backbone.tokens**0.5) * run.tokenizer.downsampling  # 384 for LlamaGen-XL
    tokenizer = build_tokenizer(run.tokenizer, image_size=side)
    load_into(tokenizer, path)
    return make_renderer(tokenizer.to(device).requires_grad_(False), run)


def build_grpo(
    run: Run,
    policy: Policy,
    render: Renderer,
    networks: dict[str, Path],
    reference: Path,
    device: torch.device,
) -> GRPOTrainer:
    """A trainer with the run's rewards; ``networks`` are weight files by name, ``reference`` is reference.npz."""
    assert run.rewards is not None
    loaded = {
        name: load_network(networks[name], settings, run.data, device)
        for name, settings in run.networks.items()
    }
    loo_fid = None
    if "loo_fid" in run.rewards.terms:
        settings = run.rewards.loo_fid
        keys = [f"train/{settings.network}/{moment}" for moment in ("mu", "sigma")]
        moments = load_npz(reference, *keys)
        mu, sigma = (torch.from_numpy(moments[key]) for key in keys)
        loo_fid = DistributionReward(loaded[settings.network], settings, mu, sigma, device)
    return GRPOTrainer(run, policy, render, build_rewards(run, loaded), loo_fid, device)


def start_moments(trainer: GRPOTrainer, batch: int = 256) -> None:
    """Give LOO-FID the moments of the pretrained policy's own samples (open choice 22)."""
    run, loo_fid = trainer.run, trainer.loo_fid
    if loo_fid is None or loo_fid.settings.mode != "ema" or loo_fid.settings.start != "pretrained":
        return
    images = []
    for at in range(0, loo_fid.settings.start_samples, batch):
        generator = generator_for(run.seed, "start", at, device=trainer.device)
        number = min(batch, loo_fid.settings.start_samples - at)
        class_ids = torch.randint(run.data.classes, (number,), generator=generator, device=trainer.device)
        images.append(roll_out(trainer.policy, trainer.render, class_ids, run, generator).images)
    loo_fid.start_from(torch.cat(images))


def fit(
    trainer: Trainer, run: Run, folder: Path, logger: RunLogger, config: str
) -> tuple[int, dict[str, float]]:
    """Train to the end from the newest intact state in ``folder``; returns the first iteration run and the metrics.

    Raises:
        ArtuneError: a number was not finite; the state before the step is saved.
    """
    found = load_state(folder, config)
    start = 0
    if found is not None:
        start, state = found
        trainer.load_state_dict(state["trainer"])
    elif isinstance(trainer, GRPOTrainer):
        start_moments(trainer)
    logger.resume(start)
    progress = Progress(f"train {run.name}", trainer.iterations, start)
    metrics: dict[str, float] = {}
    for iteration in range(start, trainer.iterations):
        torch.manual_seed(seed_for(run.seed, "global", iteration))  # layer dropout, where a method has it
        try:
            metrics, seconds = trainer.step(iteration)
        except ArtuneError:
            if trainer.consistent:
                save_state(folder, iteration, {"config": config, "trainer": trainer.state_dict()})
            raise
        logger.log(iteration, metrics, seconds)
        if (iteration + 1) % trainer.save_every == 0 and iteration + 1 < trainer.iterations:
            save_state(folder, iteration + 1, {"config": config, "trainer": trainer.state_dict()})
        progress.update(iteration + 1, trainer.note(metrics))
    return start, metrics


def provenance(device: torch.device) -> dict[str, Any]:
    """What a number was made with: versions, commit, device, threads."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    return {
        "artune": artune.__version__,
        "results_version": artune.RESULTS_VERSION,
        "commit": git.stdout.strip() or "unknown",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": name,
        "threads": torch.get_num_threads(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }


def train(
    config: Path,
    policy_path: Path,
    tokenizer_path: Path,
    codes: Path | None,
    networks: dict[str, Path],
    reference: Path | None,
    output: Path,
    tracking_uri: str | None,
    device: torch.device,
) -> str:
    """Tune a policy and write ``output`` (policy.safetensors), metrics.jsonl, timings.jsonl and manifest.json.

    Args:
        config: the run's config.yaml.
        policy_path: pretrained weights.
        tokenizer_path: tokenizer weights.
        codes: token codes of the training set (method mle).
        networks: weight files of the rewards' networks, by name.
        reference: reference.npz (LOO-FID).
        output: policy.safetensors of the run's folder.
        tracking_uri: MLflow store, or None.
        device: where to run.

    Returns:
        The line that ends the command.
    """
    began = time.time()
    run, folder = read_run(config), output.parent
    work = folder / "training"  # undeclared: Snakemake removes the declared outputs of a job that failed
    work.mkdir(parents=True, exist_ok=True)
    text = config.read_text(encoding="utf-8")
    policy = load_policy(run, policy_path, device)
    if run.method == "grpo":
        trainer: Trainer = build_grpo(
            run, policy, load_renderer(run, tokenizer_path, device), networks, reference or Path(), device
        )
    elif run.method == "mle":
        trainer = MLETrainer(run, policy, codes or Path(), device)
    else:
        raise ArtuneError(f"{run.name}: method {run.method} has nothing to train")
    logger = RunLogger(work, run.name, run.scale, yaml.safe_load(text), {}, tracking_uri)
    try:
        start, metrics = fit(trainer, run, work, logger, text)
    except BaseException:
        logger.close(finished=False)
        raise
    logger.close()
    save_policy(output, policy, {"run": run.name, "iterations": str(trainer.iterations)})
    seconds = time.time() - began
    for name in ("metrics.jsonl", "timings.jsonl"):
        write_text(folder / name, (work / name).read_text(encoding="utf-8"))
    manifest = {
        "run": run.name,
        "iterations": trainer.iterations,
        "resumed_at": start,
        "seconds": round(seconds, 1),
    }
    manifest |= {
        "provenance": provenance(device),
        "command": " ".join(sys.argv[:2]),
        "config": yaml.safe_load(text),
    }
    write_json(folder / "manifest.json", manifest)
    shutil.rmtree(work)
    return f"{output}: {trainer.iterations} iterations, {trainer.note(metrics)}, {seconds:.0f} s"
