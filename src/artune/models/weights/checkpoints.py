"""Reads and writes weights: this project's safetensors files, and the layouts of all released files.

Readable are safetensors (whole or in shards) and torch files, inside a wrapper ``model``, ``module`` or ``state_dict``
or without one, and the folder of a transformers model, of a taming-transformers run or with a ``consolidated.pth``.
No code that a file names is ever run.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from artune.errors import ArtuneError
from artune.models.weights.tensor_files import listing, plain_name, read_tensors
from artune.runtime.files import replacing

# Prefixes of the models inside one file: the first two are AR-GRPO's, the next two are taming-transformers'.
PARTS = ("gpt_model.", "vq_model.", "transformer.", "first_stage_model.", "model.")
OTHER_MODELS = "ref_model."  # the frozen reference policy inside AR-GRPO's step checkpoints
# Buffers and statistics that the modules here recompute or do not need, the mask token, which only DINOv2's training
# used, and losses that were saved with a first stage.
UNUSED = r"freqs_cis|causal_mask|kv_cache\..*|attn\.mask|quantize\.codebook_used|mask_token"
IGNORED = re.compile(rf"(^|\.)({UNUSED})$|^loss\.")
# Entries that a file may lack, because evaluation does not use them; old files do not have them.
OPTIONAL = re.compile(r"(^|\.)num_batches_tracked$")

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)  # of counters and masks
AT_ONCE = 2**22  # numbers that are checked at a time

POLICY_LAYER = re.compile(r"(?:layers|blocks)\.(\d+)\.")
TOKEN_TABLES = ("tok_embeddings.weight", "tok_emb.weight")


def save_module(path: Path | str, module: nn.Module, metadata: Mapping[str, str] | None = None) -> None:
    """Write the state of ``module`` to a safetensors file atomically, with ``metadata`` in the file's header.

    Raises:
        ArtuneError: the file cannot be written.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    try:
        with replacing(path) as temporary:
            # One key only: safetensors writes several keys in random order, but equal weights must give equal bytes.
            save_file(state, temporary, metadata={"artune": json.dumps(metadata or {}, sort_keys=True)})
    except safetensors.SafetensorError as error:
        raise ArtuneError(f"{path}: cannot be written ({error}); check the space on the disk") from error


def load_into(module: nn.Module, path: Path | str, in_place: bool = False) -> None:
    """Load a released or saved checkpoint into ``module``, keeping the module's dtype and device.

    If the file holds several models (a policy and its tokenizer, or a frozen reference), the part with this module's
    parameter names is loaded.

    Args:
        module: module to fill; its parameter names are the official ones.
        path: a file or a folder.
        in_place: make the file's tensors the module's own instead of copying them, so that one network's size of memory
            is enough. On a CPU they remain mapped from the file, which may be replaced but not rewritten meanwhile.

    Raises:
        ArtuneError: the path is missing or damaged, or its tensors are not exactly the module's; the message lists
            missing, unexpected and misshapen keys, and weights that are NaN, infinite, too large for the module's
            dtype or of one that is not read.
    """
    path = Path(path)
    wanted = module.state_dict()
    tensors = _select(read_tensors(path), wanted)
    if problems := _misfits(tensors, wanted):
        theirs, ours = _policy_size(tensors), _policy_size(wanted)
        sizes = f"the file has {theirs}, the model {ours}; " if theirs and ours and theirs != ours else ""
        raise ArtuneError(f"{path}: does not fit this {type(module).__name__}; {sizes}{'; '.join(problems)}")
    if in_place:
        tensors = {name: found.to(wanted[name].device, wanted[name].dtype) for name, found in tensors.items()}
    module.load_state_dict(tensors, strict=False, assign=in_place)  # _misfits has compared the keys


