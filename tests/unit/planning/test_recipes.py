"""What two presets share, and which settings outdate which file."""

import shutil

import pytest
from project import ROOT

from artune.config.registry import Registry
from artune.config.sizes import crops_per_image
from artune.config.yaml_layers import read_yaml
from artune.errors import ArtuneError
from artune.planning import recipes
from artune.planning.plan import Plan

CONFIG = read_yaml(ROOT / "config/config.yaml")


def plan(scale, preset, root=ROOT / "config"):
    return Plan(CONFIG | {"scale": scale, "preset": preset}, root)


@pytest.mark.parametrize("scale", ["mnist", "imagenet"])
def test_presets_share_what_they_do_not_change_and_nothing_else(scale):
    paper, release = plan(scale, "paper"), plan(scale, "release")
    for file in ("images", "train_moments", "tokenizer_weights", "codes", "prior_weights"):
        name = {"train_moments": ["inception"], "tokenizer_weights": ["vq"], "codes": ["vq"]}.get(file, [])
        name = ["llamagen_l"] if file == "prior_weights" else name
        assert getattr(paper, file)(*name) == getattr(release, file)(*name)
    for own in ("runs", "folder"):
        assert getattr(paper, own) == getattr(release, own).replace("-release", "")
        assert "-release" in getattr(release, own)
    assert release.policy("llamagen_l-ours") == f"results/{scale}-release/runs/llamagen_l-ours/policy.safetensors"
    assert release.policy("llamagen_l-pretrained") == paper.policy("llamagen_l-pretrained")
    assert release.study_pairs() != paper.study_pairs()
    assert paper.asset("imagenet") == release.asset("imagenet")


def test_a_network_that_reads_the_prompts_is_trained_again_where_the_preset_changes_them():
    paper, release = plan("mnist", "paper"), plan("mnist", "release")
    for name in ("inception", "judge", "maniqa"):
        assert paper.network_weights(name) == release.network_weights(name)
    for name in ("clip", "clip_judge", "hps"):
        assert release.network_weights(name) == f"results/mnist-release/inputs/networks/{name}.safetensors"
    imagenet = plan("imagenet", "release")  # released networks: the prompt does not change them
    assert imagenet.network_weights("clip") == "results/imagenet/inputs/networks/clip.safetensors"


def test_the_reference_is_the_presets_own_where_the_rewards_network_is():
    assert plan("mnist", "release").reference_moments() == "results/mnist/reference.npz"
    assert plan("imagenet", "release").reference_moments() == "results/imagenet-release/reference.npz"


def test_a_file_in_the_folder_of_another_preset_is_refused():
    release = plan("mnist", "release")
    assert release.recipe("mnist", recipes.network_recipe, "judge")
    with pytest.raises(ArtuneError, match=r"results/mnist: preset release has this file in results/mnist-release"):
        release.recipe("mnist", recipes.network_recipe, "clip")


@pytest.mark.parametrize(
    ("file", "old", "new", "outdated"),
    [
        ("data.yaml", "a photo of {}", "a picture of {}", {"clip", "clip_judge", "hps"}),
        ("backbones.yaml", "heads: 16,", "heads: 16, uint8_rule: taming,", set()),
        ("scales/mnist.yaml", "train_per_class: 360", "train_per_class: 350",
         {"clip", "clip_judge", "hps", "inception", "inception_residual", "judge", "maniqa"}),
    ],
)  # fmt: skip
def test_a_network_is_outdated_by_the_settings_that_it_uses(tmp_path, file, old, new, outdated):
    root = shutil.copytree(ROOT / "config", tmp_path / "config")
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new))
    before, after = Registry("mnist", root=ROOT / "config"), Registry("mnist", root=root)
    changed = {
        name
        for name in before.networks
        if recipes.network_recipe(before, name) != recipes.network_recipe(after, name)
        and before.networks[name].train is not None
    }
    assert changed == outdated
    if file == "data.yaml":
        assert recipes.data_recipe(before) == recipes.data_recipe(after)
        assert recipes.prior_recipe(before, "llamagen_l-s1") == recipes.prior_recipe(after, "llamagen_l")


def test_the_codes_are_outdated_by_the_sequences_that_their_runs_draw_and_no_prior_is(tmp_path):
    root = shutil.copytree(ROOT / "config", tmp_path / "config")
    before = Registry("imagenet", root=root)
    assert recipes.code_sequences(before, "vq") == 5000 * 256
    assert recipes.code_sequences(before, "vqgan") is None
    path = root / "experiments.yaml"
    path.write_text(path.read_text().replace("mle.iterations: 5000", "mle.iterations: 20000"))
    after = Registry("imagenet", root=root)
    assert crops_per_image(recipes.code_sequences(before, "vq"), 1_281_167) == 1
    assert crops_per_image(recipes.code_sequences(after, "vq"), 1_281_167) == 4
    assert recipes.codes_recipe(before, "vq") != recipes.codes_recipe(after, "vq")
    assert recipes.prior_recipe(before, "llamagen_l") == recipes.prior_recipe(after, "llamagen_l")
    mnist = Registry("mnist", root=root)  # its codes have no crops
    assert recipes.codes_recipe(mnist, "vq") == recipes.tokenizer_recipe(mnist, "vq")


@pytest.mark.parametrize(
    ("sequences", "images", "crops"),
    [(None, 9, 20), (1, 9, 1), (9, 9, 1), (10, 9, 2), (180, 9, 20), (181, 9, 20), (5, 0, 5)],
)
def test_as_many_crops_as_a_training_can_draw(sequences, images, crops):
    assert crops_per_image(sequences, images) == crops
