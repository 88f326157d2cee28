"""Every layout in which weights are released, and the errors for bad files."""

import argparse
import json
import sys
import types
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from artune.errors import ArtuneError
from artune.models.policies.build import build_policy
from artune.models.policies.checkpoint import save_policy
from artune.models.tokenizers.build import build_tokenizer
from artune.models.weights.checkpoints import load_into, save_module
from artune.models.weights.tensor_files import read_metadata

SIZES = {"dim": 16, "layers": 1, "heads": 2, "codebook_size": 12, "classes": 3, "tokens": 4, "ffn_multiple_of": 8}
TOKENIZER = {
    "channels": 8,
    "channel_multipliers": (1, 1),
    "residual_blocks": 1,
    "latent_channels": 8,
    "codebook_size": 12,
    "codebook_dim": 4,
    "norm_groups": 4,
    "attention_resolutions": (2,),
}


def policy(family="llamagen", **changes):
    built = build_policy(SimpleNamespace(family=family, **SIZES | changes))
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.normal_()
    return built


def tokenizer(family="vq"):
    return build_tokenizer(SimpleNamespace(family=family, **TOKENIZER), image_size=4)


def same(module, other):
    state = other.state_dict()
    return all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def loaded(module, path):
    """Whether loading ``path`` gives another module of the same kind the weights of ``module``."""
    fresh = type(module).__name__
    target = {
        "LlamaGen": policy,
        "VQGANGPT": lambda: policy("vqgan"),
        "VQ": tokenizer,
        "VQGAN": lambda: tokenizer("vqgan"),
    }[fresh]()
    assert not same(target, module)
    load_into(target, path)
    return same(target, module)


def test_a_saved_policy_comes_back_with_its_metadata(tmp_path):
    module = policy()
    save_policy(tmp_path / "policy.safetensors", module, {"run": "llamagen_b-ours"})
    assert loaded(module, tmp_path / "policy.safetensors")
    metadata = read_metadata(tmp_path / "policy.safetensors")
    assert metadata["run"] == "llamagen_b-ours"
    assert metadata["tokens"] == "4"
    assert [entry.name for entry in tmp_path.iterdir()] == ["policy.safetensors"]


def test_a_saved_module_comes_back(tmp_path):
    module = tokenizer()
    save_module(tmp_path / "tokenizer.safetensors", module)
    assert loaded(module, tmp_path / "tokenizer.safetensors")


@pytest.mark.parametrize("wrapper", [None, "model", "module", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_torch_files_load_under_every_wrapper_and_training_prefix(tmp_path, wrapper, prefix):
    module = policy()
    state = {prefix + name: value for name, value in module.state_dict().items()}
    torch.save({wrapper: state} if wrapper else state, tmp_path / "c2i_B_256.pt")
    assert loaded(module, tmp_path / "c2i_B_256.pt")


def test_a_training_checkpoint_gives_its_model_and_not_its_average(tmp_path):
    module, average = policy(), policy()
    checkpoint = {
        "model": module.state_dict() | {"freqs_cis": torch.ones(5, 4, 2), "causal_mask": torch.ones(4, 4)},
        "ema": average.state_dict(),
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]},
        "steps": 7,
        "args": argparse.Namespace(gpt_model="GPT-B"),
    }
    checkpoint["model"]["layers.0.attention.kv_cache.k_cache"] = torch.ones(1)
    torch.save(checkpoint, tmp_path / "0000007.pt")
    assert loaded(module, tmp_path / "0000007.pt")


def test_the_tokenizers_usage_statistic_is_ignored(tmp_path):
    module = tokenizer()
    state = module.state_dict() | {"quantize.codebook_used": torch.zeros(65536)}
    torch.save({"model": state}, tmp_path / "vq_ds16_c2i.pt")
    assert loaded(module, tmp_path / "vq_ds16_c2i.pt")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_are_cast_to_the_dtype_of_the_module(tmp_path, dtype):
    module = policy()
    torch.save({name: value.to(dtype) for name, value in module.state_dict().items()}, tmp_path / "half.pt")
    target = policy()
    load_into(target, tmp_path / "half.pt")
    assert target.output.weight.dtype == torch.float32
    assert torch.equal(target.output.weight, module.output.weight.to(dtype).float())


def transformers_state(gpt, vq):
    reference = policy()
    parts = {"gpt_model.": gpt, "vq_model.": vq, "ref_model.gpt_model.": reference, "ref_model.vq_model.": tokenizer()}
    return {prefix + name: value.clone() for prefix, part in parts.items() for name, value in part.state_dict().items()}


def test_a_transformers_folder_gives_the_policy_and_the_tokenizer_and_never_the_reference(tmp_path):
    gpt, vq = policy(), tokenizer()
    save_file(transformers_state(gpt, vq), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "ImgGen_HF"}')
    assert loaded(gpt, tmp_path)
    assert loaded(vq, tmp_path)


