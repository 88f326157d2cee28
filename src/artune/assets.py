"""Files from outside: found by name under ``data/assets``, checked, and imported into the project's own layout."""

from pathlib import Path

import torch

from artune.checkpoints import load_into, save_module, save_policy
from artune.config import Backbone, Network, Tokenizer
from artune.encoders import load_network
from artune.errors import ArtuneError
from artune.files import sha256, write_json
from artune.models import build_policy
from artune.registry import Registry
from artune.tokenizers import build_tokenizer


def asset_path(registry: Registry, key: str | None, folder: Path) -> Path:
    """Where the asset ``key`` lies.

    Raises:
        ArtuneError: the asset is unknown, or not there; the line says where to get it and where to put it.
    """
    if key not in registry.assets:
        raise ArtuneError(
            f"config/assets.yaml: unknown asset {key!r}; known are {', '.join(registry.assets)}"
        )
    asset = registry.assets[key]
    path = folder / asset.file
    if not path.exists():
        raise ArtuneError(
            f"asset {key}: not there; get {asset.file} from {asset.source} and put it at {path}"
        )
    return path


def check_asset(registry: Registry, key: str, folder: Path, output: Path) -> str:
    """Check that an asset is there and has the published digest; write its size and digest to ``output``.

    Raises:
        ArtuneError: it is missing, or its digest is not the published one.
    """
    path = asset_path(registry, key, folder)
    digest, published = sha256(path), registry.assets[key].sha256
    if published is not None and digest != published:
        raise ArtuneError(f"asset {key}: {path} has sha256 {digest}, not {published}; fetch it again")
    write_json(output, {"asset": key, "path": str(path), "bytes": path.stat().st_size, "sha256": digest})
    return f"{path}: sha256 {digest[:16]}{'' if published else ' (none is published)'}"


def import_tokenizer(registry: Registry, tokenizer: Tokenizer, folder: Path, output: Path) -> str:
    """Read a released tokenizer and write it as safetensors."""
    path = asset_path(registry, tokenizer.checkpoint, folder)
    module = build_tokenizer(tokenizer, image_size=registry.data.image_size)
    load_into(module, path)
    save_module(output, module, {"source": path.name})
    return f"{output}: from {path.name}"


def import_policy(registry: Registry, backbone: Backbone, folder: Path, output: Path) -> str:
    """Read a released policy and write it as safetensors."""
    path = asset_path(registry, backbone.checkpoint, folder)
    policy = build_policy(backbone)
    load_into(policy, path)
    save_policy(output, policy, {"source": path.name})
    return f"{output}: from {path.name}"


def import_network(
    registry: Registry, network: Network, folder: Path, output: Path, device: torch.device
) -> str:
    """Read a released network and write it as safetensors."""
    path = asset_path(registry, network.checkpoint, folder)
    save_module(output, load_network(path, network, registry.data, device), {"source": path.name})
    return f"{output}: from {path.name}"
