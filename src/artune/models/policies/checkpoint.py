"""Weights of a policy: reading released files and our own, and writing them."""

from collections.abc import Mapping
from pathlib import Path

import torch
import yaml

from artune.config.run import Backbone
from artune.errors import ArtuneError
from artune.models.policies.build import build_policy
from artune.models.policies.llamagen import LlamaGen
from artune.models.policies.vqgan_gpt import VQGANGPT
from artune.models.weights.checkpoints import load_into, save_module
from artune.models.weights.tensor_files import read_metadata


def save_policy(path: Path | str, policy: LlamaGen | VQGANGPT, metadata: Mapping[str, str] | None = None) -> None:
    """As :func:`save_module`, and records the numbers of tokens and heads, which a policy's weights cannot tell."""
    save_module(path, policy, {"tokens": str(policy.tokens), "heads": str(policy.heads), **(metadata or {})})


def load_policy(backbone: Backbone, path: Path | str, device: torch.device | str = "cpu") -> LlamaGen | VQGANGPT:
    """The policy of ``path``, in float32; ``backbone.heads`` counts where nothing beside the weights does.

    Args:
        backbone: sizes of the policy.
        path: a file or a folder, of any layout that :func:`load_into` reads.
        device: where the policy is put.

    Raises:
        ArtuneError: as :func:`load_into`, or sizes that do not fit together.
    """
    heads = _stored_heads(Path(path))
    if heads is None and backbone.family == "vqgan":
        heads = _heads_beside(Path(path))
    policy = build_policy(backbone, heads=heads)
    load_into(policy, path)
    return policy.to(device)


def _stored_heads(path: Path) -> int | None:
    """The number of heads that a file of our own states."""
    ours = path.suffix == ".safetensors" and path.is_file()
    heads = read_metadata(path).get("heads") if ours else None
    return None if heads is None else int(heads)


def _heads_beside(path: Path) -> int | None:
    """The number of heads in the YAML that taming-transformers writes as ``configs/*-project.yaml`` beside
    ``checkpoints/last.ckpt``; None where there is none.
    """
    folder = path if path.is_dir() else path.parent
    for place in (folder, folder / "configs", folder.parent / "configs"):
        for file in sorted(place.glob("*project.yaml")) or sorted(place.glob("*.yaml")):
            try:
                settings = yaml.safe_load(file.read_text(encoding="utf-8"))
                return int(settings["model"]["params"]["transformer_config"]["params"]["n_head"])
            except (KeyError, TypeError):
                continue  # of something else
            except (yaml.YAMLError, ValueError, OSError) as error:
                raise ArtuneError(f"{file}: damaged ({str(error).splitlines()[0]}); fetch it again") from error
    return None
