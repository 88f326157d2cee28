"""Files that are read whole: regular ones only, and the errors of others."""

import hashlib
import os
import signal

import pytest

from artune.errors import ArtuneError
from artune.runtime.files import npz_names, read_json, read_jsonl, sha256


@pytest.fixture(autouse=True)
def _not_for_ever():
    """End a test that waits for a pipe."""

    def end(*_):
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(5)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("read", [read_json, read_jsonl, sha256, npz_names])
@pytest.mark.parametrize(
    ("make", "what"),
    [(os.mkfifo, "a named pipe"), (lambda path: path.symlink_to("/dev/zero"), "a device"), (os.mkdir, "a folder")],
    ids=["pipe", "device", "folder"],
)
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path, read, make, what):
    make(tmp_path / "x.npz")
    with pytest.raises(ArtuneError, match=rf"x\.npz: {what}, not a regular file"):
        read(tmp_path / "x.npz")


def test_missing_files_are_said_as_before(tmp_path):
    for read in (read_json, read_jsonl, npz_names):
        with pytest.raises(ArtuneError, match=r"x\.json: no such file"):
            read(tmp_path / "x.json")
    with pytest.raises(FileNotFoundError):
        sha256(tmp_path / "x.json")


def test_regular_files_are_read_whole(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'{"a": "\xc3\xa9"}\r\n{"b": 2}\n')
    assert read_jsonl(path) == [{"a": "\u00e9"}, {"b": 2}]
    assert sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(b"\xff")
    for read in (read_json, read_jsonl):
        with pytest.raises(ArtuneError, match=r"x\.json: "):
            read(path)
