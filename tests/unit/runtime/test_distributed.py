"""Several processes: what they exchange, and that two or four of them train as one process does."""

import math
import os
import signal
import time

import numpy as np
import pytest
import torch
import torch.distributed as dist
from processes import CONTEXT, as_torchrun, free_port, outcomes, run_processes
from tiny import Brightness, tiny_policy, tiny_renderer, tiny_run
from trainers import Flat, run_fit

from artune.errors import ArtuneError, SharedError, StoppedError
from artune.rewards.distribution import DistributionReward
from artune.runtime.distributed import ALONE, BUCKET, LostContactError, World, started
from artune.runtime.resume import load_state
from artune.tuning.grpo_trainer import GRPOTrainer
from artune.tuning.rivals.mle import MLETrainer

CPU = torch.device("cpu")


class Seen:
    """A brightness reward that keeps the tokens of every batch; with ``bad_on`` it is NaN from the fourth batch on."""

    name = "clip"

    def __init__(self, bad_on=None):
        self.tokens, self.bad_on, self.left = [], bad_on, 3

    def __call__(self, batch):
        self.tokens.append(batch.tokens)
        self.left -= 1
        return Brightness()(batch) + (math.nan if self.bad_on is not None and self.left < 0 else 0.0)


def trainer_of(world, run, reward=None):
    loo_fid = DistributionReward(Flat(), run.rewards.loo_fid, torch.full((3,), 0.5), torch.eye(3) * 0.01)
    return GRPOTrainer(tiny_policy(run), tiny_renderer(run), [reward or Seen()], run, [loo_fid], CPU, world)


def weights(trainer):
    return torch.cat([p.detach().float().flatten() for p in trainer.policy.parameters()]).numpy()


def learn(world, changes, iterations):
    """Train for ``iterations``; returns the metrics per iteration, the tokens of this process and its final weights."""
    grpo = {"iterations": 10} | changes.get("grpo", {})
    run = tiny_run(**({"rewards": {"terms": ["clip", "loo_fid"]}} | changes | {"grpo": grpo}))
    trainer = trainer_of(world, run)
    metrics = [trainer.step(iteration)[0] for iteration in range(iterations)]
    return metrics, torch.stack(trainer.rewards[0].tokens).numpy(), weights(trainer)


def same_curves(first, second, tolerance=1e-4):
    for one, two in zip(first, second, strict=True):
        assert one.keys() == two.keys()
        for key, value in one.items():
            assert two[key] == pytest.approx(value, rel=tolerance, abs=tolerance), key


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(
    "changes",
    [
        {},  # with four processes, shares of three images cut across the groups of four
        {"grpo": {"micro_batch": 3, "class_dropout": 0.3}, "entropy": {"over": "slice"}},
        {
            "rewards": {
                "terms": ["clip", "loo_fid"],
                "combine": "separate",
                "loo_fid": {"network": "inception", "start": "first_batch", "shards": 4},
            }
        },
    ],
    ids=["whole", "slices", "shards"],
)
def test_a_training_is_the_same_in_several_processes(size, changes):
    metrics, tokens, final = learn(ALONE, changes, 10)
    found = run_processes(size, learn, changes, 10)
    for curves, _, others in found:
        same_curves(metrics, curves)
        assert np.array_equal(others, found[0][2]), "the copies of the policy differ"
    assert np.array_equal(np.concatenate([drawn for _, drawn, _ in found], axis=1), tokens)
    assert np.abs(found[0][2] - final).max() < 1e-4


def test_shares_that_differ_in_size_and_in_slices_change_nothing():
    changes = {"grpo": {"micro_batch": 4, "prompts": 2, "group_size": 5}}  # shares of 3, 3 and 4
    same_curves(learn(ALONE, changes, 3)[0], run_processes(3, learn, changes, 3)[2][0])
    changes["grpo"]["micro_batch"] = 3  # the shares have one, one and two slices
    same_curves(learn(ALONE, changes, 3)[0], run_processes(3, learn, changes, 3)[2][0])


def test_local_gradients_let_the_copies_drift_and_mean_nothing_in_one_process():
    local = {"grpo": {"gradients": "local"}}
    first, second = run_processes(2, learn, local, 3)
    assert np.abs(first[2] - second[2]).max() > 1e-3
    # Rewards and moments are still those of the whole batch.
    assert first[0][0]["reward/total"] == second[0][0]["reward/total"]
    assert np.array_equal(learn(ALONE, local, 3)[2], learn(ALONE, {}, 3)[2])


def continuation(world, codes, **changes):
    mle = {"iterations": 5, "batch": 10, "learning_rate": 1e-2, "class_dropout": 0.3, "dropout": 0.0, **changes}
    run = tiny_run(method="mle", mle=mle)
    trainer = MLETrainer(run, tiny_policy(run), codes, CPU, world)
    curves = [trainer.step(iteration)[0] for iteration in range(5)]
    assert all(parameter.grad is None for parameter in trainer.policy.parameters())  # none outlives its step
    return curves, weights(trainer)


