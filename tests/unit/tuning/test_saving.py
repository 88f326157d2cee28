"""A training's state is copied into kept buffers, and a thread writes it while the next iterations run."""

import hashlib
import io
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, OrderedDict

import pytest
import torch
from processes import outcomes
from project import ROOT
from tiny import tiny_run
from torch.utils._python_dispatch import TorchDispatchMode
from trainers import CPU, Flat, run_fit, trainer_of, weights

from artune.errors import ArtuneError, SharedError
from artune.rewards.distribution import DistributionReward
from artune.runtime.distributed import World
from artune.runtime.resume import load_state, save_state
from artune.tuning import saving
from artune.tuning.saving import HostCopy, StateWriter

LONG = 20  # seconds that no test needs


def full_trainer():
    """A trainer with every kind of state: a moving reference and the moments of LOO-FID."""
    run = tiny_run(rewards={"terms": ["clip", "loo_fid"]}, grpo={"reference": "ema"})
    loo_fid = DistributionReward(Flat(), run.rewards.loo_fid, torch.full((3,), 0.5), torch.eye(3) * 0.01)
    return trainer_of(run, loo_fid=loo_fid)


class Gate:
    """A value of a state whose pickling waits, so that the state is being written for as long as a test needs."""

    def __init__(self):
        self.reached, self.opened, self.written = threading.Event(), threading.Event(), 0

    def __reduce__(self):
        self.written += 1
        self.reached.set()
        self.opened.wait(LONG)
        return OrderedDict, ()


def gated(trainer, gate):
    """Let the states of ``trainer`` wait for ``gate`` while they are written; a copy does not pickle them."""
    state_dict = trainer.state_dict
    trainer.state_dict = lambda: state_dict() | {"gate": gate}
    return trainer


def before_each_step(trainer, call):
    """Call ``call`` with the number of the iteration ahead of each step of ``trainer``."""
    step = trainer.step

    def watched(iteration):
        call(iteration)
        return step(iteration)

    trainer.step = watched
    return trainer


def pointers(copy):
    return {key: buffer.data_ptr() for key, buffer in copy.buffers.items()}


def test_a_copy_keeps_its_buffers_and_does_not_follow_what_was_copied(monkeypatch):
    monkeypatch.setattr(saving, "SLAB", 128)  # so that the tensors need several
    tensors = {"a": torch.arange(30.0), "b": [torch.ones(3, 2).T, torch.tensor(7)], "c": torch.zeros(0), "d": None}
    copy = HostCopy(CPU)
    copy.take(tensors)
    first = pointers(copy)
    tensors["a"].add_(1)
    tensors["new"] = torch.full((40,), 2, dtype=torch.float64)
    assert torch.equal(copy.state()["a"], torch.arange(30.0))
    copy.take(tensors)
    assert pointers(copy).items() > first.items()
    found = copy.state()
    assert torch.equal(found["a"], torch.arange(1.0, 31.0))
    assert torch.equal(found["b"][0], torch.ones(2, 3))
    assert found["b"][0].stride() == (1, 2)
    assert found["new"].dtype == torch.float64
    assert (found["b"][1].item(), found["c"].shape, found["d"]) == (7, (0,), None)
    ends = sorted((buffer.data_ptr(), buffer.data_ptr() + buffer.nbytes) for buffer in copy.buffers.values())
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ends))


def test_memory_that_cannot_be_locked_is_ordinary_memory(capsys):
    if torch.cuda.is_available():
        pytest.skip("this machine can lock memory for its GPU")
    assert len(HostCopy(torch.device("cuda"))._memory(64)) == 64
    assert "no page-locked memory for a copy of the state" in capsys.readouterr().err


class Event:
    """Stands for ``torch.cuda.Event``; writes down what is asked of it."""

    def __init__(self):
        self.asked = []

    def record(self, stream):
        self.asked.append(f"recorded on {stream}")

    def synchronize(self):
        self.asked.append("waited for")


