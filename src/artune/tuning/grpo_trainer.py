"""One GRPO iteration: sample, reward, update (paper, Alg. 1)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from artune.config.run import Run
from artune.data.prompts import class_names
from artune.errors import SharedError
from artune.models.policies.policy import Policy
from artune.rewards.distribution import DistributionReward
from artune.rewards.reward import Reward
from artune.runtime.clock import Clock
from artune.runtime.distributed import ALONE, Share, World
from artune.runtime.progress import warn
from artune.runtime.resume import on_cpu
from artune.runtime.seeds import generator_for
from artune.sampling.batch import RolloutBatch
from artune.sampling.grids import draw_grid, grid_images
from artune.sampling.rollout import Renderer, draw_prompts, roll_out
from artune.tuning.grpo import combined_advantages
from artune.tuning.policy_update import Metrics, PolicyUpdate


class GRPOTrainer:
    """The policy, its rewards and the running moments; :meth:`step` is one iteration.

    With several processes each samples and scores its share of the batch; rewards, moments and advantages are of
    the whole batch on all of them.

    Every draw comes from a generator of its own, named by seed, purpose and iteration, so nothing but
    :meth:`state_dict` is needed to go on after a kill with the very same numbers.
    """

    def __init__(
        self,
        run: Run,
        policy: Policy,
        render: Renderer,
        rewards: list[Reward],
        loo_fid: DistributionReward | None,
        device: torch.device,
        world: World = ALONE,
    ):
        assert run.grpo is not None and run.rewards is not None and run.entropy is not None  # noqa: PT018
        self.run, self.grpo = run, run.grpo
        self.device, self.world = device, world
        self.policy, self.render, self.rewards, self.loo_fid = policy, render, rewards, loo_fid
        self.iterations, self.save_every = run.grpo.iterations, run.grpo.save_every
        self.update = PolicyUpdate(run, policy, device, world)
        self._before: dict[str, Any] | None = None  # the state before an iteration whose updates have begun

    def step(self, iteration: int) -> tuple[Metrics, Metrics]:
        """Run iteration ``iteration`` (from 0); returns its metrics and the seconds of its stages.

        Raises:
            SharedError: a reward, the loss or the gradient is NaN or infinite.
        """
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
                batch = roll_out(self.policy, render, prompts[share.rows], self.run, generator, share)
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
            metrics |= self.update(batch, share, advantages[:, share.rows], loss_weights, iteration, clock, self._save)
            if self.loo_fid is not None:
                self.loo_fid.commit()
            self._before = None
        clock.seconds["time/generate"] = clock.seconds.pop("time/rollout") - clock.seconds["time/decode"]
        return metrics, clock.seconds

    def _timed_render(self, clock: Clock) -> Renderer:
        def render(tokens: Tensor) -> Tensor:
            with clock("decode"):
                return self.render(tokens)

        return render

    def _reward(
        self, batch: RolloutBatch, prompts: Tensor, share: Share, iteration: int, clock: Clock
    ) -> tuple[dict[str, Tensor], Metrics]:
        """Every reward in its unit, of the images of all processes, [B] each, and what to log of them."""
        rewards, scores, metrics = self.run.rewards, {}, {}
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=rewards.autocast == "bfloat16")
        for reward in self.rewards:
            with clock(f"reward_{reward.name}"), half:
                scores[reward.name] = rewards.units[reward.name] * self.world.gather(reward(batch), share)
        if self.loo_fid is not None:
            with clock("reward_loo_fid"):
                features = self.world.gather(self.loo_fid.features(batch), share)
            with clock("loo_fid"):
                values, metrics["fid/ema"] = self.loo_fid(features, prompts)
                scores["loo_fid"] = rewards.units["loo_fid"] * values.float()
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
        return self.update.state_dict() | {"loo_fid": self.loo_fid.state_dict() if self.loo_fid is not None else None}

    def good_state(self) -> dict[str, Any]:
        """After a step that failed: the state before it."""
        return self.state_dict() if self._before is None else self._before

    def _save(self) -> None:
        self._before = on_cpu(self.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.update.load_state_dict(state)
        if self.loo_fid is not None:
            self.loo_fid.load_state_dict(state["loo_fid"])

    def note(self, metrics: Metrics) -> str:
        """The numbers that matter, for the progress line."""
        shown = {
            "reward": "reward/total",
            "fid_ema": "fid/ema",
            "entropy": "policy/entropy",
            "kl": "policy/kl",
        }
        return "  ".join(f"{label} {metrics[key]:.3f}" for label, key in shown.items() if key in metrics)


VQGAN_CAP = 0.709  # log 971 / log 16384: the encoder of the released VQGAN uses about 971 of its codes


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
