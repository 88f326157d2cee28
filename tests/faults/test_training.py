"""Faults that end or damage a training. Afterwards the same command must end with the very same weights and metrics."""

import fcntl
import os
import pty
import re
import signal
import subprocess
import termios
import time

import pytest
from project import altered, command, digest, environment

LOST = "nothing: weights and metrics equal those of the undisturbed run, bit for bit"


def goes_on(training, undisturbed):
    """Start the training again and wait for its end; returns the iteration from which it resumed."""
    done = training.start().wait()
    assert done.status == 0, done.text
    assert training.result() == undisturbed
    return training.resumed_at()


def test_sigkill(training, undisturbed, fault):
    """The training is killed (SIGKILL, power failure, out of memory)"""
    for reached in (5, 8):
        assert training.stop_at(reached, signal.SIGKILL).status == -signal.SIGKILL
        assert not training.policy.exists()
    at = goes_on(training, undisturbed)
    assert at in (6, 9)
    fault.done = "`kill -9`, twice, between two saved states"
    fault.happened = f"the same command resumed from the last state, at iteration {at} of 12"
    fault.lost = LOST


def test_sigterm(training, undisturbed, fault):
    """The training is asked to stop (SIGTERM: scancel, a time limit, systemd)"""
    done = training.stop_at(5, signal.SIGTERM)
    assert done.status == 143
    assert done.line.startswith("stopped: disturbed by SIGTERM after ")
    saved = int(training.states()[-1].name.split("-")[1])
    assert goes_on(training, undisturbed) == saved >= 5
    fault.done = "`kill -TERM`"
    fault.happened = f"the iteration was finished and the state saved; status 143: “{done.line}”"
    fault.lost = LOST


def test_sigusr1(training, undisturbed, fault):
    """The time limit is near (sbatch --signal=USR1@120)"""
    done = training.stop_at(4, signal.SIGUSR1)
    assert done.status == 143
    goes_on(training, undisturbed)
    fault.done = "`kill -USR1`"
    fault.happened = f"as with SIGTERM: “{done.line}”"
    fault.lost = LOST


def test_sighup(training, undisturbed, fault):
    """The connection to the machine breaks (SIGHUP)"""
    done = training.stop_at(5, signal.SIGHUP)
    assert done.status == 129
    assert done.line.startswith("stopped: disturbed by SIGHUP after ")
    saved = int(training.states()[-1].name.split("-")[1])
    assert goes_on(training, undisturbed) == saved >= 5
    fault.done = "`kill -HUP`"
    fault.happened = f"as with SIGTERM, with status 129: “{done.line}”"
    fault.lost = LOST


def test_terminal_closed(training, undisturbed, fault):
    """The terminal in which a training runs is closed"""
    terminal, inside = pty.openpty()
    process = subprocess.Popen(
        [*command(*training.words()), "--device", "cpu"],
        cwd=training.project,
        env=environment(training.project) | {"MLFLOW_TRACKING_URI": training.uri},
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        preexec_fn=owning_its_terminal,
    )
    os.close(inside)
    end = time.monotonic() + 600
    while training.lines() < 4:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.005)
    os.close(terminal)
    assert process.wait(timeout=120) == 129
    saved = int(training.states()[-1].name.split("-")[1])
    assert goes_on(training, undisturbed) == saved >= 4
    fault.done = "the other end of its pseudo-terminal was closed"
    fault.happened = (
        f"the iteration was finished and the state saved; status 129; it resumed from iteration {saved} of 12"
    )
    fault.lost = LOST


