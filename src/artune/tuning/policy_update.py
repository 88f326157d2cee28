"""The update of an iteration: K epochs of one optimiser step each (paper, Alg. 1, lines 12-37)."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from artune.config.run import GrpoRun
from artune.models.policies.policy import Policy
from artune.runtime.clock import Clock
from artune.runtime.distributed import Share, World
from artune.runtime.progress import say
from artune.runtime.seeds import generator_for
from artune.sampling.batch import RolloutBatch
from artune.sampling.device_memory import free_bytes
from artune.tuning import micro_batch
from artune.tuning.entropy import entropy_fraction
from artune.tuning.micro_batch import MicroBatches
from artune.tuning.objective import entropy_controller, learning_rate, objective, score_tokens
from artune.tuning.settings import GRPOSettings
from artune.tuning.trainer import check_finite


class PolicyUpdate:
    """The policy's optimiser, reference and initial entropy; :meth:`__call__` is one update.

    With several processes each takes its share of the batch; the gradient, and so the policy, is the same on all of
    them unless ``grpo.gradients`` is ``local``.

    Args:
        run: the settings.
        policy: the policy to train.
        device: device of the policy.
        world: the processes that share a batch.
    """

    def __init__(self, run: GrpoRun | GRPOSettings, policy: Policy, device: torch.device, world: World):
        self.run, self.grpo, self.entropy = run, run.grpo, run.entropy
        self.policy, self.device, self.world = policy, device, world
        self.policy.to(getattr(torch, run.grpo.weights_dtype))
        self.reference = copy.deepcopy(policy).requires_grad_(False) if run.grpo.beta > 0 else None
        self.optimizer = torch.optim.AdamW(
            policy.parameters(),
            run.grpo.learning_rate,
            run.grpo.betas,
            weight_decay=run.grpo.weight_decay,
            # Fused AdamW on a CPU does not raise Tensor._version, by which cached decoding notices new weights.
            fused=device.type == "cuda",
        )
        self.initial_entropy: float | None = None
        self.split: MicroBatches | None = None  # slices of this process' share, planned at the first update
        self._made_for: float | None = None  # bytes for the update when they were planned; None: on a CPU
        self._compared = True  # whether these bytes need not be compared with those of this process
        # Whether the entropy coefficient follows the entropy of the whole batch.
        self.feedback = run.entropy.over == "batch" and run.entropy.enabled and run.entropy.gain > 0

    def __call__(
        self,
        batch: RolloutBatch,
        share: Share,
        advantages: Tensor,
        loss_weights: Tensor,
        iteration: int,
        clock: Clock,
        save: Callable[[], None] = lambda: None,
    ) -> dict[str, float]:
        """Update the policy; the loss is a mean over the whole batch of all processes.

        Args:
            batch: this process' samples.
            share: the rows of these samples in the whole batch.
            advantages: [rows of losses, b] of these samples.
            loss_weights: one factor per row of losses.
            iteration: number of the iteration, counted from 0.
            clock: times the parts of the update.
            save: called before the first optimiser step if more epochs follow, any of which may fail.

        Returns:
            The metrics to log.

        Raises:
            SharedError: the loss or the gradient is NaN or infinite.
        """
        grpo, split = self.grpo, self.planned(len(batch.tokens))
        parts, self.policy.checkpointing = split
        reference = None
        if self.reference is not None:  # scored once per iteration: neither the tokens nor the reference change
            with clock("reference"), torch.no_grad():
                reference = torch.cat([self._score(self.reference, batch, part)[0] for part in parts])
        old: Tensor | None = None
        totals: dict[str, float] = {}
        norm = 0.0
        with clock("update"):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(grpo, iteration)
            for epoch in range(grpo.epochs):
                self.optimizer.zero_grad(set_to_none=True)
                old, entropy = self._ahead(parts, batch, share, old, iteration)
                totals, own = self._backward(
                    parts, batch, share, advantages, loss_weights, reference, old, entropy, iteration
                )
                old = own if old is None else old
                norm = self._gradient(iteration)
                if epoch == 0 and grpo.epochs > 1:
                    with clock("keep"):
                        save()
                with clock("optimizer"):
                    self.optimizer.step()  # Alg. 1, line 36
            self.optimizer.zero_grad(set_to_none=True)  # the next rollout has their memory
        if self.reference is not None and grpo.reference == "ema":
            for kept, new in zip(self.reference.parameters(), self.policy.parameters(), strict=True):
                kept.lerp_(new.detach(), 1.0 - grpo.reference_decay)
        return totals | {"optim/grad_norm": norm, "optim/learning_rate": learning_rate(grpo, iteration)}

    def planned(self, sequences: int) -> MicroBatches:
        """The slices of this process' share.

        They are planned again if the kept ones belong to a share of another size, or if those of a saved state were
        made for more memory than this process has.
        """
        kept = self.split
        if kept is None or kept.slices[-1].stop != sequences or not self._enough(kept):
            self._made_for, self._compared = self._free(), True
            self.split = kept = split_update(self.run, sequences, self._made_for)
        return kept

    def _enough(self, kept: MicroBatches) -> bool:
        """Whether the slices of a saved state may be kept; looked up once, at the first update after loading."""
        if self._compared:
            return True
        self._compared, free = True, self._free()
        short = (
            None
            if free is None or isinstance(self.run, GRPOSettings)
            else micro_batch.shortage(self.run, kept, self._made_for, free)
        )
        if short is not None:
            say(short)
        return short is None

    def _free(self) -> float | None:
        """Bytes for the update; None on a CPU, and for a policy whose sizes no settings say."""
        return None if isinstance(self.run, GRPOSettings) else free_for_update(self.device, self.optimizer)

    def _ahead(
        self, parts: list[slice], batch: RolloutBatch, share: Share, old: Tensor | None, iteration: int
    ) -> tuple[Tensor | None, float | None]:
        """The old policy's log-probabilities and the batch's entropy, which an epoch needs before its first gradient.

        Without dropout the first epoch's own forward pass is the old policy's (Alg. 1, lines 12-16), and with one slice
        its entropy is the batch's: both are None then. Otherwise an extra pass without gradient measures them.
        """
        dropout = bool(self.grpo.class_dropout or self.grpo.dropout)
        feedback = self.feedback and (dropout or len(parts) > 1)
        if not feedback and not (dropout and old is None):
            return old, None
        with torch.no_grad():
            ahead = [self._score(self.policy, batch, part, iteration) for part in parts]
        old = torch.cat([logp for logp, _ in ahead]) if old is None else old
        entropy = torch.cat([entropy for _, entropy in ahead])
        return old, self._whole(self._fraction(entropy), share) if feedback else None

    def _backward(
        self,
        parts: list[slice],
        batch: RolloutBatch,
        share: Share,
        advantages: Tensor,
        loss_weights: Tensor,
        reference: Tensor | None,
        old: Tensor | None,
        entropy: float | None,
        iteration: int,
    ) -> tuple[dict[str, float], Tensor]:
        """Add up the gradients of all slices; returns the metrics and the epoch's own log-probabilities [b, T].

        Raises:
            SharedError: the loss is NaN or infinite.
        """
        grpo, own, totals = self.grpo, [], {"loss": 0.0}
        # With local gradients each process takes its own optimiser step (open choice 20).
        count = share.total if grpo.gradients == "synchronised" else len(batch.tokens)
        for part in parts:
            logp, entropies = self._score(self.policy, batch, part, iteration)
            own.append(logp.detach())
            measured = self._fraction(entropies)
            if self.feedback and entropy is None:
                entropy = self._whole(measured, share)
            loss, values = objective(
                logp,
                own[-1] if old is None else old[part],
                None if reference is None else reference[part],
                entropies,
                advantages[:, part],
                loss_weights,
                self._coefficient(iteration, measured if entropy is None else entropy),
                grpo,
            )
            (len(logp) / count * loss).backward()
            for key, value in (values | {"policy/entropy": measured, "loss": loss.item()}).items():
                totals[key] = totals.get(key, 0.0) + len(logp) / share.total * value
        totals = self.world.total(totals)
        self._check(totals.pop("loss"), "loss", iteration)
        return totals, torch.cat(own)

    def _gradient(self, iteration: int) -> float:
        """Add up the gradients of all processes and clip their norm; returns the norm before clipping.

        Raises:
            SharedError: the norm is NaN or infinite.
        """
        if self.grpo.gradients == "synchronised":
            self.world.sum_gradients(self.policy.parameters())
        norm = nn.utils.clip_grad_norm_(self.policy.parameters(), self.grpo.grad_clip).item()
        self._check(self.world.total({"norm": norm})["norm"], "gradient", iteration)
        return norm

    def _score(
        self, policy: Policy, batch: RolloutBatch, part: slice, iteration: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Score a slice; with an ``iteration`` (for the policy, not the reference) under the run's dropouts."""
        class_ids, dropout = batch.class_ids[part], 0.0
        if iteration is not None:
            dropout = self.grpo.dropout
            if self.grpo.class_dropout and policy.null_class is not None:
                generator = generator_for(self.run.seed, "class_dropout", iteration, batch.start + part.start)
                dropped = torch.rand(len(class_ids), generator=generator) < self.grpo.class_dropout
                class_ids = class_ids.masked_fill(dropped.to(class_ids.device), policy.null_class)
        return score_tokens(policy, batch.tokens[part], class_ids, self.grpo, self.run.sampling, dropout)

    def _fraction(self, entropy: Tensor) -> float:
        return entropy_fraction(entropy, self.policy.codebook_size).item()

    def _whole(self, fraction: float, share: Share) -> float:
        """Mean over all processes of the fraction that each measured on its share."""
        return self.world.total({"entropy": fraction * share.weight})["entropy"]

    def _coefficient(self, iteration: int, measured: float) -> float:
        """c_eff of this step; the first entropy ever measured is the initial one."""
        if self.initial_entropy is None:
            self.initial_entropy = self.world.from_leader(measured)
        if not self.entropy.enabled:
            return 0.0
        controller = entropy_controller(self.entropy, self.initial_entropy)
        return controller.coefficient(iteration / self.grpo.iterations, measured)

    def _check(self, value: float, what: str, iteration: int) -> None:
        check_finite(value, what, iteration, self.run.name, "lower grpo.learning_rate or look at the rewards")

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on."""
        moving = self.reference if self.grpo.reference == "ema" else None  # the reference, if it follows the policy
        return {
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "reference": None if moving is None else moving.state_dict(),
            "initial_entropy": self.initial_entropy,
            # The split depends on the memory that was free at the start; another split would change the last bits.
            "split": None if self.split is None else [self.device.type, *self.split.saved(), self._made_for],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.reference is not None and state["reference"] is not None:
            self.reference.load_state_dict(state["reference"])
        self.initial_entropy = state["initial_entropy"]
        if (split := state.get("split")) is not None and split[0] == self.device.type:
            edges, checkpointing, *made_for = split[1:]  # states of earlier versions do not hold the last entry
            self.split = MicroBatches.of(edges, checkpointing)
            self._made_for, self._compared = next(iter(made_for), None), False


def free_for_update(device: torch.device, optimizer: torch.optim.Optimizer) -> float | None:
    """Bytes of ``device`` that are free or hold AdamW's states, so that a resumed training counts as a new one does.

    None on a CPU.
    """
    if device.type != "cuda":
        return None
    states = (value for state in optimizer.state.values() for value in state.values())
    return float(free_bytes(device) + sum(value.nbytes for value in states if value.is_cuda))


def split_update(run: GrpoRun | GRPOSettings, sequences: int, free: float | None) -> MicroBatches:
    """The micro-batches that fit into ``free`` bytes (None: not looked at); a split or checkpointing is printed."""
    if isinstance(run, GRPOSettings):
        return micro_batch.asked_micro_batches(run.grpo, sequences)
    split = micro_batch.plan_micro_batches(run, sequences, free)
    if len(split.slices) > 1 or split.checkpointing:
        say(split.line(micro_batch.sequence_bytes(run, split.checkpointing)))
    return split
