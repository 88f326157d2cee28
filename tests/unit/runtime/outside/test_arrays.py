"""Npz files with hostile headers, zip archives with bombs: one line each, in bounded time and memory."""

import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from confined import Confined

from artune.data.npz_images import image_rows
from artune.errors import ArtuneError
from artune.models.weights.tensor_files import read_metadata, read_tensors
from artune.runtime.files import load_npz, npz_names, npz_rows, npz_shape

IMAGES = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)


@pytest.fixture(scope="module")
def confined(tmp_path_factory):
    """Reads a whole npz, and its images in batches, in a child process; returns the error's line."""
    with Confined("npz", tmp_path_factory.mktemp("confined")) as reader:
        yield reader


def npy(shape, kind="|u1", data=b"", version=(1, 0), fortran=False, length=None):
    """An npy file whose header claims what it likes."""
    text = f"{{'descr': {kind!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode() + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes(version) + size + text + data


def whole(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def archive(*members, compression=zipfile.ZIP_STORED, encrypted=False):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as out:
        for name, data in members:
            out.writestr(name, data)
    data = buffer.getvalue()
    if encrypted:  # the mark in both headers of the member
        at = data.index(b"PK\x01\x02")
        data = data[:6] + b"\1" + data[7 : at + 8] + b"\1" + data[at + 9 :]
    return data


def only(data, **options):
    return archive(("arr_0.npy", data), **options)


CASES = {
    "an endless shape": lambda: only(npy((2**70, 0))),
    "an endless shape of rows": lambda: only(npy((2**70, 0, 0, 3))),
    "rows of nothing": lambda: only(npy((2**40, 0, 4, 3))),
    "a dtype of no bytes": lambda: only(npy((2**40, 4, 4, 3), "|S0")),
    "a shape of 72 TB": lambda: only(npy((999_999_999_999, 4, 4, 3))),
    "a product that overflows to 0": lambda: only(npy((2**32, 2**32, 4, 3))),
    "a negative shape": lambda: only(npy((-1, 4, 4, 3), data=bytes(48))),
    "two negative sizes": lambda: only(npy((-2, -4, 4, 3), data=bytes(96))),
    "a header of 4 GB": lambda: only(npy((1,), version=(2, 0), length=2**32 - 1, data=bytes(10**6))),
    "a header of 60 kB": lambda: only(npy((1,) * 20_000)),
    "objects": lambda: only(whole(np.array([{}], dtype=object))),
    "text": lambda: only(whole(np.array(["a", "b"]))),
    "times": lambda: only(whole(np.array([0], "datetime64[s]"))),
    "fields": lambda: only(whole(np.zeros(2, [("a", "u1"), ("b", "f4")]))),
    "complex numbers": lambda: only(whole(np.zeros(2, complex))),
    "floats of 16 bytes": lambda: only(whole(np.zeros(2, np.longdouble))),
    "zeros that unpack to 300 MB": lambda: bomb(zipfile.ZIP_DEFLATED),
    "zeros by another method": lambda: bomb(zipfile.ZIP_LZMA),
    "an array twice": lambda: twice(),
    "an encrypted array": lambda: only(whole(IMAGES), encrypted=True),
    "a directory of 18 MB": lambda: archive(*((f"{n:060000d}", b"") for n in range(300))),
    "no zip": lambda: whole(IMAGES),
    "a page": lambda: b"<!DOCTYPE html><html>" * 50,
}


def bomb(method):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=1) as out, out.open("arr_0.npy", "w") as member:
        member.write(npy((25, 2048, 2048, 3)))
        for _ in range(25 if method == zipfile.ZIP_DEFLATED else 8):
            member.write(bytes(2048 * 2048 * 3))
    return buffer.getvalue()


def twice():
    with pytest.warns(UserWarning, match="Duplicate name"):
        return archive(("arr_0.npy", whole(IMAGES)), ("arr_0.npy", whole(IMAGES + 1)))


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_npz_is_one_line(case, confined):
    assert confined(CASES[case]()).startswith("x.npz: ")


