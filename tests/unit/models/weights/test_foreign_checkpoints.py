"""Checkpoints that hold more than weights, old and new pickles, and files that must be refused."""

import argparse
import collections
import datetime
import enum
import functools
import json
import os
import pathlib
import pickle
import subprocess
import sys
import tarfile
import types
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from artune.errors import ArtuneError
from artune.models.policies.build import build_policy
from artune.models.policies.checkpoint import load_policy, save_policy
from artune.models.weights.checkpoints import load_into
from artune.models.weights.pickles import read_pickled
from artune.models.weights.tensor_files import read_metadata, read_tensors

SIZES = {"dim": 16, "layers": 1, "heads": 2, "codebook_size": 12, "classes": 3, "tokens": 4, "ffn_multiple_of": 8}


def backbone(family="llamagen", **changes):
    return SimpleNamespace(family=family, **SIZES | changes)


def policy(family="llamagen", **changes):
    built = build_policy(backbone(family, **changes))
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.normal_()
    return built


def assert_loads(path, module):
    fresh = policy()
    load_into(fresh, path)
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in module.state_dict().items())


@pytest.fixture
def foreign(monkeypatch):
    """A function that makes a class of a package which exists when a file is written but not when it is read."""
    gone = []

    def make(module, name, base=object, **members):
        holder = sys.modules.get(module)
        if holder is None:
            holder = types.ModuleType(module)
            monkeypatch.setitem(sys.modules, module, holder)
            gone.append(module)
        made = type(name, (base,), {"__module__": module, "__qualname__": name, **members})
        setattr(holder, name, made)
        return made

    make.forget = lambda: [monkeypatch.delitem(sys.modules, module) for module in gone]
    return make


class Level(enum.Enum):
    """An enumeration, as the settings of a trainer may hold."""

    BEST = 1


def plain_objects():
    return {
        "numpy scalars": {"loss": np.float64(3.5), "best": np.float32(1.0), "history": np.arange(4)},
        "containers": [collections.defaultdict(dict, {"a": {}}), collections.deque([1], 4), {1, 2}, frozenset([3])],
        "times and paths": [datetime.datetime(2024, 6, 1), pathlib.PurePosixPath("/x"), datetime.timedelta(1)],
        "numbers and bytes": [3 + 4j, b"\xff", bytearray(b"x"), 10**700, range(3), slice(1, 2), int, dict],
        "callables": [functools.partial(int, base=2), Level.BEST, types.SimpleNamespace(a=1)],
    }


@pytest.mark.parametrize("kind", [*plain_objects()])
@pytest.mark.parametrize("written", ["zip", "legacy", "protocol 4", "legacy, protocol 5"])
def test_objects_of_a_training_do_not_keep_its_weights_from_being_read(tmp_path, kind, written):
    objects = {kind: plain_objects()[kind]}
    module = policy()
    options = {"_use_new_zipfile_serialization": not written.startswith("legacy")}
    if "protocol" in written:
        options["pickle_protocol"] = int(written[-1])
    args = argparse.Namespace(gpt_model="GPT-B", **{key.replace(" ", "_"): value for key, value in objects.items()})
    torch.save({"args": args, "model": module.state_dict(), **objects}, tmp_path / "training.pt", **options)
    assert_loads(tmp_path / "training.pt", module)


