"""IDX files: their arrays, and headers that promise something else than there is."""

import os

import numpy as np
import pytest

from artune.data.formats import misfit
from artune.data.reading.idx import read_idx
from artune.errors import ArtuneError


def idx(array, kind=0x08):
    lengths = b"".join(side.to_bytes(4, "big") for side in array.shape)
    return bytes([0, 0, kind, array.ndim]) + lengths + array.astype(np.uint8).tobytes()


IMAGES = np.arange(2 * 3 * 5).reshape(2, 3, 5)


def test_an_array_is_read_as_it_was_written(tmp_path):
    (tmp_path / "images.idx").write_bytes(idx(IMAGES))
    (tmp_path / "labels.idx").write_bytes(idx(np.array([3, 1])))
    assert np.array_equal(read_idx(tmp_path / "images.idx", 3), IMAGES)
    assert read_idx(tmp_path / "labels.idx", 1).tolist() == [3, 1]
    assert misfit(tmp_path / "images.idx", "train-images.idx") is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an IDX file"),
        (b"\x1f\x8b\x08\x00" + bytes(20), "not an IDX file; get the file again, or unpack it"),
        (idx(IMAGES, kind=0x0D), "IDX numbers of type 0x0d"),
        (idx(np.array([1, 2])), "IDX array of 1 dimensions, where 3 are needed"),
        (b"\0\0\x08\x00", "IDX array of 0 dimensions"),
        (idx(IMAGES)[:12], "cut off within its header"),
        (idx(IMAGES)[:-1], r"45 bytes, where its header \[2, 3, 5\] tells of 46"),
        (idx(IMAGES) + b"x", "47 bytes, where its header"),
        (b"\0\0\x08\x03" + b"\xff" * 12 + bytes(30), "tells of 79,228,162,"),  # times 10^18 bytes
        (b"\0\0\x08\x03" + bytes(12), r"16 bytes, where its header \[0, 0, 0\]"),
    ],
)
def test_another_file_is_one_line_that_says_what_it_is(tmp_path, data, message):
    (tmp_path / "images.idx").write_bytes(data)
    with pytest.raises(ArtuneError, match=message) as caught:
        read_idx(tmp_path / "images.idx", 3)
    assert str(caught.value).startswith(str(tmp_path / "images.idx"))
    if not data.startswith(b"\0\0\x08\x01"):  # labels are a whole IDX file
        assert misfit(tmp_path / "images.idx", "images.idx")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "images.idx")
    with pytest.raises(ArtuneError, match="a named pipe"):
        read_idx(tmp_path / "images.idx", 3)


def test_a_file_that_is_missing_is_one_line(tmp_path):
    with pytest.raises(ArtuneError, match="cannot be read"):
        read_idx(tmp_path / "images.idx", 3)
