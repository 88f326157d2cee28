"""The seeds in names: ``NAME[-tN][-nN][-sN]``."""

import itertools
import re
import shutil

import pytest
import yaml
from project import ROOT

from artune.config.registry import Registry
from artune.config.seeds import ENDINGS, Seeds, cut_seeds, row_of
from artune.config.yaml_layers import leaves
from artune.errors import ArtuneError

MNIST, IMAGENET = (Registry(scale, root=ROOT / "config") for scale in ("mnist", "imagenet"))


@pytest.mark.parametrize("base", ["llamagen_l-ours", "x-s", "my-s2tiny", "a-t0", "b-n"])
def test_a_name_and_its_seeds_go_into_one_another(base):
    pattern = re.compile(re.escape(base) + "".join(ENDINGS.values()))
    for numbers in itertools.product((0, 1, 12), repeat=3):
        seeds = Seeds(*numbers)
        assert cut_seeds(f"{base}{seeds}") == (base, seeds)
        assert pattern.fullmatch(f"{base}{seeds}")  # the workflow takes the same names
        assert seeds.inputs == Seeds(*numbers[:2])
    assert str(Seeds(1, 2, 3)) == "-t1-n2-s3"


@pytest.mark.parametrize(
    "name", ["llamagen_l-ours-t0", "llamagen_l-ours-t01", "llamagen_l-ours-t", "llamagen_l-ours-n1\n"]
)
def test_what_is_no_seed_stays_in_the_name(name):
    assert cut_seeds(name) == (name, Seeds())
    with pytest.raises(ArtuneError, match="unknown run"):
        MNIST.resolve(name)


@pytest.mark.parametrize("ending", ["-s1-t1", "-n1-t1", "-s1-n1", "-t1-t1", "-s1-s2", "-s1-n1-t1"])
def test_seeds_in_another_order_are_refused_with_the_right_one(ending):
    with pytest.raises(
        ArtuneError, match=rf"^run: llamagen_l-ours{ending}: a name is RUN\[-tN\]\[-nN\]\[-sN\], its seeds"
    ):
        MNIST.resolve(f"llamagen_l-ours{ending}")


@pytest.mark.parametrize(
    ("section", "name", "like"),
    [
        ("backbones", "mine-t1", "a tokenizer's seed"),
        ("tokenizers", "mine-t2", "a tokenizer's seed"),
        ("networks", "mine-n1", "a further set of frozen networks"),
        ("backbones", "mine-n3-s1", "a repetition"),
        ("experiments", "mine-n1", "a further set of frozen networks"),
    ],
)
def test_a_name_of_ones_own_that_ends_like_a_seed_is_refused(tmp_path, section, name, like):
    root = shutil.copytree(ROOT / "config", tmp_path / "config")
    path = root / f"{section}.yaml"
    tree = yaml.safe_load(path.read_text())
    inside = tree if section == "experiments" else tree[section]
    inside[name] = dict(next(iter(inside.values())))
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    with pytest.raises(
        ArtuneError, match=rf"^config/{section}.yaml: {name}: ends in -{name[-2]}N like {like}; rename it$"
    ):
        Registry("imagenet", root=root)


def test_a_plain_name_has_no_word_of_seeds_in_its_settings():
    for name in ("llamagen_l-ours", "llamagen_xl-vapi", "llamagen_l-ours-s1", "real"):
        assert not {"tokenizer_seed", "networks_seed"} & MNIST.spec(name).keys()
    assert MNIST.resolve("llamagen_l-ours").networks_seed == 0
    assert MNIST.evaluation_in(0) is MNIST.evaluation


def changed(name: str, base: str) -> set[str]:
    """The keys of a run's settings, dotted, in which it differs from another run."""
    here, there = leaves(MNIST.spec(name)), leaves(MNIST.spec(base))
    return {key for key in here.keys() | there.keys() if here.get(key) != there.get(key)}


