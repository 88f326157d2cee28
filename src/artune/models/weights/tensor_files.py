"""Reads the tensors of every container of weights: safetensors and torch files, shards and folders.

No code that a file names is ever run.
"""

import argparse
import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from artune.errors import ArtuneError, no_such_file
from artune.models.weights.pickles import StandIn, read_pickled, verify_checksums
from artune.runtime.files import read_json
from artune.runtime.outside.regular import require_regular

# Keys of a state dict inside a file, in the order of LlamaGen's sampler. The moving average in the same file is not
# listed, because it was never the model that was evaluated.
WRAPPERS = ("model", "module", "state_dict")
TRAINING_PREFIXES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
SHARD_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
FOLDER_FILES = ("model.safetensors", "consolidated.pth", "checkpoints/last.ckpt", "last.ckpt", "pytorch_model.bin")
DEPTH = 8  # wrappers inside one another that are opened at most
# Exceptions that reading a damaged torch file can raise.
UNREADABLE = (
    safetensors.SafetensorError, zipfile.BadZipFile, pickle.UnpicklingError, OSError, RuntimeError, EOFError,
    LookupError, ValueError, TypeError, AttributeError, ArithmeticError, AssertionError, MemoryError, StopIteration,
    struct.error,
)  # fmt: skip
MOST_HEADER = 2**24  # bytes; a tensor takes about 100, and in memory many times as much
LISTED = 8  # keys of one kind that an error message lists at most


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """All tensors of a file or folder by name, on the CPU, without wrappers and training prefixes.

    Raises:
        ArtuneError: the path is missing or damaged, or holds no state dict.
    """
    path = Path(path)
    _exists(path)
    if path.is_dir():
        path = _file_in(path)
    loaded = _read_shards(path) if path.name.endswith(".index.json") else _read_file(path)
    for _ in range(DEPTH):  # a wrapper may hold another
        inner = [loaded[wrapper] for wrapper in WRAPPERS if _is_mapping(loaded.get(wrapper))]
        loaded = inner[0] if inner else loaded
    tensors = {plain_name(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if not tensors:
        found = listing(f"{name}: {type(value).__name__}" for name, value in loaded.items())
        raise ArtuneError(f"{path}: holds no weights (found {found or 'nothing'}); check the file")
    return tensors


def read_metadata(path: Path | str) -> dict[str, str]:
    """Metadata that :func:`artune.models.weights.checkpoints.save_module` wrote; empty for other safetensors files.

    Raises:
        ArtuneError: the file is missing, truncated or not a safetensors file.
    """
    _exists(Path(path))
    try:
        _check_header(Path(path))
        with safetensors.safe_open(path, framework="pt") as archive:
            found = json.loads((archive.metadata() or {}).get("artune", "{}"))
        if not isinstance(found, dict):
            raise ValueError("the metadata in its header is not a mapping")
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError) as error:
        raise _damaged(Path(path), error) from error
    return found


def plain_name(name: str) -> str:
    """A parameter's name without the prefixes of torch.compile and data parallelism."""
    for prefix in TRAINING_PREFIXES:
        name = name.replace(prefix, "")
    while name.startswith("module."):
        name = name.removeprefix("module.")
    return name


def _file_in(folder: Path) -> Path:
    state_type = folder / "state_type.txt"
    if state_type.exists() and state_type.read_text(encoding="utf-8").strip() != "full":
        raise ArtuneError(f"{state_type}: the checkpoint was saved in pieces; save it with the full state")
    for name in (*SHARD_INDICES, *FOLDER_FILES):
        if (folder / name).is_file():
            return folder / name
    weights = [p for p in sorted(folder.iterdir()) if p.suffix in (".safetensors", ".pt", ".pth", ".ckpt", ".bin")]
    if len(weights) != 1:
        found = f"{len(weights)} weight files" if weights else "no weight file"
        raise ArtuneError(
            f"{folder}: has {found} and none of {', '.join((*SHARD_INDICES, *FOLDER_FILES))}; name the file"
        )
    return weights[0]


def _read_shards(index: Path) -> dict[str, Any]:
    found = read_json(index)
    places = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(places, dict) or not places:
        raise ArtuneError(f"{index}: has no weight_map; download it again")
    tensors: dict[str, Any] = {}
    for shard in sorted(set(map(str, places.values()))):
        _exists(index.parent / shard)
        own = _read_file(index.parent / shard)
        tensors |= {name: own[name] for name, place in places.items() if place == shard and name in own}
    absent = sorted(set(places) - set(tensors))
    if absent:
        raise ArtuneError(f"{index}: its shards lack {listing(absent)}; download them again")
    return tensors


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and not isinstance(value, StandIn)


def _read_file(path: Path) -> Mapping[str, Any]:
    try:
        if path.suffix == ".safetensors":
            _check_header(path)
            return load_file(path)
        verify_checksums(path)
        loaded = _load_torch(path)
    except UNREADABLE as error:
        raise _damaged(path, error) from error
    if not _is_mapping(loaded):
        raise ArtuneError(f"{path}: holds a {type(loaded).__name__}, not a state dict; check the file")
    return loaded


def _load_torch(path: Path) -> Any:
    """The content of a torch file: plain weights through torch, other files by :func:`read_pickled`."""
    if _is_tar(path):
        raise ArtuneError(f"{path}: a tar archive, not a checkpoint; unpack it, or save it again with a newer torch")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on a pickle protocol that read_pickled accepts
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, AttributeError):  # the latter on float8 in the format before 1.6
        return read_pickled(path)


def _is_tar(path: Path) -> bool:
    """Whether a file has the mark of a tar archive, which torch wrote before its version 0.1.10."""
    with open(path, "rb") as file:
        return file.read(262)[257:] == b"ustar"


def _check_header(path: Path) -> None:
    """Raise ValueError if the header of a safetensors file is larger than that of any model."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > MOST_HEADER:
        raise ValueError(f"it claims a header of {size:,} bytes")


def _exists(path: Path) -> None:
    if not path.exists():
        raise no_such_file(path, "check the path, or fetch the asset first")
    if not path.is_dir():
        require_regular(path)


def _damaged(path: Path, error: Exception) -> ArtuneError:
    detail = str(error).strip().split("\n")[0].split(". ")[0]  # torch adds paragraphs of advice
    reason = f"{type(error).__name__}: {detail}" if detail else type(error).__name__
    return ArtuneError(f"{path}: truncated, damaged or not a checkpoint ({reason}); fetch or make it again")


def listing(names: Iterable[str]) -> str:
    """The first names and the number of the others, as text."""
    names = list(names)
    rest = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + rest
