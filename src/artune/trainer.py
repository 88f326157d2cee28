"""One GRPO iteration: sample, reward, update (paper, Alg. 1)."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from artune.clock import Clock
from artune.config import Run
from artune.distributed import ALONE, Share, World
from artune.entropy import entropy_fraction
from artune.errors import SharedError
from artune.grpo import combined_advantages
from artune.memory import Split
from artune.models import Policy
from artune.objective import entropy_controller, learning_rate, objective, score_tokens, split_update
from artune.rewards import Reward
from artune.rewards.distribution import DistributionReward
from artune.rollout import Renderer, RolloutBatch, draw_prompts, roll_out
from artune.seeds import generator_for
from artune.state import on_cpu

Metrics = dict[str, float]


class GRPOTrainer:
    """The policy, its reference, the optimiser and the running moments; :meth:`step` is one iteration.

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
        self.run, self.grpo, self.entropy = run, run.grpo, run.entropy
        self.device, self.world = device, world
        self.policy, self.render, self.rewards, self.loo_fid = policy, render, rewards, loo_fid
        self.iterations, self.save_every = run.grpo.iterations, run.grpo.save_every
        self.policy.to(getattr(torch, run.grpo.weights_dtype))
        self.reference = copy.deepcopy(policy).requires_grad_(False) if run.grpo.beta > 0 else None
        self.optimizer = torch.optim.AdamW(
            policy.parameters(),
            run.grpo.learning_rate,
            run.grpo.betas,
            weight_decay=run.grpo.weight_decay,
            fused=device.type == "cuda",  # on a CPU it counts no weight's version up, which decoding.py goes by
        )
        self.initial_entropy: float | None = None
        self.split: Split | None = None  # of this process' share, planned at its first update
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
            metrics |= self.optimise(batch, share, advantages[:, share.rows], loss_weights, iteration, clock)
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

    def optimise(
        self,
        batch: RolloutBatch,
        share: Share,
        advantages: Tensor,
        loss_weights: Tensor,
        iteration: int,
        clock: Clock,
    ) -> Metrics:
        """K epochs of one optimiser step each (Alg. 1, lines 12-37); the loss is a mean over the whole batch."""
        grpo, size = self.grpo, len(batch.tokens)
        if self.split is None or self.split.slices[-1].stop != size:  # none saved, or that of a share of another size
            self.split = split_update(self.run, size, self.device, bool(self.optimizer.state))
        parts, self.policy.checkpointing = self.split
        reference = None
        if self.reference is not None:  # once an iteration: neither the tokens nor the reference change
            with clock("reference"), torch.no_grad():
                reference = torch.cat([self._score(self.reference, batch, part)[0] for part in parts])
        # Without dropout the first epoch's own forward is the old policy's (Alg. 1, lines 12-16), and with one slice
        # its entropy is the batch's. Otherwise what is needed of either before a gradient takes a pass ahead.
        synchronised = grpo.gradients == "synchronised"  # else each process steps on its own (open choice 20)
        dropout = bool(grpo.class_dropout or grpo.dropout)
        feedback = self.entropy.over == "batch" and self.entropy.enabled and self.entropy.gain > 0
        old, totals = None, {}
        with clock("update"):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(grpo, iteration)
            for _ in range(grpo.epochs):
                self.optimizer.zero_grad(set_to_none=True)
                whole, own = None, []
                if (dropout and old is None) or (feedback and (dropout or len(parts) > 1)):
                    with torch.no_grad():
                        ahead = [self._score(self.policy, batch, part, iteration) for part in parts]
                    old = torch.cat([logp for logp, _ in ahead]) if old is None else old
                    if feedback:
                        whole = self._whole(self._fraction(torch.cat([entropy for _, entropy in ahead])), share)
                totals = {"loss": 0.0}
                for part in parts:
                    logp, entropy = self._score(self.policy, batch, part, iteration)
                    own.append(logp.detach())
                    measured = self._fraction(entropy)
                    if feedback and whole is None:
                        whole = self._whole(measured, share)
                    loss, values = objective(
                        logp,
                        own[-1] if old is None else old[part],
                        None if reference is None else reference[part],
                        entropy,
                        advantages[:, part],
                        loss_weights,
                        self._coefficient(iteration, measured if whole is None else whole),
                        grpo,
                    )
                    (len(logp) / (share.total if synchronised else size) * loss).backward()
                    for key, value in (values | {"policy/entropy": measured, "loss": loss.item()}).items():
                        totals[key] = totals.get(key, 0.0) + len(logp) / share.total * value
                old = torch.cat(own) if old is None else old
                totals = self.world.total(totals)
                self._check(totals.pop("loss"), "loss", iteration)
                if synchronised:
                    self.world.sum_gradients(self.policy.parameters())
                norm = nn.utils.clip_grad_norm_(self.policy.parameters(), grpo.grad_clip)
                self._check(self.world.total({"norm": norm.item()})["norm"], "gradient", iteration)
                if self._before is None and grpo.epochs > 1:  # a later epoch may fail
                    self._before = on_cpu(self.state_dict())
                with clock("optimizer"):
                    self.optimizer.step()  # Alg. 1, line 36
        if self.reference is not None and grpo.reference == "ema":
            for kept, new in zip(self.reference.parameters(), self.policy.parameters(), strict=True):
                kept.lerp_(new.detach(), 1.0 - grpo.reference_decay)
        return totals | {
            "optim/grad_norm": norm.item(),
            "optim/learning_rate": learning_rate(grpo, iteration),
        }

    def _score(
        self, policy: Policy, batch: RolloutBatch, part: slice, iteration: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Score a slice; the policy (not the reference) with the run's dropouts, if it has any."""
        class_ids, dropout = batch.class_ids[part], 0.0
        if iteration is not None:
            dropout = self.grpo.dropout
            if self.grpo.class_dropout and policy.null_class is not None:
                generator = generator_for(self.run.seed, "class_dropout", iteration, batch.start + part.start)
                dropped = torch.rand(len(class_ids), generator=generator) < self.grpo.class_dropout
                class_ids = class_ids.masked_fill(dropped.to(class_ids.device), policy.null_class)
        return score_tokens(policy, batch.tokens[part], class_ids, self.grpo, self.run.sampling, dropout)

    def _fraction(self, entropy: Tensor) -> float:
        return entropy_fraction(entropy, self.run.backbone.codebook_size).item()

    def _whole(self, fraction: float, share: Share) -> float:
        """The mean over all processes of what each measured on its share."""
        return self.world.total({"entropy": fraction * share.weight})["entropy"]

    def _coefficient(self, iteration: int, measured: float) -> float:
        """c_eff of this step; the first entropy ever measured is the initial one."""
        if self.initial_entropy is None:
            self.initial_entropy = self.world.from_leader(measured)
        if not self.entropy.enabled:
            return 0.0
        controller = entropy_controller(self.entropy, self.initial_entropy)
        return controller.coefficient(iteration / self.iterations, measured)

    def _check(self, value: float, what: str, iteration: int) -> None:
        """Stop every process if ``value``, which is the same on all, is no number."""
        if not math.isfinite(value):
            raise SharedError(
                f"{what}: NaN or infinite at iteration {iteration} of {self.run.name}; the last good state is kept: "
                "lower grpo.learning_rate or look at the rewards"
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next iteration depends on."""
        ema = self.reference is not None and self.grpo.reference == "ema"
        return {
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "reference": self.reference.state_dict() if ema else None,
            "loo_fid": self.loo_fid.state_dict() if self.loo_fid is not None else None,
            "initial_entropy": self.initial_entropy,
            # planned from the memory that was free at the start; another cut would move the last bits
            "split": None if self.split is None else [self.device.type, *self.split.saved()],
        }

    def good_state(self) -> dict[str, Any]:
        """After a step that failed: the state before it."""
        return self.state_dict() if self._before is None else self._before

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["reference"] is not None:
            self.reference.load_state_dict(state["reference"])
        if self.loo_fid is not None:
            self.loo_fid.load_state_dict(state["loo_fid"])
        self.initial_entropy = state["initial_entropy"]
        if (split := state.get("split")) is not None and split[0] == self.device.type:
            self.split = Split.of(*split[1:])

    def note(self, metrics: Metrics) -> str:
        """The numbers that matter, for the progress line."""
        shown = {
            "reward": "reward/total",
            "fid_ema": "fid/ema",
            "entropy": "policy/entropy",
            "kl": "policy/kl",
        }
        return "  ".join(f"{label} {metrics[key]:.3f}" for label, key in shown.items() if key in metrics)
