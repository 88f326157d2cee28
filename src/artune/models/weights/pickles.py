"""Reads torch files without running anything that they name.

``torch.load(weights_only=True)`` accepts plain weights in pickles of protocol 2. It refuses the other objects that a
training saves with its weights (callbacks, settings, optimisers, NumPy scalars), newer protocols and TorchScript
archives. This module reads the tensors of such files: every other object becomes an inert stand-in, and a name that
only an attack would need is an error.
"""

import builtins
import math
import pickle
import pickletools
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

from artune.runtime.outside.zips import open_zip

STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "UntypedStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
# Standard modules that settings and callbacks consist of; no other standard module belongs in a file of weights.
HARMLESS = {
    "_codecs", "abc", "argparse", "collections", "copyreg", "dataclasses", "datetime", "decimal", "enum", "fractions",
    "functools", "logging", "numbers", "operator", "pathlib", "random", "re", "string", "types", "typing", "uuid",
    "weakref",
}  # fmt: skip
# Bytes in the fixed part of a zip member's header, and the offset in it of the lengths of the variable part.
LOCAL_HEADER, NAME_LENGTHS = 30, 26
SPARE = 10_000  # by which an index of a pickle's objects may be ahead of their number
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first object in a file that torch wrote before 1.6


class StandIn(dict):
    """Replaces an object, a class or a function that was saved with the weights; it holds nothing and does nothing."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # unlike a dict, it may be a key

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Drop the state: the object is never rebuilt."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Drop the item."""

    def extend(self, items: Any) -> None:
        """Drop the items."""

    append = add = extend


def strided(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """A tensor as a view of its storage. Raises ValueError if the view would reach beyond the storage."""
    if not isinstance(storage, Tensor):
        raise ValueError("a tensor has its storage inside it, which pickle writes but torch.save does not")
    reach = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) + 1
    count: int = math.prod(size)
    inside = min((offset, *size, *stride)) >= 0 and count <= len(storage)
    if not inside or (count and reach > len(storage)):
        raise ValueError(f"a tensor of shape {list(size)} reaches beyond its storage of {len(storage)}")
    return storage.as_strided(size, stride, offset)


def strided_as(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], _grad: bool, _hooks: Any,
    dtype: torch.dtype, *_: Any,
) -> Tensor:  # fmt: skip
    """As :func:`strided`, for a dtype without a storage class of its own, such as float8: the storage holds bytes."""
    if not isinstance(storage, Tensor) or not isinstance(dtype, torch.dtype):
        raise ValueError("a tensor has no storage of bytes or no dtype")
    return strided(storage.view(dtype), offset, size, stride)


REBUILD = {
    ("torch._utils", "_rebuild_tensor_v3"): strided_as,
    ("torch._utils", "_rebuild_tensor_v2"): strided,
    ("torch._utils", "_rebuild_tensor"): strided,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
    ("torch._tensor", "_rebuild_from_type_v2"): lambda rebuild, kind, arguments, state: rebuild(*arguments),
    ("collections", "OrderedDict"): OrderedDict,
}


class Reader(pickle.Unpickler):
    """Unpickles tensors and plain containers; everything else that the pickle names becomes a :class:`StandIn`."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.source = file
        self.stand_ins: dict[str, type] = {}

    def load(self) -> Any:
        """The next pickle of the file. Raises pickle.UnpicklingError if its table of objects would fill the memory."""
        begin = self.source.tell()
        for number, (code, argument, _) in enumerate(pickletools.genops(self.source)):
            # Python makes the table as long as the largest index asks for; a pickler counts the objects one by one.
            if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(str(argument)) <= number + SPARE:
                raise pickle.UnpicklingError(f"object {argument} is named before there are so many")
        self.source.seek(begin)
        return super().load()

    def find_class(self, module: str, name: str) -> Any:
        """The object for a name in the pickle; all such objects only hold or reshape data."""
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        if (module, name) in REBUILD:
            return REBUILD[module, name]
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        top = module.split(".")[0]
        harmless = top in HARMLESS or (module == "builtins" and _is_class(name))
        if top in sys.stdlib_module_names and not harmless:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which a file of weights does not need")
        full = f"{module}.{name}"
        return self.stand_ins.setdefault(full, type(name.split(".")[-1], (StandIn,), {}))


def _is_class(name: str) -> bool:
    """Whether ``name`` is a built-in class, or ``getattr``, with which members of enums are pickled."""
    return isinstance(getattr(builtins, name, None), type) or name == "getattr"


class ArchiveReader(Reader):
    """Reads the zip archives that torch writes since 1.6: ``data.pkl``, and one file per storage."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.path = str(archive.filename)
        self.root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
        super().__init__(BytesIO(archive.read(f"{self.root}data.pkl")))
        self.archive = archive

    def persistent_load(self, pid: Any) -> Tensor:
        """A storage, one member of the archive; it is read only when used, so that optimiser states take no memory."""
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
    """Reads the files that torch wrote before 1.6: the storages follow the pickle and are filled afterwards."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.file = file
        self.storages: dict[str, Tensor] = {}

    def persistent_load(self, pid: Any) -> Any:
        """A storage that is not filled yet; for a module that was pickled with its source, a stand-in."""
        if pid[0] != "storage":
            return pid[1]
        _, dtype, key, _, count, view = pid
        if view is not None:
            raise ValueError("it holds views of storages, as torch before 0.4 wrote them")
        return self.storages.setdefault(key, torch.empty(count, dtype=dtype))

    def fill(self) -> None:
        """Read the storages, whose order is given by the list of keys before them."""
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
    """Raise zipfile.BadZipFile if a member of a zip archive is damaged, which the readers do not notice, or unpacks to
    far more than the file (:func:`open_zip`).
    """
    if zipfile.is_zipfile(path):
        with open_zip(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"wrong checksum (CRC) of {damaged}")


def read_pickled(path: Path) -> Any:
    """The content of a torch file, with a :class:`StandIn` for everything but tensors and plain containers.

    Raises:
        pickle.UnpicklingError: the file is not a torch file, or names something that weights do not need.
        Exception: the file is damaged; one of :data:`artune.models.weights.tensor_files.UNREADABLE`.
    """
    if zipfile.is_zipfile(path):
        with open_zip(path) as archive:
            return ArchiveReader(archive).load()
    with open(path, "rb") as file:
        if Reader(file).load() != LEGACY_MAGIC:
            raise pickle.UnpicklingError("it is not a file that torch.save wrote")
        _version, _system = (Reader(file).load() for _ in range(2))
        reader = LegacyReader(file)
        found = reader.load()
        reader.fill()
        return found
