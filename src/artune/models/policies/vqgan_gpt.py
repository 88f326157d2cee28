"""The class-conditional transformer of taming-transformers' VQGAN (Esser et al., 2021), a minGPT.

Parameter names and shapes are those of the official ``transformer.*`` weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artune.errors import ArtuneError
from artune.models.policies.attention import kernels
from artune.models.policies.cache import Cache, KVCache
from artune.models.policies.llamagen import drop, run_block
from artune.models.policies.policy import Policy
from artune.models.precision import wide


class Attention(nn.Module):
    """Causal self-attention with separate projections, all with biases."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.key = nn.Linear(dim, dim)
        self.query = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, cache: Cache | None = None, layer: int = 0) -> Tensor:
        """[B, S, dim] -> [B, S, dim]; with a cache, S is 1 and all cached positions are attended to."""
        query, key, value = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for linear in (self.query, self.key, self.value)
        )
        if cache is None:
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            mixed = cache.attend(layer, query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm transformer block; the feed-forward layer is 4 ``dim`` wide, with an exact GELU."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(dim)
        self.ln2 = nn.LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, dropout: float = 0.0, cache: Cache | None = None, layer: int = 0) -> Tensor:
        """[B, S, dim] -> [B, S, dim]."""
        x = x + drop(self.attn(self.ln1(x), cache, layer), dropout)
        return x + drop(self.mlp(self.ln2(x)), dropout)


class VQGANGPT(Policy):
    """minGPT over VQGAN tokens.

    The class id is looked up in the table of image tokens. No null class was ever trained, so this model has no
    guidance (``null_class`` is None).

    Args:
        dim: model width.
        layers: number of blocks.
        heads: attention heads.
        codebook_size: V, at least ``classes``.
        classes: number of classes.
        tokens: T, number of learned positions.
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
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ArtuneError(f"backbone dim {dim} must be a multiple of heads ({heads})")
        if classes > codebook_size:
            raise ArtuneError(f"backbone classes {classes} share the token table of {codebook_size} entries; use fewer")
        self.dim, self.heads, self.codebook_size = dim, heads, codebook_size
        self.classes, self.tokens, self.null_class = classes, tokens, None
        self.tok_emb = nn.Embedding(codebook_size, dim)
        self.pos_emb = nn.Parameter(torch.zeros(1, tokens, dim))
        self.blocks = nn.Sequential(*(Block(dim, heads) for _ in range(layers)))
        self.ln_f = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, codebook_size, bias=False)
        self._initialise(generator)

    def _initialise(self, generator: torch.Generator | None) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02, generator=generator)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, class_ids: Tensor, dropout: float = 0.0) -> Tensor:
        """Teacher-forced logits.

        Args:
            tokens: [B, S] image tokens in raster order, S <= T.
            class_ids: [B], 0 to ``classes - 1``.
            dropout: rate after the embeddings and on the outputs of attention and feed-forward layers; 0 is off.

        Returns:
            Logits [B, S, V], at least float32; position t sees the class and the tokens before t, and predicts token t.
        """
        inputs = torch.cat((class_ids[:, None], tokens[:, :-1]), dim=1)
        x = drop(self.tok_emb(inputs) + self.pos_emb[:, : inputs.shape[1]], dropout)
        with kernels("training", x.device):
            for block in self.blocks:
                x = run_block(block, x, dropout, checkpointing=self.checkpointing)
        return wide(self.head(self.ln_f(x)))

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """Layers, heads and head width of a cache for this policy."""
        return len(self.blocks), self.heads, self.dim // self.heads

    @torch.no_grad()
    def start(self, class_ids: Tensor, length: int, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """Float32 logits [B, V] of the first token given classes [B], and a cache for ``length`` tokens.

        If an empty ``cache`` is given, it is filled in place of a new one.
        """
        if cache is None:
            layers, heads, width = self.cache_shape
            cache = KVCache.allocate(layers, (len(class_ids), heads, length, width), like=self.tok_emb.weight)
        return self.decode(class_ids, cache), cache

    @torch.no_grad()
    def decode(self, token: Tensor, cache: Cache) -> Tensor:
        """Float32 logits [B, V] of the token after ``token`` [B]. Raises ValueError if the cache is full."""
        x = self.tok_emb(token)[:, None] + cache.begin(self.pos_emb[0])
        with kernels(cache.use, x.device):
            for index, block in enumerate(self.blocks):
                x = block(x, cache=cache, layer=index)
        cache.advance()
        return wide(self.head(self.ln_f(x[:, -1])))
