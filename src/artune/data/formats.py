"""Tells whether a file from outside is what its name claims, by its first bytes and its table of contents.

A login page or a pointer of Git LFS in the place of weights, or a transfer that ended early, is found before anything
is made from it. Only names, lengths and tables are read, nothing is unpickled, and torch is not needed.
"""

import json
import re
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

from artune.data.digests import files_in
from artune.data.reading.idx import idx_misfit
from artune.errors import ArtuneError
from artune.runtime.outside.regular import open_regular
from artune.runtime.outside.zips import open_zip

HEAD = 1024  # bytes by which an answer for people is told from data
IMAGES = (".jpeg", ".jpg", ".jfif", ".jpe", ".png", ".webp")
SMALL = 4096  # images of up to so many bytes may be pointers or pages
UNFINISHED = (".aria2", ".st")  # aria2 and axel keep these beside a file of full size that lacks bytes
LEFTOVERS = (".part", ".crdownload", ".partial", ".download", ".incomplete", ".opdownload", ".tmp", *UNFINISHED)
LEGACY_TORCH = b"l\xfc\x9cF\xf9 j\xa8P\x19"  # the number at the beginning of files that torch wrote before 1.6
PAGES = (
    (rb"version https://git-lfs\.github\.com/spec", "a pointer of Git LFS (`git lfs pull` fetches the file itself)"),
    (rb"(<!doctype\s+html|<html|<head|<body|<script|<!--)", "an HTML page (a login, or a page about the file)"),
    (rb"(<\?xml|<error|<[a-z]+>)", "an XML answer"),
    (rb"[{\[]\s*(\"|\{|\]|\})", "a JSON answer"),
    (rb"(\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd)", "a compressed archive (unpack it)"),
)
WEIGHTS = {".pt": "torch", ".pth": "torch", ".ckpt": "torch", ".bin": "torch", ".safetensors": "safetensors"}
CLAIMS = {
    **WEIGHTS, ".npz": "npz", ".npy": "npy", ".pb": "TensorFlow graph", ".parquet": "parquet", ".tar": "tar",
    ".json": "JSON", ".idx": "IDX",
}  # fmt: skip
UNREADABLE = (zipfile.BadZipFile, zlib.error, tarfile.TarError, struct.error, EOFError, ValueError, LookupError,
              NotImplementedError, RecursionError, OverflowError, MemoryError, RuntimeError, TypeError,
              AttributeError, ArtuneError)  # fmt: skip
GRAPH_FIELDS = {(1, 2), (2, 2), (3, 0), (4, 2), (5, 2)}  # number and wire type of the fields of a GraphDef
MOST_FIELDS = 2**17  # of a GraphDef; Inception has a thousand nodes
MOST_HEADER = 2**24  # bytes of a safetensors file's header, as artune.models.weights.tensor_files reads it


def misfit(path: Path, name: str, thorough: bool = False) -> str | None:
    """What is wrong with a file or folder that an asset's ``file`` calls ``name``, None if it is what it claims.

    The text continues the sentence "it is ...". What has no known format must only not be a page, a pointer or empty.
    A thorough look also reads a zip archive, which most weights are, to compare its checksums.

    Raises:
        OSError: something cannot be read.
    """
    if path.is_dir():
        claim = CLAIMS.get(Path(name).suffix.lower())
        return f"a folder, not a {claim} file" if claim else _misfit_in(path)
    if beside := [path.name + end for end in UNFINISHED if path.with_name(path.name + end).exists()]:
        return f"an unfinished download ({beside[0]} lies beside it)"
    suffix = Path(name).suffix or path.suffix or ".tar"  # a folder of images may be one tar file
    wrong = _misfit_of(path, suffix.lower())
    return _damaged_member(path) if wrong is None and thorough and _head(path).startswith(b"PK") else wrong


def _damaged_member(path: Path) -> str | None:
    try:
        with open_zip(path) as archive:
            member = archive.testzip()
    except UNREADABLE as error:
        return f"damaged ({_reason(error)})"
    return f"damaged: the checksum of {member} differs" if member else None


def leftover(path: Path) -> Path | None:
    """The unfinished download beside the place of a file, None if there is none."""
    return next((file for end in LEFTOVERS if (file := path.with_name(path.name + end)).exists()), None)


