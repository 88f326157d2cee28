"""Backbones and tokenizers of any name: the seed is split off the name of a prior, no tokenizer's name is assumed."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from processes import as_torchrun
from project import ROOT

from artune.commands import inputs
from artune.commands.arguments import parse_words
from artune.commands.context import Context
from artune.commands.inputs import network, pretrained_policy
from artune.config.registry import Registry
from artune.config.yaml_layers import read_yaml
from artune.errors import ArtuneError, SharedError
from artune.planning.plan import Plan
from artune.planning.recipes import prior_recipe

NAMES = ("my-small", "x-s", "my-s2tiny")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of ``config/`` as the working directory; a further backbone is a few lines of YAML."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "config"


def edit(path: Path, change) -> None:
    tree = yaml.safe_load(path.read_text())
    change(tree)
    path.write_text(yaml.safe_dump(tree, sort_keys=False))


def add_backbone(config: Path, name: str) -> None:
    """Add a backbone that is trained at the mnist scale, and a run on it."""
    for file in ("backbones.yaml", "scales/mnist.yaml"):
        edit(config / file, lambda tree: tree["backbones"].update({name: dict(tree["backbones"]["llamagen_b"])}))
    edit(config / "experiments.yaml", lambda tree: tree.update({f"{name}-ours": {"backbone": name, "method": "grpo"}}))


@pytest.mark.parametrize("name", NAMES)
def test_a_backbone_may_have_a_dash_and_an_s_in_its_name(project, name):
    add_backbone(project, name)
    plan = Plan(read_yaml(project / "config.yaml") | {"scale": "mnist", "seeds": 2}, project)
    for seed, prior in enumerate((name, f"{name}-s1")):
        run = plan.registry.seed_names(f"{name}-ours", 2)[seed]
        assert plan.registry.resolve(run).backbone_name == name
        assert plan.registry.pretrained_name(run) == prior
        assert plan.prior(run) == f"results/mnist/pretrained/{prior}/policy.safetensors"
        assert plan.prior_source(prior) == "results/mnist/pretrained/vq/codes.npz"
        assert plan.recipe("mnist", prior_recipe, prior)["backbone"]["dim"] == 48


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 1, 12])
def test_the_command_trains_the_prior_of_the_seed_at_the_end_of_its_name(project, monkeypatch, name, seed):
    add_backbone(project, name)
    asked = []
    monkeypatch.setattr("artune.inputs.prior.pretrain", lambda *given, seed: asked.append((*given, seed)) or "done")
    prior = f"{name}-s{seed}" if seed else name
    words = ["pretrained_policy", prior, "--codes", "codes.npz", "--output", "policy.safetensors", "--scale", "mnist"]
    arguments = parse_words([*words, "--device", "cpu"])
    assert pretrained_policy(Context(arguments), arguments) == "done"
    [(backbone, codes, output, found)] = asked
    assert (backbone, found) == (Registry("mnist", root=project).backbones[name], seed)
    assert (codes, output) == (Path("codes.npz"), Path("policy.safetensors"))


def test_a_prior_of_an_unknown_backbone_is_one_line(project):
    words = ["pretrained_policy", "my-small-s1", "--codes", "c.npz", "--output", "p.safetensors", "--scale", "mnist"]
    arguments = parse_words([*words, "--device", "cpu"])
    with pytest.raises(ArtuneError, match="backbone: unknown 'my-small'; known are llamagen_b, "):
        pretrained_policy(Context(arguments), arguments)


def test_networks_learn_from_decodings_of_the_first_backbones_tokenizer_whatever_its_name(project, monkeypatch):
    for file in ("backbones.yaml", "tokenizers.yaml", "scales/mnist.yaml"):
        text = (project / file).read_text().replace("tokenizer: vq,", "tokenizer: tiles,").replace("  vq:", "  tiles:")
        (project / file).write_text(text)
    plan = Plan(read_yaml(project / "config.yaml") | {"scale": "mnist"}, project)
    assert plan.network("hps")["tokenizer"] == "results/mnist/pretrained/tiles/tokenizer.safetensors"
    assert "tokenizer" not in plan.network("clip")
    asked = []
    monkeypatch.setattr("artune.inputs.networks.train_network", lambda *given, seed: asked.append(given) or "done")
    words = ["network", "hps", "--data", "data.npz", "--tokenizer", "t.safetensors", "--output", "n.safetensors"]
    arguments = parse_words([*words, "--scale", "mnist", "--device", "cpu"])
    assert network(Context(arguments), arguments) == "done"
    assert Registry("mnist", root=project).tokenizers["tiles"] in asked[0]


@pytest.mark.parametrize(
    ("command", "name", "function"),
    [
        ("network", "clip", "import_network"),
        ("tokenizer", "vq", "import_tokenizer"),
        ("pretrained_policy", "llamagen_b", "import_policy"),
    ],
)
def test_an_import_leaves_the_gpus_alone_and_needs_none(project, monkeypatch, command, name, function):
    asked = []
    monkeypatch.setattr(f"artune.inputs.released.{function}", lambda *given: asked.append(given) or "done")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("an import looked for a GPU"))
    for device in ("auto", "cuda"):
        words = [command, name, "--output", "x.safetensors", "--scale", "imagenet", "--device", device]
        arguments = parse_words(words)
        assert getattr(inputs, command)(Context(arguments), arguments) == "done"
    devices = [value for given in asked for value in given if isinstance(value, torch.device)]
    assert devices == ([torch.device("cpu")] * 2 if command == "network" else [])


def test_codes_are_made_of_as_many_crops_as_the_runs_can_use_or_as_the_user_says(project, monkeypatch):
    asked = []
    monkeypatch.setattr("artune.inputs.token_codes.write_imagenet_codes", lambda *given: asked.append(given) or "done")
    words = ["codes", "vq", "--data", "images", "--tokenizer", "t.safetensors", "--output", "codes.npz"]
    for further in ([], ["--crops", "7"], ["--crops", "0"]):  # which write_imagenet_codes refuses
        arguments = parse_words([*words, "--scale", "imagenet", "--device", "cpu", *further])
        assert inputs.codes(Context(arguments), arguments) == "done"
    plans = [given[6] for given in asked]
    assert [(plan.crops, plan.sequences) for plan in plans] == [(20, 5000 * 256), (7, None), (0, None)]
    for name, value in as_torchrun(rank=0, size=2).items():
        monkeypatch.setenv(name, value)
    arguments = parse_words([*words, "--scale", "mnist", "--device", "cpu"])
    with pytest.raises(SharedError, match="one process makes those of mnist; start it without torchrun"):
        inputs.codes(Context(arguments), arguments)
