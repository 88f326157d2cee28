"""Saved training states: the last two are kept, and a torn or altered one is recognised by the digest in its name."""

import hashlib
import io
import pickle
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from artune import fence
from artune.files import replacing

KEEP = 2
# What torch.load raises when the bytes are not what they should be.
BAD_BYTES = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
)


def save_state(folder: Path, iteration: int, state: dict[str, Any]) -> Path:
    """Write ``state`` (tensors, numbers, strings) of ``iteration`` finished iterations; older than two are removed."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    path = folder / f"state-{iteration:06d}-{hashlib.sha256(data).hexdigest()[:16]}.pt"
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    for old in sorted(folder.glob("state-*.pt"))[:-KEEP]:
        old.unlink(missing_ok=True)
    return path


def load_state(folder: Path, config: str) -> tuple[int, dict[str, Any]] | None:
    """The newest intact state that was saved under the same ``config`` text, with its iteration; else None."""
    for path in sorted(folder.glob("state-*.pt"), reverse=True):
        _, iteration, digest = path.stem.split("-")
        data = path.read_bytes()
        state = _read(data) if hashlib.sha256(data).hexdigest()[:16] == digest else None
        if state is None:
            warnings.warn(f"{path}: torn or altered, the state before it is used", stacklevel=2)
            path.unlink()
        elif state.get("config") == config:
            return int(iteration), state
    return None


def _read(data: bytes) -> dict[str, Any] | None:
    """The state in ``data``; None if it is none, or holds what would have to run code."""
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except BAD_BYTES:
        return None
    return state if isinstance(state, dict) else None


def clear_states(folder: Path) -> None:
    """Remove every saved state: those of other settings would crowd out the new ones."""
    paths = list(folder.glob("state-*.pt"))
    fence.check()  # after the look: a successor's are not among them
    for path in paths:
        path.unlink(missing_ok=True)


def on_cpu(state: Any) -> Any:
    """A copy of nested state whose tensors later updates cannot reach."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: on_cpu(value) for key, value in state.items()}
    return [on_cpu(value) for value in state] if isinstance(state, list) else state
