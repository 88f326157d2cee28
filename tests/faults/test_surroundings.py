"""What surrounds a command: terminals, logs, places of outputs, clocks, other file systems, paths, home and TMPDIR."""

import errno
import json
import os
import shlex
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faulty import faulty
from project import RUN, SMOKE, copy_project, digest, environment, four_rows
from study_pairs import make_study
from trainings import PRETRAINED

from artune.results.study.store import VoteStore
from artune.runtime.files import npz_shape

SAME = "nothing: weights and metrics equal those of the undisturbed run, bit for bit"
DAY = 24 * 60 * 60


def words(training, *further):
    """The shell's words for a training, as a process of its own with all that Python does at its end."""
    given = {
        "--config": training.folder / "config.yaml",
        "--policy": f"{PRETRAINED}/llamagen_l/policy.safetensors",
        "--tokenizer": f"{PRETRAINED}/vq/tokenizer.safetensors",
        "--codes": f"{PRETRAINED}/vq/codes.npz",
        "--networks": "results/smoke/inputs/networks",
        "--reference": "results/smoke/reference.npz",
        "--output": training.policy,
        "--scale": "smoke",
        "--threads": 1,
        "--device": "cpu",
    } | dict(zip(further[::2], further[1::2], strict=True))
    parts = [sys.executable, "-m", "artune", "train", *(part for pair in given.items() for part in pair)]
    return shlex.join(map(str, parts))


def shell(training, line, **variables):
    """Run a line in bash; returns the status of its first program and what reached the terminal."""
    done = subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        cwd=training.project,
        env=environment(training.project) | {"MLFLOW_TRACKING_URI": training.uri} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return done.returncode, done.stderr


TERMINALS = [
    ("Whoever reads a training's messages leaves at once", "2>&1 | true"),
    ("A training is started without a standard error", "2>&-"),
    ("A training is started without any standard stream", "<&- >&- 2>&-"),
    ("A training's messages go to a full disk", "> /dev/full 2>&1"),
]


@pytest.mark.faults
@pytest.mark.parametrize(("what", "end"), TERMINALS)
def test_terminal(training, undisturbed, what, end, fault):
    """The messages of a training reach nobody"""
    status, _ = shell(training, f"{words(training)} {end}")
    assert status == 0
    assert training.result() == undisturbed
    fault.fault = what
    fault.done = f"`artune train ... {end.replace('|', '/')}`"
    fault.happened = "the training went on without a word and ended with status 0"
    fault.lost = SAME


