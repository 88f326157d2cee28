"""Unpacking gzip files: whole ones, and those that are damaged or would not end."""

import gzip
import hashlib
import io
import os

import pytest

from artune.errors import ArtuneError
from artune.runtime.outside import gzips
from artune.runtime.outside.gzips import is_gzip, unpack_gzip

BODY = bytes(range(256)) * 20_000  # more than one block


@pytest.fixture
def packed(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(BODY))
    return path


def test_the_contents_are_written_and_their_digest_is_told(packed):
    output = io.BytesIO()
    assert unpack_gzip(packed, output) == hashlib.sha256(BODY).hexdigest()
    assert output.getvalue() == BODY
    assert is_gzip(packed)


def test_a_file_that_would_unpack_to_far_more_than_its_size_stops_early(tmp_path, monkeypatch):
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(30_000_000)))
    monkeypatch.setattr(gzips, "FREE", 2**20)
    output = io.BytesIO()
    with pytest.raises(ArtuneError, match=r"bomb.gz: would unpack to more than .* bytes, from"):
        unpack_gzip(tmp_path / "bomb.gz", output)
    assert output.tell() < 5_000_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[: len(data) // 2], "cut off"),
        (lambda data: data[:-3], "cut off"),
        (lambda data: b"", "cut off"),
        (lambda data: data + b"more", "other bytes follow"),
        (lambda data: data + data, "other bytes follow"),
        (lambda data: b"plain text", "not gzip, or damaged"),
        (lambda data: data[:-8] + bytes(8), "not gzip, or damaged"),  # a wrong checksum
    ],
)
def test_a_damaged_file_is_one_line(packed, change, message):
    packed.write_bytes(change(packed.read_bytes()))
    with pytest.raises(ArtuneError, match=message) as caught:
        unpack_gzip(packed, io.BytesIO())
    assert "\n" not in str(caught.value)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.gz")
    for call in (is_gzip, lambda path: unpack_gzip(path, io.BytesIO())):
        with pytest.raises(ArtuneError, match="a named pipe"):
            call(tmp_path / "pipe.gz")
