"""Imports released tokenizers, policies and networks: reads each one and writes it as safetensors.

``stamp`` is what the check of the asset wrote; a file that is not the checked one is refused.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from artune.config.registry import Registry
from artune.config.run import Backbone, Network, Tokenizer
from artune.data.stamps import reading, source_path

if TYPE_CHECKING:
    import torch


def import_tokenizer(
    registry: Registry, tokenizer: Tokenizer, folder: Path, output: Path, stamp: Path | None = None
) -> str:
    """Read a released tokenizer and write it as safetensors."""
    from artune.models.tokenizers.build import load_tokenizer
    from artune.models.weights.checkpoints import save_module

    with reading(source_path(registry, tokenizer.checkpoint, folder, stamp)) as path:
        loaded = load_tokenizer(path, tokenizer, registry.data.image_size)
    save_module(output, loaded, {"source": path.name})
    return f"{output}: from {path.name}"


def import_policy(registry: Registry, backbone: Backbone, folder: Path, output: Path, stamp: Path | None = None) -> str:
    """Read a released policy and write it as safetensors."""
    from artune.models.policies.checkpoint import load_policy, save_policy

    with reading(source_path(registry, backbone.checkpoint, folder, stamp)) as path:
        policy = load_policy(path, backbone)
    save_policy(output, policy, {"source": path.name})
    return f"{output}: from {path.name}"


def import_network(
    registry: Registry,
    network: Network,
    folder: Path,
    output: Path,
    device: "torch.device",
    stamp: Path | None = None,
) -> str:
    """Read a released network and write it as safetensors."""
    from artune.models.encoders.build import load_network
    from artune.models.weights.checkpoints import save_module

    with reading(source_path(registry, network.checkpoint, folder, stamp)) as path:
        loaded = load_network(path, network, registry.data, device)
    save_module(output, loaded, {"source": path.name})
    return f"{output}: from {path.name}"
