"""Export of policies to files that LlamaGen's own sampling script loads."""

import json

import pytest
import torch
import yaml
from project import ROOT
from safetensors.torch import load_file

from artune.config.registry import Registry
from artune.config.run import GrpoRun
from artune.errors import ArtuneError
from artune.models.policies.build import build_policy
from artune.models.policies.checkpoint import save_policy
from artune.models.policies.export import export_policy
from artune.models.weights.checkpoints import load_into
from artune.models.weights.tensor_files import read_metadata

OFFICIAL = json.loads((ROOT / "tests/parity/data/constants/state_dict_shapes.json").read_text())


def written(folder, **changes):
    """Write config.yaml and the weights of a small run with the official number of layers; returns run and policy."""
    spec = Registry("imagenet", root=ROOT / "config").spec("llamagen_b-ours")
    spec["backbone"] |= {"dim": 24, "heads": 2, "codebook_size": 32, "classes": 3, **changes}
    spec["tokenizer"] |= {"codebook_size": 32}
    spec["data"] |= {"classes": 3, "class_names": ["a", "b", "c"]}
    spec["grpo"] |= {"prompts": 3}
    if spec["backbone"]["family"] == "vqgan":
        spec["sampling"] |= {"cfg": 1.0}
    run = GrpoRun.model_validate(spec)
    policy = build_policy(run.backbone, torch.Generator().manual_seed(0))
    (folder / "config.yaml").write_text(yaml.safe_dump(spec))
    save_policy(folder / "policy.safetensors", policy)
    return run, policy


def test_the_keys_are_llamagens_own_under_its_wrapper(tmp_path):
    _, policy = written(tmp_path)
    export_policy(tmp_path / "config.yaml", tmp_path / "policy.safetensors", tmp_path / "out")
    checkpoint = torch.load(tmp_path / "out/llamagen_b-ours.pt", weights_only=True)
    assert list(checkpoint) == ["model"]  # the first wrapper that the script looks for
    assert set(checkpoint["model"]) == set(OFFICIAL["GPT-B-256"]["keys"])
    for name, value in policy.state_dict().items():
        assert torch.equal(checkpoint["model"][name], value)
        assert checkpoint["model"][name].dtype == torch.float32


@pytest.mark.parametrize(
    ("size", "run"), [("GPT-B-256", "llamagen_b"), ("GPT-L-256", "llamagen_l"), ("GPT-XL-576", "llamagen_xl")]
)
def test_the_shapes_of_the_full_sizes_are_the_official_ones(size, run):
    backbone = Registry("imagenet", root=ROOT / "config").resolve(f"{run}-ours").backbone
    with torch.device("meta"):
        policy = build_policy(backbone)
    found = {name: list(value.shape) for name, value in policy.state_dict().items()}
    assert found == OFFICIAL[size]["keys"]
    assert sum(value.numel() for value in policy.state_dict().values()) == OFFICIAL[size]["params"]


def test_what_is_written_loads_again_and_gives_the_same_logits(tmp_path):
    run, policy = written(tmp_path)
    export_policy(tmp_path / "config.yaml", tmp_path / "policy.safetensors", tmp_path / "out")
    tokens, classes = torch.randint(32, (2, 256)), torch.tensor([0, 3])
    for name in ("llamagen_b-ours.pt", "llamagen_b-ours.safetensors"):
        again = build_policy(run.backbone, torch.Generator().manual_seed(1))
        load_into(again, tmp_path / "out" / name)
        with torch.no_grad():
            assert torch.equal(again(tokens, classes), policy(tokens, classes))


def test_the_safetensors_and_the_card_lie_beside_it(tmp_path):
    run, policy = written(tmp_path)
    line = export_policy(tmp_path / "config.yaml", tmp_path / "policy.safetensors", tmp_path / "out")
    plain = tmp_path / "out/llamagen_b-ours.safetensors"
    assert set(load_file(plain)) == set(policy.state_dict())
    assert read_metadata(plain)["run"] == run.name
    card = json.loads((tmp_path / "out/llamagen_b-ours.json").read_text())
    assert card["image_size"] == 256
    assert card["sampling"]["cfg"] == run.sampling.cfg
    assert card["gpt_model"] is None  # none of LlamaGen's models has the test's width
    assert set(card["sha256"]) == {"llamagen_b-ours.pt", "llamagen_b-ours.safetensors"}
    assert "88 tensors" in line


def test_the_card_of_a_384_pixel_policy_says_so(tmp_path):
    written(tmp_path, tokens=576)
    export_policy(tmp_path / "config.yaml", tmp_path / "policy.safetensors", tmp_path / "out")
    card = json.loads((tmp_path / "out/llamagen_b-ours.json").read_text())
    assert (card["image_size"], card["image_size_eval"]) == (384, 256)


def test_a_vqgan_policy_and_an_unknown_format_are_refused(tmp_path):
    written(tmp_path)
    with pytest.raises(ArtuneError, match="--format: unknown 'gguf'"):
        export_policy(tmp_path / "config.yaml", tmp_path / "policy.safetensors", tmp_path / "out", "gguf")
    written(tmp_path, family="vqgan")
    with pytest.raises(ArtuneError, match="a vqgan policy, which LlamaGen's script cannot load"):
        export_policy(tmp_path / "config.yaml", tmp_path / "policy.safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()
