"""Reads a policy's weights from released files and this project's own, and writes them."""

from collections.abc import Mapping
from pathlib import Path

import torch

from artune.config.run import Backbone
from artune.config.yaml_layers import read_yaml_value
from artune.errors import ArtuneError
from artune.models.policies.build import build_policy
from artune.models.policies.llamagen import LlamaGen
from artune.models.policies.vqgan_gpt import VQGANGPT
from artune.models.weights.checkpoints import load_into, save_module
from artune.models.weights.tensor_files import read_metadata


def save_policy(path: Path | str, policy: LlamaGen | VQGANGPT, metadata: Mapping[str, str] | None = None) -> None:
    """Write a policy with :func:`save_module`.

    The metadata also record the numbers of tokens and heads, which the weights do not show.
    """
    save_module(path, policy, {"tokens": str(policy.tokens), "heads": str(policy.heads), **(metadata or {})})


def load_policy(backbone: Backbone, path: Path | str, device: torch.device | str = "cpu") -> LlamaGen | VQGANGPT:
    """The policy of ``path``, in float32.

    The number of heads is the one stored with the weights, otherwise ``backbone.heads``.

    Args:
        backbone: sizes of the policy.
        path: a file or a folder, of any layout that :func:`load_into` reads.
        device: device of the policy.

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
    """The number of heads in a file that :func:`save_policy` wrote; None for any other file."""
    ours = path.suffix == ".safetensors" and path.is_file()
    heads = read_metadata(path).get("heads") if ours else None
    try:
        return None if heads is None else int(heads)
    except (TypeError, ValueError, OverflowError) as error:
        raise ArtuneError(f"{path}: its header says {heads!r} heads, not a number; make it again") from error


def _heads_beside(path: Path) -> int | None:
    """The number of heads in the YAML file of a taming-transformers run; None if there is no such file.

    taming-transformers writes it as ``configs/*-project.yaml`` beside ``checkpoints/last.ckpt``.
    """
    folder = path if path.is_dir() else path.parent
    for place in (folder, folder / "configs", folder.parent / "configs"):
        for file in sorted(place.glob("*project.yaml")) or sorted(place.glob("*.yaml")):
            try:
                settings = read_yaml_value(file)
                return int(settings["model"]["params"]["transformer_config"]["params"]["n_head"])
            except (KeyError, TypeError):
                continue  # a YAML file without a transformer's settings
            except (ArtuneError, ValueError, OverflowError) as error:
                reason = str(error).removeprefix(f"{file}: ")
                raise ArtuneError(f"{file}: damaged ({reason}); fetch it again") from error
    return None
