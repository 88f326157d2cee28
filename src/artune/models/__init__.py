"""Policies: autoregressive transformers over image tokens, conditioned on a class."""

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from artune.errors import ArtuneError
from artune.models.cache import Cache
from artune.models.llamagen import LlamaGen
from artune.models.vqgan_gpt import VQGANGPT

if TYPE_CHECKING:
    from artune.config.run import Backbone


class Policy(Protocol):
    """What sampling and training ask of a model; nothing here depends on ``train()`` or ``eval()``.

    Attributes:
        codebook_size: V, number of image tokens.
        classes: number of classes; ids run from 0 to ``classes - 1``.
        tokens: T, tokens in one image (a square grid in raster order).
        null_class: id of the unconditional class, None for a policy without one (no guidance possible).
        checkpointing: compute the blocks again in the backward pass, which saves memory and changes no number.
    """

    codebook_size: int
    classes: int
    tokens: int
    null_class: int | None
    checkpointing: bool

    def forward(self, tokens: Tensor, class_ids: Tensor, dropout: float = 0.0) -> Tensor:
        """Teacher forced: tokens [B, T], class ids [B] -> float32 logits [B, T, V]; row t is of token t."""
        ...

    def __call__(self, tokens: Tensor, class_ids: Tensor, dropout: float = 0.0) -> Tensor:
        """The same, through the module's hooks."""
        ...

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """Layers, heads and head width that a cache of this policy has room for."""
        ...

    def start(self, class_ids: Tensor, length: int, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """Logits [B, V] of the first token, and a cache (``cache``, if given) to draw ``length`` tokens with."""
        ...

    def decode(self, token: Tensor, cache: Cache) -> Tensor:
        """Append the drawn token [B] to the cache; float32 logits [B, V] of the next one."""
        ...


def build_policy(
    config: "Backbone", generator: torch.Generator | None = None, heads: int | None = None
) -> LlamaGen | VQGANGPT:
    """A freshly initialised policy of ``config.family``, in float32 on the CPU.

    Args:
        config: the backbone.
        generator: CPU generator of the initial weights; None draws from the global one.
        heads: in place of the backbone's, where a checkpoint says how many it has.

    Raises:
        ArtuneError: an unknown family, or sizes that do not fit together.
    """
    sizes = {name: getattr(config, name) for name in ("dim", "layers", "heads", "codebook_size", "classes", "tokens")}
    sizes["heads"] = heads or sizes["heads"]
    builders = {
        "llamagen": lambda: LlamaGen(**sizes, ffn_multiple_of=config.ffn_multiple_of, generator=generator),
        "vqgan": lambda: VQGANGPT(**sizes, generator=generator),
    }
    if config.family not in builders:
        raise ArtuneError(f"backbone family {config.family!r} is unknown; choose from {', '.join(builders)}")
    return builders[config.family]()
