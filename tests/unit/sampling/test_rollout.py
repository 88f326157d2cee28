"""Rendering of tokens to images, in float32 and bfloat16."""

import copy

import pytest
import torch
from fake_cuda import fake_cuda, on_cuda
from tiny import tiny_run

from artune.models.tokenizers.build import build_tokenizer
from artune.sampling.rollout import make_renderer


def test_images_decoded_in_bfloat16_are_those_of_float32_to_a_few_grey_levels():
    run = tiny_run(tokenizer={"channels": 16, "channel_multipliers": [1, 2, 2]})
    torch.manual_seed(0)
    tokenizer = build_tokenizer(run.tokenizer, image_size=8).requires_grad_(False)
    ids = torch.randint(8, (6, 4), generator=torch.Generator().manual_seed(1))
    plain, half = (make_renderer(copy.deepcopy(tokenizer), 8, 8, dtype=d)(ids) for d in (torch.float32, torch.bfloat16))
    off = (plain.int() - half.int()).abs()
    assert plain.dtype == half.dtype == torch.uint8
    assert 0 < off.max() <= 4  # 10 layers with 8 bits of mantissa
    assert off.float().mean() < 1


def test_a_renderer_in_half_precision_keeps_codes_and_latents_in_float32_and_convolves_with_the_channels_last():
    run, seen = tiny_run(), {}
    tokenizer = build_tokenizer(run.tokenizer, image_size=8).requires_grad_(False)
    render = make_renderer(tokenizer, 8, 8, dtype=torch.bfloat16)
    tokenizer.post_quant_conv.register_forward_hook(lambda _, __, found: seen.update(latents=found.dtype))
    tokenizer.decoder.mid["0"].register_forward_hook(lambda _, __, found: seen.update(decoder=found))
    render(torch.zeros(1, 4, dtype=torch.long))
    assert seen["latents"] == torch.float32
    assert seen["decoder"].dtype == torch.bfloat16
    assert tokenizer.decoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_plain_renderer_on_a_cpu_leaves_the_tokenizer_as_it_is():
    run = tiny_run()
    tokenizer = build_tokenizer(run.tokenizer, image_size=8).requires_grad_(False)
    make_renderer(tokenizer, 8, 8)
    weights = [p for p in tokenizer.parameters() if p.dim() == 4]
    assert all(weight.is_contiguous() and weight.dtype == torch.float32 for weight in weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("last", [False, True])
def test_a_renderer_takes_either_layout_in_either_arithmetic(dtype, last):
    torch.manual_seed(0)
    tokenizer = build_tokenizer(tiny_run().tokenizer, image_size=8).requires_grad_(False)
    ids = torch.randint(8, (6, 4), generator=torch.Generator().manual_seed(1))
    usual = make_renderer(copy.deepcopy(tokenizer), 8, 8)(ids)
    make_renderer(tokenizer, 8, 8, channels_last=not last)  # an earlier layout does not stay
    images = make_renderer(tokenizer, 8, 8, dtype=dtype, channels_last=last)(ids)
    assert tokenizer.decoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last) is last
    assert tokenizer.decoder.conv_in.weight.is_contiguous() is not last
    assert (images.int() - usual.int()).abs().max() <= (1 if dtype == torch.float32 else 4)


def test_on_a_gpu_float32_keeps_the_channels_first_and_half_precision_has_them_last():
    for dtype, layout in ((torch.float32, torch.contiguous_format), (torch.bfloat16, torch.channels_last)):
        with fake_cuda():
            tokenizer = on_cuda(lambda: build_tokenizer(tiny_run().tokenizer, image_size=8))
            make_renderer(tokenizer, 8, 8, dtype=dtype)
            assert tokenizer.decoder.conv_in.weight.is_contiguous(memory_format=layout)
