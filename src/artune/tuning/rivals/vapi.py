"""VA-pi: align a policy with the pixels of training images (arXiv 2512.19680; Table 5). Maths and trainer.

For a training image with tokens z, one teacher-forced pass over a noisy copy of z gives a distribution for every
position. G sequences are drawn from these distributions, position by position, and decoded; training makes those that
look most like the image likelier. Nothing is sampled autoregressively, and training uses no guidance.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artune.config.run import VapiRun
from artune.data.embedded import load_split
from artune.data.pixels import to_pixels
from artune.errors import ArtuneError
from artune.inputs.token_codes import load_codes
from artune.models.policies.policy import Policy
from artune.runtime.clock import Clock
from artune.runtime.distributed import ALONE
from artune.runtime.seeds import draw_indices, generator_for
from artune.sampling.rollout import Renderer
from artune.tuning.grpo import (
    clip_acting_fraction,
    group_advantages,
    grpo_loss,
    log_ratio,
    ratio_outside_fraction,
)
from artune.tuning.trainer import OptimizerTrainer, check_finite


def noisy_context(tokens: Tensor, codes: int, share: float, generator: torch.Generator) -> Tensor:
    """Tokens [I, T], each replaced with probability ``share`` by a random one of the ``codes``."""
    replaced = torch.rand(tokens.shape, generator=generator, device=tokens.device) < share
    return torch.where(replaced, torch.randint(codes, tokens.shape, generator=generator, device=tokens.device), tokens)


def draw_positions(logits: Tensor, group_size: int, generator: torch.Generator) -> Tensor:
    """G sequences per image, every token drawn from its own softmax: logits [I, T, V] -> tokens [I * G, T]."""
    images, length, codes = logits.shape
    chances = logits.softmax(-1).view(-1, codes)
    drawn = torch.multinomial(chances, group_size, replacement=True, generator=generator)  # [I * T, G]
    return drawn.view(images, length, group_size).transpose(1, 2).reshape(-1, length)


def feature_distance(features: Tensor, targets: Tensor) -> Tensor:
    """Squared distance [B] of unit-normalised features [B, D], in [0, 4]: LPIPS's form on one layer, weights 1."""
    return (F.normalize(features, dim=-1) - F.normalize(targets, dim=-1)).square().sum(-1)


def bounded_advantages(rewards: Tensor, group_size: int, epsilon: float, bound: float) -> Tensor:
    """Advantages [B]: (r - mean) / (s + epsilon) over an image's G sequences, clamped to +- ``bound``."""
    return group_advantages(rewards, group_size, epsilon=epsilon).clamp(-bound, bound)


