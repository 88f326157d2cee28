"""The attention kernels that a GPU takes, seen on fake CUDA tensors."""

import pytest
import torch
import torch.nn.functional as F
from fake_cuda import CUDA, fake_cuda, on_cuda
from torch.nn.attention import SDPBackend, _cur_sdpa_kernel_backends, sdpa_kernel

from artune.models.policies import attention, llamagen, vqgan_gpt
from artune.models.policies.attention import KERNELS, described, kernels
from artune.models.policies.llamagen import LlamaGen
from artune.models.policies.vqgan_gpt import VQGANGPT
from artune.sampling.decoders import BucketedDecoder, PlainDecoder

SIZES = {"dim": 32, "layers": 2, "heads": 2, "codebook_size": 16, "classes": 4, "tokens": 16}
FAMILIES = pytest.mark.parametrize("family", [LlamaGen, VQGANGPT])


def enabled():
    """The kernels that PyTorch may take now, in the order of preference."""
    return tuple(_cur_sdpa_kernel_backends(with_priority=True))


@pytest.fixture
def taken(monkeypatch):
    """The kernels that each attention may take, in the order of the calls."""
    seen, whole = [], F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: (seen.append(enabled()), whole(*a, **k))[1])
    return seen


@FAMILIES
def test_each_use_on_a_gpu_takes_its_kernels_in_every_layer(family, taken):
    before = enabled()
    with fake_cuda():
        policy, ids = on_cuda(lambda: family(**SIZES)), torch.zeros(3, dtype=torch.long, device=CUDA)
        for use, decoder in {"masked step": BucketedDecoder(policy, 3), "plain step": PlainDecoder(policy)}.items():
            decoder.start(ids)
            assert taken == [KERNELS[use]] * 2
            taken.clear()
            policy.decode(ids, decoder.cache)
            assert taken == [KERNELS[use]] * 2
            taken.clear()
        policy(ids[:, None].expand(-1, 16), ids)
        assert taken == [KERNELS["training"]] * 2
    assert enabled() == before


@FAMILIES
def test_a_recomputed_block_takes_the_kernels_of_its_forward_pass(family, taken, monkeypatch):
    for module in (llamagen, vqgan_gpt):
        monkeypatch.setattr(module, "kernels", lambda use, device: sdpa_kernel(SDPBackend.MATH))
    policy = family(**SIZES)
    policy.checkpointing = True
    logits = policy(torch.zeros(3, 16, dtype=torch.long), torch.zeros(3, dtype=torch.long))
    logits.square().sum().backward()  # on a CPU, as fake CUDA has no backward pass
    assert taken == [(SDPBackend.MATH,)] * 4  # two layers, forward and again


def test_a_cpu_keeps_pytorchs_own_choice(taken, capsys):
    before, ids = enabled(), torch.zeros(3, dtype=torch.long)
    policy = LlamaGen(**SIZES)
    policy(torch.zeros(3, 16, dtype=torch.long), ids)
    BucketedDecoder(policy, 3).start(ids)
    assert taken == [before] * 4
    assert capsys.readouterr().err == ""


def test_the_choice_is_printed_once(capsys):
    attention._announce.cache_clear()
    for use in KERNELS:
        with kernels(use, torch.device("cuda")):
            assert enabled()[: len(KERNELS[use])] == KERNELS[use]
            assert SDPBackend.CUDNN_ATTENTION not in KERNELS[use]
            assert not torch._C._get_cudnn_sdp_enabled()
    said = capsys.readouterr().err
    assert said == f"attention kernels: {described()}\n"
    assert "masked step EFFICIENT_ATTENTION, then MATH; plain step FLASH_ATTENTION, then EFFICIENT_ATTENTION" in said
