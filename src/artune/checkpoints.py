"""Weights in and out: our own safetensors files, and every layout in which others release theirs.

Read: safetensors (whole or in shards) and torch files; the wrappers ``model``, ``module``, ``state_dict`` or
none; a folder of a transformers model, of a taming-transformers run or with a ``consolidated.pth``. No code
that a file names is ever run.
"""

import argparse
import json
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from artune.errors import ArtuneError
from artune.files import read_json, replacing

if TYPE_CHECKING:
    from artune.models import Policy

# In the order of LlamaGen's sampler; the moving average that lies beside them is never what was evaluated.
WRAPPERS = ("model", "module", "state_dict")
PARTS = ("gpt_model.", "vq_model.", "transformer.", "first_stage_model.")  # AR-GRPO, AR-GRPO, taming, taming
OTHER_MODELS = "ref_model."  # the frozen reference policy inside AR-GRPO's step checkpoints
# Buffers and statistics that the modules here recompute or do without, what only DINOv2's training used, and losses
# saved with a first stage.
UNUSED = r"freqs_cis|causal_mask|kv_cache\..*|attn\.mask|quantize\.codebook_used|mask_token"
IGNORED = re.compile(rf"(^|\.)({UNUSED})$|^loss\.")
FOLDER_FILES = ("model.safetensors", "consolidated.pth", "checkpoints/last.ckpt", "pytorch_model.bin")
SHARD_INDEX = "model.safetensors.index.json"
# What reading a torch file can raise when its bytes are not what they should be.
UNPICKLING_ERRORS = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
)
LISTED = 6  # keys of one kind that an error message spells out


def save_module(path: Path | str, module: nn.Module, metadata: Mapping[str, str] | None = None) -> None:
    """Write the state of ``module`` as safetensors in one step, with ``metadata`` in the file's header.

    Raises:
        ArtuneError: the file cannot be written.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    try:
        with replacing(path) as temporary:
            # One key: safetensors writes several in random order, and equal weights should be equal bytes.
            save_file(state, temporary, metadata={"artune": json.dumps(metadata or {}, sort_keys=True)})
    except safetensors.SafetensorError as error:
        raise ArtuneError(f"{path}: cannot be written ({error}); check the space on the disk") from error


def save_policy(path: Path | str, policy: "Policy", metadata: Mapping[str, str] | None = None) -> None:
    """As :func:`save_module`, and records the number of tokens, which a policy's weights cannot tell."""
    save_module(path, policy, {"tokens": str(policy.tokens), **(metadata or {})})


def read_metadata(path: Path | str) -> dict[str, str]:
    """What :func:`save_module` wrote into the header of a safetensors file; empty for a file of another's.

    Raises:
        ArtuneError: the file is missing, truncated or no safetensors file.
    """
    _exists(Path(path))
    try:
        with safetensors.safe_open(path, framework="pt") as archive:
            return json.loads((archive.metadata() or {}).get("artune", "{}"))
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(Path(path), error) from error


