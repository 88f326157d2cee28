"""LlamaGen, class-conditional: a Llama-style transformer over image tokens (Sun et al., 2024).

Parameter names and shapes are those of the official files, so these load at any size. No layer has a bias.
"""

import functools
import math
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from artune.config.sizes import feed_forward_width
from artune.errors import ArtuneError
from artune.models.policies.attention import kernels
from artune.models.policies.cache import Cache, KVCache
from artune.models.policies.policy import Policy
from artune.models.precision import wide

ROTARY_BASE = 10000.0
NORM_EPS = 1e-5


@functools.lru_cache(maxsize=32)
@torch.inference_mode(False)  # a table first computed while sampling must also work in training
def rotary_table(side: int, head_dim: int, device: torch.device) -> Tensor:
    """Rotations cos + i sin of two-dimensional rotary embedding, complex64 [1 + side * side, head_dim / 2].

    The first half of the angles turns with the row of an image token, the second with its column. Row 0 of the
    table, for the class token, is zero and not the identity: its query and key vanish in every layer.
    """
    frequencies = ROTARY_BASE ** (-torch.arange(0, head_dim // 2, 2, device=device).float() / (head_dim // 2))
    angles = torch.arange(side, device=device)[:, None] * frequencies
    grid = torch.cat((angles[:, None].expand(-1, side, -1), angles[None].expand(side, -1, -1)), dim=-1).flatten(0, 1)
    return torch.cat((grid.new_zeros(1, head_dim // 2, dtype=torch.complex64), torch.polar(grid.new_ones(()), grid)))


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate the interleaved channel pairs (2i, 2i + 1) of [..., head_dim], at least in float32; it keeps the dtype."""
    pairs = torch.view_as_complex(wide(x).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation).flatten(-2).type_as(x)


def drop(x: Tensor, rate: float) -> Tensor:
    """Dropout that is active whenever ``rate`` is positive, in training and evaluation mode alike."""
    return F.dropout(x, rate, training=True) if rate > 0 else x


def run_block(block: nn.Module, x: Tensor, *arguments: object, checkpointing: bool) -> Tensor:
    """``block(x, ...)``; with ``checkpointing`` the backward pass recomputes its activations instead of keeping them.

    All numbers are the same, including dropout's masks. Without gradients no activations are kept in either case.
    """
    if checkpointing and torch.is_grad_enabled():
        # The recomputation runs outside of the forward pass, but must take the same attention kernels.
        same = functools.partial(_recomputing, x.device)
        return checkpoint(block, x, *arguments, use_reentrant=False, context_fn=same)
    return block(x, *arguments)


def _recomputing(device: torch.device) -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
    """Contexts of a checkpointed block's forward pass, which runs in its caller's, and of its recomputation."""
    return nullcontext(), kernels("training", device)


class RMSNorm(nn.Module):
    """Root-mean-square norm, at least in float32, cast back before the weight is applied."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]."""
        return F.rms_norm(wide(x), self.weight.shape, eps=NORM_EPS).type_as(x) * self.weight


class Attention(nn.Module):
    """Causal self-attention with rotary queries and keys."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.wqkv = nn.Linear(dim, 3 * dim, bias=False)
        self.wo = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, rotation: Tensor, cache: Cache | None = None, layer: int = 0) -> Tensor:
        """[B, S, dim] -> [B, S, dim]; with a cache, S is 1 and all cached positions are attended to."""
        batch, length, dim = x.shape
        qkv = self.wqkv(x).view(batch, length, 3, self.heads, -1)
        query, key = (part.transpose(1, 2) for part in rotate(qkv[:, :, :2], rotation).unbind(2))
        value = qkv[:, :, 2].transpose(1, 2)
        if cache is None:
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            mixed = cache.attend(layer, query, key, value)
        return self.wo(mixed.transpose(1, 2).reshape(batch, length, dim))


class FeedForward(nn.Module):
    """The gated feed-forward layer, w2(silu(w1 x) * w3 x)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, hidden, bias=False)
        self.w3 = nn.Linear(dim, hidden, bias=False)
        self.w2 = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]."""
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = Attention(dim, heads)
        self.feed_forward = FeedForward(dim, hidden)
        self.attention_norm = RMSNorm(dim)
        self.ffn_norm = RMSNorm(dim)

    def forward(
        self, x: Tensor, rotation: Tensor, dropout: float = 0.0, cache: Cache | None = None, layer: int = 0
    ) -> Tensor:
        """[B, S, dim] -> [B, S, dim]."""
        x = x + drop(self.attention(self.attention_norm(x), rotation, cache, layer), dropout)
        return x + drop(self.feed_forward(self.ffn_norm(x)), dropout)


class ClassEmbedding(nn.Module):
    """Class vectors; the last row is the null class of classifier-free guidance."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, dim)

    def forward(self, class_ids: Tensor) -> Tensor:
        """[B] -> [B, 1, dim]."""
        return self.embedding_table(class_ids)[:, None]


class LlamaGen(Policy):
    """Class-conditional LlamaGen.

    Labels are used as given: the training loop applies the class dropout of pre-training, so that two calls never
    give different log-probabilities for one sequence.

    Args:
        dim: model width.
        layers: number of blocks.
        heads: attention heads; ``dim / heads`` must be a multiple of 4.
        codebook_size: V.
        classes: number of classes without the null class.
        tokens: T, the square of the grid's side. No weight depends on it: one file serves every resolution.
        ffn_multiple_of: the feed-forward width is rounded up to a multiple of this (official files: 256).
        generator: CPU generator of the initial weights; None draws from the global one.

    Raises:
        ArtuneError: sizes that do not fit together.
    """

    def __init__(
        self,
        *,
        dim: int,
        layers: int,
        heads: int,
        codebook_size: int,
        classes: int,
        tokens: int,
        ffn_multiple_of: int = 256,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if dim % (4 * heads):
            raise ArtuneError(f"backbone dim {dim} must be a multiple of 4 x heads ({heads}) for 2-D rotary embedding")
        self.side = math.isqrt(tokens)
        if self.side**2 != tokens:
            raise ArtuneError(f"backbone tokens {tokens} must be the square of the grid's side")
        self.dim, self.heads, self.codebook_size = dim, heads, codebook_size
        self.classes, self.tokens, self.null_class = classes, tokens, classes
        self.cls_embedding = ClassEmbedding(classes, dim)
        self.tok_embeddings = nn.Embedding(codebook_size, dim)
        hidden = feed_forward_width(dim, ffn_multiple_of)
        self.layers = nn.ModuleList(Block(dim, heads, hidden) for _ in range(layers))
        self.norm = RMSNorm(dim)
        self.output = nn.Linear(dim, codebook_size, bias=False)
        self._initialise(generator)

    def _initialise(self, generator: torch.Generator | None) -> None:
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02, generator=generator)
        nn.init.zeros_(self.output.weight)

    def _rotation(self, device: torch.device) -> Tensor:
        return rotary_table(self.side, self.dim // self.heads, device)[:, None, None]

    def forward(self, tokens: Tensor, class_ids: Tensor, dropout: float = 0.0) -> Tensor:
        """Teacher-forced logits.

        Args:
            tokens: [B, S] image tokens in raster order, S <= T.
            class_ids: [B], 0 to ``classes`` (the null class).
            dropout: rate after the embeddings and on the outputs of attention and feed-forward layers; 0 is off.

        Returns:
            Logits [B, S, V], at least float32; position t sees the class and the tokens before t, and predicts token t.
        """
        x = torch.cat((self.cls_embedding(class_ids), self.tok_embeddings(tokens[:, :-1])), dim=1)
        x = drop(x, dropout)
        rotation = self._rotation(x.device)[: x.shape[1]]
        with kernels("training", x.device):
            for block in self.layers:
                x = run_block(block, x, rotation, dropout, checkpointing=self.checkpointing)
        return wide(self.output(self.norm(x)))

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """Layers, heads and head width of a cache for this policy."""
        return len(self.layers), self.heads, self.dim // self.heads

    @torch.no_grad()
    def start(self, class_ids: Tensor, length: int, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """Float32 logits [B, V] of the first token given classes [B], and a cache for ``length`` tokens.

        If an empty ``cache`` is given, it is filled in place of a new one.
        """
        x = self.cls_embedding(class_ids)
        if cache is None:
            layers, heads, width = self.cache_shape
            cache = KVCache.allocate(layers, (len(class_ids), heads, length, width), like=x)
        return self._step(x, cache), cache

    @torch.no_grad()
    def decode(self, token: Tensor, cache: Cache) -> Tensor:
        """Float32 logits [B, V] of the token after ``token`` [B]. Raises ValueError if the cache is full."""
        return self._step(self.tok_embeddings(token)[:, None], cache)

    def _step(self, x: Tensor, cache: Cache) -> Tensor:
        rotation = cache.begin(self._rotation(x.device))
        with kernels(cache.use, x.device):
            for index, block in enumerate(self.layers):
                x = block(x, rotation, cache=cache, layer=index)
        cache.advance()
        return wide(self.output(self.norm(x[:, -1])))