def test_another_tokenizer_changes_the_tokenizer_and_nothing_else():
    run = MNIST.resolve("llamagen_l-ours-t2-s1")
    assert changed("llamagen_l-ours-t2-s1", "llamagen_l-ours-s1") == {"name", "tokenizer_seed", "backbone.tokenizer"}
    assert (run.base, run.seed, run.tokenizer_seed, run.networks_seed) == ("llamagen_l-ours", 1, 2, 0)
    assert (run.backbone.tokenizer, run.tokenizer) == ("vq-t2", MNIST.tokenizers["vq"])
    assert MNIST.pretrained_name("llamagen_l-ours-t2-s1") == "llamagen_l-t2-s1"
    assert MNIST.spec("llamagen_l-ours")["backbone"]["tokenizer"] == "vq"  # the shared settings are as they were


def test_another_set_changes_every_network_that_is_trained_here():
    run, plain = MNIST.resolve("llamagen_l-ours-maniqa-n1"), MNIST.resolve("llamagen_l-ours-maniqa")
    assert set(run.networks) == {f"{name}-n1" for name in plain.networks}
    assert run.networks["hps-n1"] == plain.networks["hps"]
    assert run.rewards.networks == {name: f"{network}-n1" for name, network in plain.rewards.networks.items()}
    assert run.rewards.loo_fid.network == "inception-n1"
    assert (run.tokenizer, run.backbone) == (plain.tokenizer, plain.backbone)
    assert MNIST.pretrained_name("llamagen_l-ours-maniqa-n1") == "llamagen_l"
    assert MNIST.resolve("llamagen_xl-vapi-n1").vapi.network == "inception-n1"
    judged = MNIST.evaluation_in(1)
    assert judged.networks == {role: f"{name}-n1" for role, name in MNIST.evaluation.networks.items()}
    assert judged.model_copy(update=MNIST.evaluation.networks) == MNIST.evaluation
    assert MNIST.network("judge-n1") == MNIST.networks["judge"]


def test_a_network_that_is_not_trained_here_is_the_same_in_every_set():
    registry = Registry("mnist", root=ROOT / "config")
    foreign = registry.networks["clip_judge"].model_copy(update={"train": None})
    registry.networks = registry.networks | {"clip_judge": foreign}
    assert registry.evaluation_in(1).clip == "clip_judge"
    assert registry.evaluation_in(1).features == "judge-n1"


@pytest.mark.parametrize(
    ("registry", "name", "message"),
    [
        (IMAGENET, "llamagen_l-ours-t1", "-t1: its tokenizer and prior are not trained at the imagenet scale"),
        (IMAGENET, "llamagen_l-ours-n2", "-n2: frozen networks are not trained at the imagenet scale"),
        (MNIST, "real-t1", "-t1: a run of method real starts from no prior that is trained at the mnist scale"),
    ],
)
def test_what_is_not_trained_has_no_further_seed(registry, name, message):
    with pytest.raises(ArtuneError, match=rf"^run: {name}: {message}; leave this seed out$"):
        registry.spec(name)
    assert registry.unavailable(name) == "not trained here"


@pytest.mark.parametrize(
    ("split", "name", "message"),
    [
        (MNIST.split_prior, "llamagen_l-n1", "backbone: unknown 'llamagen_l-n1'"),
        (IMAGENET.split_prior, "llamagen_l-t1", "tokenizer and prior are not trained at imagenet; leave out -tN"),
        (MNIST.split_tokenizer, "vq-n1", "tokenizer: unknown 'vq-n1'"),
        (MNIST.split_tokenizer, "vx-t1", "tokenizer: unknown 'vx'"),
        (IMAGENET.split_tokenizer, "vq-t1", "vq is not trained at the imagenet scale; name vq itself"),
        (MNIST.split_network, "judge-s1", "network: unknown 'judge-s1'"),
        (IMAGENET.network, "clip-n1", "clip is not trained at the imagenet scale; name clip itself"),
    ],
)
def test_an_input_with_a_seed_that_it_cannot_have_is_one_line(split, name, message):
    with pytest.raises(ArtuneError, match=message):
        split(name)


def test_tables_know_a_run_without_its_repetition():
    for name in ("llamagen_l-ours", "llamagen_l-ours-t1", "llamagen_l-ours-t1-n2"):
        assert row_of(MNIST.spec(f"{name}-s3")) == row_of(MNIST.spec(name)) == name
