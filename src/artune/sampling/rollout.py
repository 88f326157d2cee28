"""What an iteration samples: class prompts, token sequences, images."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from artune.config.run import Run
from artune.data.pixels import resize, to_uint8
from artune.models.policies.policy import Policy
from artune.models.tokenizers.build import load_tokenizer
from artune.runtime.distributed import Share
from artune.sampling.batch import RolloutBatch
from artune.sampling.generate import generate

Renderer = Callable[[Tensor], Tensor]
DECODED = 2**21  # pixels decoded at once: 32 images of 256 x 256, whose activations take about 4 GB


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


def load_renderer(run: Run, path: Path | str, device: torch.device, dtype: torch.dtype = torch.float32) -> Renderer:
    """The run's decoder from tokens to images; what is evaluated is decoded in float32."""
    side = round(run.backbone.tokens**0.5) * run.tokenizer.downsampling  # 384 for LlamaGen-XL
    return make_renderer(load_tokenizer(path, run.tokenizer, side).to(device), run, dtype)