def test_the_continuation_is_the_same_in_several_processes(tmp_path):
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(8, (40, 4), generator=draw).numpy().astype(np.uint16)
    labels = torch.randint(4, (40,), generator=draw).numpy()
    codes = tmp_path / "codes.npz"
    np.savez(codes, **{"train_codes": tokens, "train_labels": labels})
    alone, final = continuation(ALONE, codes)
    for curves, others in run_processes(3, continuation, codes):
        same_curves(alone, curves)
        assert np.abs(others - final).max() < 1e-4


def test_slices_of_the_continuation_change_nothing_beyond_rounding(tmp_path):
    codes = tmp_path / "codes.npz"
    tokens = torch.randint(8, (40, 4), generator=torch.Generator().manual_seed(0)).numpy().astype(np.uint16)
    np.savez(codes, **{"train_codes": tokens, "train_labels": np.arange(40) % 4})
    (whole, final), (cut, last) = (continuation(ALONE, codes, micro_batch=size) for size in (None, 3))
    same_curves(whole, cut)
    assert 0 < np.abs(last - final).max() < 1e-4


def go_on(world, folder, iterations, stop_at, reward=None):
    run = tiny_run(grpo={"iterations": iterations}, rewards={"terms": ["clip", "loo_fid"]})
    trainer = trainer_of(world, run, reward)
    step = trainer.step

    def interrupted(iteration):
        if iteration == stop_at:
            raise SharedError("stop")
        return step(iteration)

    trainer.step = interrupted
    try:
        start, _ = run_fit(run, folder, trainer)
    except StoppedError:
        raise
    except SharedError:
        return None
    return start, weights(trainer)


def test_a_training_goes_on_in_another_number_of_processes(tmp_path):
    whole = run_processes(2, go_on, tmp_path / "whole", 6, None)
    for name, sizes in (("again", (2, 2)), ("more", (1, 2)), ("fewer", (2, 1))):
        folder = tmp_path / name
        parts = [
            go_on(ALONE, folder, 6, stop) if size == 1 else run_processes(size, go_on, folder, 6, stop)[-1]
            for size, stop in zip(sizes, (4, None), strict=True)
        ]
        assert parts[0] is None
        assert parts[1][0] == 4
        assert np.abs(parts[1][1] - whole[1][1]).max() <= (0 if name == "again" else 1e-4)
        lines = [(tmp_path / one / "metrics.jsonl").read_text() for one in ("whole", name)]
        assert lines[0].count("\n") == lines[1].count("\n") == 6
        assert (lines[0] == lines[1]) is (name == "again")


class Signalled(Seen):
    """A brightness reward that sends the signal ``number`` to its own process at the third batch."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def __call__(self, batch):
        if len(self.tokens) == 2 and self.number:
            os.kill(os.getpid(), self.number)
        return super().__call__(batch)


def signalled(world, folder, number):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    try:
        return go_on(world, folder, 6, None, Signalled(number if world.rank == world.size - 1 else None))
    except StoppedError as error:
        return str(error)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_to_one_process_stops_all_after_the_iteration_and_nothing_is_lost(tmp_path, size, number):
    def fitted(folder, number):
        return [signalled(ALONE, folder, number)] if size == 1 else run_processes(size, signalled, folder, number)

    before = signal.getsignal(number)
    for said in fitted(tmp_path / "cut", number):
        assert "after 3 of 6 iterations; the state is saved, the same command resumes from it" in said
    assert number.name in said  # the last process received the signal and names it
    assert signal.getsignal(number) is before
    assert load_state(tmp_path / "cut", "text")[0] == 3  # without a signal a state is saved every 2 iterations
    whole, resumed = fitted(tmp_path / "whole", None)[0], fitted(tmp_path / "cut", None)[0]
    assert resumed[0] == 3
    assert np.array_equal(resumed[1], whole[1])


def bad_reward(world, folder):
    return go_on(world, folder, 6, None, Seen(bad_on=1 if world.rank == 1 else None))


def test_a_reward_that_turns_nan_on_one_process_stops_all_and_keeps_the_state(tmp_path):
    assert run_processes(2, bad_reward, tmp_path) == [None, None]
    assert load_state(tmp_path, "text")[0] == 3
    good = run_processes(2, go_on, tmp_path / "good", 6, 3)
    assert good == [None, None]
    states = [load_state(folder, "text")[1]["trainer"]["policy"] for folder in (tmp_path, tmp_path / "good")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def failing(world, how):
    if world.rank == 1:
        if how == "hangs":
            time.sleep(3)
        raise ArtuneError("its own error")
    began = time.monotonic()
    try:
        world.total({"a": 1.0})
    except LostContactError as error:
        return str(error), time.monotonic() - began
    return None


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_a_process_that_dies_or_hangs_is_noticed(how):
    (seen, _), (own, _) = outcomes(2, failing, how, timeout=1)
    assert "another process died or did not answer" in seen[0]
    assert seen[1] < 3
    assert str(own) == "its own error"


def leave(queue, rank, size, port, how):
    """Leave the processes' world, the leader four seconds after the others; reports the time and the error."""
    os.environ |= as_torchrun(rank, size, port) | {"ARTUNE_TIMEOUT": "2"}
    os.environ.pop("GLOO_SOCKET_IFNAME", None)
    try:
        with started(CPU) as world:
            if world.leads:
                time.sleep(4)
            if how == "leader fails" and world.leads:
                raise ArtuneError("its own error")
            if how == "other fails" and rank == 1:
                raise ArtuneError("its own error")
    except ArtuneError as error:
        queue.put((rank, time.monotonic(), str(error)))
    else:
        queue.put((rank, time.monotonic(), None))


