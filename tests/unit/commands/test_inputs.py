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
from artune.commands.context import Context, files_of
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


@pytest.mark.parametrize(("ending", "seed"), [("", 0), ("-n1", 1), ("-n12", 12)])
def test_a_network_of_a_further_set_is_trained_from_another_seed_on_the_plain_decodings(
    project, monkeypatch, ending, seed
):
    asked = []
    monkeypatch.setattr(
        "artune.inputs.networks.train_network", lambda *given, seed: asked.append((given, seed)) or "done"
    )
    words = [
        "network",
        f"hps{ending}",
        "--data",
        "data.npz",
        "--tokenizer",
        "t.safetensors",
        "--output",
        "n.safetensors",
    ]
    arguments = parse_words([*words, "--scale", "mnist", "--device", "cpu"])
    assert network(Context(arguments), arguments) == "done"
    [(given, found)] = asked
    assert (given[0], found) == ("hps", seed)
    assert given[1] == Registry("mnist", root=project).networks["hps"]


@pytest.mark.parametrize(("ending", "seed"), [("", 0), ("-t1", 1), ("-t12", 12)])
def test_another_tokenizer_is_trained_from_another_seed_and_its_prior_from_the_repetitions(
    project, monkeypatch, ending, seed
):
    asked = []
    monkeypatch.setattr("artune.inputs.tokenizer.train_tokenizer", lambda *given, seed: asked.append(seed) or "done")
    monkeypatch.setattr("artune.inputs.prior.pretrain", lambda *given, seed: asked.append(seed) or "done")
    for words in (
        ["tokenizer", f"vq{ending}", "--data", "data.npz", "--output", "t.safetensors"],
        ["pretrained_policy", f"llamagen_l{ending}", "--codes", "codes.npz", "--output", "p.safetensors"],
        ["pretrained_policy", f"llamagen_l{ending}-s2", "--codes", "codes.npz", "--output", "p.safetensors"],
    ):
        arguments = parse_words([*words, "--scale", "mnist", "--device", "cpu"])
        assert getattr(inputs, words[0])(Context(arguments), arguments) == "done"
    assert asked == [seed, 0, 2]


def test_the_files_of_networks_say_their_set(project):
    context = Context(parse_words(["network", "hps", "--output", "x", "--scale", "mnist"]))
    folder = Path("results/mnist/inputs/networks")
    plain, further = ([folder / f"{name}{end}.safetensors" for name in ("clip", "judge")] for end in ("", "-n1"))
    assert (context.set_of(plain), context.set_of(further), context.set_of([folder])) == (0, 1, 0)
    assert context.evaluation_of(further).features == "judge-n1"
    with pytest.raises(
        ArtuneError, match=r"--networks: files of several sets of networks \(\[0, 1\]\); give those of one"
    ):
        context.set_of([*plain, *further])


def test_a_network_of_a_further_set_is_found_beside_the_plain_one():
    given = [Path("results/a/judge.safetensors"), Path("results/b/clip.safetensors")]
    found = files_of(["judge-n1", "clip-n1"], given, ".safetensors", "--networks")
    assert found == {
        "judge-n1": Path("results/a/judge-n1.safetensors"),
        "clip-n1": Path("results/b/clip-n1.safetensors"),
    }
    with pytest.raises(ArtuneError, match=r"--networks: hps-n1\.safetensors is needed too"):
        files_of(["hps-n1"], given, ".safetensors", "--networks")


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