def sharded(folder, state):
    names = sorted(state)
    half = len(names) // 2
    shards = {"model-00001-of-00002.safetensors": names[:half], "model-00002-of-00002.safetensors": names[half:]}
    for shard, part in shards.items():
        save_file({name: state[name] for name in part}, folder / shard)
    index = {"metadata": {}, "weight_map": {name: shard for shard, part in shards.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_a_sharded_transformers_folder_loads_and_a_missing_shard_is_named(tmp_path):
    gpt, vq = policy(), tokenizer()
    sharded(tmp_path, transformers_state(gpt, vq))
    assert loaded(gpt, tmp_path)
    assert loaded(vq, tmp_path / "model.safetensors.index.json")
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ArtuneError, match=r"model-00002-of-00002\.safetensors: no such file"):
        load_into(policy(), tmp_path)


def test_a_consolidated_folder_loads_and_one_in_pieces_is_refused(tmp_path):
    module = policy()
    torch.save(module.state_dict(), tmp_path / "consolidated.pth")
    (tmp_path / "state_type.txt").write_text("full\n")
    assert loaded(module, tmp_path)
    (tmp_path / "state_type.txt").write_text("sharded")
    with pytest.raises(ArtuneError, match=r"state_type\.txt.*in pieces"):
        load_into(policy(), tmp_path)


def lightning_checkpoint(gpt, vqgan):
    state = {"transformer." + name: value for name, value in gpt.state_dict().items()}
    state["transformer.blocks.0.attn.mask"] = torch.ones(1, 1, 4, 4)
    state |= {"first_stage_model." + name: value for name, value in vqgan.state_dict().items()}
    state["first_stage_model.loss.discriminator.main.0.weight"] = torch.ones(1)
    return {"state_dict": state, "global_step": 3, "epoch": 1, "optimizer_states": [], "callbacks": {}}


def test_a_taming_folder_gives_the_transformer_and_the_first_stage(tmp_path):
    gpt, vqgan = policy("vqgan"), tokenizer("vqgan")
    (tmp_path / "checkpoints").mkdir()
    torch.save(lightning_checkpoint(gpt, vqgan), tmp_path / "checkpoints" / "last.ckpt")
    assert loaded(gpt, tmp_path)
    assert loaded(vqgan, tmp_path / "checkpoints" / "last.ckpt")


def test_foreign_classes_in_a_checkpoint_are_never_run(tmp_path, monkeypatch):
    gpt, vqgan = policy("vqgan"), tokenizer("vqgan")
    foreign = types.ModuleType("lightning_callbacks")
    built = []

    class Checkpoint:
        def __init__(self):
            self.best = 1.0

        def __setstate__(self, state):
            built.append(state)

    Checkpoint.__module__, Checkpoint.__qualname__ = "lightning_callbacks", "Checkpoint"
    foreign.Checkpoint = Checkpoint
    monkeypatch.setitem(sys.modules, "lightning_callbacks", foreign)
    checkpoint = lightning_checkpoint(gpt, vqgan)
    checkpoint["callbacks"] = {Checkpoint: {"state": Checkpoint()}}
    torch.save(checkpoint, tmp_path / "last.ckpt")
    assert loaded(gpt, tmp_path / "last.ckpt")  # the foreign module is importable, but not used
    assert built == []
    monkeypatch.delitem(sys.modules, "lightning_callbacks")
    assert loaded(vqgan, tmp_path / "last.ckpt")


def test_one_error_lists_missing_unexpected_and_misshapen_keys(tmp_path):
    state = policy().state_dict()
    del state["norm.weight"]
    state["lm_head.bias"] = torch.zeros(3)
    state["output.weight"] = torch.zeros(13, 16)
    torch.save(state, tmp_path / "bad.pt")
    target = policy()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(ArtuneError) as caught:
        load_into(target, tmp_path / "bad.pt")
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "bad.pt"))
    assert "missing norm.weight" in message
    assert "unexpected lm_head.bias" in message
    assert "misshapen output.weight (file [13, 16], model [12, 16])" in message
    assert "\n" not in message
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


def test_a_long_list_of_keys_is_cut_short(tmp_path):
    torch.save(tokenizer().state_dict(), tmp_path / "tokenizer.pt")
    with pytest.raises(ArtuneError, match=r"does not fit this LlamaGen; missing .* and \d+ more; unexpected"):
        load_into(policy(), tmp_path / "tokenizer.pt")


def write_damaged(path, kind):
    module = policy()
    if path.suffix == ".safetensors":
        save_module(path, module)
    else:
        torch.save(module.state_dict(), path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle] ^= 0xFF
    changes = {"empty": b"", "cut": data[:middle], "flipped": data, "other": b"<html>not found</html>"}
    path.write_bytes(bytes(changes[kind]))


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in ("m.safetensors", "m.pt") for kind in ("empty", "cut", "other")] + [("m.pt", "flipped")],
)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path, name, kind):
    write_damaged(tmp_path / name, kind)
    with pytest.raises(ArtuneError, match=r"truncated, damaged or not a checkpoint") as caught:
        load_into(policy(), tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_metadata_of_a_missing_or_damaged_file_is_an_error(tmp_path):
    with pytest.raises(ArtuneError, match="no such file"):
        read_metadata(tmp_path / "absent.safetensors")
    write_damaged(tmp_path / "m.safetensors", "cut")
    with pytest.raises(ArtuneError, match="truncated"):
        read_metadata(tmp_path / "m.safetensors")


def test_paths_without_weights_are_errors_that_name_them(tmp_path):
    with pytest.raises(ArtuneError, match=r"absent\.pt: no such file"):
        load_into(policy(), tmp_path / "absent.pt")
    with pytest.raises(ArtuneError, match="no weight file"):
        load_into(policy(), tmp_path)
    for name in ("a.pt", "b.pt"):
        torch.save(policy().state_dict(), tmp_path / name)
    with pytest.raises(ArtuneError, match="2 weight files"):
        load_into(policy(), tmp_path)
    torch.save({"steps": 3}, tmp_path / "a.pt")
    with pytest.raises(ArtuneError, match="holds no weights"):
        load_into(policy(), tmp_path / "a.pt")
    torch.save([1, 2], tmp_path / "a.pt")
    with pytest.raises(ArtuneError, match="holds a list"):
        load_into(policy(), tmp_path / "a.pt")