@pytest.mark.faults
def test_torchrun(smoke, tmp_path, fault):
    """Whoever reads the messages of two processes under torchrun leaves at once"""
    launcher = (
        f"{sys.executable} -m torch.distributed.run --standalone --nproc_per_node=2 --no-python -- {sys.executable}"
    )
    line = (
        f"{launcher} -m artune sample --config {RUN}/config.yaml --policy {RUN}/policy.safetensors --scale smoke"
        f" --tokenizer {PRETRAINED}/vq/tokenizer.safetensors --output {tmp_path}/samples.npz --grid {tmp_path}/grid.png"
        f" --log {tmp_path}/sample.log --threads 1 --device cpu 2>&1 | true; exit ${{PIPESTATUS[0]}}"
    )
    variables = environment(smoke) | {"GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(["bash", "-c", line], cwd=smoke, env=variables, check=False)
    assert done.returncode == 0
    assert npz_shape(tmp_path / "samples.npz", "arr_0")[0] == 64
    assert "64 images" in (tmp_path / "sample.log").read_text()
    fault.done = "`torchrun --nproc_per_node=2 ... artune sample ... 2>&1 / true`"
    fault.happened = "both processes went on; status 0; the log holds what nobody read"
    fault.lost = "nothing: all 64 images"


@pytest.mark.faults
def test_log_on_a_full_disk(training, undisturbed, small_disk, fault):
    """The disk of the log is full in the middle of a training"""
    disk = small_disk(8)
    log = disk / "train.log"
    running = subprocess.Popen(
        ["bash", "-c", words(training, "--log", log)],
        cwd=training.project,
        env=environment(training.project) | {"MLFLOW_TRACKING_URI": training.uri},
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not log.exists():
        assert time.monotonic() < end
        time.sleep(0.005)
    with pytest.raises(OSError, match="No space left"):
        (disk / "other").write_bytes(bytes(16_000))
    told = running.communicate()[1]
    assert running.returncode == 0, told
    assert told.count("warning: --log: ") == 1
    assert f"{log} cannot be written (No space left on device); the work goes on" in told
    assert log.read_bytes() == b""
    assert training.result() == undisturbed
    fault.done = "`--log` on a disk of 8 kB (`mount -t tmpfs -o size=8k`), which another file filled up"
    fault.happened = "one warning: “... cannot be written (No space left on device); the work goes on”; status 0"
    fault.lost = SAME


def test_result_nobody_reads(smoke, fault):
    """The reader of a command's result leaves, or the disk that it goes to is full"""
    show = shlex.join([sys.executable, "-m", "artune", "show", "llamagen_l-ours", "--scale", "smoke"])
    seen = {}
    for end in ("| true", "> /dev/full", ">&-"):
        done = subprocess.run(
            ["bash", "-c", f"{show} {end}; exit ${{PIPESTATUS[0]}}"],
            cwd=smoke,
            env=environment(smoke),
            capture_output=True,
            text=True,
            check=False,
        )
        seen[end] = done.returncode, done.stderr
    assert seen["| true"] == (141, "")
    assert seen["> /dev/full"][0] == seen[">&-"][0] == 2
    assert "No space left on device" in seen["> /dev/full"][1]
    assert "it is closed" in seen[">&-"][1]
    fault.done = "`artune show llamagen_l-ours / true`, `> /dev/full`, `>&-`"
    fault.happened = "status 141, as with any Unix program; status 2 and one line; the same"
    fault.lost = "nothing: no status 0 without the result"


def make(kind, path):
    """Put something else than a regular file at ``path``."""
    if kind == "a folder":
        path.mkdir()
    elif kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(os.path.relpath(path))
    elif kind == "a device":
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root may make a device")
    else:
        path.symlink_to(path.parent / "unmounted/weights")


def seen(path):
    """What tells a file from another that took its place."""
    found = path.lstat()
    return found.st_ino, found.st_mode, found.st_mtime_ns


@pytest.mark.parametrize(
    "kind", ["a folder", "a named pipe", "a socket", "a device", "a link to a folder that does not exist"]
)
def test_output_is_no_file(training, monkeypatch, kind, fault):
    """An output is a special file"""
    monkeypatch.chdir(training.folder)  # names of sockets are short
    place = training.folder / "out"
    make(kind, place)
    before, lines = seen(place), {}
    for option in ("--output", "--log"):
        status, lines[option] = shell(training, words(training, option, place))
        assert status == 2
        assert lines[option].startswith(f"error: {option}: {place}: is a"), lines[option]
        assert lines[option].count("\n") == 1
        assert seen(place) == before
    assert not (training.folder / "training").exists()
    fault.fault = f"An output or the log of a training is {kind}"
    fault.done = f"`artune train --output PLACE`, `--log PLACE`, where PLACE is {kind}"
    told = lines["--output"].strip().replace(str(training.folder), "RUN")
    fault.happened = f"status 2 before anything was loaded: “{told}”"
    fault.lost = "nothing: what was there stays"


@pytest.mark.faults
def test_output_through_a_link(training, undisturbed, small_disk, fault):
    """The weights of a run are a link to another disk"""
    disk = small_disk(60_000)
    training.policy.symlink_to(disk / "weights.safetensors")
    (training.folder / "training").symlink_to(disk / "states")
    (disk / "states").mkdir()
    status, told = shell(training, words(training))
    assert status == 0, told
    assert training.policy.is_symlink()
    assert (training.folder / "training").is_symlink()
    assert training.result() == undisturbed
    assert digest(disk / "weights.safetensors") == undisturbed[0]
    assert sorted(os.listdir(disk)) == ["states", "weights.safetensors"]
    assert os.listdir(disk / "states") == []
    fault.done = "`ln -s` of policy.safetensors and of the folder of states to a small disk before the training"
    fault.happened = "both were written on that disk, in one step each, and the links stayed"
    fault.lost = SAME


@pytest.mark.faults
@pytest.mark.parametrize(("what", "seconds"), [("back by a day", -DAY), ("forward by a year", 365 * DAY)])
def test_clock(training, undisturbed, tmp_path, what, seconds, fault):
    """The clock is set during a training"""
    variables = faulty(tmp_path, clock=seconds, clock_from=training.folder / "training/timings.jsonl")
    status, told = shell(training, words(training), **variables)
    assert status == 0, told
    assert training.result() == undisturbed
    spent = json.loads((training.folder / "manifest.json").read_text())["seconds"]
    assert 0 < spent < 600
    stages = [json.loads(line) for line in (training.folder / "timings.jsonl").read_text().splitlines()]
    assert all(0 <= value < 600 for line in stages for key, value in line.items() if key.startswith("time/"))
    written = training.policy.stat().st_mtime - os.stat(training.folder / "config.yaml").st_mtime
    assert abs(written) < 3600  # the kernel's own clock, which the library does not set
    fault.fault = f"The clock is set {what} during a training"
    fault.done = f"the C library's clock was moved by {seconds:,} s at the first iteration"
    fault.happened = "status 0; the seconds in manifest.json and timings.jsonl are those that passed"
    fault.lost = SAME


OTHERS = [
    ("cannot sync folders", {"fsync_folder": errno.EINVAL}),
    ("cannot sync at all", {"fsync_folder": errno.ENOTSUP, "fsync_file": errno.EINVAL}),
    ("has no hard links, permissions and times (vfat, CIFS)", {"link": errno.EPERM, "chmod": errno.EPERM, "utime": errno.EPERM}),
    ("has no locks", {"flock": errno.ENOSYS, "link": errno.ENOTSUP}),
]  # fmt: skip


@pytest.mark.faults
@pytest.mark.parametrize(("what", "calls"), OTHERS)
def test_other_file_systems(training, undisturbed, tmp_path, what, calls, fault):
    """The results lie on a file system that lacks something"""
    variables = faulty(tmp_path, **calls)
    checked = artune_under(training.project, variables, "doctor")
    assert "ok    disk" in checked, checked
    status, told = shell(training, words(training), **variables)
    assert status == 0, told
    assert training.result() == undisturbed
    assert not (training.folder / ".lease").exists()
    fault.fault = f"The file system of the results {what}"
    failing = ", ".join(f"{call.replace('_', ' of a ')}: {errno.errorcode[number]}" for call, number in calls.items())
    fault.done = f"these calls were made to fail in the training ({failing})"
    fault.happened = "`doctor` said ok, because it writes as a training does; the training ended with status 0"
    fault.lost = SAME


def artune_under(folder, variables, *given):
    """Standard output of a command with further environment variables."""
    done = subprocess.run(
        [sys.executable, "-m", "artune", *given, "--scale", "smoke"],
        cwd=folder,
        env=environment(folder) | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.faults
def test_home_and_temporary_files(smoke, small_disk, fault):
    """The home folder cannot be written and TMPDIR is full"""
    disk = small_disk(64)
    variables = {"HOME": "/dev/null", "TMPDIR": str(disk)}
    told = artune_under(smoke, variables, "doctor")
    line = next(line for line in told.splitlines() if " scratch " in line)
    assert line.startswith("WRONG scratch")
    assert "/dev/null/.cache: Not a directory; set XDG_CACHE_HOME to a folder that can be written" in line
    assert f"{disk}: No space left on device; set TMPDIR to a folder with free space" in line
    helped = artune_under(smoke, variables | {"XDG_CACHE_HOME": str(smoke / ".cache"), "TMPDIR": "/tmp"}, "doctor")
    assert "ok    scratch" in helped
    fault.done = "`HOME=/dev/null TMPDIR=(a disk of 64 kB) artune doctor`"
    fault.happened = "“set XDG_CACHE_HOME to a folder that can be written”, “set TMPDIR to a folder with free space”"
    fault.lost = "nothing: nothing had begun"


@pytest.mark.faults
def test_letters(smoke, tmp_path, fault):
    """The terminal and the log know no letters but ASCII"""
    study = make_study(tmp_path / "pairs.zip")
    store = VoteStore(tmp_path / "votes.sqlite", study)
    store.vote(rater := store.rater(store.register()), store.session(rater).waiting[0].position, "tie", 2.0)
    store.close()
    tally = [sys.executable, "-m", "artune", "study", "tally", "--scale", "smoke", "--votes", tmp_path / "votes.sqlite"]
    for variables in ({"PYTHONIOENCODING": "ascii:strict"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}):
        done = subprocess.run(
            [*tally, "--output", tmp_path / "–.json", "--log", tmp_path / "tally.log"],
            cwd=smoke,
            env=environment(smoke) | variables,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert b"\\u2013" in done.stdout or "–".encode() in done.stdout  # a row of the tally without a share
    assert json.loads((tmp_path / "–.json").read_text(encoding="utf-8"))["everyone"]
    assert "votes" in (tmp_path / "tally.log").read_text(encoding="utf-8")
    fault.done = "`artune study tally` of one vote, with `PYTHONIOENCODING=ascii` and with `LC_ALL=C PYTHONUTF8=0`"
    fault.happened = "status 0; a dash that the terminal lacks is shown by its number, files are UTF-8 all the same"
    fault.lost = "nothing"


NAME = "-lead \t'q\" $HOME ä漢\nnew\\line *#;&()[]!~`x` ?=@,"


def planned_in(folder):
    """Status and the last line of a dry run in a clone called ``folder``."""
    folder.mkdir(parents=True)
    copy_project(folder)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", "-n", "--quiet", *SMOKE, "results/table4.csv"],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.faults
def test_brace_in_the_path(tmp_path, fault):
    """The clone lies in a path that Snakemake cannot work in"""
    status, told = planned_in(tmp_path / "results {x}")
    assert status == 1
    assert "Traceback" not in told
    lines = [line for line in told.splitlines() if "Snakemake cannot work in a path with an opening brace ({)" in line]
    assert len(lines) == 1, told
    assert f"{tmp_path}/results {{x}}" in lines[0]
    fault.done = "a clone in a folder called `results {x}`"
    fault.happened = (
        "status 1, nothing planned: “Snakemake cannot work in a path with an opening brace ({); move the clone”"
    )
    fault.lost = "nothing"


@pytest.mark.faults
def test_letters_in_the_path(tmp_path, fault):
    """The clone and its environment lie in a path with spaces, quotes, a dollar, a newline and letters of two languages"""
    folder = tmp_path / NAME
    folder.mkdir()
    copy_project(folder)
    (folder / ".venv").symlink_to(Path(sys.prefix).resolve())
    done = subprocess.run(
        [folder / ".venv/bin/python", "-m", "snakemake", "--cores", "2", *SMOKE, "results/table4.csv"],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert four_rows(folder / "results/table4.csv")
    assert "runs up to date" in done.stderr  # MLflow's store was made and filled, too
    assert {path.name for path in tmp_path.iterdir()} == {NAME}
    fault.done = f"the whole smoke scale in a folder called {NAME!r}"
    fault.happened = "status 0, Table 4 and the tracking store complete"
    fault.lost = "nothing"
