"""Layers of MANIQA: attention between channels, and Swin stages. Parameter names are those of the KonIQ checkpoint."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE = 0.8  # weight of the Swin layers' residual branch; belongs to the KonIQ checkpoint, which does not store it


class TransposedAttention(nn.Module):
    """Attention between channels, over all positions."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.c_q, self.c_k, self.c_v = (nn.Linear(tokens, tokens) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, N] -> [B, C, N]."""
        affinity = self.c_q(x) @ self.c_k(x).transpose(1, 2) * x.shape[2] ** -0.5
        y = affinity.softmax(dim=-1) @ self.c_v(x)
        # The checkpoint was trained with y scrambled: transposed, then reshaped instead of transposed back.
        return x + y.transpose(1, 2).reshape(x.shape)


class SwinStage(nn.Module):
    """Two layers of shifted-window attention.

    Args:
        width: D.
        heads: attention heads.
        hidden: width inside the MLPs.
        side: patches per side of the grid.
        window: patches per side of a window; divides ``side``.
    """

    def __init__(self, width: int, heads: int, hidden: int, side: int, window: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(SwinLayer(width, heads, hidden, side, window) for _ in range(2))
        self.downsample = nn.Conv2d(width, width, 3, stride=2, padding=1)  # never called, but in the checkpoint

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, H, W] -> [B, D, H, W]."""
        for layer in self.layers:
            x = x + SCALE * layer(x)
        return x


class SwinLayer(nn.Module):
    """A plain and a shifted block, a convolution and a ReLU."""

    def __init__(self, width: int, heads: int, hidden: int, side: int, window: int) -> None:
        super().__init__()
        shifts = (0, window // 2)
        self.blocks = nn.ModuleList(SwinBlock(width, heads, hidden, side, window, shift) for shift in shifts)
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, H, W] -> [B, D, H, W]."""
        x = x.permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x)
        return F.relu(self.conv(x.permute(0, 3, 1, 2)))


class SwinBlock(nn.Module):
    """Attention inside windows of a grid that may be rolled, then an MLP; a layer norm precedes each."""

    def __init__(self, width: int, heads: int, hidden: int, side: int, window: int, shift: int) -> None:
        super().__init__()
        self.shift, self.window = shift, window
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        parts = {"fc1": nn.Linear(width, hidden), "act": nn.GELU(), "fc2": nn.Linear(hidden, width)}
        self.mlp = nn.Sequential(OrderedDict(parts))
        self.register_buffer("attn_mask", shift_mask(side, window, shift) if shift else None)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, D] -> [B, H, W, D]."""
        batch, side = x.shape[0], x.shape[1]
        rolled = torch.roll(self.norm1(x), (-self.shift, -self.shift), dims=(1, 2))
        seen = from_windows(self.attn(to_windows(rolled, self.window), self.attn_mask), batch, side)
        x = x + torch.roll(seen, (self.shift, self.shift), dims=(1, 2))
        return x + self.mlp(self.norm2(x))


class WindowAttention(nn.Module):
    """Multi-head attention among the patches of a window, with a learned bias for each relative position."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_positions(window))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """[B * windows, window^2, D] and a mask [windows, window^2, window^2] -> the shape of x."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        logits = logits + self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        if mask is not None:
            logits = (logits.unflatten(0, (-1, len(mask))) + mask[:, None]).flatten(0, 1)
        return self.proj((logits.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))


def to_windows(x: Tensor, window: int) -> Tensor:
    """[B, H, W, D] -> [B * windows, window^2, D], images outermost, windows and patches row by row."""
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def from_windows(x: Tensor, batch: int, side: int) -> Tensor:
    """Inverse of :func:`to_windows` for a square grid."""
    window = round(x.shape[1] ** 0.5)
    x = x.unflatten(1, (window, window)).unflatten(0, (batch, side // window, side // window))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def relative_positions(window: int) -> Tensor:
    """Row of the bias table for each query and key of a window, int64 [window^2, window^2]."""
    rows, columns = torch.arange(window**2) // window, torch.arange(window**2) % window
    down, right = rows[:, None] - rows, columns[:, None] - columns
    return (down + window - 1) * (2 * window - 1) + right + window - 1


def shift_mask(side: int, window: int, shift: int) -> Tensor:
    """Mask float32 [windows, window^2, window^2]: -100 between patches that only the roll put together, otherwise 0."""
    position = torch.arange(side)
    band = (position >= side - window).long() + (position >= side - shift).long()
    region = to_windows((3 * band[:, None] + band)[None, :, :, None], window).squeeze(-1)
    return torch.where(region[:, :, None] == region[:, None, :], 0.0, -100.0)
