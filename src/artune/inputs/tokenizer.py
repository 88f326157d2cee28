"""Trains a tokenizer at a scale without released weights."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artune.config.run import Tokenizer
from artune.data.embedded import load_split
from artune.data.pixels import to_pixels
from artune.errors import ArtuneError
from artune.inputs.fit import fit
from artune.models.tokenizers.build import build_tokenizer
from artune.models.weights.checkpoints import save_module
from artune.runtime.seeds import draw_indices, generator_for, seed_for

DECAY = 0.97  # decay of the running counts and sums from which the codes are computed
DEAD = 0.05  # share of the mean count; a code with a smaller count is replaced by a latent of the batch
COMMITMENT = 0.25  # weight of the loss that pulls latents towards their codes; the codes follow as running means
RESTART_UNTIL = 0.8  # share of the steps in which codes may be replaced; afterwards the codes settle


class RunningCodebook:
    """Codes as running means of the latents nearest to them; a code that is hardly used restarts as a latent.

    It changes ``tokenizer.quantize.embedding.weight`` in place, so that the checkpoint keeps the official names.
    """

    def __init__(self, codebook: nn.Module, generator: torch.Generator):
        self.codebook, self.generator = codebook, generator
        self.weight = codebook.embedding.weight.requires_grad_(False)
        self.counts = torch.zeros(len(self.weight))
        self.sums = torch.zeros_like(self.weight)
        self.ready = False

    @torch.no_grad()
    def update(self, latents: Tensor, restart: bool) -> None:
        """Update the codes with the latents [B, dim, h, w] of a batch; ``restart`` also replaces unused codes."""
        flat = latents.movedim(1, -1).flatten(0, -2)
        if not self.ready:
            self._place(torch.arange(len(self.weight)), flat)
            self.counts.fill_(len(flat) / len(self.weight))
            self.sums.copy_(self.weight * self.counts[:, None])
            self.ready = True
        chosen = F.one_hot(self.codebook.nearest(latents).flatten(), len(self.weight)).to(flat.dtype)
        self.counts.lerp_(chosen.sum(0), 1 - DECAY)
        self.sums.lerp_(chosen.T @ flat, 1 - DECAY)
        self.weight.copy_(self.codebook.project(self.sums / self.counts.clamp(min=1e-4)[:, None], -1))
        dead = torch.nonzero(self.counts < DEAD * self.counts.mean()).flatten()
        if restart and len(dead):
            self._place(dead, flat)
            self.counts[dead] = self.counts.mean()
            self.sums[dead] = self.weight[dead] * self.counts[dead, None]

    def _place(self, codes: Tensor, flat: Tensor) -> None:
        self.weight[codes] = flat[draw_indices(len(codes), len(flat), self.generator)]


def train_tokenizer(tokenizer: Tokenizer, data_path: Path | str, out_path: Path | str, seed: int) -> str:
    """Train a tokenizer on the training split and write its weights.

    Args:
        tokenizer: sizes and ``train``.
        data_path: npz file that :func:`artune.data.embedded.write_data` wrote.
        out_path: safetensors file to write.
        seed: seed of the initial weights and the batches.

    Returns:
        One line with the validation PSNR and the share of codes in use.

    Raises:
        ArtuneError: no ``train`` settings, a loss that is not finite, or a damaged data file.
    """
    if tokenizer.train is None:
        raise ArtuneError("tokenizers: train is missing; this tokenizer is loaded, not trained")
    images, _ = load_split(data_path, "train")
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(seed, "tokenizer", tokenizer.family))
        module = build_tokenizer(tokenizer, image_size=images.shape[-1])
    generator = generator_for(seed, "tokenizer batches", tokenizer.family)
    codebook = RunningCodebook(module.quantize, generator)
    settings = tokenizer.train

    def loss(step: int) -> tuple[Tensor, str]:
        batch = to_pixels(images[draw_indices(settings.batch, len(images), generator)])
        latents = module.latents(batch)
        codebook.update(latents.detach(), restart=step < RESTART_UNTIL * settings.steps)
        codes = module.quantize.look_up(module.quantize.nearest(latents.detach()))
        straight_through = latents + (codes - latents).detach()
        error = F.mse_loss(module.decoder(module.post_quant_conv(straight_through)), batch)
        return error + COMMITMENT * F.mse_loss(latents, codes), f"PSNR {psnr(error.item()):.1f} dB"

    # Not fused: other rounding gives other codes, which changes everything trained on them more than another seed does.
    fit(f"tokenizer {tokenizer.family}", module.parameters(), settings, loss, fused=False)
    module.requires_grad_(False).eval()
    save_module(out_path, module)
    validation, _ = load_split(data_path, "validation")
    return (
        f"tokenizer {tokenizer.family}  validation PSNR {reconstruction_psnr(module, validation):.2f} dB, "
        f"{used_codes(module, images)} of {tokenizer.codebook_size} codes used"
    )


@torch.no_grad()
def used_codes(tokenizer: nn.Module, images: Tensor, batch: int = 200) -> int:
    """Number of different codes in the tokens of uint8 images [N, 3, H, W]; it stops where all codes have been seen."""
    seen = torch.zeros(tokenizer.codebook_size, dtype=torch.bool)
    for part in images.split(batch):
        seen[tokenizer.encode(to_pixels(part)).flatten()] = True
        if seen.all():
            break
    return int(seen.sum())


def psnr(mean_squared_error: float) -> float:
    """Decibels of a mean squared error on [-1, 1] pixels, whose peak-to-peak range is 2."""
    return (10.0 * torch.log10(torch.tensor(4.0 / max(mean_squared_error, 1e-12)))).item()


@torch.no_grad()
def reconstruction_psnr(tokenizer: nn.Module, images: Tensor, batch: int = 200) -> float:
    """PSNR in dB of the decoded tokens of uint8 images [N, 3, H, W], clamped to [-1, 1]."""
    squares = [
        (tokenizer.decode(tokenizer.encode(to_pixels(part))).clamp(-1, 1) - to_pixels(part)).square().mean((1, 2, 3))
        for part in images.split(batch)
    ]
    return psnr(torch.cat(squares).mean().item())