def answers(head: bytes) -> str | None:
    """What an answer meant for people or for Git is, by its first bytes; None for data."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((what for pattern, what in PAGES if re.match(pattern, text, re.I)), None)


def _misfit_in(folder: Path) -> str | None:
    for name, file in files_in(folder):
        suffix, size = file.suffix.lower(), file.stat().st_size
        if any(part.startswith(".") for part in name.split("/")):  # .git, .cache and the like
            continue
        wrong = None
        if suffix in WEIGHTS or suffix == ".parquet" or name.endswith(".index.json"):
            wrong = _misfit_of(file, suffix)
        elif 0 < size <= SMALL and suffix in IMAGES:
            wrong = answers(_head(file))
        if wrong:
            return f"a folder in which {name} is {wrong}"
    return None


def _misfit_of(path: Path, suffix: str) -> str | None:
    """What is wrong with a file of this suffix, None if nothing."""
    claim = CLAIMS.get(suffix)
    head = _head(path)
    if not head:
        return "an empty file"
    if claim == "JSON":
        return None if head.lstrip().startswith(b"{") else answers(head) or "not JSON"
    check = {"torch": _torch, "safetensors": _safetensors, "npz": _npz, "npy": _npy, "TensorFlow graph": _graph,
             "parquet": _parquet, "tar": _tar, "IDX": _idx}.get(claim or "")  # fmt: skip
    found = answers(head)
    if check is None:
        return found
    try:
        wrong = check(path, head)
    except UNREADABLE as error:
        wrong = f"damaged or cut off ({_reason(error)})"
    if wrong is None:
        return None
    article = "an" if claim in ("npz", "IDX") else "a"
    return f"{found}, not {article} {claim} file" if found else f"not {article} whole {claim} file: {wrong}"


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, zipfile.BadZipFile) else type(error).__name__


def _head(path: Path) -> bytes:
    with open_regular(path) as handle:
        return handle.read(HEAD)


def _torch(path: Path, head: bytes) -> str | None:
    if head.startswith(b"PK"):
        names = _zip_names(path)
        return None if any(name.split("/")[-1] == "data.pkl" for name in names) else "a zip archive of other files"
    if head[:1] == b"\x80" and LEGACY_TORCH in head[:40]:
        return None
    return "it does not begin as torch.save begins a file"


def _npz(path: Path, head: bytes) -> str | None:
    if not head.startswith(b"PK"):
        return "it is no zip archive"
    return None if any(name.endswith(".npy") for name in _zip_names(path)) else "a zip archive without arrays"


def _zip_names(path: Path) -> list[str]:
    """Names in a zip archive, whose table of contents is at its end: one that is cut off has none."""
    with open_zip(path) as archive:
        return archive.namelist()


def _npy(path: Path, head: bytes) -> str | None:
    return None if head.startswith(b"\x93NUMPY") else "it does not begin as numpy.save begins a file"


def _safetensors(path: Path, head: bytes) -> str | None:
    length, size = struct.unpack("<Q", head[:8])[0], path.stat().st_size
    if length > min(size, MOST_HEADER) or head[8:9] != b"{":
        return "it has no header"
    with open(path, "rb") as handle:
        handle.seek(8)
        header = json.loads(handle.read(length))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    wanted = 8 + length + max(ends, default=0)
    return None if size == wanted else f"{size:,} bytes, where its header tells of {wanted:,}"


def _graph(path: Path, head: bytes) -> str | None:
    """Walk the fields of the graph, each of which says its length: a GraphDef ends where the file ends."""
    size, at, fields = path.stat().st_size, 0, 0
    with open(path, "rb") as handle:
        while at < size:
            if (fields := fields + 1) > MOST_FIELDS:
                return f"it has more than {MOST_FIELDS:,} fields"
            handle.seek(at)
            block = handle.read(20)
            tag, used = _varint(block, 0)
            value, used = _varint(block, used)
            if (tag >> 3, tag & 7) not in GRAPH_FIELDS:
                return "it does not consist of a graph's fields"
            at += used + (value if tag & 7 == 2 else 0)
    return None if at == size else f"{size:,} bytes, where its fields tell of {at:,}"


def _varint(block: bytes, at: int) -> tuple[int, int]:
    """An integer of protobuf's variable length at ``at``, and where it ends."""
    value = 0
    for number in range(10):
        byte = block[at + number]
        value |= (byte & 0x7F) << (7 * number)
        if byte < 0x80:
            return value, at + number + 1
    raise ValueError("no integer")


def _parquet(path: Path, head: bytes) -> str | None:
    with open(path, "rb") as handle:
        handle.seek(max(path.stat().st_size - 4, 0))
        tail = handle.read(4)
    return None if head[:4] == tail == b"PAR1" else "it does not begin and end with PAR1"


def _idx(path: Path, head: bytes) -> str | None:
    with open(path, "rb") as handle:
        return idx_misfit(handle)


def _tar(path: Path, head: bytes) -> str | None:
    from artune.data.reading.tars import members  # which loads Pillow

    with open(path, "rb") as handle:
        handle.seek(-min(path.stat().st_size, 2 * tarfile.BLOCKSIZE), 2)
        end = handle.read()
    if path.stat().st_size % tarfile.BLOCKSIZE or end.strip(b"\0"):
        return "it does not end in two blocks of zeros, so it was cut off"
    try:
        return None if next(members(path), None) else "it holds nothing"
    except ArtuneError as error:
        return str(error).removeprefix(f"{path}: ").removesuffix("; fetch it again")
