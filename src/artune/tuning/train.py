"""The command ``train``: run a trainer to its end, saving states on the way; a later run resumes from the last."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from artune.config.methods import deciding, snapshot_name, with_present
from artune.config.run import Data, GrpoRun, MleRun, PolicyRun, VapiRun, parse_run, policy_run
from artune.config.yaml_layers import Tree, read_yaml
from artune.data.prompts import prompts_digest
from artune.errors import ArtuneError, SharedError
from artune.inputs.training_moments import read_class_moments
from artune.models.encoders.build import load_network
from artune.models.policies.checkpoint import load_policy, save_policy
from artune.models.policies.llamagen import LlamaGen
from artune.models.policies.policy import Policy
from artune.models.policies.vqgan_gpt import VQGANGPT
from artune.rewards.distribution import DistributionReward
from artune.rewards.moments import ClassMoments
from artune.rewards.reward import build_rewards
from artune.runtime import fence
from artune.runtime.distributed import ALONE, World
from artune.runtime.files import load_npz, remove_folder, sha256, write_json, write_text
from artune.runtime.progress import say
from artune.runtime.resume import give_back, give_name, keep
from artune.sampling.rollout import Renderer, load_renderer
from artune.tracking.mlflow_run import MlflowRun
from artune.tracking.provenance import provenance
from artune.tracking.run_logger import RunLogger
from artune.tracking.usage import Usage
from artune.tuning.grpo_trainer import GRPOTrainer, check_target
from artune.tuning.loop import run_to_end
from artune.tuning.rivals.mle import MLETrainer
from artune.tuning.rivals.vapi import VAPiTrainer
from artune.tuning.saving import Snapshots
from artune.tuning.trainer import Trainer

LOGS = ("metrics.jsonl", "timings.jsonl")


@dataclass(frozen=True)
class Inputs:
    """The files that a training starts from; each method needs only some of them."""

    policy: Path  # pretrained weights
    tokenizer: Path  # weights of the tokenizer
    networks: dict[str, Path]  # weights of the rewards' networks, by name
    codes: Path | None = None  # token codes of the training set (methods mle and vapi)
    data: Path | None = None  # images of the training set (method vapi)
    reference: Path | None = None  # reference.npz (LOO-FID)
    second_reference: Path | None = None  # moments under the network of loo_fid_second
    class_moments: Path | None = None  # class_moments.npz (LOO-FID with ``reference: class_matched``)

    def all(self) -> list[Path]:
        """The files that were given."""
        files = [self.policy, self.tokenizer, self.codes, self.data, self.reference, self.class_moments]
        files.append(self.second_reference)
        return [path for path in [*files, *self.networks.values()] if path is not None]


def build_trainer(run: PolicyRun, policy: Policy, inputs: Inputs, device: torch.device, world: World) -> Trainer:
    """The trainer of the run's method.

    Raises:
        ArtuneError: the method has nothing to train, or a file is missing or broken.
        SharedError: method vapi was started in several processes.
    """
    if isinstance(run, GrpoRun):
        render = load_renderer(run, inputs.tokenizer, device, getattr(torch, run.grpo.decode_dtype))
        return build_grpo(
            run, policy, render, inputs.networks, inputs.reference or Path(), device, world, inputs.class_moments,
            inputs.second_reference,
        )  # fmt: skip
    if isinstance(run, MleRun):
        return MLETrainer(run, policy, inputs.codes or Path(), device, world)
    if isinstance(run, VapiRun):
        if world.size > 1:
            raise SharedError(f"{run.name}: method vapi is trained by one process; start it without torchrun")
        render, name = load_renderer(run, inputs.tokenizer, device), run.vapi.network
        network = load_network(inputs.networks[name], run.networks[name], run.data, device)
        return VAPiTrainer(run, policy, render, network, inputs.codes or Path(), inputs.data or Path(), device)
    raise ArtuneError(f"{run.name}: method {run.method} has nothing to train")


def say_unreached(run: PolicyRun) -> None:
    """Say what has no effect: a clip in the only epoch, where the old policy is the policy; a target out of reach."""
    if isinstance(run, GrpoRun):
        check_target(run.backbone.family, run.entropy)
    for method, settings in (("grpo", getattr(run, "grpo", None)), ("vapi", getattr(run, "vapi", None))):
        if settings is not None and settings.epochs == 1:
            say(f"{method}.clip: {settings.clip} has no effect, because with {method}.epochs: 1 every ratio is 1")


def write_manifest(path: Path, trainer: Trainer, data: Data, config: Tree, start: int, seconds: float) -> None:
    """Write the manifest of a training: its settings, code and device, and the iteration that it last resumed at."""
    manifest = {
        "run": trainer.name,
        "iterations": trainer.iterations,
        "resumed_at": start,
        "seconds": round(seconds, 1),
        "processes": trainer.world.size,
        "provenance": provenance(trainer.device),
        "prompts_sha256": prompts_digest(data),
        "command": " ".join(["python -m artune", *sys.argv[1:2]]),
        "config": config,
    }
    write_json(path, manifest)


def _identity(settings: Tree, inputs: Inputs, shares: Sequence[float]) -> str:
    """What a saved state must have been made from: settings, files, and the weights that were to be kept."""
    digests = (sha256(path) for path in inputs.all() if path.exists())
    return "\n".join(
        [yaml.safe_dump(deciding(settings), sort_keys=False), *digests, *(f"kept {one}" for one in shares)]
    )


def _kept(trainer: Trainer, policy: LlamaGen | VQGANGPT, work: Path, shares: Sequence[float]) -> Snapshots:
    due = {work / Path(snapshot_name(share)).name: max(1, round(share * trainer.iterations)) for share in shares}
    return Snapshots(policy, trainer.name, due)


def _bring_out(work: Path, snapshots: Sequence[Path]) -> None:
    """Give the logs of a finished training, and the weights that it kept, their places in the run's folder."""
    for path in snapshots:
        give_name(work / path.name, path)
    for name in (*LOGS, "system.jsonl"):
        if name in LOGS or (work / name).exists():
            write_text(work.parent / name, (work / name).read_text(encoding="utf-8"))


