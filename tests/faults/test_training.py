"""What can end or damage a training. Afterwards the same command must end in the very same weights and metrics."""

import os
import re
import signal
import time

import pytest
from project import altered, digest

LOST = "nothing: weights and metrics are those of the undisturbed run, bit by bit"


def goes_on(training, undisturbed):
    """Start again, to the end; returns the iteration it went on from."""
    done = training.start().wait()
    assert done.status == 0, done.text
    assert training.result() == undisturbed
    return training.resumed_at()


def test_sigkill(training, undisturbed, fault):
    """The training is killed (SIGKILL, the machine loses power, out of memory)"""
    for reached in (5, 8):
        assert training.stop_at(reached, signal.SIGKILL).status == -signal.SIGKILL
        assert not training.policy.exists()
    at = goes_on(training, undisturbed)
    assert at in (6, 9)
    fault.done = "`kill -9`, twice, between two saved states"
    fault.happened = f"started again it went on at iteration {at} of 12, from the last state"
    fault.lost = LOST


def test_sigterm(training, undisturbed, fault):
    """The training is asked to stop (SIGTERM: scancel, a time limit, systemd)"""
    done = training.stop_at(5, signal.SIGTERM)
    assert done.status == 143
    assert done.line.startswith("stopped: disturbed by SIGTERM after ")
    saved = int(training.states()[-1].name.split("-")[1])
    assert goes_on(training, undisturbed) == saved >= 5
    fault.done = "`kill -TERM`"
    fault.happened = f"the iteration was finished, the state saved, status 143: “{done.line}”"
    fault.lost = LOST


def test_sigusr1(training, undisturbed, fault):
    """The time limit is near (sbatch --signal=USR1@120)"""
    done = training.stop_at(4, signal.SIGUSR1)
    assert done.status == 143
    goes_on(training, undisturbed)
    fault.done = "`kill -USR1`"
    fault.happened = f"as SIGTERM: “{done.line}”"
    fault.lost = LOST


@pytest.mark.parametrize("damage", ["truncated", "one bit flipped", "emptied"])
def test_newest_state_damaged(training, undisturbed, damage, fault):
    """The newest saved state is damaged"""
    training.stop_at(8, signal.SIGKILL)
    newest, data = training.states()[-1], training.states()[-1].read_bytes()
    middle = len(data) // 2
    newest.write_bytes(
        {
            "truncated": data[:middle],
            "one bit flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
            "emptied": b"",
        }[damage]
    )
    assert goes_on(training, undisturbed) == 3
    fault.fault = f"{fault.fault}: {damage}"
    fault.done = "killed, the file altered by hand"
    fault.happened = "recognised by the digest in its name, one warning, the state before it was used"
    fault.lost = LOST


def test_every_state_damaged(training, undisturbed, fault):
    """Every saved state is damaged"""
    training.stop_at(8, signal.SIGKILL)
    for state in training.states():
        state.write_bytes(b"no state")
    assert goes_on(training, undisturbed) == 0
    fault.done = "killed, both files overwritten"
    fault.happened = "the training began anew"
    fault.lost = "the iterations before; " + LOST


def test_metrics_torn(training, undisturbed, fault):
    """The last line of metrics.jsonl is torn"""
    training.stop_at(8, signal.SIGKILL)
    path = training.folder / "training/metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    goes_on(training, undisturbed)
    fault.done = "killed, 20 bytes cut off"
    fault.happened = "the file was cut to the state's iteration, the lines after it were written again"
    fault.lost = LOST


def test_metrics_damaged(training, undisturbed, fault):
    """An earlier line of metrics.jsonl is damaged"""
    training.stop_at(8, signal.SIGKILL)
    path = training.folder / "training/metrics.jsonl"
    kept = path.read_bytes()
    path.write_bytes(kept.replace(b'"iteration": 2', b'"itera', 1))
    done = training.start().wait()
    assert done.status == 2
    assert "metrics.jsonl: line 3 is damaged" in done.line
    path.write_bytes(kept)
    goes_on(training, undisturbed)
    fault.done = "killed, line 3 altered by hand"
    fault.happened = (
        f"status 2, nothing overwritten: “{done.line.split(' (')[0].replace(str(training.folder), 'RUN')} ...”"
    )
    fault.lost = "nothing: with the line mended it went on"


def test_prior_replaced(training, undisturbed, smoke, fault):
    """The pretrained weights are replaced between two starts"""
    training.stop_at(5, signal.SIGKILL)
    prior = smoke / "results/smoke/pretrained/llamagen_l/policy.safetensors"
    kept = prior.read_bytes()
    with altered(prior, kept[:-4] + bytes([kept[-4] ^ 1]) + kept[-3:]):
        done = training.start().wait()
        assert done.status == 0, done.text
        assert training.resumed_at() == 0
        assert training.result()[0] != undisturbed[0]
    assert goes_on(training, undisturbed) == 0
    fault.done = "killed, one bit of the prior altered, put back afterwards"
    fault.happened = "each prior had a training of its own: no state of the other was used"
    fault.lost = "nothing that was this training's"


