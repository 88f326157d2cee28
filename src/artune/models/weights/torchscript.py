"""Reads the weights of a TorchScript archive, the format in which OpenAI released CLIP, without running its code.

``torch.jit.load`` compiles and may run the program inside an archive, and ``torch.load(weights_only=True)`` refuses
archives. This module ignores the program: it takes only names and tensors from the pickled module, and refuses any
class or function that plain weights do not need.
"""

import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from artune.errors import ArtuneError
from artune.models.weights.checkpoints import unusable
from artune.models.weights.pickles import REBUILD, STORAGES, ArchiveReader, verify_checksums
from artune.models.weights.tensor_files import UNREADABLE
from artune.runtime.outside.zips import open_zip

# Sizes that OpenAI stored among the weights, and the causal mask, which every CLIP computes itself.
SETTINGS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
DEPTH = 32  # largest depth of modules inside modules


def is_torchscript(path: Path | str) -> bool:
    """Whether ``path`` is a TorchScript archive."""
    if not Path(path).is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        archive = open_zip(path)
    except zipfile.BadZipFile:
        return False  # the reader of other files says why
    with archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path | str) -> dict[str, Tensor]:
    """Parameters and buffers of an archive by name, on the CPU, in the dtypes of the file.

    Raises:
        ArtuneError: the archive is damaged, holds no weights, or names anything other than modules and tensors.
    """
    try:
        verify_checksums(path)
        with open_zip(path) as archive:
            tensors = dict(_named(_Reader(archive).load()))
    except UNREADABLE as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise ArtuneError(f"{path}: truncated, damaged or not only weights ({detail}); fetch it again") from error
    if not tensors:
        raise ArtuneError(f"{path}: holds no weights; check the file")
    return {name: tensor for name, tensor in tensors.items() if name.split(".")[-1] not in SETTINGS}


def load_torchscript(module: nn.Module, path: Path | str) -> None:
    """Load the weights of an archive into ``module``, keeping the module's dtype and device.

    Raises:
        ArtuneError: as :func:`read_torchscript`, the names and shapes are not exactly the module's, or weights are
            NaN, infinite, too large for the module's dtype or of one that is not read.
    """
    tensors, wanted = read_torchscript(path), module.state_dict()
    if problems := unusable(tensors, wanted):
        raise ArtuneError(f"{path}: {'; '.join(problems)}")
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:  # torch lists every key on a line of its own
        detail = " ".join(str(error).split())
        raise ArtuneError(f"{path}: {detail[:300]}; check the architecture in config/networks.yaml") from error


class _Part:
    """Replaces a module of the archive, whatever its class; it holds the attributes and no code."""

    def __init__(self, *args: Any) -> None:
        self.slots: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.slots = state if isinstance(state, dict) else {}


class _Reader(ArchiveReader):
    def find_class(self, module: str, name: str) -> Any:
        """The object for a name in the pickle; stricter than in the base class, as archives need few names."""
        if module.split(".")[0] == "__torch__":
            return _Part
        if (module, name) in REBUILD:
            return REBUILD[module, name]
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return list
        raise pickle.UnpicklingError(f"it names {module}.{name}, which a file of weights does not need")


def _named(part: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a module and of the modules in it, by dotted name."""
    if depth > DEPTH:
        raise ValueError(f"modules are nested more than {DEPTH} deep")
    for name, value in getattr(part, "slots", {}).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Part):
            yield from _named(value, f"{prefix}{name}.", depth + 1)
