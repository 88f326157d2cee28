"""Which layer sets a value, and edits of an axis file that have no effect."""

import json
import shutil

import pytest
from project import ROOT

from artune.config.registry import Registry
from artune.planning.layers import RELEASED, edits_without_effect, origins, overridden_values


@pytest.fixture
def config(tmp_path):
    return shutil.copytree(ROOT / "config", tmp_path / "config")


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_a_run_line_wins_over_its_base_and_show_names_the_layer():
    registry = Registry("imagenet", root=ROOT / "config")
    kl2 = origins(registry, "llamagen_l-kl2")
    assert kl2["grpo.beta"][-1] == (2.0, "experiments.yaml: llamagen_l-kl2")
    assert kl2["grpo.beta"][0] == (3.0, "grpo.yaml")
    assert kl2["grpo.clip"] == [(0.2, "grpo.yaml")]
    assert origins(registry, "llamagen_l-mle500")["mle.batch"][-1] == (256, "mle.yaml")


def test_the_settings_of_the_evaluation_are_shown_with_every_layer():
    found = origins(Registry("mnist", root=ROOT / "config"), "llamagen_l-ours")["evaluation.samples"]
    assert found == [(50000, "evaluation.yaml"), (2000, "scales/mnist.yaml")]


def test_the_networks_of_a_further_set_come_from_the_name():
    registry = Registry("mnist", root=ROOT / "config")
    found, plain = origins(registry, "llamagen_l-ours-n1"), origins(registry, "llamagen_l-ours-t1")
    named = {
        "rewards.networks.clip": "clip-n1",
        "rewards.loo_fid.network": "inception-n1",
        "evaluation.features": "judge-n1",
    }
    for key, network in named.items():
        assert found[key][-1] == (network, "the run's name: set 1 of frozen networks")
    assert {key: values[-1] for key, values in found.items() if values != plain[key]}.keys() >= named.keys()
    assert plain == origins(registry, "llamagen_l-ours")


def test_the_released_settings_have_no_edit_without_effect():
    assert json.loads(RELEASED.read_text()) == overridden_values(ROOT / "config"), (
        f"config/ has changed; write {RELEASED} again: json.dumps(overridden_values(), indent=1) and a line break"
    )
    for scale in ("mnist", "imagenet", "smoke"):
        assert edits_without_effect(Registry(scale, root=ROOT / "config")) == []


def test_an_edited_axis_value_that_the_scale_overrides_is_named_with_the_layer_that_wins(config):
    edit(config / "evaluation.yaml", "samples: 50000", "samples: 20000")
    (line,) = edits_without_effect(Registry("mnist", root=config))
    assert line == (
        "config/evaluation.yaml: evaluation.samples: 20000 has no effect here; config/scales/mnist.yaml sets 2000, so "
        "edit it there"
    )
    assert edits_without_effect(Registry("imagenet", root=config)) == []  # there it counts


@pytest.mark.parametrize(
    ("file", "old", "new", "preset", "winner"),
    [
        ("grpo.yaml", "iterations: 600 ", "iterations: 500 ", "paper", "scales/mnist.yaml sets 100"),
        ("grpo.yaml", "reduction: mean ", "reduction: sum_ ", "release", "presets/release.yaml sets 'sum'"),
    ],
)
def test_every_kind_of_layer_that_overrides_is_named(config, file, old, new, preset, winner):
    edit(config / file, old, new)
    (line,) = edits_without_effect(Registry("mnist", preset, config))
    assert winner in line


def test_a_line_of_a_run_that_the_scale_replaces_is_named(config):
    path = config / "experiments.yaml"
    path.write_text(path.read_text().replace("mle.iterations: 500}", "mle.iterations: 400}"))
    (line,) = edits_without_effect(Registry("mnist", root=config))
    assert line.startswith("config/experiments.yaml: llamagen_l-mle500: mle.iterations: 400 has no effect here")
    assert "config/scales/mnist.yaml: llamagen_l-mle500 sets 80" in line


@pytest.mark.parametrize(
    ("file", "old", "new", "scale", "winner"),
    [
        ("presets/release.yaml", "prompts: 48 ", "prompts: 24 ", "mnist", "config/scales/mnist.yaml sets 10"),
        ("scales/mnist.yaml", "samples: 2000\n", "samples: 1000\n", "smoke", "config/scales/smoke.yaml sets 64"),
        ("entropy.yaml", "deadband", "deadband", "smoke", None),
    ],
)
def test_presets_and_extended_scales_are_layers_too(config, file, old, new, scale, winner):
    path = config / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    lines = edits_without_effect(Registry(scale, "release", config))
    assert [winner in line for line in lines] == ([True] if winner else [])


def test_a_value_that_a_scale_inherits_is_named_with_the_file_that_holds_it():
    found = origins(Registry("smoke", root=ROOT / "config"), "llamagen_l-ours")
    assert found["entropy.c0"][-1] == (2.2e-2, "scales/mnist.yaml")
    assert found["evaluation.samples"][-2:] == [(2000, "scales/mnist.yaml"), (64, "scales/smoke.yaml")]
