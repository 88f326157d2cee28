"""A network keeps the type that it is given: in float64 it answers in float64, in half precision in float32."""

import json

import pytest
import torch
from imagenet_world import CLIP, DINO, MANIQA
from tiny import tiny_policy, tiny_run

import artune
from artune.config.run import Data, Network
from artune.models.encoders.build import build_network
from artune.models.tokenizers.build import build_tokenizer

DATA = Data(source="mnist", image_size=24, classes=3, class_names=("one", "two", "three"))
FULL = {"open_clip": CLIP, "maniqa": MANIQA, "dinov2": DINO}
CASES = [
    ("classifier", "plain", "features"),
    ("classifier", "residual", "probabilities"),
    ("quality", "plain", "score"),
    ("clip", "residual", "embed_images"),
    ("open_clip", None, "embed_images"),
    ("maniqa", None, "score"),
    ("dinov2", None, "embed_images"),
]


@pytest.mark.parametrize(("kind", "architecture", "method"), CASES)
def test_a_network_in_float64_answers_in_float64(kind, architecture, method, tmp_path):
    if architecture is None:
        architecture = str(tmp_path / "sizes.json")
        (tmp_path / "sizes.json").write_text(json.dumps(FULL[kind]))
    torch.manual_seed(0)
    network = build_network(Network(kind=kind, architecture=architecture), DATA).eval()
    images = torch.randint(256, (3, 3, 24, 24), dtype=torch.uint8)
    single = getattr(network, method)(images)
    double = getattr(network.double(), method)(images)
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(double.float(), single, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["llamagen", "vqgan"])
def test_a_policy_in_float64_computes_in_float64(family):
    run = tiny_run(backbone={"family": family}, sampling={"cfg": 1.0})
    ids, tokens = torch.tensor([0, 1, 2]), torch.arange(12).view(3, 4) % 8
    single = tiny_policy(run)(tokens, ids)
    policy = tiny_policy(run).double()
    double, steps = policy(tokens, ids), artune.step_logits(policy, tokens, ids)
    assert (single.dtype, double.dtype, steps.dtype) == (torch.float32, torch.float64, torch.float64)
    torch.testing.assert_close(steps, double, rtol=0, atol=1e-12)  # float32 on the way would err by 1e-7
    torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-4)
    logp, entropy = artune.token_scores(policy, tokens, ids)
    assert logp.dtype == entropy.dtype == torch.float64
    assert tiny_policy(run).bfloat16()(tokens, ids).dtype == torch.float32


def test_a_tokenizer_in_float64_decodes_in_float64():
    tokenizer = build_tokenizer(tiny_run().tokenizer).double()
    assert tokenizer.decode(torch.zeros(1, 4, dtype=torch.long)).dtype == torch.float64