def train(
    config: Path,
    inputs: Inputs,
    output: Path,
    record: MlflowRun | None,
    device: torch.device,
    world: World = ALONE,
    present: Tree | None = None,
    shares: Sequence[float] = (),
) -> str:
    """Tune a policy and write ``output`` (policy.safetensors), metrics.jsonl, timings.jsonl and manifest.json.

    Args:
        config: the run's config.yaml.
        inputs: the files that the training starts from.
        output: policy.safetensors in the run's folder.
        record: the run in MLflow; None for files only.
        device: device of the training.
        world: the processes of the training; rank 0 writes.
        present: the run's settings at present, from which those are taken that change no number (``save_every``).
        shares: shares of the iterations after which the policy's weights are kept, in the folder ``snapshots``.

    Returns:
        The last line that the command prints.
    """
    began, folder = time.monotonic(), output.parent
    work = folder / "training"  # undeclared: Snakemake removes the declared outputs of a job that failed
    settings = with_present(read_yaml(config), present or {})
    run = policy_run(parse_run(settings, str(config)), config)
    identity = world.from_leader(_identity(settings, inputs, shares) if world.leads else "")
    snapshots = [folder / snapshot_name(share) for share in shares]
    outputs = [output, *(folder / name for name in (*LOGS, "manifest.json")), *snapshots]
    if world.from_leader(world.leads and give_back(folder, identity, outputs)):
        return f"{output}: finished before by this code, outputs restored"
    policy = load_policy(inputs.policy, run.backbone, device)
    if world.leads:
        say_unreached(run)
    trainer = build_trainer(run, policy, inputs, device, world)
    work.mkdir(parents=True, exist_ok=True)
    logger = RunLogger(work, record, Usage())
    try:
        start, metrics = run_to_end(trainer, work, logger, identity, _kept(trainer, policy, work, shares))
    except BaseException:
        logger.close(finished=False)
        raise
    logger.close()
    if not world.leads:
        return ""
    _bring_out(work, snapshots)
    save_policy(output, policy, {"run": run.name, "iterations": str(trainer.iterations)})
    seconds = time.monotonic() - began
    write_manifest(folder / "manifest.json", trainer, run.data, settings, start, seconds)
    keep(folder, identity, outputs)
    fence.check()
    remove_folder(work)
    return f"{output}: {trainer.iterations} iterations, {trainer.note(metrics)}, {seconds:.0f} s"


def build_grpo(
    run: GrpoRun,
    policy: Policy,
    render: Renderer,
    networks: dict[str, Path],
    reference: Path,
    device: torch.device,
    world: World = ALONE,
    class_moments: Path | None = None,
    second_reference: Path | None = None,
) -> GRPOTrainer:
    """A GRPO trainer with the run's rewards; ``networks`` are weight files by name, ``reference`` is reference.npz.

    ``class_moments`` (class_moments.npz) is needed under ``rewards.loo_fid.reference: class_matched``, and
    ``second_reference``, the moments under its network, by ``loo_fid_second``.
    """
    loaded = {name: load_network(networks[name], settings, run.data, device) for name, settings in run.networks.items()}
    classes, loo_fid = None, []
    if class_moments is not None:
        found = read_class_moments(class_moments, run.rewards.loo_fid.network)
        classes = ClassMoments(*(moment.to(device) for moment in found))
    for name, settings in run.rewards.distribution.items():
        if settings.reference == "class_matched" and classes is None:
            raise ArtuneError(f"{run.name}: rewards.{name}.reference: class_matched needs --class_moments")
        keys = [f"train/{settings.network}/{moment}" for moment in ("mu", "sigma")]
        moments = load_npz(reference if name == "loo_fid" else second_reference or reference, *keys)
        mu, sigma = (torch.from_numpy(moments[key]) for key in keys)
        loo_fid.append(DistributionReward(loaded[settings.network], settings, mu, sigma, device, classes, name))
    return GRPOTrainer(policy, render, build_rewards(run.rewards, run.data, loaded), run, loo_fid, device, world)
