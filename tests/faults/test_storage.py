"""Full and read-only disks, and files that others read. The disks are small real file systems; mounting needs root."""

import os
import subprocess
import time
from pathlib import Path

from project import digest, environment

from artune.runtime.files import write_json


def on(disk, training):
    """Move the run folder of ``training`` to ``disk`` and leave a link to it; returns the new folder."""
    folder = disk / "run"
    training.folder.rename(training.folder.with_name("kept"))
    subprocess.run(["cp", "-r", training.folder.with_name("kept"), folder], check=True)
    training.clear()
    training.folder.symlink_to(folder)
    return folder


def clear(training):
    training.folder.unlink()
    subprocess.run(["rm", "-r", training.folder.with_name("kept")], check=True)


def test_full_while_training(training, undisturbed, small_disk, fault):
    """The disk is full in the middle of a training"""
    disk = small_disk(7000)  # a state has 3 MB: the third one does not fit
    on(disk, training)
    (disk / "other").write_bytes(bytes(3_000_000))
    done = training.start().wait()
    assert done.status == 2, done.text
    assert "No space left on device" in done.line
    saved = training.states()
    (disk / "other").unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    again = training.start().wait()
    assert again.status == 0, again.text
    assert training.result() == undisturbed
    assert saved
    clear(training)
    fault.done = "a run folder on a disk of 7 MB (`mount -t tmpfs -o size=7000k`)"
    fault.happened = (
        f"status 2: “... {done.line.rpartition('/')[2]}”; with free space it resumed at the iteration "
        f"{training_resumed(training, again)}"
    )
    fault.lost = "nothing: weights and metrics equal those of the undisturbed run, bit for bit"


def training_resumed(training, done):
    return "of the last state" if "iterations" in done.line else done.line


def test_full_before_training(training, small_disk, fault):
    """The disk is full before a training begins"""
    disk = small_disk(200)
    on(disk, training)
    (disk / "other").write_bytes(bytes(180_000))
    done = training.start().wait()
    assert done.status == 2, done.text
    assert "No space left on device" in done.line
    assert not training.policy.exists()
    clear(training)
    fault.done = "a run folder on a disk with 20 kB left"
    fault.happened = f"status 2 and one line: “... {done.line.rpartition('/')[2]}”"
    fault.lost = "nothing: there was nothing yet"


def test_read_only(training, small_disk, fault):
    """The results folder is read-only"""
    disk = small_disk(4000)
    on(disk, training)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    done = training.start().wait()
    assert done.status == 2, done.text
    assert "Read-only file system" in done.line
    logged = training.start("--log", training.folder / "train.log").wait()
    assert logged.status == 2
    assert "--log" in logged.line
    assert "Read-only file system" in logged.line
    clear(training)
    fault.done = "`mount -o remount,ro`"
    fault.happened = f"status 2, before anything was loaded: “... {done.line.rpartition('/')[2]}”"
    fault.lost = "nothing"


def test_limit_of_a_file(training, undisturbed, fault):
    """A file may not grow any further (a quota, ulimit -f)"""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept = training.folder
    done = training.start(ARTUNE_TEST_FILE_LIMIT="2000").wait()
    assert done.status == 2, done.text
    assert "File too large" in done.line
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == (soft, hard)
    again = training.start().wait()
    assert again.status == 0, again.text
    assert training.result() == undisturbed
    assert kept == training.folder
    fault.done = "`ulimit -f` below the size of metrics.jsonl"
    fault.happened = f"status 2: “... {done.line.rpartition('/')[2]}”"
    fault.lost = "nothing: weights and metrics equal those of the undisturbed run, bit for bit"


def written_since(folder: Path, moment: float) -> set[Path]:
    """Files below ``folder`` that were created or changed after ``moment``."""
    return {path for path in folder.rglob("*") if path.is_file() and path.stat().st_mtime > moment}


def test_nothing_outside_the_run_folder(training, smoke, tmp_path, fault):
    """A training is checked for files that it writes outside its run folder"""
    home = tmp_path / "home"
    home.mkdir()
    time.sleep(0.05)
    before = time.time()
    time.sleep(0.05)
    done = training.start(HOME=str(home), TMPDIR=str(tmp_path)).wait()
    assert done.status == 0, done.text
    outside = {path for path in written_since(smoke, before) if training.folder not in path.parents}
    assert outside == set()
    caches = {path.relative_to(home).parts[0] for path in written_since(home, before)}
    assert caches <= {".cache", ".config"}, caches  # matplotlib's cache of fonts
    fault.done = "every file that changed during the training was listed"
    fault.happened = "all of them are in the run's folder (apart from the tracking store)"
    fault.lost = "nothing"


def test_a_reader_never_sees_half_a_file(tmp_path, fault):
    """A file is read repeatedly while it is replaced"""
    path = tmp_path / "note.json"
    write_json(path, {"n": 0, "text": "x" * 50_000})
    reader = subprocess.Popen(
        ["python", "-c", "import json, sys\nfor _ in range(1500): json.load(open(sys.argv[1]))", path],
        env=environment(tmp_path),
    )
    number = 0
    while reader.poll() is None:
        number += 1
        write_json(path, {"n": number, "text": "x" * 50_000})
    assert reader.returncode == 0
    assert [found.name for found in tmp_path.iterdir()] == ["note.json"]
    fault.done = f"1,500 reads during {number // 10 * 10 if number >= 10 else number} replacements"
    fault.happened = "every read returned a complete file"
    fault.lost = "nothing"


def test_shared_files_can_be_read_by_the_group(training, undisturbed, smoke, fault):
    """A second user opens the results of the first"""
    assert training.start().wait().status == 0
    umask = os.umask(0)
    os.umask(umask)
    closed = [
        path
        for path in training.folder.iterdir()
        if path.is_file() and path.stat().st_mode & 0o044 & ~umask != 0o044 & ~umask
    ]
    assert closed == []
    assert digest(training.policy) == undisturbed[0]
    fault.done = "the permissions of a run's files were compared with the umask"
    fault.happened = "all of them follow it: the group can read every file that the umask allows it to read"
    fault.lost = "nothing"
