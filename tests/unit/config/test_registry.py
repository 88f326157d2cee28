"""The registry: the order of its layers, and errors that name file and key."""

import shutil

import pytest
import yaml
from project import ROOT

from artune.config.methods import deciding, with_present
from artune.config.registry import Registry
from artune.config.yaml_layers import merge, read_yaml, undot
from artune.errors import ArtuneError
from artune.planning.plan import Plan

CONFIG = ROOT / "config"
SCALES = ("mnist", "fashion", "imagenet", "smoke")


@pytest.fixture
def config(tmp_path):
    shutil.copytree(CONFIG, tmp_path / "config")
    return tmp_path / "config"


def edit(path, change):
    tree = yaml.safe_load(path.read_text())
    change(tree)
    path.write_text(yaml.safe_dump(tree, sort_keys=False))


@pytest.mark.parametrize("text", ["a: " + 60_000 * "[", 60_000 * "- " + "a", 60_000 * "{a: "])
def test_a_file_nested_too_deeply_is_one_line_and_no_crash(tmp_path, text):
    (tmp_path / "deep.yaml").write_text(text)
    with pytest.raises(ArtuneError, match=r"deep\.yaml: nested too deeply"):
        read_yaml(tmp_path / "deep.yaml")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("preset", ["paper", "release"])
def test_every_run_resolves_at_every_scale_and_preset(scale, preset):
    registry = Registry(scale, preset, CONFIG)
    for name in registry.run_names:
        assert registry.resolve(name).name == name


def test_paper_values_reach_the_run_at_the_paper_scale():
    run = Registry("imagenet", root=CONFIG).resolve("llamagen_l-ours")
    assert (run.grpo.iterations, run.grpo.group_size, run.grpo.beta, run.grpo.clip) == (600, 12, 3.0, 0.2)
    assert (run.sampling.cfg, run.rewards.loo_fid.alpha, run.entropy.c_max) == (1.5, 0.5, 4e-3)
    assert run.rewards.terms == ("clip", "hps", "loo_fid")


SIZE = "llamagen_l-theirs: {backbone: %s, method: external, checkpoint: %s}\n"


@pytest.mark.parametrize(
    ("backbone", "asset", "sizes"),
    [
        ("llamagen_l", "argrpo_l", (256, 576)),
        ("llamagen_xl", "argrpo_b", (576, 256)),
        ("vqgan", "argrpo_xl", (256, 576)),
    ],
)
def test_weights_of_another_image_size_are_refused_though_they_would_fit(config, backbone, asset, sizes):
    """AR-GRPO's L and XL draw 384 pixels: no weight depends on the number of tokens, so loading finds nothing wrong."""
    lines = config / "experiments.yaml"
    lines.write_text(lines.read_text() + SIZE % (backbone, asset))
    message = (
        rf"config/experiments.yaml: llamagen_l-theirs: backbone: {backbone} has {sizes[0]} tokens per image, but the "
        rf"weights of asset {asset} were trained on {sizes[1]}; name a backbone of {sizes[1]} tokens .*or other weights$"
    )
    with pytest.raises(ArtuneError, match=message):
        Registry("imagenet", root=config).resolve("llamagen_l-theirs")
    with pytest.raises(ArtuneError, match=message):  # Snakemake finds it when it reads the settings
        Plan(read_yaml(config / "config.yaml") | {"scale": "imagenet"}, config)


def test_weights_of_the_backbones_image_size_are_taken(config):
    lines = config / "experiments.yaml"
    lines.write_text(lines.read_text() + SIZE % ("llamagen_l_384", "argrpo_l"))
    larger = {"dim": 1024, "layers": 24, "heads": 16, "tokens": 576, "checkpoint": None}
    edit(
        config / "backbones.yaml",
        lambda tree: tree["backbones"].update(llamagen_l_384=tree["backbones"]["llamagen_l"] | larger),
    )
    assert Registry("imagenet", root=config).resolve("llamagen_l-theirs").backbone.tokens == 576