def _misfits(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Reasons why a file cannot be loaded and what to do, one entry per kind."""
    both = [(name, tensors[name], tensor) for name, tensor in wanted.items() if name in tensors]
    kinds = {
        "missing": [name for name in wanted if name not in tensors and not OPTIONAL.search(name)],
        "unexpected": [name for name in tensors if name not in wanted],
        "misshapen": [
            f"{name} (file {list(found.shape)}, model {list(tensor.shape)})"
            for name, found, tensor in both
            if _plain(found) and found.shape != tensor.shape
        ],
    }
    found = [f"{kind} {listing(names)}" for kind, names in kinds.items() if names]
    advice = ["check the sizes in the configuration or the file"] * bool(found)
    return [*found, *advice, *unusable(tensors, wanted)]


def unusable(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Reasons why values of a file cannot become those of a module and what to do, one entry per kind.

    Values are looked at only where the shape is the module's: another may claim far more than the file holds. Float8,
    quantised, complex, Boolean and integer weights are refused: their scales, if any, lie elsewhere in the file, so
    that a cast would give other weights without a word. So are sparse and nested tensors and ones without values.
    """
    both = {name: (tensors[name], tensor) for name, tensor in wanted.items() if name in tensors}
    unread = {
        name: f"{name} (file {_kind(found)})"
        for name, (found, tensor) in both.items()
        if not _plain(found) or (found.dtype in FLOATS) != (tensor.dtype in FLOATS)
    }
    infinite, too_large = [], []
    for name, (found, tensor) in both.items():
        if name in unread or found.dtype not in FLOATS or found.shape != tensor.shape:
            continue
        if not _finite(found):
            infinite.append(name)
        elif torch.finfo(found.dtype).max > torch.finfo(tensor.dtype).max and not _finite(found, tensor.dtype):
            too_large.append(f"{name} ({str(tensor.dtype).removeprefix('torch.')})")
    return [
        f"{what}: {listing(names)}; {advice}"
        for what, names, advice in (
            ("weights of a type that is not read", unread.values(), "save them as float32, float16 or bfloat16"),
            ("NaN or infinite", infinite, "get the file that its authors released"),
            ("too large for the model's type", too_large, "get the file that its authors released"),
        )
        if names
    ]


def _plain(tensor: Tensor) -> bool:
    """Whether a tensor is a dense array of a dtype that is read, with its values in memory."""
    dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_nested
    return dense and tensor.dtype in (*FLOATS, *INTEGERS)


def _kind(tensor: Tensor) -> str:
    """Dtype of a tensor and, where it is not a dense array in memory, what it is instead."""
    names = {torch.sparse_coo: "sparse", torch.sparse_csr: "sparse"}
    place = "without values" if tensor.device.type != "cpu" else names.get(tensor.layout, "")
    place = "nested" if tensor.is_nested else place
    return f"{str(tensor.dtype).removeprefix('torch.')} {place}".strip()


def _finite(tensor: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Whether no number is NaN or infinite, as it is or in ``dtype``; in parts, since isfinite needs a copy of each."""
    return all(bool(part.to(dtype or part.dtype).isfinite().all()) for part in tensor.reshape(-1).split(AT_ONCE))


def _select(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a file that belongs to a module, without ignorable entries."""
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(OTHER_MODELS)}

    def part(prefix: str) -> dict[str, Tensor]:
        names = (name for name in own if name.startswith(prefix))
        return {plain_name(name[len(prefix) :]): own[name] for name in names}

    if wanted.keys().isdisjoint(own):
        own = max((part(prefix) for prefix in PARTS), key=lambda found: len(wanted.keys() & found.keys())) or own
    return {name: tensor for name, tensor in own.items() if name in wanted or not IGNORED.search(name)}


def _policy_size(tensors: Mapping[str, Tensor]) -> str | None:
    """Layers and width of a policy's weights, which identify its size; None for other weights."""
    layers = {found[1] for found in map(POLICY_LAYER.match, tensors) if found}
    tables = [tensors[name] for name in TOKEN_TABLES if name in tensors and not tensors[name].is_nested]
    return f"{len(layers)} layers of width {tables[0].shape[-1]}" if layers and tables and tables[0].ndim else None
