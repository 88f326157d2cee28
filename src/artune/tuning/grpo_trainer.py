"""One GRPO iteration: sample, reward, update (paper, Alg. 1)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from artune.config.methods import Entropy
from artune.config.run import GrpoRun
from artune.data.prompts import class_names
from artune.errors import SharedError
from artune.models.policies.policy import Policy
from artune.rewards.distribution import DistributionReward
from artune.rewards.reward import Reward
from artune.runtime.clock import Clock
from artune.runtime.distributed import ALONE, Share, World
from artune.runtime.progress import warn
from artune.runtime.seeds import generator_for
from artune.sampling.batch import RolloutBatch
from artune.sampling.generate import Sampler
from artune.sampling.grids import draw_grid, grid_images
from artune.sampling.rollout import Renderer, draw_prompts, roll_out
from artune.tuning.grpo import combined_advantages
from artune.tuning.policy_update import PolicyUpdate
from artune.tuning.trainer import Trainer

VQGAN_CAP = 0.709  # log 971 / log 16384: the encoder of the released VQGAN uses about 971 of its 16,384 codes
PICTURES = 4  # pictures of samples per training, evenly spaced over its iterations
EMA = {"loo_fid": "fid/ema", "loo_fid_second": "fid/ema_second"}  # reward -> the metric of its moving average
START_BATCH = 256  # samples drawn at once for the initial moments of LOO-FID


class GRPOTrainer(Trainer):
    """The policy, its rewards and the running moments; :meth:`step` is one iteration.

    With several processes each samples and scores its share of the batch; every process then holds the rewards, moments
    and advantages of the whole batch.

    Args:
        run: the settings.
        policy: the policy to tune.
        render: tokens [B, T] -> images uint8 [B, 3, H, W].
        rewards: the instance-level rewards.
        loo_fid: the LOO-FID rewards with their moments; empty for a run without.
        device: device of the policy.
        world: the processes that share a batch.
    """

    def __init__(
        self,
        run: GrpoRun,
        policy: Policy,
        render: Renderer,
        rewards: list[Reward],
        loo_fid: Sequence[DistributionReward],
        device: torch.device,
        world: World = ALONE,
    ):
        self.run, self.grpo, self.name, self.seed = run, run.grpo, run.name, run.seed
        self.device, self.world = device, world
        self.policy, self.render, self.rewards, self.loo_fid = policy, render, rewards, loo_fid
        self.iterations, self.save_every = run.grpo.iterations, run.grpo.save_every
        self.update = PolicyUpdate(run, policy, device, world)
        rows = world.share(run.grpo.prompts * run.grpo.group_size).rows
        # Start moments and pictures are drawn by the decoder of the iterations, whatever their own batch sizes.
        self.sampler = Sampler(policy, run.sampling, rows.stop - rows.start)

    def step(self, iteration: int) -> tuple[dict[str, float], dict[str, float]]:
        """See :meth:`Trainer.step`."""
        grpo, rewards, clock = self.grpo, self.run.rewards, Clock(self.device)
        with clock("iteration"):
            prompts = draw_prompts(
                self.run.data.classes,
                grpo.prompts,
                grpo.group_size,
                grpo.prompts_drawn,
                generator_for(self.run.seed, "prompts", iteration),
            ).to(self.device)
            share = self.world.share(len(prompts))
            with clock("rollout"):  # Alg. 1, lines 1-5
                generator = generator_for(self.run.seed, "rollout", iteration, device=self.device)
                render = self._timed_render(clock)
                batch = roll_out(self.sampler, render, prompts[share.rows], generator, share)
            scores, metrics = self._reward(batch, prompts, share, iteration, clock)  # Alg. 1, lines 6-9
            advantages, loss_weights = combined_advantages(  # Alg. 1, lines 10-11
                scores,
                rewards.weights,
                grpo.group_size,
                combine=rewards.combine,
                groups=rewards.groups,
                group_weights=rewards.group_weights,
                add=rewards.add,
                epsilon=grpo.advantage_epsilon,
                std=grpo.advantage_std,
                over=grpo.advantage_over,
            )
            metrics["policy/advantage_abs"] = advantages.abs().mean().item()
            metrics |= self.update(
                batch, share, advantages[:, share.rows], loss_weights, iteration, clock, self.keep_state
            )
            for distribution in self.loo_fid:
                distribution.commit()
            self._updating = False
        clock.seconds["time/generate"] = clock.seconds.pop("time/rollout") - clock.seconds["time/decode"]
        return metrics, clock.seconds

    def _timed_render(self, clock: Clock) -> Renderer:
        def render(tokens: Tensor) -> Tensor:
            with clock("decode"):
                return self.render(tokens)

        return render

    def _reward(
        self, batch: RolloutBatch, prompts: Tensor, share: Share, iteration: int, clock: Clock
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Rewards [B] of the images of all processes by name, each scaled by its unit, and the metrics to log."""
        rewards, scores, metrics = self.run.rewards, {}, {}
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=rewards.autocast == "bfloat16")
        for reward in self.rewards:
            with clock(f"reward_{reward.name}"), half:
                scores[reward.name] = rewards.units[reward.name] * self.world.gather(reward(batch), share)
        for distribution in self.loo_fid:
            name = distribution.name
            with clock(f"reward_{name}"):
                features = self.world.gather(distribution.features(batch), share)
            with clock(name):
                values, metrics[EMA[name]] = distribution(features, prompts)
                scores[name] = rewards.units[name] * values.float()
        for name, value in scores.items():
            if not torch.isfinite(value).all():
                bad = int((~torch.isfinite(value)).sum())
                raise SharedError(
                    f"reward {name}: NaN or infinite for {bad} of {len(value)} images at iteration {iteration} of "
                    f"{self.run.name}; the last good state is kept: look at the reward's network"
                )
            groups = value.view(-1, self.grpo.group_size)
            metrics[f"reward/{name}"] = value.mean().item()
            metrics[f"reward/{name}_std_within"] = groups.std(1, correction=0).mean().item()
            metrics[f"reward/{name}_std_between"] = groups.mean(1).std(correction=0).item()
        metrics["reward/total"] = sum(rewards.weights[name] * metrics[f"reward/{name}"] for name in scores)
        return scores, metrics

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next iteration depends on."""
        return self.update.state_dict() | {reward.name: reward.state_dict() for reward in self.loo_fid}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.update.load_state_dict(state)
        for distribution in self.loo_fid:
            distribution.load_state_dict(state[distribution.name])

    def note(self, metrics: dict[str, float]) -> str:
        """Total reward, FID, entropy and KL for the progress line."""
        shown = {
            "reward": "reward/total",
            "fid_ema": EMA["loo_fid"],
            "second_fid_ema": EMA["loo_fid_second"],
            "entropy": "policy/entropy",
            "kl": "policy/kl",
        }
        return "  ".join(f"{label} {metrics[key]:.3f}" for label, key in shown.items() if key in metrics)

    def begin(self) -> None:
        """Give LOO-FID the moments of the pretrained policy's own samples (open choice 22)."""
        asking = [one for one in self.loo_fid if (one.settings.mode, one.settings.start) == ("ema", "pretrained")]
        for total in dict.fromkeys(one.settings.start_samples for one in asking):
            drawn = self._start_samples(total)
            for distribution in asking:
                if distribution.settings.start_samples == total:
                    distribution.start_from(*drawn)

    def _start_samples(self, total: int) -> tuple[Tensor, Tensor]:
        """Images uint8 [total, 3, H, W] of the policy, and their class ids [total]."""
        images, labels = [], []
        for at in range(0, total, START_BATCH):
            generator = generator_for(self.seed, "start", at, device=self.device)
            number = min(START_BATCH, total - at)
            class_ids = torch.randint(self.run.data.classes, (number,), generator=generator, device=self.device)
            share = self.world.share(number)
            own = roll_out(self.sampler, self.render, class_ids[share.rows], generator, share)
            images.append(self.world.gather(own.images, share))
            labels.append(class_ids)
        return torch.cat(images), torch.cat(labels)

    def picture(self, iteration: int, folder: Path) -> Path | None:
        """A grid of samples from the same draws each time; None except at :data:`PICTURES` evenly spaced iterations."""
        if iteration % max(1, self.iterations // PICTURES):
            return None
        names = class_names(self.run.data)[:10]
        images = grid_images(self.sampler, self.render, list(range(len(names))), 4, 0, self.device)
        title = f"{self.name} after iteration {iteration}, {self.run.scale} scale"
        path = folder / f"iteration-{iteration:06d}.png"
        draw_grid([images], names, [""], title, path)
        return path


def check_target(family: str, entropy: Entropy) -> None:
    """Warn about a target entropy that a policy of ``family`` cannot reach."""
    if family != "vqgan" or not entropy.enabled or entropy.target_is != "absolute":
        return
    if entropy.target > VQGAN_CAP:
        warn(
            f"entropy.target {entropy.target} is out of reach on VQGAN, whose live codes cap the normalised entropy at "
            f"about {VQGAN_CAP}: the bonus will stay high; use entropy.target_is offset with target 0.08 instead"
        )