@pytest.mark.parametrize("zipped", [True, False])
def test_settings_callbacks_and_optimisers_of_packages_that_are_absent_are_passed_over(tmp_path, foreign, zipped):
    module = policy()
    moments = {"step": torch.tensor(3.0), "exp_avg": torch.zeros(12, 16)}
    optimizer = {"state": {0: moments}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.95), "params": [0]}]}
    settings = foreign("omegaconf", "DictConfig", __setstate__=lambda self, state: None)()
    settings.__dict__.update(_metadata=foreign("omegaconf", "ContainerMetadata")(), _content={"a": [1, None]})
    attributes = foreign("easydict", "EasyDict", dict)(a=1, b={"c": 2})
    callback = foreign("pytorch_lightning", "ModelCheckpoint")
    callbacks = {callback: {"best_model_score": torch.ones(())}, "objects": [callback()]}
    checkpoint = {
        "state_dict": {f"module.{name}": value for name, value in module.state_dict().items()},
        "callbacks": callbacks,
        "hyper_parameters": settings,
        "args": attributes,
        "epoch": 1,
        "optimizer_states": [optimizer],
        "lr_schedulers": [foreign("schedulers", "Warmup")()],
    }
    torch.save(checkpoint, tmp_path / "last.ckpt", _use_new_zipfile_serialization=zipped)
    foreign.forget()
    assert_loads(tmp_path / "last.ckpt", module)


@pytest.mark.parametrize("zipped", [True, False])
def test_both_readers_agree_on_dtypes_views_and_shared_storages(tmp_path, zipped):
    whole = torch.arange(24.0).reshape(4, 6)
    tensors = {"turned": whole.T, "part": whole[1:, ::2], "scalar": torch.tensor(3), "empty": torch.empty(0, 3)}
    for dtype in ("float64", "float16", "bfloat16", "int32", "int16", "int8", "uint8", "bool", "complex64"):
        tensors[dtype] = torch.tensor([0, 1, 1]).to(getattr(torch, dtype))
    tensors["parameter"] = torch.nn.Parameter(torch.ones(2))
    torch.save(tensors, tmp_path / "all.pt", _use_new_zipfile_serialization=zipped)
    plain, careful = read_tensors(tmp_path / "all.pt"), read_pickled(tmp_path / "all.pt")
    assert plain.keys() == careful.keys() == tensors.keys()
    for name, value in tensors.items():
        assert value.dtype == plain[name].dtype == careful[name].dtype
        assert torch.equal(value, plain[name])
        assert torch.equal(value, careful[name])


@pytest.mark.parametrize("order", [("state_dict", "module", "model"), ("module", "model"), ("model", "state_dict")])
def test_wrappers_may_hold_each_other(tmp_path, order):
    module = policy()
    wrapped = dict(module.state_dict())
    for name in reversed(order):
        wrapped = {name: wrapped, "steps": 3}
    torch.save(wrapped, tmp_path / "nested.pt")
    assert_loads(tmp_path / "nested.pt", module)


def test_a_wrappers_name_with_something_else_under_it_is_passed_over(tmp_path):
    module = policy()
    torch.save({"model": "GPT-B", "module": None, "state_dict": module.state_dict()}, tmp_path / "named.pt")
    assert_loads(tmp_path / "named.pt", module)


@pytest.mark.parametrize("prefix", ["_fsdp_wrapped_module.", "model.", "module.gpt_model.", "gpt_model._orig_mod."])
def test_prefixes_of_sharded_training_and_of_an_enclosing_model_are_taken_off(tmp_path, prefix):
    module, reference = policy(), policy()
    state = {prefix + name: value for name, value in module.state_dict().items()}
    state |= {f"ref_model.{prefix}{name}": value for name, value in reference.state_dict().items()}
    torch.save({"model": state}, tmp_path / "prefixed.pt")
    assert_loads(tmp_path / "prefixed.pt", module)


def test_a_prefix_in_the_middle_of_a_name_is_taken_off(tmp_path):
    module = policy()
    state = {name.replace("layers.0.", "layers.0._orig_mod."): value for name, value in module.state_dict().items()}
    torch.save(state, tmp_path / "compiled.pt")
    assert_loads(tmp_path / "compiled.pt", module)