def test_a_backbone_of_another_size_than_its_own_weights_is_refused_in_every_run_that_starts_from_it(config):
    edit(config / "backbones.yaml", lambda tree: tree["backbones"]["llamagen_xl"].update(tokens=256))
    registry = Registry("imagenet", root=config)
    for run in ("llamagen_xl-pretrained", "llamagen_xl-ours"):
        message = f"{run}: backbone: llamagen_xl has 256 tokens per image, but the weights of asset llamagen_xl were"
        with pytest.raises(ArtuneError, match=message):
            registry.resolve(run)
    assert registry.resolve("llamagen_xl-vapi").backbone.tokens == 256  # nobody says how VA-pi's were trained


def test_a_seed_is_part_of_the_name_only():
    registry = Registry("mnist", root=CONFIG)
    first, second = registry.spec("llamagen_l-ours"), registry.spec("llamagen_l-ours-s1")
    assert (second["seed"], second["base"]) == (1, "llamagen_l-ours")
    assert {k: v for k, v in first.items() if k not in ("name", "seed")} == {
        k: v for k, v in second.items() if k not in ("name", "seed")
    }


def test_the_spec_holds_only_values_written_in_yaml():
    spec = Registry("imagenet", root=CONFIG).spec("llamagen_l-ours")
    assert "reference_decay" not in spec["grpo"]  # a default of the type, written in no YAML file


def test_argrpo_is_ours_without_loo_fid_and_entropy():
    registry = Registry("imagenet", root=CONFIG)
    ours, theirs = registry.spec("llamagen_l-ours"), registry.spec("llamagen_l-argrpo")
    assert theirs["rewards"]["terms"] == ["clip", "hps"]
    assert theirs["entropy"]["enabled"] is False
    assert theirs["grpo"] == ours["grpo"]


def test_merge_replaces_lists_and_merges_mappings():
    assert merge({"a": {"b": 1, "c": [1, 2]}}, {"a": {"c": [3]}}) == {"a": {"b": 1, "c": [3]}}


