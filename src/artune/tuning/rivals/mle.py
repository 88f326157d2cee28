"""Likelihood continuation of a pretrained policy: the MLE baseline of Table 12."""

from pathlib import Path

import torch
from torch import nn

from artune.config.run import MleRun
from artune.inputs.fit import decay_groups
from artune.inputs.likelihood import likelihood_loss
from artune.inputs.token_codes import load_codes
from artune.models.policies.policy import Policy
from artune.runtime.clock import Clock
from artune.runtime.distributed import ALONE, Share, World
from artune.runtime.seeds import draw_indices, generator_for
from artune.tuning.trainer import OptimizerTrainer, check_finite


class MLETrainer(OptimizerTrainer):
    """AdamW on the token codes of training images; weight decay on matrices only (LlamaGen's recipe)."""

    def __init__(self, run: MleRun, policy: Policy, codes: Path, device: torch.device, world: World = ALONE):
        self.name, self.seed, self.settings = run.name, run.seed, run.mle
        self.policy, self.device, self.world = policy, device, world
        self.iterations, self.save_every = run.mle.iterations, run.mle.save_every
        self.tokens, self.labels = load_codes(codes, "train", run.data.classes)
        groups = decay_groups(policy.parameters(), run.mle.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, run.mle.learning_rate, run.mle.betas)

    def step(self, iteration: int) -> tuple[dict[str, float], dict[str, float]]:
        """One optimiser step on a batch drawn at random, split over the processes.

        Raises:
            SharedError: the loss or the gradient is NaN or infinite; nothing is updated.
        """
        settings, clock = self.settings, Clock(self.device)
        with clock("iteration"):
            share = self.world.share(settings.batch)
            batch = draw_indices(settings.batch, len(self.tokens), generator_for(self.seed, "batch", iteration))
            size, total = settings.micro_batch or settings.batch, 0.0
            self.optimizer.zero_grad(set_to_none=True)
            for start in range(share.start, share.stop, size):
                part = Share(start, min(start + size, share.stop), share.total)
                chosen = batch[part.rows]
                loss = part.weight * likelihood_loss(
                    self.policy,
                    self.tokens[chosen].long().to(self.device),
                    self.labels[chosen].to(self.device),
                    class_dropout=settings.class_dropout,
                    dropout=settings.dropout,
                    generator=generator_for(self.seed, "class_dropout", iteration, device=self.device),
                    share=part,
                )
                loss.backward()
                total += loss.item()
            metrics = self.world.total({"mle/loss": total})
            self._check(metrics["mle/loss"], "loss", iteration)
            self.world.sum_gradients(self.policy.parameters())
            norm = nn.utils.clip_grad_norm_(self.policy.parameters(), settings.grad_clip)
            self._check(norm.item(), "gradient", iteration)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)  # nothing needs the gradients while a state is saved
        metrics |= {
            "optim/grad_norm": norm.item(),
            "optim/learning_rate": settings.learning_rate,
        }
        return metrics, clock.seconds

    def _check(self, value: float, what: str, iteration: int) -> None:
        check_finite(value, what, iteration, self.name, "lower mle.learning_rate")

    def note(self, metrics: dict[str, float]) -> str:
        """The loss, for the progress line."""
        return f"loss {metrics['mle/loss']:.4f}" if metrics else ""
