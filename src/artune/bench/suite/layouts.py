"""Decoding of images in two number formats and two layouts of memory, and what half precision does to the rewards."""

import functools
import itertools

import torch

from artune.bench.measure import dtype_name, row, time_call
from artune.bench.random_weights import random_batch, random_networks, random_tokenizer
from artune.bench.suite.parts import BACKBONE, SHARE, Suite
from artune.config.sizes import decoded_size
from artune.rewards.reward import build_rewards
from artune.sampling.batch import RolloutBatch
from artune.sampling.rollout import make_renderer

LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
COSINES = ("clip", "hps")


def run(suite: Suite) -> None:
    """Time the four combinations, then compare images and cosines of bfloat16 with those of float32."""
    images = decodings(suite)
    levels = (images[torch.bfloat16].int() - images[torch.float32].int()).abs().float()
    differing, many = ((levels > bound).float().mean().item() for bound in (0, 4))
    suite.note(
        {"case": "grey levels, bfloat16 beside float32", "differing": differing, "by more than 4": many,
         "mean": levels.mean().item(), "largest": levels.max().item()}
    )  # fmt: skip
    cosines(suite, images)


def decodings(suite: Suite) -> dict[torch.dtype, torch.Tensor]:
    """Note the seconds of each combination; returns the images of each number format, channels last."""
    request, device = suite.request(BACKBONE, SHARE), suite.device
    run_, batch, images = request.run, random_batch(request), {}
    for dtype, (name, layout) in itertools.product((torch.float32, torch.bfloat16), LAYOUTS.items()):
        torch.manual_seed(0)
        tokenizer = random_tokenizer(run_, device)
        side = decoded_size(run_.backbone, run_.tokenizer)
        render = make_renderer(tokenizer, side, run_.data.image_size, run_.backbone.uint8_rule, dtype)
        tokenizer.decoder.to(memory_format=layout)  # in place of the layout that a run takes
        timing = time_call(functools.partial(render, batch.tokens), request)
        suite.note(row("decode", request, timing, arithmetic=dtype_name(dtype), layout=name))
        images[dtype] = render(batch.tokens)
    return images


def cosines(suite: Suite, images: dict[torch.dtype, torch.Tensor]) -> None:
    """Note by how much cosines move through the networks' number format and through that of the decoder."""
    request, device = suite.request(BACKBONE, SHARE), suite.device
    run_, drawn = request.run, random_batch(request)
    torch.manual_seed(0)
    rewards = build_rewards(run_.rewards, run_.data, random_networks(run_.networks, run_.data, device))
    for reward in (found for found in rewards if found.name in COSINES):
        scores = {}
        for decoded, half in itertools.product(images, (False, True)):
            batch = RolloutBatch(drawn.class_ids, drawn.tokens, images[decoded])
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                scores[decoded, half] = reward(batch).float()
        base = scores[torch.float32, False]
        for case, other in (
            ("network in bfloat16", scores[torch.float32, True]),
            ("decoder in bfloat16", scores[torch.bfloat16, False]),
            ("both in bfloat16", scores[torch.bfloat16, True]),
        ):
            off = (other - base).abs()
            suite.note(
                {"case": f"cosines of {reward.name}, {case}", "images": len(base), "mean difference": off.mean().item(),
                 "largest": off.max().item(), "spread over images": base.std().item()}
            )  # fmt: skip
