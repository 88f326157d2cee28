"""The interface of an autoregressive policy to sampling and training."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from artune.errors import ArtuneError
from artune.models.policies.cache import Cache

SIZES = ("codebook_size", "classes", "tokens")  # attributes that are whole numbers of at least 1


class Policy(nn.Module, ABC):
    """An autoregressive model of image tokens; no method depends on ``train()`` or ``eval()``.

    A policy of one's own needs three sizes and :meth:`forward`. The steps of sampling, :meth:`start` and
    :meth:`decode`, are then forward passes over all tokens so far; a policy with a cache replaces them. A module that
    is no subclass will do as well, if it has the attributes without a default and the three methods.

    Attributes:
        codebook_size: V, number of image tokens.
        classes: number of classes; ids run from 0 to ``classes - 1``.
        tokens: T, tokens in one image (a square grid in raster order for the tokenizers here).
        heads: attention heads, which are stored with the weights (default 0: no matter).
        null_class: id of the unconditional class, None (default) for a policy without one (no guidance possible).
        checkpointing: whether the backward pass recomputes the blocks, which saves memory and changes no number.

    >>> class Bigram(artune.Policy):
    ...     codebook_size, classes, tokens = 8, 4, 9
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.table = torch.nn.Embedding(8 + 4, 8)
    ...     def forward(self, tokens, class_ids, dropout=0.0):  # logits [B, T, V]; row t sees what precedes token t
    ...         return self.table(torch.cat((8 + class_ids[:, None], tokens[:, :-1]), dim=1))
    >>> artune.generate(Bigram(), torch.tensor([0, 3])).shape
    torch.Size([2, 9])
    """

    codebook_size: int
    classes: int
    tokens: int
    heads: int = 0
    null_class: int | None = None
    checkpointing: bool = False

    @abstractmethod
    def forward(self, tokens: Tensor, class_ids: Tensor, dropout: float = 0.0) -> Tensor:
        """Teacher-forced: tokens [B, T], class ids [B] -> logits [B, T, V], at least float32; row t predicts token t.

        ``dropout`` is passed only where it is not 0.
        """

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """Layers, heads and head width of a cache for this policy; zeros where it has none, as here."""
        return 0, 0, 0

    @torch.no_grad()
    def start(self, class_ids: Tensor, length: int, cache: Cache | None = None) -> tuple[Tensor, Any]:
        """Logits [B, V] of the first token, and the cache for ``length`` tokens (``cache``, if given)."""
        prefix = Prefix(class_ids, class_ids.new_zeros(len(class_ids), 0))
        return prefix.logits(self), prefix

    @torch.no_grad()
    def decode(self, token: Tensor, cache: Any) -> Tensor:
        """Append the drawn token [B] to the cache; logits [B, V] of the next one."""
        cache.tokens = torch.cat((cache.tokens, token[:, None]), dim=1)
        return cache.logits(self)


class Prefix:
    """What a policy without a cache has drawn so far: class ids [B] and tokens [B, t]."""

    def __init__(self, class_ids: Tensor, tokens: Tensor):
        self.class_ids, self.tokens = class_ids, tokens

    def logits(self, policy: nn.Module) -> Tensor:
        """Logits [B, V] of the next token."""
        unknown = self.tokens.new_zeros(len(self.tokens), 1)  # in the place of the token that is predicted
        return policy(torch.cat((self.tokens, unknown), dim=1), self.class_ids)[:, -1]


def caches(policy: nn.Module) -> bool:
    """Whether a policy decodes with keys and values of its own, whose steps a GPU can record."""
    return any(getattr(policy, "cache_shape", (0, 0, 0)))


def parallel(policy: nn.Module, tokens: Tensor, class_ids: Tensor, dropout: float = 0.0) -> Tensor:
    """The policy's teacher-forced logits [B, T, V]; a policy without dropout need not accept a rate."""
    return policy(tokens, class_ids, dropout) if dropout else policy(tokens, class_ids)


def check_policy(policy: nn.Module, needed: Iterable[str] = ("forward", "start", "decode")) -> None:
    """Check that a module has what :class:`Policy` asks for.

    Raises:
        ArtuneError: names the first attribute or method that is missing or has no sensible value.
    """
    kind = type(policy).__name__
    if not isinstance(policy, nn.Module):
        raise ArtuneError(f"policy: {kind} is not a torch.nn.Module; derive it from artune.Policy")
    for name in SIZES:
        value = getattr(policy, name, None)
        if not isinstance(value, int) or value < 1:
            raise ArtuneError(f"policy: {kind}.{name} is {value!r}; give a whole number of at least 1")
    for name in needed:
        if not callable(getattr(policy, name, None)):
            raise ArtuneError(f"policy: {kind} has no method {name}; derive it from artune.Policy, which supplies it")
    if not hasattr(policy, "null_class"):
        raise ArtuneError(f"policy: {kind} has no null_class; set it to None, or to the id of the unconditional class")