@pytest.mark.parametrize("case", [case for case in CASES if "shape" in case or "rows" in case or "negative" in case])
def test_reading_in_batches_refuses_the_same_shapes(case, tmp_path):
    (tmp_path / "x.npz").write_bytes(CASES[case]())
    for read in (lambda path: list(npz_rows(path, "arr_0", 4)), lambda path: list(image_rows(path, 4))):
        with pytest.raises(ArtuneError, match=r"x\.npz: "):
            read(tmp_path / "x.npz")


@pytest.mark.parametrize("kind", [np.bool_, np.int8, np.uint16, np.int64, np.float16, np.float32, ">f8", ">i4"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_numbers_are_read_in_this_machines_byte_order(kind, save, tmp_path):
    array = np.arange(6).reshape(2, 3).astype(kind)
    save(tmp_path / "x.npz", a=array, b=np.asfortranarray(array), c=np.zeros((0, 5), kind), d=array[0, 1])
    found = load_npz(tmp_path / "x.npz")
    assert list(found) == ["a", "b", "c", "d"]
    assert np.array_equal(found["a"], array)
    assert np.array_equal(found["b"], array)
    assert found["c"].shape == (0, 5)
    assert found["d"] == array[0, 1]
    assert all(value.dtype.isnative for value in found.values())
    assert np.array_equal(np.concatenate(list(npz_rows(tmp_path / "x.npz", "a", 1))), array)
    assert list(npz_rows(tmp_path / "x.npz", "c", 1)) == []
    assert npz_shape(tmp_path / "x.npz", "c") == (0, 5)


def test_images_of_gigabytes_each_are_refused_by_their_header(tmp_path):
    (tmp_path / "x.npz").write_bytes(only(npy((1, 1, 5000, 3), data=bytes(15_000))))
    with pytest.raises(ArtuneError, match=r"images of \(1, 5000\) pixels"):
        list(image_rows(tmp_path / "x.npz", 4))


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), os.mkdir])
@pytest.mark.parametrize("name", ["x.npz", "x.pt", "x.safetensors"])
def test_what_is_no_regular_file_is_refused(make, name, tmp_path):
    path = tmp_path / name
    make(path)
    reads = {"x.npz": [load_npz, npz_names, lambda path: list(npz_rows(path, "arr_0", 1))], "x.pt": [read_tensors]}
    for read in reads.get(name, [read_tensors, read_metadata] if make is not os.mkdir else [read_tensors]):
        with pytest.raises(ArtuneError, match=r"not a regular file|has no weight file"):
            read(path)


# -- weights --------------------------------------------------------------------------------------------------------


def torch_file(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def legacy(begin):
    return pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + begin


def with_index(number):
    """A pickle that puts an object at a far place of its table."""
    return b"\x80\x02}r" + struct.pack("<I", number) + b"."


WEIGHTS = {
    "a table of 2 billion objects": lambda: legacy(with_index(2**31)),
    "a table of 100 million objects": lambda: legacy(with_index(10**8)),
    "the same in an archive": lambda: archive(("a/data.pkl", b"\x80\x04" + with_index(10**8)[2:]), ("a/version", b"3")),
    "a string of 2^62 bytes": lambda: legacy(b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a."),
    "an archive that unpacks to 300 MB": lambda: archive(
        ("a/data.pkl", bytes(3 * 10**8)), compression=zipfile.ZIP_DEFLATED
    ),
    "a directory of 18 MB": CASES["a directory of 18 MB"],
    "an encrypted archive": lambda: archive(("a/data.pkl", b"N."), encrypted=True),
    "a tar with properties of 2^62 bytes": lambda: bytes(257) + b"ustar\x0000" + bytes(10_000),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    with Confined("checkpoint", tmp_path_factory.mktemp("weights")) as reader:
        yield reader


@pytest.mark.parametrize("case", WEIGHTS)
def test_a_hostile_checkpoint_is_one_line(case, weights):
    assert weights(WEIGHTS[case]()).startswith("x.pt: ")


def test_a_checkpoint_is_read_as_before(weights):
    assert weights(torch_file({"model": {"a": torch.ones(3)}})) == ""


@pytest.mark.parametrize("size", [2**60, 2**32, 2**25])
def test_a_safetensors_header_of_any_size_is_one_line(size, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + b"{}")
    for read in (read_tensors, read_metadata):
        with pytest.raises(ArtuneError, match=r"claims a header of"):
            read(path)
