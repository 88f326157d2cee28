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
    """Write a policy as safetensors, whole or not at all.

    Args:
        path: the file to write.
        policy: the policy, in any floating type; :func:`load_policy` reads it back.
        metadata: further texts for the file's header, which also records the numbers of tokens and heads, as the
            weights do not show them.

    Raises:
        ArtuneError: the file cannot be written.

    >>> policy = artune.LlamaGen(dim=16, layers=1, heads=2, codebook_size=8, classes=4, tokens=9, ffn_multiple_of=8)
    >>> artune.save_policy("policy.safetensors", policy)
    >>> sizes = dict(dim=16, layers=1, heads=1, codebook_size=8, classes=4, tokens=9, ffn_multiple_of=8)
    >>> artune.load_policy("policy.safetensors", artune.Backbone(family="llamagen", tokenizer="vq", **sizes)).heads
    2
    """
    save_module(path, policy, {"tokens": str(policy.tokens), "heads": str(policy.heads), **(metadata or {})})


def load_policy(path: Path | str, backbone: Backbone, device: torch.device | str = "cpu") -> LlamaGen | VQGANGPT:
    """The policy of ``path``, in float32 and with gradients.

    The number of heads is the one stored with the weights, otherwise ``backbone.heads``.

    Args:
        path: a file or a folder: LlamaGen's, taming-transformers', AR-GRPO's or this project's own, of any layout that
            :func:`~artune.models.weights.checkpoints.load_into` reads. No code that a file names is run.
        backbone: sizes of the policy.
        device: device of the policy.

    Returns:
        A policy whose call maps tokens [B, T] and class ids [B] to logits [B, T, V].

    Raises:
        ArtuneError: the path is missing or damaged, its weights are not finite or of other sizes than ``backbone``, or
            sizes do not fit together.

    >>> sizes = dict(dim=16, layers=1, heads=2, codebook_size=8, classes=4, tokens=9, ffn_multiple_of=8)
    >>> policy = artune.load_policy("llamagen.pt", artune.Backbone(family="llamagen", tokenizer="vq", **sizes))
    >>> tokens = artune.generate(policy, torch.tensor([0, 3]), artune.Sampling(cfg=1.5))
    >>> print(policy(tokens, torch.tensor([0, 3])).shape)
    torch.Size([2, 9, 8])
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