def test_dotted_keys_become_a_tree():
    assert undot({"a.b": 1, "a.c.d": 2}) == {"a": {"b": 1, "c": {"d": 2}}}


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("grpo.yaml", lambda t: t["grpo"].update(betta=1.0), r"experiments.yaml: llamagen_l-ours: grpo.betta: unknown key"),
        ("grpo.yaml", lambda t: t.update(grop={}), r"config/grpo.yaml: grop: unknown key"),
        ("grpo.yaml", lambda t: t.update(mle={}), r"config/grpo.yaml: mle: unknown key; known are grpo$"),
        ("mle.yaml", lambda t: t.clear(), r"config/mle.yaml: mle: missing; the file must hold this section"),
        ("mle.yaml", lambda t: t.update(mle=3), r"config/mle.yaml: mle: must be a mapping"),
        ("tokenizers.yaml", lambda t: t["tokenizers"]["vq"].update(chanels=8), r"config/tokenizers.yaml: tokenizers.vq: chanels: unknown key"),
        ("grpo.yaml", lambda t: t["grpo"].update(group_size=1), r"grpo.group_size: .*greater than or equal to 2.*got 1"),
        ("sampling.yaml", lambda t: t["sampling"].update(top_p=0.0), r"sampling.top_p: .*greater than 0"),
        ("rewards.yaml", lambda t: t["rewards"]["weights"].update(clip=-1.0), r"rewards.weights.clip: .*got -1.0"),
        ("experiments.yaml", lambda t: t["llamagen_l-ours"].update(rewards=["clipp"]), r"rewards: unknown 'clipp'; did you mean clip\?"),
        ("experiments.yaml", lambda t: t["llamagen_l-ours"].update(backbone="gpt"), r"backbone: unknown 'gpt'; known are"),
        ("experiments.yaml", lambda t: t["llamagen_l-ours"].update(base="nobody-x"), r"unknown run 'nobody-x'"),
        ("experiments.yaml", lambda t: t["llamagen_l-ours"].update(base=["llamagen_l"]), r"unknown run \['llamagen_l'\]"),
        ("experiments.yaml", lambda t: t["llamagen_l-ours"].update(backbone=[]), r"backbone: unknown \[\]; known are"),
        ("experiments.yaml", lambda t: t["llamagen_l-ours"].update(checkpoint={}), r"checkpoint: unknown {}; known are"),
        ("experiments.yaml", lambda t: t["llamagen_l-ours"].update({"two\nlines": 1}), r"two\\nlines: unknown key"),
        ("grpo.yaml", lambda t: t["grpo"].update({"two\n\x1blines": 1}), r"grpo.two\\n\\x1blines: unknown key"),
        ("scales/imagenet.yaml", lambda t: t.update(extends="imagenet"), r"extends: 'imagenet' must be another scale: fashion, mnist, smoke"),
        ("scales/imagenet.yaml", lambda t: t.update(extends=[]), r"extends: \[\] must be another scale"),
        ("entropy.yaml", lambda t: t["entropy"].update(c_min=1.0), r"entropy: c_min 1.0 is above c_max"),
        ("experiments.yaml", lambda t: t["llamagen_l-ours"].update({"evaluation.samples": 3}), r"evaluation: unknown key"),
        ("experiments.yaml", lambda t: t["llamagen_l-ours"].update({"mle.lr": 3}), r"mle: unknown key; a run of method grpo has"),
        ("experiments.yaml", lambda t: t.update({"llamagen_l-x": None}), r"experiments.yaml: llamagen_l-x: must be a mapping"),
        ("experiments.yaml", lambda t: t["llamagen_xl-vapi"].update(checkpoint="vapi"), r"llamagen_xl-vapi: checkpoint: unknown 'vapi'"),
        ("evaluation.yaml", lambda t: t["evaluation"].update(features="eyes"), r"evaluation.yaml: features: unknown 'eyes'"),
        ("backbones.yaml", lambda t: t["backbones"]["vqgan"].update(tokenizer="vx"), r"backbones.vqgan.tokenizer: unknown 'vx'"),
        ("backbones.yaml", lambda t: t["backbones"].update({"my-s2": dict(t["backbones"]["vqgan"])}), r"backbones.yaml: my-s2: ends in -sN like a repetition"),
        ("backbones.yaml", lambda t: t["backbones"].clear(), r"config/backbones.yaml: backbones: empty; name at least one backbone"),
        ("experiments.yaml", lambda t: t.update({"mine-s1": {"base": "vqgan-ours"}}), r"experiments.yaml: mine-s1: ends in -sN like a repetition"),
        ("rewards.yaml", lambda t: t["rewards"].update(terms=5), r"rewards.terms: must be a list"),
        ("grpo.yaml", lambda t: t["grpo"].update(beta=float("inf")), r"grpo.beta: .*finite"),
        ("data.yaml", lambda t: t["data"].update(prompt="a photo"), r"prompt: 'a photo' must hold {} once"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_that_names_file_and_key(config, file, change, message):
    edit(config / file, change)
    with pytest.raises(ArtuneError, match=message) as caught:
        Registry("imagenet", root=config).resolve("llamagen_l-ours")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [None, 3, ["note"]])
@pytest.mark.parametrize("scale", ["mnist", "smoke"])
def test_what_a_scale_says_about_itself_is_a_mapping_in_each_of_its_files(config, scale, value):
    edit(config / f"scales/{scale}.yaml", lambda tree: tree.update(about=value))
    with pytest.raises(ArtuneError, match=rf"^config/scales/{scale}.yaml: about: must be a mapping$"):
        Registry("smoke", root=config)


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ArtuneError, match="scale: unknown 'cifar'; known are fashion, imagenet, mnist, smoke"):
        Registry("cifar", root=CONFIG)
    with pytest.raises(ArtuneError, match=r"unknown run 'llamagen_l-our'; did you mean llamagen_l-ours"):
        Registry("mnist", root=CONFIG).resolve("llamagen_l-our")


def test_vqgan_refuses_guidance(config):
    edit(config / "experiments.yaml", lambda tree: tree["vqgan-ours"].update({"sampling.cfg": 1.5}))
    with pytest.raises(ArtuneError, match="no null class"):
        Registry("imagenet", root=config).resolve("vqgan-ours")


def test_a_base_cycle_is_refused(config):
    edit(config / "experiments.yaml", lambda tree: tree.update({"a-x": {"base": "b-x"}, "b-x": {"base": "a-x"}}))
    with pytest.raises(ArtuneError, match="is its own base"):
        Registry("imagenet", root=config).spec("a-x")