class VAPiTrainer(OptimizerTrainer):
    """AdamW on the policy loss of each token and the likelihood of the images' own tokens.

    Args:
        run: a run of method vapi.
        policy: the policy to tune.
        render: decoder, tokens [B, T] -> images uint8 [B, 3, H, W].
        network: frozen network with ``features``; the distance of its features stands in for LPIPS.
        codes: file of the training images' tokens.
        data: file of the same images' pixels, in the same order.
        device: device of the training.

    Raises:
        ArtuneError: ``codes`` and ``data`` hold different images, or a file is missing or damaged.
    """

    def __init__(
        self,
        run: VapiRun,
        policy: Policy,
        render: Renderer,
        network: nn.Module,
        codes: Path,
        data: Path,
        device: torch.device,
    ):
        self.name, self.seed, self.settings, self.policy, self.device = run.name, run.seed, run.vapi, policy, device
        self.render, self.network, self.world = render, network, ALONE
        self.iterations, self.save_every = run.vapi.iterations, run.vapi.save_every
        self.tokens, self.labels = load_codes(codes, "train", run.data.classes)
        self.images, labels = load_split(data, "train")
        if not torch.equal(labels, self.labels):
            raise ArtuneError(f"{codes}: not the tokens of the images in {data}; make the codes again")
        self.optimizer = torch.optim.AdamW(
            policy.parameters(), run.vapi.learning_rate, run.vapi.betas, weight_decay=run.vapi.weight_decay
        )

    def step(self, iteration: int) -> tuple[dict[str, float], dict[str, float]]:
        """Draw and decode sequences, compare them with their images, and update the policy.

        Raises:
            SharedError: the loss or the gradient is NaN or infinite.
        """
        vapi, clock = self.settings, Clock(self.device)
        generator = generator_for(self.seed, "vapi", iteration, device=self.device)
        with clock("iteration"):
            chosen = draw_indices(vapi.images, len(self.tokens), generator_for(self.seed, "batch", iteration))
            tokens, labels = self.tokens[chosen].long().to(self.device), self.labels[chosen].to(self.device)
            context = noisy_context(tokens, self.policy.codebook_size, vapi.context_noise, generator)
            with clock("generate"), torch.no_grad():
                drawn = draw_positions(self.policy(context, labels), vapi.group_size, generator)
            rewards, metrics = self._reward(drawn, self.images[chosen].to(self.device), clock)
            advantages = bounded_advantages(rewards, vapi.group_size, vapi.advantage_epsilon, vapi.advantage_clip)
            with clock("update"):
                metrics |= self._optimise(context, labels, tokens, drawn, advantages, iteration)
            self._updating = False
        return metrics, clock.seconds

    @torch.no_grad()
    def _reward(self, drawn: Tensor, images: Tensor, clock: Clock) -> tuple[Tensor, dict[str, float]]:
        """Rewards [B], minus the weighted MSE and feature distance to the training image, and the metrics to log."""
        with clock("decode"):
            decoded = self.render(drawn)
        group = self.settings.group_size
        with clock("reward_vapi"):
            targets = to_pixels(images).repeat_interleave(group, 0)
            mse = (to_pixels(decoded) - targets).square().mean((1, 2, 3))
            features = self.network.features(images).repeat_interleave(group, 0)
            perceptual = feature_distance(self.network.features(decoded), features)
        rewards = -(self.settings.mse * mse + self.settings.perceptual * perceptual)
        values = {"reward": rewards, "mse": mse, "perceptual": perceptual}
        return rewards, {f"vapi/{name}": value.mean().item() for name, value in values.items()}

    def _optimise(
        self, context: Tensor, labels: Tensor, tokens: Tensor, drawn: Tensor, advantages: Tensor, iteration: int
    ) -> dict[str, float]:
        vapi, old = self.settings, None
        for epoch in range(vapi.epochs):
            logits = self.policy(context, labels).float()  # [I, T, V], one context for all G sequences of an image
            every = logits.log_softmax(-1).repeat_interleave(vapi.group_size, 0)
            logp = every.gather(-1, drawn[..., None]).squeeze(-1)  # [I * G, T]
            old = logp.detach() if old is None else old
            ratio = log_ratio(logp, old, "token")
            policy_loss = grpo_loss(ratio, advantages, vapi.clip).mean()
            likelihood = F.cross_entropy(logits.flatten(0, 1), tokens.flatten())
            loss = policy_loss + vapi.cross_entropy * likelihood
            self._check(loss, "loss", iteration)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(self.policy.parameters(), vapi.grad_clip)
            self._check(norm, "gradient", iteration)
            if epoch == 0 and vapi.epochs > 1:  # a later epoch may fail
                self.keep_state()
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)  # the next images have their memory
        return {
            "vapi/cross_entropy": likelihood.item(),
            "policy/loss": policy_loss.item(),
            "policy/ratio_outside_fraction": ratio_outside_fraction(ratio, vapi.clip).item(),
            "policy/clip_acting_fraction": clip_acting_fraction(ratio, advantages, vapi.clip).item(),
            "optim/grad_norm": norm.item(),
            "optim/learning_rate": vapi.learning_rate,
        }

    def _check(self, value: Tensor, what: str, iteration: int) -> None:
        check_finite(value.item(), what, iteration, self.name, "lower vapi.learning_rate")

    def note(self, metrics: dict[str, float]) -> str:
        """The mean reward, for the progress line."""
        return f"reward {metrics['vapi/reward']:.4f}" if metrics else ""