def test_settings_edited(training, undisturbed, fault):
    """The run's settings are edited between two starts"""
    training.stop_at(5, signal.SIGKILL)
    config = training.folder / "config.yaml"
    kept = config.read_text()
    config.write_text(re.sub(r"learning_rate: \S+", "learning_rate: 0.002", kept))
    done = training.start().wait()
    assert done.status == 0
    assert training.resumed_at() == 0
    config.write_text(kept)
    assert goes_on(training, undisturbed) == 0
    fault.done = "killed, the learning rate changed, put back afterwards"
    fault.happened = "each setting had a training of its own, from its first iteration"
    fault.lost = "nothing that was this training's"


def test_outputs_removed(training, undisturbed, fault):
    """The outputs of a finished training are removed (Snakemake, killed, does that when it is started again)"""
    assert goes_on(training, undisturbed) == 0
    names = ("policy.safetensors", "metrics.jsonl", "timings.jsonl", "manifest.json")
    before = {name: (training.folder / name).read_bytes() for name in names}
    for name in names:
        (training.folder / name).unlink()
    done = training.start().wait()
    assert done.status == 0
    assert "finished before by this code, given back" in done.line
    assert {name: (training.folder / name).read_bytes() for name in names} == before
    fault.done = "`rm` of the four files, the command again"
    fault.happened = "they were given back in seconds, nothing was trained"
    fault.lost = "nothing"


def test_two_at_once(training, undisturbed, fault):
    """A second training of the same run is started beside the first"""
    first = training.start()
    while training.lines() < 2:
        assert first.process.is_alive()
        time.sleep(0.005)
    os.kill(first.process.pid, signal.SIGSTOP)  # it holds the run for as long as the test likes, and is alive
    second = training.start()
    time.sleep(6)
    assert second.process.is_alive()
    os.kill(first.process.pid, signal.SIGCONT)
    assert first.wait().status == 0
    done = second.wait()
    assert done.status == 0, done.text
    assert "held by process" in done.text
    assert "given back" in done.line
    assert training.result() == undisturbed
    fault.done = "the command twice at once"
    fault.happened = "the second said who holds the run, waited, and took over the finished result"
    fault.lost = LOST


@pytest.mark.faults
def test_suspended_and_overtaken(training, undisturbed, fault):
    """A training is suspended until another has taken its run over, and then wakes beside it"""
    first = training.start()
    while training.lines() < 5:
        assert first.process.is_alive()
        time.sleep(0.005)
    os.kill(first.process.pid, signal.SIGSTOP)
    metrics = training.folder / "training/metrics.jsonl"
    inode, began, second = metrics.stat().st_ino, time.monotonic(), training.start()
    while training.holder() != second.process.pid or metrics.stat().st_ino == inode:  # until it has begun
        assert second.process.is_alive()
        time.sleep(0.005)
    waited = time.monotonic() - began
    os.kill(second.process.pid, signal.SIGSTOP)  # so that the first has all the time to do damage
    before = {path: digest(path) for path in training.folder.rglob("*") if path.is_file()}
    os.kill(first.process.pid, signal.SIGCONT)
    woken = first.wait()
    assert woken.status == 3, woken.text
    assert f"process {second.process.pid} on" in woken.line
    assert {path: digest(path) for path in training.folder.rglob("*") if path.is_file()} == before
    os.kill(second.process.pid, signal.SIGCONT)
    done = second.wait()
    assert done.status == 0, done.text
    assert training.result() == undisturbed
    fault.done = "`kill -STOP`, the command again, and `kill -CONT` once the second had the run's lease"
    fault.happened = (
        f"the second took over after {waited:.0f} s without a heartbeat; the first said so, ended with status 3 and "
        f"altered no file; the second went on from iteration {training.resumed_at()} of 12"
    )
    fault.lost = LOST


def test_killed_while_writing_weights(training, undisturbed, fault):
    """The training is killed while it writes its final weights"""
    command = training.start()
    end = time.monotonic() + 120
    while not list(training.folder.glob(".policy.safetensors.*")) and not training.policy.exists():
        assert time.monotonic() < end
    os.kill(command.process.pid, signal.SIGKILL)
    command.wait()
    complete = training.policy.exists() and (training.folder / "manifest.json").exists()
    goes_on(training, undisturbed)
    fault.done = "`kill -9` as soon as the temporary file appeared"
    fault.happened = "no half file under the final name; the command again wrote it"
    fault.lost = LOST if not complete else "nothing"
