"""From a run's settings and weight files to the objects that train and sample."""

from pathlib import Path

import torch

from artune.class_moments import read_class_moments
from artune.config.run import Run
from artune.errors import ArtuneError
from artune.models.encoders.build import load_network
from artune.models.policies.policy import Policy
from artune.rewards.distribution import DistributionReward
from artune.rewards.reward import build_rewards
from artune.runtime.distributed import ALONE, World
from artune.runtime.files import load_npz
from artune.runtime.seeds import generator_for
from artune.sampling.rollout import Renderer, roll_out
from artune.trainer import GRPOTrainer


def build_grpo(
    run: Run,
    policy: Policy,
    render: Renderer,
    networks: dict[str, Path],
    reference: Path,
    device: torch.device,
    world: World = ALONE,
    class_moments: Path | None = None,
) -> GRPOTrainer:
    """A trainer with the run's rewards; ``networks`` are weight files by name, ``reference`` is reference.npz.

    ``class_moments`` (class_moments.npz) is needed under ``rewards.loo_fid.reference: class_matched``.
    """
    assert run.rewards is not None
    loaded = {name: load_network(networks[name], settings, run.data, device) for name, settings in run.networks.items()}
    loo_fid = None
    if "loo_fid" in run.rewards.terms:
        settings = run.rewards.loo_fid
        keys = [f"train/{settings.network}/{moment}" for moment in ("mu", "sigma")]
        moments = load_npz(reference, *keys)
        mu, sigma = (torch.from_numpy(moments[key]) for key in keys)
        classes = read_class_moments(class_moments, settings.network, device) if class_moments else None
        if settings.reference == "class_matched" and classes is None:
            raise ArtuneError(f"{run.name}: rewards.loo_fid.reference: class_matched needs --class_moments")
        loo_fid = DistributionReward(loaded[settings.network], settings, mu, sigma, device, classes)
    return GRPOTrainer(run, policy, render, build_rewards(run, loaded), loo_fid, device, world)


def start_moments(trainer: GRPOTrainer, batch: int = 256) -> None:
    """Give LOO-FID the moments of the pretrained policy's own samples (open choice 22)."""
    run, loo_fid, world = trainer.run, trainer.loo_fid, trainer.world
    if loo_fid is None or loo_fid.settings.mode != "ema" or loo_fid.settings.start != "pretrained":
        return
    images, labels = [], []
    for at in range(0, loo_fid.settings.start_samples, batch):
        generator = generator_for(run.seed, "start", at, device=trainer.device)
        number = min(batch, loo_fid.settings.start_samples - at)
        class_ids = torch.randint(run.data.classes, (number,), generator=generator, device=trainer.device)
        share = world.share(number)
        own = roll_out(trainer.policy, trainer.render, class_ids[share.rows], run, generator, share)
        images.append(world.gather(own.images, share))
        labels.append(class_ids)
    loo_fid.start_from(torch.cat(images), torch.cat(labels))