def owning_its_terminal():
    """Called in a child process: its standard input is the terminal whose end ends it, even under nohup."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_nohup(training, undisturbed, fault):
    """The terminal of a training under nohup is closed"""
    done = training.stop_at(5, signal.SIGHUP, ARTUNE_TEST_NOHUP="1")
    assert done.status == 0
    assert "SIGHUP" not in done.text
    assert training.result() == undisturbed
    assert training.resumed_at() == 0
    fault.done = "`kill -HUP` to a process that ignores the signal, as under `nohup`"
    fault.happened = "nothing: the training went on to its end"
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
    fault.done = "the training was killed and the file altered by hand"
    fault.happened = "the digest in the file's name showed the damage; one warning; the state before it was used"
    fault.lost = LOST


def test_every_state_damaged(training, undisturbed, fault):
    """Every saved state is damaged"""
    training.stop_at(8, signal.SIGKILL)
    for state in training.states():
        state.write_bytes(b"no state")
    assert goes_on(training, undisturbed) == 0
    fault.done = "the training was killed and both state files overwritten"
    fault.happened = "the training started from its first iteration"
    fault.lost = "the iterations before the kill, which were repeated; otherwise " + LOST


def test_metrics_torn(training, undisturbed, fault):
    """The last line of metrics.jsonl is incomplete"""
    training.stop_at(8, signal.SIGKILL)
    path = training.folder / "training/metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    goes_on(training, undisturbed)
    fault.done = "the training was killed and the last 20 bytes were cut off"
    fault.happened = "the file was cut back to the state's iteration, and the lines after it were written again"
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
    fault.done = "the training was killed and line 3 altered by hand"
    fault.happened = (
        f"status 2, nothing overwritten: “{done.line.split(' (')[0].replace(str(training.folder), 'RUN')} ...”"
    )
    fault.lost = "nothing: with the line restored the training resumed"


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
    fault.done = "the training was killed and one bit of the prior flipped; the prior was restored afterwards"
    fault.happened = "each prior had its own training, which used no state of the other"
    fault.lost = "nothing of this training"


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
    fault.done = "the training was killed and the learning rate changed; the old one was restored afterwards"
    fault.happened = "each setting had its own training, from the first iteration"
    fault.lost = "nothing of this training"


def test_outputs_removed(training, undisturbed, fault):
    """The outputs of a finished training are removed (a killed Snakemake does this when it is started again)"""
    assert goes_on(training, undisturbed) == 0
    names = ("policy.safetensors", "metrics.jsonl", "timings.jsonl", "manifest.json")
    before = {name: (training.folder / name).read_bytes() for name in names}
    for name in names:
        (training.folder / name).unlink()
    done = training.start().wait()
    assert done.status == 0
    assert "finished before by this code, outputs restored" in done.line
    assert {name: (training.folder / name).read_bytes() for name in names} == before
    fault.done = "`rm` of the four files, then the same command"
    fault.happened = "the four files were restored within seconds, without training"
    fault.lost = "nothing"


def test_two_at_once(training, undisturbed, fault):
    """A second training of the same run is started while the first is running"""
    first = training.start()
    while training.lines() < 2:
        assert first.process.is_alive()
        time.sleep(0.005)
    os.kill(first.process.pid, signal.SIGSTOP)  # alive, and holds the run for as long as the test needs
    second = training.start()
    time.sleep(6)
    assert second.process.is_alive()
    os.kill(first.process.pid, signal.SIGCONT)
    assert first.wait().status == 0
    done = second.wait()
    assert done.status == 0, done.text
    assert "held by process" in done.text
    assert "outputs restored" in done.line
    assert training.result() == undisturbed
    fault.done = "the same command twice at once"
    fault.happened = "the second said which process held the run, waited, and took over the finished result"
    fault.lost = LOST


@pytest.mark.faults
def test_suspended_and_overtaken(training, undisturbed, fault):
    """A training is suspended until another process has taken over its run, and then resumes beside it"""
    first = training.start()
    while training.lines() < 5:
        assert first.process.is_alive()
        time.sleep(0.005)
    os.kill(first.process.pid, signal.SIGSTOP)
    metrics = training.folder / "training/metrics.jsonl"
    inode, began, second = metrics.stat().st_ino, time.monotonic(), training.start()
    while training.holder() != second.process.pid or metrics.stat().st_ino == inode:  # the second has not started yet
        assert second.process.is_alive()
        time.sleep(0.005)
    waited = time.monotonic() - began
    os.kill(second.process.pid, signal.SIGSTOP)  # the first now has unlimited time to do damage
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
    fault.done = "`kill -STOP`, the same command, and `kill -CONT` once the second process held the run's lease"
    fault.happened = (
        f"the second took over after {waited:.0f} s without a heartbeat; the first said so, ended with status 3 and "
        f"altered no file; the second resumed from iteration {training.resumed_at()} of 12"
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
    fault.happened = "no half-written file under the final name; the same command wrote it"
    fault.lost = LOST if not complete else "nothing"
