"""Drawing of the pairs at both kinds of scale, and the automatic judge."""

import io
import itertools
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from imagenet_world import NAMES, SYNSETS, write_images
from PIL import Image
from study_pairs import COLOURS, make_study
from tiny import tiny_policy, tiny_renderer, tiny_run

from artune.commands.cli import main
from artune.config.registry import Registry
from artune.config.tables import MATCH, TASKS, HumanStudy
from artune.data.embedded import write_data
from artune.errors import ArtuneError
from artune.metrics.realism import realism_score
from artune.results.study.judge import judge_pairs
from artune.results.study.make import draw_classes, make_pairs, scramble, study_images, write_study_samples
from artune.results.study.pairs import PairFile
from artune.runtime.files import load_npz, read_json, save_npz
from artune.runtime.seeds import generator_for


def picture(study: PairFile, name: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(study.png(name))))


def write_samples(folder, registry, side):
    """Write samples as the rule does, with setting, draw and run encoded in the first pixel."""
    for number, (setting, settings) in enumerate(registry.study.settings.items()):
        labels = draw_classes(registry.study, setting, registry.data.classes)
        for whose, run in enumerate(settings.runs):
            images = np.zeros((len(labels), side, side, 3), np.uint8)
            images[:, 0, 0] = [(number, draw, whose) for draw in range(len(labels))]
            save_npz(folder / f"{run}.npz", {"images": images, "labels": labels.numpy()})


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Registry, folder and file of pairs at the smoke scale."""
    folder, registry = tmp_path_factory.mktemp("make"), Registry("smoke")
    write_data(registry.data, folder / "data.npz")
    write_samples(folder, registry, registry.data.image_size)
    make_pairs(registry, folder, folder / "data.npz", folder / "pairs.zip")
    return registry, folder, PairFile(folder / "pairs.zip")


@pytest.mark.parametrize("scale", ["mnist", "imagenet"])
def test_the_study_is_the_papers(scale):
    study = Registry(scale).study
    assert {setting: value.pairs for setting, value in study.settings.items()} == {"CFG": 260, "No CFG": 570}
    assert study.references == 5
    assert study.settings["CFG"].runs == ("llamagen_l-pretrained", "llamagen_l-ours")
    assert study.settings["No CFG"].runs == ("llamagen_l-pretrained-nocfg", "llamagen_l-ours-nocfg")
    assert study.judge not in Registry(scale).resolve("llamagen_l-ours").networks  # no reward uses the judge


def test_every_row_has_its_pairs_of_one_draw_and_class(smoke):
    registry, _, study = smoke
    assert study.pairs.totals() == {"CFG": dict.fromkeys(TASKS, 6), "No CFG": dict.fromkeys(TASKS, 8)}
    for item in study.pairs.of_kind("pair"):
        labels = draw_classes(registry.study, item.setting, registry.data.classes)
        assert item.class_id == labels[item.draw]
        number = list(registry.study.settings).index(item.setting)
        for whose, side in enumerate(("pretrained", "ours")):
            assert picture(study, item.images[side])[0, 0].tolist() == [number, item.draw, whose]
    drawn = {(item.setting, item.draw) for item in study.pairs.of_kind("pair")}
    assert len(drawn) == 2 * (6 + 8)  # no pair is in both tasks


def test_sides_are_balanced_and_the_order_is_mixed(smoke):
    _, _, study = smoke
    for setting, number in (("CFG", 6), ("No CFG", 8)):
        for task in TASKS:
            row = [item for item in study.pairs.of_kind("pair") if (item.setting, item.task) == (setting, task)]
            assert Counter(item.left for item in row) == {"ours": number // 2, "pretrained": number // 2}
            assert sum(item.shared for item in row) == 1
    kinds = [(item.kind, item.setting, item.task) for item in study.pairs.items]
    assert sum(a != b for a, b in itertools.pairwise(kinds)) > len(set(kinds)) * 2


def test_references_are_distinct_real_images_of_the_class(smoke):
    _, folder, study = smoke
    real = load_npz(folder / "data.npz", "heldout_images", "heldout_labels")
    labels = {image.tobytes(): label for image, label in zip(*real.values(), strict=True)}
    for item in study.pairs.items:
        assert len(set(item.references)) == len(item.references) == (5 if item.task == MATCH else 0)
        assert all(labels[picture(study, name).tobytes()] == item.class_id for name in item.references)
        if item.kind == "check":
            assert labels[picture(study, item.images["real"]).tobytes()] == item.class_id
            assert item.images["real"] not in item.references


def test_a_check_is_a_real_image_beside_its_own_blocks_out_of_place(smoke):
    _, _, study = smoke
    assert Counter(item.task for item in study.pairs.of_kind("check")) == dict.fromkeys(TASKS, 4)
    image = np.arange(24 * 24 * 3, dtype=np.uint32).reshape(24, 24, 3)
    mixed = scramble(image, generator_for("test"))
    assert sorted(mixed.ravel()) == sorted(image.ravel())
    blocks = mixed.reshape(4, 6, 4, 6, 3) == image.reshape(4, 6, 4, 6, 3)
    assert not blocks.any(axis=(1, 3, 4)).any()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_pairs(smoke, tmp_path):
    registry, folder, study = smoke
    make_pairs(registry, folder, folder / "data.npz", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (folder / "pairs.zip").read_bytes()
    other = Registry("smoke")
    other.study = other.study.model_copy(update={"seed": 1})
    write_samples(tmp_path, other, other.data.image_size)
    make_pairs(other, tmp_path, folder / "data.npz", tmp_path / "other.zip")
    assert PairFile(tmp_path / "other.zip").digest != study.digest


def test_samples_of_other_settings_are_refused(smoke, tmp_path):
    registry, folder, _ = smoke
    write_samples(tmp_path, registry, 24)
    run = registry.study.settings["CFG"].runs[1]
    arrays = load_npz(tmp_path / f"{run}.npz")
    save_npz(tmp_path / f"{run}.npz", arrays | {"labels": arrays["labels"][::-1].copy()})
    with pytest.raises(ArtuneError, match=rf"{run}.npz: drawn with other settings of the study"):
        make_pairs(registry, tmp_path, folder / "data.npz", tmp_path / "pairs.zip")
    (tmp_path / f"{run}.npz").unlink()
    with pytest.raises(ArtuneError, match="no such file"):
        make_pairs(registry, tmp_path, folder / "data.npz", tmp_path / "pairs.zip")
    assert not (tmp_path / "pairs.zip").exists()


def test_the_two_runs_of_a_setting_draw_with_the_same_seeds(tmp_path):
    study = HumanStudy.model_validate(
        Registry("smoke").study.model_dump() | {"settings": {"CFG": {"runs": ("a", "b"), "pairs": 5}}, "shared": 0}
    )
    made = {}
    for run, seed in (("a", 0), ("b", 0), ("b", 1)):
        settings = tiny_run(name=run, base=run)
        path = tmp_path / f"{run}{seed}.npz"
        write_study_samples(
            settings, study, tiny_policy(settings, seed), tiny_renderer(settings), 4, path, torch.device("cpu")
        )
        made[path.stem] = load_npz(path)
    assert made["a0"]["images"].shape == (10, 2, 2, 3)
    np.testing.assert_equal(made["a0"], made["b0"])  # the same policy gives the same images
    assert (made["a0"]["images"] != made["b1"]["images"]).any()
    np.testing.assert_array_equal(made["a0"]["labels"], made["b1"]["labels"])
    with pytest.raises(ArtuneError, match="none has the run tiny"):
        write_study_samples(tiny_run(), study, None, None, 4, tmp_path / "c.npz", torch.device("cpu"))


@pytest.fixture
def imagenet(tmp_path):
    """The imagenet scale with five classes, 32 pixels and three validation images per class."""
    registry = Registry("imagenet")
    registry.data = registry.data.model_copy(update={"image_size": 32, "classes": len(SYNSETS), "class_names": NAMES})
    few = {"references": 2, "checks": 2}
    settings = {name: value.model_copy(update={"pairs": 4}) for name, value in registry.study.settings.items()}
    registry.study = registry.study.model_copy(update=few | {"settings": settings})
    write_images(tmp_path / "val", each=3)
    write_samples(tmp_path, registry, 32)
    return registry


def test_at_the_imagenet_scale_references_are_centre_crops_of_validation_images(imagenet, tmp_path):
    assert imagenet.study.reference == "imagenet_val"
    make_pairs(imagenet, tmp_path, tmp_path / "val", tmp_path / "pairs.zip")
    study = PairFile(tmp_path / "pairs.zip")
    own = study_images(imagenet.data, tmp_path / "val", "imagenet_val")
    known = [{read().tobytes() for read in images} for images in own]
    assert [len(images) for images in known] == [3] * 5
    for item in study.pairs.items:
        assert all(picture(study, name).tobytes() in known[item.class_id] for name in item.references)
    imagenet.study = imagenet.study.model_copy(update={"references": 5})
    with pytest.raises(ArtuneError, match="a class has 3 images; references: 5 needs one more"):
        make_pairs(imagenet, tmp_path, tmp_path / "val", tmp_path / "pairs.zip")


class Mean(torch.nn.Module):
    """A network that embeds an image as the colour of its first pixel, normalised to unit length."""

    def embed_images(self, images):
        return torch.nn.functional.normalize(images[:, :, 0, 0].float() + 1, dim=-1)


def test_the_judge_prefers_the_image_nearer_to_the_references(smoke, tmp_path):
    registry, _, _ = smoke
    make_study(tmp_path / "pairs.zip", pairs=4)
    judge_pairs(tmp_path / "pairs.zip", "mean", Mean(), registry.evaluation, tmp_path / "j.json", torch.device("cpu"))
    found = read_json(tmp_path / "j.json")
    real, ours, theirs = (torch.tensor(COLOURS[side]).float() + 1 for side in ("real", "ours", "pretrained"))
    nearer = (
        "ours" if torch.cosine_similarity(ours, real, 0) > torch.cosine_similarity(theirs, real, 0) else "pretrained"
    )
    assert found["rows"]["CFG"]["Ref. Match"] == {"ours": 0, "tie": 0, "pretrained": 0} | {nearer: 4}
    assert found["study"] == PairFile(tmp_path / "pairs.zip").digest
    assert found["judge"] == "mean"


def test_a_network_that_a_reward_used_is_no_judge(tmp_path, monkeypatch, capsys):
    shutil.copytree("config", tmp_path / "config")
    path = tmp_path / "config/study.yaml"
    path.write_text(path.read_text().replace("judge: clip_judge", "judge: clip"))
    monkeypatch.chdir(tmp_path)
    paths = ["--pairs", "pairs.zip", "--networks", "networks", "--output", "judge.json"]
    assert main(["study", "judge", *paths, "--scale", "mnist", "--device", "cpu"]) == 2
    assert "judge: clip was a reward of llamagen_l-ours; name a network that was not" in capsys.readouterr().err


def test_the_realism_score_is_that_of_a_naive_loop():
    draw = torch.Generator().manual_seed(0)
    real, made = torch.randn(20, 5, generator=draw), torch.randn(7, 5, generator=draw)
    radii = torch.stack([(real - one).norm(dim=1).sort().values[3] for one in real])
    keep = radii <= radii.sort().values[9]
    expected = [max(r / (one - x).norm() for x, r in zip(real[keep], radii[keep], strict=True)) for one in made]
    torch.testing.assert_close(realism_score(real, made, 3).float(), torch.stack(expected))
    with pytest.raises(ArtuneError, match="k=3 with 3"):
        realism_score(real[:3], made, 3)