class Copies(TorchDispatchMode):
    """Counts copies between tensors, by whether the host may go on before they end."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if function is torch.ops.aten.copy_.default:
            self.seen[bool(arguments[2]) if len(arguments) > 2 else (keywords or {}).get("non_blocking", False)] += 1
        return function(*arguments, **(keywords or {}))


def test_a_gpus_copy_is_queued_into_locked_memory_and_is_waited_for_only_when_it_is_read(monkeypatch):
    """Memory, stream and event of a GPU are stood in for."""
    locked, event, empty = [], Event(), torch.empty
    monkeypatch.setattr(torch.cuda, "Event", lambda: event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")

    def made(*shape, pin_memory=False, **how):
        locked.extend([shape] * pin_memory)
        return empty(*shape, **how)

    monkeypatch.setattr(torch, "empty", made)
    copy, tensors = HostCopy(torch.device("cuda:0")), {"a": torch.ones(3), "b": torch.zeros(2, 2)}
    for _ in range(3):
        with Copies() as copies:
            copy.take(tensors)
        assert copies.seen == {True: 2}
    assert len(locked) == 1
    assert event.asked == ["recorded on the stream of cuda:0"] * 3
    assert torch.equal(copy.state()["a"], torch.ones(3))
    assert event.asked[3:] == ["waited for"]


def test_a_state_from_the_buffers_is_byte_for_byte_the_trainers_own(tmp_path):
    trainer = full_trainer()
    for iteration in range(2):
        trainer.step(iteration)
    state = {"config": "text", "trainer": trainer.state_dict()}
    assert hasattr(state["trainer"]["policy"], "_metadata")
    straight = save_state(tmp_path / "straight", 2, state)
    with StateWriter(tmp_path / "copied", CPU) as writer:
        writer.save(2, state)
    copied = tmp_path / "copied" / straight.name
    assert copied.read_bytes() == straight.read_bytes()
    whole = io.BytesIO()
    torch.save(state, whole)
    assert straight.read_bytes() == whole.getvalue()
    assert straight.name == f"state-000002-{hashlib.sha256(whole.getvalue()).hexdigest()[:16]}.pt"


def test_only_the_leader_keeps_the_state_before_a_second_epoch(monkeypatch):
    monkeypatch.setattr(World, "wait", lambda world: None)
    for rank in (0, 1):
        trainer = full_trainer()
        trainer.world = World(rank, 2)
        trainer.keep_state()
        assert (trainer._kept is not None) is (rank == 0)
        kept = [value.clone() for value in trainer.good_state()["policy"].values()]
        with torch.no_grad():
            for parameter in trainer.policy.parameters():
                parameter.add_(1)
        now = list(trainer.good_state()["policy"].values())
        assert all(torch.equal(before, after) for before, after in zip(kept, now, strict=True)) is (rank == 0)


def keeps_slowly(world):
    """Keep a state, for which the leader needs three timeouts, then sum."""
    trainer = full_trainer()
    trainer.world = world
    take = HostCopy.take

    def slow(copy, state):
        time.sleep(3)
        take(copy, state)

    HostCopy.take = slow  # this process ends with the test
    trainer.keep_state()
    return world.total({"one": 1.0})["one"]


def test_the_others_wait_while_the_leader_keeps_a_state_for_longer_than_a_sum_may_take():
    assert [value for value, _ in outcomes(2, keeps_slowly, timeout=1)] == [2.0, 2.0]


def test_every_iteration_keeps_its_state_in_the_same_buffers_and_times_it():
    trainer, seen = full_trainer(), []
    for iteration in range(4):
        _, seconds = trainer.step(iteration)
        assert 0 < seconds["time/keep"] < seconds["time/update"]
        good = torch.cat([value.flatten() for value in trainer.good_state()["policy"].values()])
        assert torch.equal(good, weights(trainer))  # not the copy, once the updates are over
        seen.append(pointers(trainer._kept))
    assert seen[0].items() < seen[1].items() == seen[2].items() == seen[3].items()  # AdamW has no state at first


def saved(folder):
    """Iterations of the saved states."""
    return [int(path.name.split("-")[1]) for path in sorted(folder.glob("state-*.pt"))]


def test_iterations_run_while_a_state_is_written_and_only_the_next_save_waits(tmp_path):
    run, gate, seen = tiny_run(), Gate(), {}  # states after 2 and 4 of 6 iterations

    def watch(iteration):
        seen[iteration] = saved(tmp_path / "a")
        if iteration == 3:  # the next save, after this step, has to wait
            threading.Timer(0.5, gate.opened.set).start()

    began = time.monotonic()
    run_fit(run, tmp_path / "a", before_each_step(gated(trainer_of(run), gate), watch))
    assert time.monotonic() - began < LONG  # the gate was opened, and did not give way
    assert seen[2] == seen[3] == []
    assert 2 in seen[4]
    assert saved(tmp_path / "a") == [2, 4]


def test_a_state_is_that_of_its_iteration_however_late_it_is_written(tmp_path):
    trainer, gate, seen = full_trainer(), Gate(), {}
    trainer.save_every = 3  # of 6 iterations

    def watch(iteration):
        seen[iteration] = weights(trainer).clone()
        if iteration == 5:  # two more copies have been kept since
            gate.opened.set()

    run_fit(trainer.run, tmp_path / "a", before_each_step(gated(trainer, gate), watch))
    iteration, state = load_state(tmp_path / "a", "text")
    found = torch.cat([value.flatten() for value in state["trainer"]["policy"].values()])
    assert iteration == 3
    assert torch.equal(found, seen[3])
    assert not torch.equal(found, seen[4])


@pytest.mark.parametrize("end", ["a signal", "a number that is NaN", "the last iteration"])
def test_whatever_ends_a_training_waits_for_the_state_that_is_being_written(tmp_path, end):
    run, gate = tiny_run(grpo={"iterations": 4}), Gate()

    def watch(iteration):
        if iteration == 3:
            threading.Timer(0.3, gate.opened.set).start()
            if end == "a signal":
                os.kill(os.getpid(), signal.SIGTERM)
            elif end == "a number that is NaN":
                raise SharedError("NaN")

    trainer = before_each_step(gated(trainer_of(run), gate), watch)
    if end == "a signal":
        trainer.iterations = 5
    if end == "the last iteration":
        run_fit(run, tmp_path / "a", trainer)
        assert saved(tmp_path / "a") == [2]
    else:
        with pytest.raises(SharedError, match="SIGTERM after 4 of 5 iterations" if end == "a signal" else "NaN"):
            run_fit(run, tmp_path / "a", trainer)
        assert saved(tmp_path / "a") == [2, 4 if end == "a signal" else 3]
    assert load_state(tmp_path / "a", "text")[0] == saved(tmp_path / "a")[-1]
    assert gate.written == len(saved(tmp_path / "a"))  # a signal just after a save does not write its state again
    assert not list((tmp_path / "a").glob(".*"))


@pytest.mark.parametrize("found", ["at the end", "on the way", "at a signal"])
def test_a_state_that_cannot_be_written_ends_the_training_with_one_line(tmp_path, found):
    last = found == "at the end"
    run, folder, gate, reached = tiny_run(grpo={"iterations": 4 if last else 50}), tmp_path / "a", Gate(), []

    def watch(iteration):
        reached.append(iteration)
        if iteration == 3:
            assert gate.reached.wait(LONG)  # the first state is being written
            folder.rename(tmp_path / "elsewhere")
            folder.write_text("a file in the place of the folder")
            threading.Timer(0.0 if found == "on the way" else 0.5, gate.opened.set).start()
            if found == "at a signal":
                os.kill(os.getpid(), signal.SIGTERM)
        if iteration >= 3 and found == "on the way":
            time.sleep(1)  # the thread ends meanwhile

    trainer = before_each_step(gated(trainer_of(run), gate), watch)
    trainer.save_every, trainer.picture = (2 if last else 3), lambda *_: None
    with pytest.raises(ArtuneError, match=r"a/state-00000[23]\.pt: cannot be written \(Not a directory\)$"):
        run_fit(run, folder, trainer)
    assert reached[-1] in ((3,) if last else (3, 4))  # the next save, which would wait for this one, is after 5


TRAIN = """
import sys, time
from pathlib import Path
import torch
from artune.runtime import resume
from tiny import tiny_run
from torch.utils._python_dispatch import TorchDispatchMode
from trainers import run_fit, trainer_of
torch.set_num_threads(1)
trainer = trainer_of(tiny_run(grpo={"iterations": 9, "save_every": 3, "reference": "ema"}))
state_dict, ballast, write = trainer.state_dict, [torch.ones(2_500_000) for _ in range(10)], resume._HashedFile.write
def slowly(file, data):  # 10 MB at a time, so that the second state takes seconds
    time.sleep(0.3 if len(data) > 1_000_000 and "state-000006" in file.handle.name else 0)
    return write(file, data)
