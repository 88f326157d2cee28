"""Backbones and tokenizers of any name: the seed is split off the name of a prior, no tokenizer's name is assumed."""

import shutil
from pathlib import Path

import pytest
import yaml
from project import ROOT

from artune.commands.arguments import parse_words
from artune.commands.context import Context
from artune.commands.inputs import network, pretrained_policy
from artune.config.registry import Registry
from artune.config.yaml_layers import read_yaml
from artune.errors import ArtuneError
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
