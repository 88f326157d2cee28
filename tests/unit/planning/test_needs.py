"""Rules that need a file from outside, found by following the inputs of rules from the runs back to the files."""

import re
import shutil

import pytest
import yaml
from project import ROOT

from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.planning.needs import asset_users

RULES = {
    name
    for path in (ROOT / "workflow/rules").glob("*.smk")
    for name in re.findall(r"^ *rule (\w+):", path.read_text(), re.M)
}


@pytest.fixture
def config(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path / "config"


def edit(path, change):
    tree = yaml.safe_load(path.read_text())
    change(tree)
    path.write_text(yaml.safe_dump(tree, sort_keys=False))


@pytest.mark.parametrize("preset", ["paper", "release"])
def test_what_needs_an_asset_is_a_rule_of_the_workflow(preset):
    users = asset_users(Registry("imagenet", preset, ROOT / "config"))
    assert {rule.split()[0] for rules in users.values() for rule in rules} <= RULES


def test_the_users_of_an_asset_are_named_with_what_they_make():
    users = asset_users(Registry("imagenet", "release", ROOT / "config"))
    assert users["vq_ds16_c2i"] == ["tokenizer vq"]
    assert users["taming_cin"] == ["tokenizer vqgan", "pretrained_policy vqgan"]
    assert users["vapi_xl"] == ["external_policy"]
    assert users["torchvision_inception"] == ["network inception_torchvision"]
    assert users["imagenet"] == ["class_moments", "codes", "train_moments inception_torchvision"]
    assert users["imagenet_val"] == ["real_samples", "further_reference", "study_make"]


def test_a_scale_that_trains_its_inputs_needs_no_file_from_outside():
    for scale in ("mnist", "smoke"):
        assert not any(asset_users(Registry(scale, root=ROOT / "config")).values())


def test_a_file_is_needed_only_by_runs_that_can_be_had(config):
    away = ("llamagen_l-class_matched", "llamagen_l-half_prompts-class_matched", "llamagen_xl-vapi",
            "llamagen_xl-vapi-nocfg", "real", "vqgan-pretrained", "vqgan-pretrained-topk100", "vqgan-ours",
            "vqgan-ours-topk100", "vqgan-ours-topk100-truncated", "vqgan-ours-topk100-entropy0", "llamagen_l-second",
            "llamagen_l-both")  # fmt: skip
    edit(config / "scales/imagenet.yaml", lambda tree: tree["about"].update(unavailable=dict.fromkeys(away, "none")))
    users = asset_users(Registry("imagenet", root=config))
    assert users["imagenet"] == ["codes"]  # the likelihood runs need codes
    assert users["imagenet_val"] == ["further_reference", "study_make"]
    assert users["vapi_xl"] == users["taming_cin"] == []


def test_the_judge_of_the_study_is_needed_though_no_score_uses_it(config):
    edit(config / "study.yaml", lambda tree: tree["study"].update(judge="clip_b_32"))
    assert asset_users(Registry("imagenet", root=config))["clip_vit_b_32"] == ["network clip_b_32"]


@pytest.mark.parametrize(
    ("file", "change", "key"),
    [
        ("experiments.yaml", lambda tree: tree["real"].update(images="pictures"), "pictures"),
        ("backbones.yaml", lambda tree: tree["backbones"]["llamagen_b"].pop("checkpoint"), "None"),
    ],
)
def test_a_file_that_no_line_of_assets_yaml_names_is_one_line(config, file, change, key):
    edit(config / file, change)
    with pytest.raises(ArtuneError, match=f"config/assets.yaml: unknown asset '{key}'"):
        asset_users(Registry("imagenet", root=config))
