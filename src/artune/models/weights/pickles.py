"""Torch files read without running anything that they name.

``torch.load(weights_only=True)`` takes plain weights in pickles of protocol 2. What travels with the weights of a
training (callbacks, settings, optimisers, NumPy scalars), newer protocols and TorchScript archives it refuses. Here
such a file is read for its tensors: every other object becomes an inert stand-in, and a name that only an attack
has a use for is an error.
"""

import builtins
import math
import pickle
import struct
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # Python 2's names, which protocol 2 writes
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128,
}  # fmt: skip
# Parts of the standard library that settings and callbacks are made of. Nothing of the rest belongs beside weights.
HARMLESS = {
    "_codecs", "abc", "argparse", "collections", "copyreg", "dataclasses", "datetime", "decimal", "enum", "fractions",
    "functools", "logging", "numbers", "operator", "pathlib", "random", "re", "string", "types", "typing", "uuid",
    "weakref",
}  # fmt: skip
LOCAL_HEADER, NAME_LENGTHS = 30, 26  # bytes before a member of a zip archive, and where its variable part is counted
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # begins what torch wrote before 1.6


class StandIn(dict):
    """Takes the place of an object, a class or a function that travels with the weights; keeps and does nothing."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # a stand-in may be a key, which a dict may not

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """What the object held is dropped: it is never rebuilt."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Dropped as well."""

    def extend(self, items: Any) -> None:
        """Dropped as well."""

    append = add = extend


def strided(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """A tensor's view of its storage. Raises ValueError where it would reach out of it."""
    if not isinstance(storage, Tensor):
        raise ValueError("a tensor has its storage inside it, as pickle and not torch.save writes it")
    reach = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) + 1
    count: int = math.prod(size)
    inside = min((offset, *size, *stride)) >= 0 and count <= len(storage)
    if not inside or (count and reach > len(storage)):
        raise ValueError(f"a tensor of shape {list(size)} reaches out of its storage of {len(storage)}")
    return storage.as_strided(size, stride, offset)


REBUILD = {
    ("torch._utils", "_rebuild_tensor_v2"): strided,
    ("torch._utils", "_rebuild_tensor"): strided,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
    ("torch._tensor", "_rebuild_from_type_v2"): lambda rebuild, kind, arguments, state: rebuild(*arguments),
    ("collections", "OrderedDict"): OrderedDict,
}


class Reader(pickle.Unpickler):
    """Unpickles tensors and plain containers; whatever else the pickle names is a :class:`StandIn`."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.stand_ins: dict[str, type] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for; nothing here does more than hold or shape data."""
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        if (module, name) in REBUILD:
            return REBUILD[module, name]
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        top = module.split(".")[0]
        harmless = top in HARMLESS or (module == "builtins" and _is_class(name))
        if top in sys.stdlib_module_names and not harmless:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which weights have no use for")
        full = f"{module}.{name}"
        return self.stand_ins.setdefault(full, type(name.split(".")[-1], (StandIn,), {}))


def _is_class(name: str) -> bool:
    """Of the builtins: classes, and ``getattr``, by which members of enums are pickled."""
    return isinstance(getattr(builtins, name, None), type) or name == "getattr"


class ArchiveReader(Reader):
    """Of a zip archive, as torch writes them since 1.6: ``data.pkl``, and a file for each storage."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.path = str(archive.filename)
        self.root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
        super().__init__(BytesIO(archive.read(f"{self.root}data.pkl")))
        self.archive = archive

    def persistent_load(self, pid: Any) -> Tensor:
        """A storage: one member of the archive, read when it is used, so that states of optimisers take no memory."""
        _, dtype, key, _, count = pid
        member = self.archive.getinfo(f"{self.root}data/{key}")
        if member.compress_type != zipfile.ZIP_STORED or not member.file_size:
            return _storage(self.archive.read(member), dtype, count, key)
        with open(self.path, "rb") as file:
            file.seek(member.header_offset + NAME_LENGTHS)
            begin = member.header_offset + LOCAL_HEADER + sum(struct.unpack("<HH", file.read(4)))
        raw = np.memmap(self.path, np.uint8, mode="c", offset=begin, shape=(member.file_size,))
        return _storage(raw, dtype, count, key)


class LegacyReader(Reader):
    """Of a file as torch wrote them before 1.6: the storages follow the pickle, and are filled afterwards."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.file = file
        self.storages: dict[str, Tensor] = {}

    def persistent_load(self, pid: Any) -> Any:
        """A storage that is not filled yet; a module that was pickled with its source is a stand-in."""
        if pid[0] != "storage":
            return pid[1]
        _, dtype, key, _, count, view = pid
        if view is not None:
            raise ValueError("it holds views of storages, as torch before 0.4 wrote them")
        return self.storages.setdefault(key, torch.empty(count, dtype=dtype))

    def fill(self) -> None:
        """Read the storages, in the order of the list of keys before them."""
        for key in Reader(self.file).load():
            storage = self.storages[key]
            count = int.from_bytes(self.file.read(8), "little")
            storage.copy_(_storage(self.file.read(count * storage.itemsize), storage.dtype, len(storage), key))


def _storage(raw: bytes | np.ndarray, dtype: torch.dtype, count: int, key: str) -> Tensor:
    if len(raw) != count * dtype.itemsize:
        raise ValueError(f"storage {key} has {len(raw)} bytes, not {count} of {dtype}")
    if isinstance(raw, np.ndarray):
        return torch.from_numpy(raw).view(dtype)
    return torch.frombuffer(bytearray(raw), dtype=dtype) if raw else torch.empty(0, dtype=dtype)


def verify_checksums(path: Path | str) -> None:
    """Raise zipfile.BadZipFile where a member of a zip archive is damaged, which nothing below would notice."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"wrong checksum (CRC) of {damaged}")


def read_pickled(path: Path) -> Any:
    """What a torch file holds, with a :class:`StandIn` for everything but tensors and plain containers.

    Raises:
        pickle.UnpicklingError: no torch file, or it names what weights have no use for.
        Exception: damaged; one of :data:`artune.models.weights.tensor_files.UNREADABLE`.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return ArchiveReader(archive).load()
    with open(path, "rb") as file:
        if Reader(file).load() != LEGACY_MAGIC:
            raise pickle.UnpicklingError("it is no file that torch.save wrote")
        _version, _system = (Reader(file).load() for _ in range(2))
        reader = LegacyReader(file)
        found = reader.load()
        reader.fill()
        return found