def test_what_a_scale_says_of_a_run_also_holds_for_the_runs_that_build_on_it(config):
    def add(tree):
        tree["mine"] = {"base": "vqgan-ours-topk100", "entropy.enabled": False}
        tree["mine-topk50"] = {"base": "mine", "sampling.top_k": 50}

    edit(config / "experiments.yaml", add)
    mnist, imagenet = (Registry(scale, root=config) for scale in ("mnist", "imagenet"))
    names = ("vqgan-ours-topk100", "mine", "mine-topk50")
    assert [mnist.resolve(name).sampling.top_k for name in names] == [32, 32, 50]
    assert [imagenet.resolve(name).sampling.top_k for name in names] == [100, 100, 50]


def test_settings_that_change_no_number_decide_nothing_and_are_taken_as_they_are_at_present():
    spec = Registry("mnist", root=CONFIG).spec("llamagen_l-ours")
    assert "save_every" in spec["grpo"]
    assert "save_every" not in deciding(spec)["grpo"]
    other = spec | {"grpo": spec["grpo"] | {"save_every": 3, "beta": 9.0}}
    assert deciding(other) != deciding(spec)
    assert deciding(spec | {"grpo": spec["grpo"] | {"save_every": 3}}) == deciding(spec)
    assert with_present(spec, other)["grpo"]["save_every"] == 3
    assert with_present(spec, other)["grpo"]["beta"] == spec["grpo"]["beta"]


def test_a_run_holds_only_the_settings_that_it_uses():
    argrpo, ours = (Registry("mnist", root=CONFIG).spec(f"llamagen_l-{name}") for name in ("argrpo", "ours"))
    assert set(argrpo["rewards"]["networks"]) == set(argrpo["rewards"]["weights"]) == {"clip", "hps"}
    assert "loo_fid" not in argrpo["rewards"]
    assert "loo_fid" in ours["rewards"]
    assert argrpo["entropy"] == {"enabled": False}
    assert "moment_images" not in ours["data"]


# ------------------------------------------------------------------------------------------------------- scales of one's own
def own_scale(config, name="pets", **sections):
    (config / f"scales/{name}.yaml").write_text(yaml.safe_dump({"extends": "mnist", **sections}))
    return name


def test_a_scale_is_what_lies_in_the_folder_of_scales(config):
    assert Registry(own_scale(config), root=config).scales == ("fashion", "imagenet", "mnist", "pets", "smoke")
    with pytest.raises(ArtuneError, match="scale: unknown 'horses'; known are fashion, imagenet, mnist, pets, smoke"):
        Registry("horses", root=config)


@pytest.mark.parametrize("name", ["My Pets", "pets-release", ".pets", "../scales/pets", "1"])
def test_a_name_that_cannot_be_a_folder_of_results_is_no_scale(config, name):
    own_scale(config)
    (config / "scales" / f"{name}.yaml").write_text("extends: mnist\n")
    with pytest.raises(ArtuneError, match="scale: unknown"):
        Registry(name, root=config)


def test_a_scale_may_bring_the_files_that_its_data_are_made_of(config):
    mine = {"file": "pets", "source": "my camera", "license": "mine", "bring": True}
    name = own_scale(config, assets={"mine": mine}, data={"source": "folders", "files": ["mine"]})
    assert Registry(name, root=config).assets["mine"].source == "my camera"
    assert "mine" not in Registry("mnist", root=config).assets
    with pytest.raises(ArtuneError, match=r"config/data.yaml: files: unknown 'theirs'"):
        Registry(own_scale(config, data={"source": "folders", "files": ["theirs"]}), root=config)
    with pytest.raises(
        ArtuneError, match=r"config/scales/pets.yaml: assets: mine: must be a mapping, e.g. {file: mine}"
    ):
        Registry(own_scale(config, assets={"mine": "a folder"}), root=config)


def test_keys_that_came_with_further_data_sets_are_in_no_settings_of_mnist():
    spec = Registry("mnist", root=CONFIG).spec("llamagen_l-ours")
    assert spec["data"].keys() == {
        "source", "image_size", "classes", "class_names", "prompt", "train_per_class", "validation_per_class",
        "heldout_per_class",
    }  # fmt: skip
    assert all(network["train"].keys() == {"steps", "batch", "learning_rate", "weight_decay"}
               for network in spec["networks"].values())  # fmt: skip