def load_into(module: nn.Module, path: Path | str) -> None:
    """Load a released or saved checkpoint into ``module``, keeping the module's dtype and device.

    Of a file with several models in it (a policy and its tokenizer, a frozen reference), the part that has
    this module's names is taken.

    Args:
        module: its parameter names are the official ones.
        path: a file or a folder.

    Raises:
        ArtuneError: the path is missing or damaged, or its tensors are not exactly the module's; the one line
            lists missing, unexpected and misshapen keys.
    """
    path = Path(path)
    wanted = module.state_dict()
    tensors = _select(read_tensors(path), wanted)
    missing = [name for name in wanted if name not in tensors]
    unexpected = [name for name in tensors if name not in wanted]
    misshapen = [
        f"{name} (file {list(tensors[name].shape)}, model {list(tensor.shape)})"
        for name, tensor in wanted.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
    problems = [f"{kind} {_listing(names)}" for kind, names in kinds if names]
    if problems:
        raise ArtuneError(
            f"{path}: does not fit this {type(module).__name__}; {'; '.join(problems)}; "
            "check the sizes in the configuration or the file"
        )
    module.load_state_dict(tensors)


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
    for wrapper in (*WRAPPERS, *WRAPPERS):  # a wrapper may hold another
        if isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    tensors = {_plain(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ArtuneError(f"{path}: holds no weights (found {_listing(map(str, loaded)) or 'nothing'}); check the file")
    return tensors


def _select(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a file that belongs to a module, without ignorable entries."""
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(OTHER_MODELS)}

    def part(prefix: str) -> dict[str, Tensor]:
        names = (name for name in own if name.startswith(prefix))
        return {_plain(name[len(prefix) :]): own[name] for name in names}

    if wanted.keys().isdisjoint(own):
        own = max((part(prefix) for prefix in PARTS), key=lambda found: len(wanted.keys() & found.keys())) or own
    return {name: tensor for name, tensor in own.items() if name in wanted or not IGNORED.search(name)}


def _plain(name: str) -> str:
    """A parameter's name without what torch.compile and data parallelism add to it."""
    name = name.replace("_orig_mod.", "")
    while name.startswith("module."):
        name = name.removeprefix("module.")
    return name


def _file_in(folder: Path) -> Path:
    state_type = folder / "state_type.txt"
    if state_type.exists() and state_type.read_text(encoding="utf-8").strip() != "full":
        raise ArtuneError(f"{state_type}: the checkpoint was saved in pieces; save it with the full state")
    for name in (SHARD_INDEX, *FOLDER_FILES):
        if (folder / name).is_file():
            return folder / name
    weights = [p for p in sorted(folder.iterdir()) if p.suffix in (".safetensors", ".pt", ".pth", ".ckpt", ".bin")]
    if len(weights) != 1:
        found = f"{len(weights)} weight files" if weights else "no weight file"
        raise ArtuneError(f"{folder}: has {found} and none of {SHARD_INDEX}, {', '.join(FOLDER_FILES)}; name the file")
    return weights[0]


def _read_shards(index: Path) -> dict[str, Any]:
    listing = read_json(index)
    places = listing.get("weight_map") if isinstance(listing, dict) else None
    if not isinstance(places, dict) or not places:
        raise ArtuneError(f"{index}: has no weight_map; download it again")
    tensors: dict[str, Any] = {}
    for name in sorted(set(places.values())):
        _exists(index.parent / name)
        tensors |= _read_file(index.parent / name)
    absent = sorted(set(places) - set(tensors))
    if absent:
        raise ArtuneError(f"{index}: its shards lack {_listing(absent)}; download them again")
    return tensors


def _read_file(path: Path) -> Mapping[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _verify_checksums(path)
        loaded = _load_torch(path)
    except (safetensors.SafetensorError, zipfile.BadZipFile, OSError, *UNPICKLING_ERRORS) as error:
        raise _damaged(path, error) from error
    if not isinstance(loaded, Mapping):
        raise ArtuneError(f"{path}: holds a {type(loaded).__name__}, not a state dict; check the file")
    return loaded


def _verify_checksums(path: Path) -> None:
    """Torch files are zip archives; ``torch.load`` does not look at their checksums."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")


def _load_torch(path: Path) -> Any:
    """``torch.load(weights_only=True)``; other classes in the file become inert stand-ins, never code."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        if not foreign:
            raise
    stand_ins = [(type("StandIn", (_StandIn,), {}), name) for name in foreign if name != "argparse.Namespace"]
    with torch.serialization.safe_globals([argparse.Namespace, *stand_ins]):
        return torch.load(path, map_location="cpu", weights_only=True)


class _StandIn(dict):
    """Takes the place of an object that travels with the weights, such as a Lightning callback."""

    __hash__ = object.__hash__

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """What the object held is dropped: it is never rebuilt."""


def _exists(path: Path) -> None:
    if not path.exists():
        raise ArtuneError(f"{path}: no such file or folder; check the path, or fetch the asset first")


def _damaged(path: Path, error: Exception) -> ArtuneError:
    detail = str(error).strip().split("\n")[0].split(". ")[0]  # torch adds paragraphs of advice
    reason = f"{type(error).__name__}: {detail}" if detail else type(error).__name__
    return ArtuneError(f"{path}: truncated, damaged or not a checkpoint ({reason}); fetch or make it again")


def _listing(names: Iterable[str]) -> str:
    names = list(names)
    rest = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + rest
