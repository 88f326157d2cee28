"""The third judge and the reward's own scores: which files they need, and what they leave as it was."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from project import ROOT

from artune.config.registry import Registry
from artune.config.yaml_layers import read_yaml
from artune.errors import ArtuneError
from artune.evaluation.features import identity_of
from artune.inputs.references import write_judge_reference
from artune.metrics.precision_recall import neighbour_radii
from artune.planning import recipes
from artune.planning.needs import paths_of, source_rules
from artune.planning.plan import Plan
from artune.runtime.files import load_npz, save_npz

REFERENCE = "results/fashion/references/efficientnet_lite0.npz"


def plan(scale, root=ROOT / "config"):
    return Plan(read_yaml(Path(root, "config.yaml")) | {"scale": scale}, Path(root))


def test_the_third_judge_has_a_reference_of_its_own_and_no_training_depends_on_it():
    fashion = plan("fashion")
    assert fashion.further_references() == {"references": [REFERENCE]}
    assert not any("efficientnet" in path for path in fashion.evaluation_networks())
    assert "efficientnet" not in str(recipes.reference_recipe(fashion.registry))
    rules = source_rules(fashion)
    assert rules[REFERENCE] == ("judge_reference efficientnet_lite0", [fashion.embedded_data()])
    for run in fashion.registry.run_names:
        if fashion.spec(run)["method"] in ("grpo", "mle", "vapi"):
            assert not any("efficientnet" in path for path in paths_of(fashion.train(run))), run


def test_at_scales_without_it_nothing_is_asked_for():
    assert plan("mnist").further_references() == {}
    assert "efficientnet" not in str(plan("imagenet").further_references())


def test_features_are_outdated_where_the_rewards_probabilities_are_new_and_only_there():
    """The roles are a parameter of the rule features."""
    mnist, imagenet = plan("mnist"), plan("imagenet")
    own = mnist.registry.evaluation.networks
    assert mnist.feature_roles() == own | {"reward_classifier": "inception"}
    assert imagenet.feature_roles() == imagenet.registry.evaluation.networks


@pytest.mark.parametrize(
    ("scale", "network"), [("mnist", "judge"), ("imagenet", "efficientnet_lite0")], ids=["another kind", "no data.npz"]
)
def test_a_network_that_cannot_be_this_judge_is_refused_by_one_line(scale, network, tmp_path):
    root = shutil.copytree(ROOT / "config", tmp_path / "config")
    file = root / f"scales/{scale}.yaml"
    text = file.read_text(encoding="utf-8").replace("\nevaluation:\n", f"\nevaluation:\n  efficientnet: {network}\n")
    if network == "efficientnet_lite0":
        entry = "  efficientnet_lite0: {kind: efficientnet, architecture: tf_efficientnet_lite0}\n"
        text = text.replace("\nnetworks:\n", f"\nnetworks:\n{entry}")
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ArtuneError, match=f"evaluation.efficientnet: {network}: give a network of kind") as caught:
        plan(scale, root).further_references()
    assert "\n" not in str(caught.value)


def test_a_network_of_a_package_is_nothing_that_the_rule_network_can_make():
    with pytest.raises(ArtuneError, match="efficientnet_lite0: comes out of a package"):
        plan("fashion").network("efficientnet_lite0")


def test_features_kept_beside_the_samples_are_those_of_the_installed_package(tmp_path, monkeypatch):
    registry = Registry("fashion", root=ROOT / "config")
    files = {}
    for name in set(registry.evaluation.networks.values()) - {"efficientnet_lite0"}:
        files[name] = tmp_path / f"{name}.safetensors"
        files[name].write_bytes(name.encode())
    found = set()
    for digest in ("not installed", "5793"):
        monkeypatch.setattr("artune.evaluation.features.packaged_digest", lambda digest=digest: digest)
        found.add(identity_of(registry, registry.evaluation, files, torch.device("cpu")))
    assert len(found) == 2


class MeanColour:
    def embed_images(self, images):
        return images.float().mean((2, 3))


def test_the_reference_holds_the_held_out_images_and_is_empty_without_the_package(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    save_npz(tmp_path / "data.npz", {"heldout_images": images, "heldout_labels": np.arange(6) % 2})
    given = (tmp_path / "data.npz", "efficientnet_lite0")
    line = write_judge_reference(*given, None, 4, tmp_path / "empty.npz", torch.device("cpu"))
    assert load_npz(tmp_path / "empty.npz") == {}
    assert "the package of efficientnet_lite0 is not installed, so its scores are left out" in line
    write_judge_reference(*given, MeanColour(), 4, tmp_path / "full.npz", torch.device("cpu"))
    found = load_npz(tmp_path / "full.npz")["heldout/efficientnet_lite0/embeddings"]
    assert found.dtype == np.float16
    assert np.array_equal(found, images.mean((1, 2), dtype=np.float32).astype(np.float16))
    write_judge_reference(*given, MeanColour(), 4, tmp_path / "radii.npz", torch.device("cpu"), 2)
    radii = load_npz(tmp_path / "radii.npz")["heldout/efficientnet_lite0/radii2"]
    assert np.array_equal(radii, neighbour_radii(torch.from_numpy(found).float(), 2))


def test_the_features_of_a_further_set_are_those_of_its_own_networks(tmp_path):
    registry, found = Registry("fashion", root=ROOT / "config"), set()
    for number in (0, 1):
        protocol, files = registry.evaluation_in(number), {}
        for name in set(protocol.networks.values()) - {"efficientnet_lite0"}:
            files[name] = tmp_path / f"{name}.safetensors"
            files[name].write_bytes(name.encode())
        found.add(identity_of(registry, protocol, files, torch.device("cpu")))
    assert len(found) == 2
