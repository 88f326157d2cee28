"""What lies in the place of an asset: its own format, or a page, a pointer, a part of a file."""

import io
import json
import struct
import tarfile
import time
import zipfile

import numpy as np
import pytest

from artune.data.formats import MOST_HEADER, answers, leftover, misfit
from artune.models.weights import tensor_files

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4665e0fa8f7d\nsize 1402012345\n"
ANSWERS = {
    "html": (b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>", "HTML page"),
    "html without a doctype": (b"\n  <HTML lang=en><body>Log in</body>", "HTML page"),
    "html after a byte order mark": (b"\xef\xbb\xbf<!doctype HTML>", "HTML page"),
    "lfs": (LFS, "git lfs pull"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML answer"),
    "xml without a head": (b"<Error><Code>NoSuchKey</Code></Error>", "XML answer"),
    "json": (b'{"error": "Repository not found"}', "JSON answer"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(100), "compressed archive"),
    "zeros": (bytes(5000), "not a"),
    "text": (b"Too many requests", "not a"),
    "empty": (b"", "empty file"),
}


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, bytes(500))
    return buffer.getvalue()


def safetensors():
    header = json.dumps({"w": {"dtype": "F32", "shape": [500], "data_offsets": [0, 2000]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(2000)


def npy():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(500))
    return buffer.getvalue()


def tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("n01440764.tar")
        member.size = 20_000
        archive.addfile(member, io.BytesIO(b"x" * 20_000))
    return buffer.getvalue()


def graph(nodes=30):
    """The bytes of a GraphDef: nodes of 300 bytes, and its versions."""
    node = b"\x0a\xac\x02" + b"\x0a\x03abc" + bytes(295)
    return nodes * node + b"\x22\x02\x08\x11"


LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03." + bytes(2000)
WHOLE = {
    "weights.pt": zipped("weights/data.pkl", "weights/data/0"),
    "clip.pt": zipped("ViT/constants.pkl", "ViT/data.pkl", "ViT/code/x.py"),
    "old.pth": LEGACY,
    "last.ckpt": zipped("archive/data.pkl"),
    "pytorch_model.bin": zipped("archive/data.pkl"),
    "model.safetensors": safetensors(),
    "reference.npz": zipped("arr_0.npy", "mu.npy"),
    "array.npy": npy(),
    "classify_image_graph_def.pb": graph(),
    "val.parquet": b"PAR1" + bytes(3000) + b"PAR1",
    "train.tar": tar(),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_is_what_its_name_claims(tmp_path, name):
    (tmp_path / name).write_bytes(WHOLE[name])
    assert misfit(tmp_path / name, name) is None


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_for_people_or_git_is_called_by_its_name(tmp_path, name, answer):
    content, what = ANSWERS[answer]
    (tmp_path / name).write_bytes(content)
    found = misfit(tmp_path / name, name)
    assert found is not None
    assert what in found


@pytest.mark.parametrize("name", sorted(set(WHOLE) - {"old.pth", "array.npy"}))  # whose ends no table tells
@pytest.mark.parametrize("part", [0.02, 0.5, 0.999])
def test_a_file_that_is_cut_off_is_not_whole(tmp_path, name, part):
    content = WHOLE[name]
    (tmp_path / name).write_bytes(content[: int(len(content) * part)])
    assert misfit(tmp_path / name, name)


@pytest.mark.parametrize("other", ["model.safetensors", "classify_image_graph_def.pb", "val.parquet", "train.tar"])
def test_another_format_under_the_name_of_a_torch_file_is_not_taken(tmp_path, other):
    (tmp_path / "weights.pt").write_bytes(WHOLE[other])
    assert "torch" in misfit(tmp_path / "weights.pt", "weights.pt")


def test_a_zip_archive_around_a_file_is_not_the_file(tmp_path):
    for name in ("weights.pt", "reference.npz"):
        (tmp_path / name).write_bytes(zipped(f"download/{name}"))
        assert "a zip archive" in misfit(tmp_path / name, name)


def test_a_folder_and_a_file_do_not_stand_for_one_another(tmp_path):
    (tmp_path / "weights.pt").mkdir()
    (tmp_path / "weights.pt/inside").write_bytes(b"x")
    assert misfit(tmp_path / "weights.pt", "weights.pt") == "a folder, not a torch file"
    (tmp_path / "imagenet").write_bytes(b"no tar")
    assert "tar" in misfit(tmp_path / "imagenet", "imagenet")
    (tmp_path / "imagenet").write_bytes(tar())
    assert misfit(tmp_path / "imagenet", "imagenet") is None


@pytest.mark.parametrize("ending", [".aria2", ".st"])
def test_a_file_that_a_downloader_still_fills_is_unfinished_whatever_its_size(tmp_path, ending):
    (tmp_path / "weights.pt").write_bytes(WHOLE["weights.pt"])
    (tmp_path / f"weights.pt{ending}").write_bytes(b"state")
    assert "unfinished download" in misfit(tmp_path / "weights.pt", "weights.pt")


@pytest.mark.parametrize("ending", [".part", ".crdownload", ".aria2", ".partial", ".download", ".incomplete"])
def test_what_a_browser_left_is_found(tmp_path, ending):
    (tmp_path / f"weights.pt{ending}").write_bytes(b"part")
    assert leftover(tmp_path / "weights.pt") == tmp_path / f"weights.pt{ending}"
    assert leftover(tmp_path / "other.pt") is None


def test_a_folder_is_looked_through(tmp_path):
    for name, content in {
        "model.safetensors": safetensors(), "config.json": b'{"a": 1}', ".gitattributes": b"*.bin filter=lfs",
        ".git/x.bin": b"any", "README.md": b"# a model",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert misfit(tmp_path, "argrpo_b") is None
    (tmp_path / "model.safetensors").write_bytes(LFS)
    assert "model.safetensors is a pointer of Git LFS" in misfit(tmp_path, "argrpo_b")


@pytest.mark.parametrize(("name", "what"), [("n01/a.JPEG", "pointer"), ("train-0.parquet", "pointer")])
def test_pointers_in_a_folder_of_images_are_found(tmp_path, name, what):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(LFS)
    assert what in misfit(tmp_path, "imagenet/train")


def test_data_are_no_answer():
    for head in (b"\x00\x01", b"PK\x03\x04", b"\x89PNG\r\n", b"\xff\xd8\xff", b"12345", b"\x0a\x0dabc", b""):
        assert answers(head) is None


@pytest.mark.parametrize("name", ["weights.pt", "reference.npz"])
def test_a_thorough_look_finds_a_flipped_byte(tmp_path, name):
    content = bytearray(WHOLE[name])
    content[len(content) // 4] ^= 1  # among the data of a member
    (tmp_path / name).write_bytes(bytes(content))
    assert misfit(tmp_path / name, name) is None
    assert "damaged" in misfit(tmp_path / name, name, thorough=True)
    (tmp_path / name).write_bytes(WHOLE[name])
    assert misfit(tmp_path / name, name, thorough=True) is None


def long_number():
    """A tar whose first header has a number of 2,000,000 digits, over which tarfile takes a minute."""
    record = b"2000022 GNU.sparse.map=" + b"1" * 2_000_000
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, len(record)
    return member.tobuf(tarfile.USTAR_FORMAT) + record + bytes(-len(record) % 512) + tar()


def bomb(name):
    """A zip archive of 1 MB that unpacks to 300 MB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(name, bytes(300 * 2**20))
    return buffer.getvalue()


HOSTILE = {
    "train.tar": (long_number, "headers"),
    "graph.pb": (lambda: b"\x18\x00" * 2_000_000, "fields"),
    "weights.pt": (lambda: bomb("weights/data.pkl"), "unpack to"),
    "reference.npz": (lambda: bomb("arr_0.npy"), "unpack to"),
    "model.safetensors": (lambda: struct.pack("<Q", 2**25) + b'{"a":' + b"[" * 2**25, "no header"),
}


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_told_at_once(tmp_path, name, thorough):
    make, what = HOSTILE[name]
    (tmp_path / name).write_bytes(make())
    begin = time.monotonic()
    assert what in misfit(tmp_path / name, name, thorough)
    assert time.monotonic() - begin < 1


def test_the_longest_header_is_that_of_the_reader():
    assert MOST_HEADER == tensor_files.MOST_HEADER
