"""The samples of an iteration: class prompts, token sequences, images."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from artune.config.run import PolicyRun
from artune.config.sizes import decoded_size
from artune.data.pixels import resize, to_uint8
from artune.models.tokenizers.build import load_tokenizer
from artune.models.tokenizers.conv_tokenizer import ConvTokenizer
from artune.runtime.distributed import Share
from artune.sampling.batch import RolloutBatch
from artune.sampling.generate import Sampler

Renderer = Callable[[Tensor], Tensor]
DECODED = 2**21  # pixels decoded at once: 32 images of 256 x 256, whose activations take about 4 GB


def draw_prompts(classes: int, prompts: int, group_size: int, how: str, generator: torch.Generator) -> Tensor:
    """Class ids of an iteration, each repeated G times: [prompts * group_size] (App. D; open choice 5)."""
    if how == "distinct":
        chosen = torch.randperm(classes, generator=generator, device=generator.device)[:prompts]
    else:
        chosen = torch.randint(classes, (prompts,), generator=generator, device=generator.device)
    return chosen.repeat_interleave(group_size)


def make_renderer(
    tokenizer: ConvTokenizer,
    side: int,
    image_size: int,
    uint8_rule: str = "llamagen",
    dtype: torch.dtype = torch.float32,
    channels_last: bool | None = None,
) -> Renderer:
    """The function tokens [B, T] -> images uint8 [B, 3, H, W]: decode, resize to the data set's size, round.

    Args:
        tokenizer: the tokenizer; its decoder is cast to ``dtype`` and laid out in memory in place.
        side: side of a decoded image in pixels.
        image_size: side of the returned images in pixels.
        uint8_rule: how floats become levels, see :func:`artune.data.pixels.to_uint8`.
        dtype: type of the decoder.
        channels_last: whether the decoder's channels are last in memory; None: in half precision only. In float32
            without TF32 convolutions are slower so, and CUDA's GroupNorm converts from and to channels first.
    """
    last = dtype != torch.float32 if channels_last is None else channels_last
    tokenizer.decoder.to(dtype, memory_format=torch.channels_last if last else torch.contiguous_format)
    batch = min(max(DECODED // side**2, 1), 256)

    @torch.no_grad()
    def render(tokens: Tensor) -> Tensor:
        parts = [resize(tokenizer.decode(part), image_size) for part in tokens.split(batch)]
        return to_uint8(torch.cat(parts), rule=uint8_rule)

    return render


@torch.no_grad()
def roll_out(
    sampler: Sampler,
    render: Renderer,
    class_ids: Tensor,
    generator: torch.Generator,
    share: Share | None = None,
) -> RolloutBatch:
    """Sample and decode one sequence per class id (Alg. 1, lines 1-5).

    Args:
        sampler: draws the tokens.
        render: decodes them.
        class_ids: [B] int64.
        generator: generator of the draws.
        share: rows of these samples in a larger batch; None for a batch of its own.
    """
    tokens = sampler(class_ids, generator, share=share)
    return RolloutBatch(class_ids, tokens, render(tokens), 0 if share is None else share.start)


def load_renderer(
    run: PolicyRun, path: Path | str, device: torch.device, dtype: torch.dtype = torch.float32
) -> Renderer:
    """The run's decoder from tokens to images, with the weights of ``path``; the evaluation decodes in float32.

    Raises:
        ArtuneError: see :func:`artune.models.tokenizers.build.load_tokenizer`.
    """
    side = decoded_size(run.backbone, run.tokenizer)
    tokenizer = load_tokenizer(path, run.tokenizer, side).to(device)
    return make_renderer(tokenizer, side, run.data.image_size, run.backbone.uint8_rule, dtype)
