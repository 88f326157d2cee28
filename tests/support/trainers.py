"""Trainers of a miniature run."""

import torch
from tiny import Brightness, tiny_policy, tiny_renderer

from artune.tracking.run_logger import RunLogger
from artune.tuning.grpo_trainer import GRPOTrainer
from artune.tuning.loop import run_to_end

CPU = torch.device("cpu")


class Flat(torch.nn.Module):
    """Features of an image for LOO-FID: its mean colour."""

    def features(self, images):
        return images.float().mean((2, 3)) / 255


def trainer_of(run, reward=None, loo_fid=None):
    loo_fids = [loo_fid] if loo_fid else []
    return GRPOTrainer(tiny_policy(run), tiny_renderer(run), [reward or Brightness()], run, loo_fids, CPU)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.policy.parameters()])


def run_fit(run, folder, trainer, config="text"):
    folder.mkdir(exist_ok=True)
    logger = RunLogger(folder)
    try:
        return run_to_end(trainer, folder, logger, config)
    finally:
        logger.close()