def test_a_sharded_folder_of_torch_files_loads_and_each_tensor_comes_from_its_own_shard(tmp_path):
    module = policy()
    state = dict(module.state_dict())
    first, *others = state
    torch.save({first: state[first]}, tmp_path / "a.bin")
    stale = {first: torch.zeros_like(state[first])}
    torch.save({name: state[name] for name in others} | stale, tmp_path / "b.bin")
    places = {first: "a.bin"} | dict.fromkeys(others, "b.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    assert_loads(tmp_path, module)


# --- files that must be refused


class Attack:
    """An object whose pickle asks the reader to call a function."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("call", [os.system, subprocess.check_output, eval, exec, __import__, os.execv, pickle.loads])
@pytest.mark.parametrize("written", ["zip", "legacy", "pickle"])
def test_a_file_that_names_what_weights_have_no_use_for_is_refused_and_nothing_runs(tmp_path, call, written):
    trace = tmp_path / "ran"
    attack = {"model": dict(policy().state_dict()), "args": Attack(call, f"open({str(trace)!r}, 'w')")}
    path = tmp_path / "hostile.pt"
    if written == "pickle":
        path.write_bytes(pickle.dumps({"args": attack["args"]}))
    else:
        torch.save(attack, path, _use_new_zipfile_serialization=written == "zip")
    with pytest.raises(ArtuneError, match=r"hostile\.pt: .*which a file of weights does not need") as caught:
        load_into(policy(), path)
    assert "\n" not in str(caught.value)
    assert not trace.exists()


def test_a_function_of_a_package_is_not_called_either(tmp_path, foreign):
    called = []
    make = foreign("somewhere", "Loader")
    module = policy()
    attack = Attack(torch.load, str(tmp_path / "other.pt"))
    torch.save({"model": module.state_dict(), "a": attack, "b": Attack(make)}, tmp_path / "odd.pt")
    make.__init__ = lambda self: called.append(self)
    assert_loads(tmp_path / "odd.pt", module)
    assert called == []


def damaged(path, kind, module):
    torch.save(module.state_dict(), path, _use_new_zipfile_serialization="legacy" not in kind)
    data = path.read_bytes()
    path.write_bytes(
        {"truncated": data[: len(data) // 2], "cut at the end": data[:-100]}[kind.removesuffix(", legacy")]
    )


@pytest.mark.parametrize("kind", ["truncated", "cut at the end", "truncated, legacy", "cut at the end, legacy"])
def test_a_truncated_file_is_refused_in_one_line(tmp_path, kind):
    damaged(tmp_path / "cut.pt", kind, policy())
    with pytest.raises(ArtuneError, match=r"cut\.pt: truncated, damaged or not a checkpoint") as caught:
        load_into(policy(), tmp_path / "cut.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: torch.save(policy(), path), "holds a LlamaGen, not a state dict"),
        (lambda path: torch.save({"model": policy()}, path), r"holds no weights \(found model: LlamaGen\)"),
        (lambda path: torch.save({"ema": policy().state_dict()}, path), r"holds no weights \(found ema: OrderedDict\)"),
        (lambda path: path.write_bytes(pickle.dumps({"a": np.ones(3)})), "not a file that torch.save wrote"),
        (lambda path: path.write_bytes(b"\x80\x02K\x01."), "not a file that torch.save wrote|not a checkpoint"),
    ],
    ids=["module", "wrapped module", "average only", "numpy", "a number"],
)
def test_what_is_no_state_dict_is_named(tmp_path, make, message):
    make(tmp_path / "odd.pt")
    with pytest.raises(ArtuneError, match=message) as caught:
        load_into(policy(), tmp_path / "odd.pt")
    assert "\n" not in str(caught.value)


def test_a_tar_is_refused_with_what_to_do(tmp_path):
    torch.save(policy().state_dict(), tmp_path / "inside.pt")
    with tarfile.open(tmp_path / "old.pt", "w") as archive:
        archive.add(tmp_path / "inside.pt", "inside.pt")
    with pytest.raises(ArtuneError, match=r"old\.pt: a tar archive, not a checkpoint; unpack it"):
        load_into(policy(), tmp_path / "old.pt")


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.full((12, 16), torch.nan), r"NaN or infinite: output\.weight"),
        (torch.full((12, 16), torch.inf), r"NaN or infinite: output\.weight"),
        (torch.ones(12, 16, dtype=torch.int8), r"weights of a type that is not read: output\.weight \(file int8\)"),
    ],
    ids=["nan", "infinity", "integers"],
)
def test_weights_that_are_no_finite_floats_are_refused_by_name(tmp_path, weight, message):
    torch.save({"model": policy().state_dict() | {"output.weight": weight}}, tmp_path / "bad.pt")
    with pytest.raises(ArtuneError, match=message):
        load_into(policy(), tmp_path / "bad.pt")


def test_an_index_that_is_no_index_is_refused(tmp_path):
    for content in ('{"weight_map": {"a": 3}}', '{"weight_map": []}', "[]"):
        (tmp_path / "model.safetensors.index.json").write_text(content)
        with pytest.raises(ArtuneError, match=r"no weight_map|no such file"):
            read_tensors(tmp_path)


# --- the size of a policy


def test_a_file_of_another_backbone_says_whose_size_it_has(tmp_path):
    torch.save({"model": policy(layers=3, dim=32).state_dict()}, tmp_path / "c2i_L_256.pt")
    with pytest.raises(ArtuneError, match="the file has 3 layers of width 32, the model 1 layers of width 16"):
        load_policy(tmp_path / "c2i_L_256.pt", backbone())
    torch.save({"state_dict": {f"transformer.{k}": v for k, v in policy("vqgan").state_dict().items()}}, tmp_path / "t")
    with pytest.raises(ArtuneError, match="the file has 1 layers of width 16, the model 2 layers of width 16"):
        load_policy(tmp_path / "t", backbone("vqgan", layers=2))


def taming_folder(folder, module, heads):
    for name in ("checkpoints", "configs"):
        (folder / name).mkdir(parents=True)
    state = {f"transformer.{name}": value for name, value in module.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, folder / "checkpoints/last.ckpt")
    project = {"model": {"params": {"transformer_config": {"params": {"n_head": heads}}}}}
    (folder / "configs/2021-04-03T19-39-50-project.yaml").write_text(yaml.safe_dump(project))
    (folder / "configs/2021-04-03T19-39-50-lightning.yaml").write_text("lightning: {trainer: {gpus: '0,'}}")


def test_the_head_count_of_a_taming_run_is_its_yamls_and_stays_with_the_weights(tmp_path):
    module = policy("vqgan", heads=4)
    taming_folder(tmp_path / "run", module, heads=4)
    tokens, classes = torch.randint(12, (2, 4)), torch.tensor([0, 2])
    with torch.no_grad():
        expected = module(tokens, classes)
        for path in (tmp_path / "run", tmp_path / "run/checkpoints", tmp_path / "run/checkpoints/last.ckpt"):
            loaded = load_policy(path, backbone("vqgan", heads=2))
            assert torch.equal(loaded(tokens, classes), expected)
        save_policy(tmp_path / "policy.safetensors", loaded)
        assert read_metadata(tmp_path / "policy.safetensors")["heads"] == "4"
        again = load_policy(tmp_path / "policy.safetensors", backbone("vqgan", heads=2))
        assert torch.equal(again(tokens, classes), expected)


def test_without_a_yaml_the_backbones_head_count_is_taken_and_a_damaged_one_is_an_error(tmp_path):
    module = policy("vqgan", heads=4)
    taming_folder(tmp_path / "run", module, heads=4)
    yaml_file = tmp_path / "run/configs/2021-04-03T19-39-50-project.yaml"
    yaml_file.write_text("model: {params: [")
    with pytest.raises(ArtuneError, match=r"project\.yaml: damaged"):
        load_policy(tmp_path / "run", backbone("vqgan"))
    for file in (tmp_path / "run/configs").iterdir():
        file.unlink()
    assert load_policy(tmp_path / "run", backbone("vqgan", heads=2)).heads == 2


def test_batch_norm_counters_may_be_absent_as_in_old_files(tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    state = {name: value + 1 for name, value in module.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "old.pth")
    load_into(module, tmp_path / "old.pth")
    assert torch.equal(module[1].running_mean, state["1.running_mean"])