@pytest.mark.parametrize("how", ["all end well", "leader fails", "other fails"])
def test_who_ends_early_waits_for_the_leader_but_never_for_one_that_ended_by_an_error(how):
    queue, port = CONTEXT.Queue(), free_port()
    children = [CONTEXT.Process(target=leave, args=(queue, rank, 3, port, how)) for rank in range(3)]
    for child in children:
        child.start()
    found = {rank: (at, error) for rank, at, error in (queue.get(timeout=60) for _ in children)}
    for child in children:
        child.join(20)
        assert child.exitcode == 0
    times, errors = zip(*(found[rank] for rank in range(3)), strict=True)
    if how == "all end well":
        assert errors == (None, None, None)
        assert max(times) - min(times) < 2.5  # the others too leave four seconds later, although the timeout is two
        return
    failed = 0 if how == "leader fails" else 1
    assert errors[failed] == "its own error"
    assert all("another process died" in error for rank, error in enumerate(errors) if rank != failed)
    assert max(times) - min(times) < 8  # PATIENCE is two hours


LATE_MOMENTS = {"network": "inception", "start": "pretrained", "start_samples": 12}


def begins(world, folder, late):
    run = tiny_run(rewards={"terms": ["clip", "loo_fid"], "loo_fid": LATE_MOMENTS})
    if world.rank == 3:
        time.sleep(late)  # slow to read its weights
    trainer = trainer_of(world, run)
    return run_fit(run, folder, trainer)[0]


def test_a_process_that_reads_its_weights_several_timeouts_longer_loses_nothing(tmp_path):
    for start, trace in outcomes(4, begins, tmp_path / "run", 4.0, timeout=1):
        assert trace is None, trace
        assert start == 0


def exchanged(world):
    share = world.share(7)
    rows = torch.tensor([[0.0, -0.0], [math.nan, math.inf], [1e-45, -1.0]] * 7).view(7, 6)
    kinds = ((3, torch.float32), (2, torch.bfloat16), (4, torch.float32))
    parameters = [torch.nn.Parameter(torch.zeros(size, dtype=dtype)) for size, dtype in kinds]
    for number, parameter in enumerate(parameters):
        parameter.grad = torch.full_like(parameter, 2.0**number * (world.rank + 1))
    parameters.append(torch.nn.Parameter(torch.zeros(1)))  # a parameter without a gradient
    world.sum_gradients(parameters)
    gathered = world.gather(rows[share.rows], share)
    same = bool((gathered.view(torch.int32) == rows.view(torch.int32)).all())
    sums = [parameter.grad.tolist() for parameter in parameters[:3]]
    return (
        same,
        sums,
        world.total({"a": world.rank, "b": 0.5}),
        world.any(world.rank == 1),
        world.from_leader(world.rank),
    )


def test_what_is_gathered_keeps_its_bits_and_gradients_are_summed(monkeypatch):
    for found in run_processes(3, exchanged):
        assert found == (True, [[6.0] * 3, [12.0] * 2, [24.0] * 4], {"a": 3.0, "b": 1.5}, True, 0)
    assert BUCKET > 9


def test_shares_cover_a_batch_once_and_differ_by_one_row_at_most():
    for total, size in ((144, 4), (10, 3), (7, 7)):
        shares = [World(rank, size).share(total) for rank in range(size)]
        rows = [row for share in shares for row in range(total)[share.rows]]
        assert rows == list(range(total))
        assert {share.stop - share.start for share in shares} <= {total // size, total // size + 1}
        assert sum(share.weight for share in shares) == pytest.approx(1.0)
    with pytest.raises(ArtuneError, match="3 samples cannot be split over 4 processes"):
        World(0, 4).share(3)


def test_a_sum_of_gradients_is_waited_for_because_nccl_notices_a_death_nowhere_else(monkeypatch):
    """NCCL's group gives no work back for a sum that is not asynchronous: it would be enqueued and never waited for."""

    class NeverEnds:
        def wait(self):
            raise RuntimeError("[Rank 0] the collective operation timed out. Further words")

    monkeypatch.setattr(dist, "all_reduce", lambda flat, group, async_op=False: NeverEnds() if async_op else None)
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    with pytest.raises(LostContactError, match="here: the collective operation timed out"):
        World(0, 2).sum_gradients([parameter])
