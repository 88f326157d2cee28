"""The interface of an autoregressive policy to sampling and training."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from artune.models.policies.cache import Cache


class Policy(nn.Module, ABC):
    """An autoregressive transformer over image tokens; no method depends on ``train()`` or ``eval()``.

    Attributes:
        codebook_size: V, number of image tokens.
        classes: number of classes; ids run from 0 to ``classes - 1``.
        tokens: T, tokens in one image (a square grid in raster order).
        heads: attention heads.
        null_class: id of the unconditional class, None for a policy without one (no guidance possible).
        checkpointing: whether the backward pass recomputes the blocks, which saves memory and changes no number.
    """

    codebook_size: int
    classes: int
    tokens: int
    heads: int
    null_class: int | None
    checkpointing: bool = False

    @abstractmethod
    def forward(self, tokens: Tensor, class_ids: Tensor, dropout: float = 0.0) -> Tensor:
        """Teacher-forced: tokens [B, T], class ids [B] -> float32 logits [B, T, V]; row t predicts token t."""

    @property
    @abstractmethod
    def cache_shape(self) -> tuple[int, int, int]:
        """Layers, heads and head width of a cache for this policy."""

    @abstractmethod
    def start(self, class_ids: Tensor, length: int, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """Logits [B, V] of the first token, and the cache for ``length`` tokens (``cache``, if given)."""

    @abstractmethod
    def decode(self, token: Tensor, cache: Cache) -> Tensor:
        """Append the drawn token [B] to the cache; float32 logits [B, V] of the next one."""