if sys.argv[3:]:
    resume._HashedFile.write = slowly
trainer.state_dict = lambda: state_dict() | {"ballast": ballast}
run_fit(trainer.run, Path(sys.argv[1]), trainer)
torch.save(trainer.policy.state_dict(), sys.argv[2])
"""


def test_a_kill_in_the_middle_of_writing_leaves_the_state_before_and_the_same_numbers(tmp_path):
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests/support")])

    def start(name, *slowly):
        words = [sys.executable, "-c", TRAIN, tmp_path / name, tmp_path / f"{name}.pt", *slowly]
        return subprocess.Popen(words, env=os.environ | {"PYTHONPATH": paths})

    assert start("whole").wait(120) == 0
    process, end = start("killed", "slowly"), time.monotonic() + 120
    while not any(path.stat().st_size > 10_000_000 for path in (tmp_path / "killed").glob(".state-000006*")):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert saved(tmp_path / "killed") == [3]
    (torn,) = (tmp_path / "killed").glob(".state-000006*")
    assert torn.stat().st_size < 100_000_000
    assert load_state(tmp_path / "killed", "text")[0] == 3
    assert len((tmp_path / "killed/metrics.jsonl").read_text().splitlines()) >= 6  # of which the last are repeated
    assert start("killed").wait(120) == 0
    first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("whole", "killed"))
    assert all(torch.equal(first[name], value) for name, value in second.items())
    lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "killed")]
    assert lines[0] == lines[1]
    assert lines[0].count("\n") == 9
