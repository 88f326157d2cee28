"""What an iteration samples: class prompts, token sequences, images."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from artune.config.run import Run
from artune.models import Policy
from artune.runtime.distributed import Share
from artune.sampling import generate
from artune.tokenizers import resize, to_uint8

Renderer = Callable[[Tensor], Tensor]
DECODED = 2**21  # pixels decoded at once: 32 images of 256 x 256, whose activations take about 4 GB


@dataclass(frozen=True)
class RolloutBatch:
    """Samples of one iteration, grouped by prompt."""

    class_ids: Tensor  # [B] int64, groups of G consecutive equal ids
    tokens: Tensor  # [B, T] int64
    images: Tensor  # [B, 3, H, W] uint8, what every reward sees
    start: int = 0  # of its first row in the batch of all processes


def draw_prompts(classes: int, prompts: int, group_size: int, how: str, generator: torch.Generator) -> Tensor:
    """Class ids of an iteration, each repeated G times: [prompts * group_size] (App. D; open choice 5)."""
    if how == "distinct":
        chosen = torch.randperm(classes, generator=generator, device=generator.device)[:prompts]
    else:
        chosen = torch.randint(classes, (prompts,), generator=generator, device=generator.device)
    return chosen.repeat_interleave(group_size)


def make_renderer(tokenizer: nn.Module, run: Run, dtype: torch.dtype = torch.float32) -> Renderer:
    """The function tokens [B, T] -> images uint8 [B, 3, H, W]: decode, resize to the data set's size, round.

    The tokenizer's decoder becomes ``dtype`` in place; half precision and GPUs convolve with the channels last.
    """
    last = dtype != torch.float32 or next(tokenizer.parameters()).device.type == "cuda"
    tokenizer.decoder.to(dtype, memory_format=torch.channels_last if last else torch.preserve_format)
    pixels = run.backbone.tokens * run.tokenizer.downsampling**2
    batch = min(max(DECODED // pixels, 1), 256)

    @torch.no_grad()
    def render(tokens: Tensor) -> Tensor:
        parts = [resize(tokenizer.decode(part), run.data.image_size) for part in tokens.split(batch)]
        return to_uint8(torch.cat(parts), rule=run.backbone.uint8_rule)

    return render


@torch.no_grad()
def roll_out(
    policy: Policy,
    render: Renderer,
    class_ids: Tensor,
    run: Run,
    generator: torch.Generator,
    share: Share | None = None,
) -> RolloutBatch:
    """Sample and decode one sequence a class id (Alg. 1, lines 1-5); ``share``: the rows of a larger batch they are."""
    tokens = generate(policy, class_ids, run.sampling, generator, share=share)
    return RolloutBatch(class_ids, tokens, render(tokens), 0 if share is None else share.start)
