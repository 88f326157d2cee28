"""One GRPO iteration: sample, reward, update (paper, Alg. 1)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from artune.config.methods import Entropy
from artune.config.run import GrpoRun
from artune.data.prompts import class_names
from artune.errors import ArtuneError, SharedError, unknown
from artune.models.policies.policy import Policy, check_policy
from artune.rewards.distribution import DistributionReward
from artune.rewards.reward import Reward, kept_between_batches, named_rewards
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
from artune.tuning.settings import GRPOSettings
from artune.tuning.trainer import Trainer

VQGAN_CAP = 0.709  # log 971 / log 16384: the encoder of the released VQGAN uses about 971 of its 16,384 codes
PICTURES = 4  # pictures of samples per training, evenly spaced over its iterations
EMA = {"loo_fid": "fid/ema", "loo_fid_second": "fid/ema_second"}  # reward -> the metric of its moving average
START_BATCH = 256  # samples drawn at once for the initial moments of LOO-FID


class GRPOTrainer(Trainer):
    """GRPO with the entropy bonus (paper, Alg. 1); :meth:`step` is one iteration and changes the policy in place.

    An iteration draws G images of each of some classes, turns their rewards r into advantages ``A = (r - mean) / (std +
    epsilon)`` within each class, and takes K steps on ``L = -min(rho A, clip(rho, 1 - e, 1 + e) A) - c H + beta KL``
    (Eq. 34). With several processes each samples and scores its share of the batch; every process then holds the
    rewards, moments and advantages of the whole batch.

    Args:
        policy: the policy to tune: an ``nn.Module`` with what :class:`~artune.models.policies.policy.Policy` says.
        render: tokens [B, T] -> images uint8 [B, 3, H, W], or any tensor that the rewards understand.
        rewards: functions of a :class:`~artune.sampling.batch.RolloutBatch` by name, each returning [B] numbers, higher
            is better; or a list of objects with a ``name``, as a run of the registry has.
        settings: the settings of the method; or those of a run, whose data set then names the classes in pictures.
        loo_fid: a run's LOO-FID rewards with their moments; a
            :class:`~artune.rewards.running_loo_fid.LooFidReward` is one of ``rewards`` instead.
        device: device of the policy; None: where its weights are.
        world: the processes that share a batch.

    Raises:
        ArtuneError: a policy that lacks something, more distinct prompts than classes, weights of rewards that are not
            there, or sampling that the policy does not allow.

    >>> policy = artune.LlamaGen(dim=16, layers=1, heads=1, codebook_size=8, classes=4, tokens=9)
    >>> settings = artune.GRPOSettings(iterations=5, prompts=4, group_size=8, learning_rate=1e-2, beta=0.0)
    >>> rewards = {"even": lambda batch: (batch.tokens % 2 == 0).float().mean(1)}
    >>> trainer = artune.GRPOTrainer(policy, lambda tokens: tokens, rewards, settings)
    >>> for iteration in range(trainer.iterations):
    ...     metrics, seconds = trainer.step(iteration)
    >>> metrics["reward/even"] > 0.5
    True
    """

    def __init__(
        self,
        policy: Policy,
        render: Renderer,
        rewards: Mapping[str, Callable[[RolloutBatch], Any]] | Sequence[Reward],
        settings: GRPOSettings | GrpoRun,
        loo_fid: Sequence[DistributionReward] = (),
        device: torch.device | None = None,
        world: World = ALONE,
    ):
        check_policy(policy)
        run = settings
        self.run, self.grpo, self.name, self.seed = run, run.grpo, run.name, run.seed
        self.classes = run.data.classes if isinstance(run, GrpoRun) else policy.classes
        device = next(policy.parameters()).device if device is None else device
        self.device, self.world = device, world
        self.policy, self.render, self.rewards, self.loo_fid = policy, render, named_rewards(rewards), loo_fid
        self.keepers = kept_between_batches(self.rewards)
        self._kept_before: dict[str, Any] | None = None  # what they kept before an iteration that has not ended
        if isinstance(run, GRPOSettings):
            check_fit(run, [reward.name for reward in self.rewards], self.classes)
        self.iterations, self.save_every = run.grpo.iterations, run.grpo.save_every
        self.update = PolicyUpdate(run, policy, device, world)
        rows = world.share(run.grpo.prompts * run.grpo.group_size).rows
        # Start moments and pictures are drawn by the decoder of the iterations, whatever their own batch sizes.
        self.sampler = Sampler(policy, run.sampling, rows.stop - rows.start)

    def step(self, iteration: int) -> tuple[dict[str, float], dict[str, float]]:
        """See :meth:`Trainer.step`."""
        grpo, rewards, clock = self.grpo, self.run.rewards, Clock(self.device)
        self._kept_before = {name: keeper.state_dict() for name, keeper in self.keepers.items()}
        with clock("iteration"):
            prompts = draw_prompts(
                self.classes,
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
            self._updating, self._kept_before = False, None
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
        """Everything that the next iteration depends on; after an iteration that failed, that iteration."""
        state = self.update.state_dict() | {reward.name: reward.state_dict() for reward in self.loo_fid}
        if self.keepers:
            present = {name: keeper.state_dict() for name, keeper in self.keepers.items()}
            state["rewards"] = present if self._kept_before is None else self._kept_before
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.update.load_state_dict(state)
        for distribution in self.loo_fid:
            distribution.load_state_dict(state[distribution.name])
        for name, keeper in self.keepers.items():
            keeper.load_state_dict(state["rewards"][name])
        self._kept_before = None

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
            class_ids = torch.randint(self.classes, (number,), generator=generator, device=self.device)
            share = self.world.share(number)
            own = roll_out(self.sampler, self.render, class_ids[share.rows], generator, share)
            images.append(self.world.gather(own.images, share))
            labels.append(class_ids)
        return torch.cat(images), torch.cat(labels)

    def picture(self, iteration: int, folder: Path) -> Path | None:
        """A grid of samples from the same draws each time; None except at :data:`PICTURES` evenly spaced iterations.

        A training without a data set, which names the classes, draws none.
        """
        if not isinstance(self.run, GrpoRun) or iteration % max(1, self.iterations // PICTURES):
            return None
        names = class_names(self.run.data)[:10]
        images = grid_images(self.sampler, self.render, list(range(len(names))), 4, 0, self.device)
        path = folder / f"iteration-{iteration:06d}.png"
        draw_grid([images], names, [f"{self.name} after iteration {iteration}"], path)
        return path


def check_fit(settings: GRPOSettings, rewards: Sequence[str], classes: int) -> None:
    """Check settings against what they are used with.

    Args:
        settings: the settings.
        rewards: names of the rewards.
        classes: number of classes of the policy.

    Raises:
        ArtuneError: no rewards, weights of rewards that are not there, or more distinct prompts than classes.
    """
    if not rewards:
        raise ArtuneError('rewards: none; give a mapping such as {"bright": function of a batch}')
    for name in settings.weights:
        if name not in rewards:
            raise ArtuneError(f"GRPOSettings: weights: {unknown(name, rewards, 'reward')}")
    if settings.grpo.prompts_drawn == "distinct" and settings.prompts > classes:
        raise ArtuneError(f"GRPOSettings: prompts: {settings.prompts} distinct prompts of {classes} classes")


def check_target(family: str, entropy: Entropy) -> None:
    """Warn about a target entropy that a policy of ``family`` cannot reach."""
    if family != "vqgan" or not entropy.enabled or entropy.target_is != "absolute":
        return
    if entropy.target > VQGAN_CAP:
        warn(
            f"entropy.target {entropy.target} is out of reach on VQGAN, whose live codes cap the normalised entropy at "
            f"about {VQGAN_CAP}: the bonus will stay high; use entropy.target_is offset with target 0.08 instead"
        )
