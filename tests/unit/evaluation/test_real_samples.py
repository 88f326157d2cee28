"""Real images in place of samples: which images are chosen, from which split, and how their scores are labelled."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from project import ROOT
from scored import OFFICIAL, draws, reference

from artune.config.registry import Registry
from artune.config.run import Data, RealRun
from artune.data.crops import centre_crop
from artune.errors import ArtuneError
from artune.evaluation.evaluate import ScoreFiles, evaluate
from artune.evaluation.real_samples import choose, chosen_images, write_real_samples
from artune.planning.plan import Plan
from artune.runtime.files import load_npz, save_npz

SYNSETS = ("n01440764", "n01443537", "n01484850")
NAMES = ("tench", "goldfish", "shark")


def real_run(source="imagenet", seed=0, images="imagenet_val"):
    data = Data(source=source, image_size=16, classes=3, class_names=NAMES)
    facts = {"base": "real", "seed": seed, "scale": "imagenet", "preset": "paper", "method": "real", "networks": {}}
    return RealRun(name="real", images=images, data=data, **facts)


def protocol(**changes):
    return OFFICIAL.model_copy(update={"samples": 12, "grid_classes": 2, "grid_per_class": 2} | changes)


@pytest.fixture
def val(tmp_path):
    """A folder of three synsets with four images each, all of different brightness."""
    for label, synset in enumerate(SYNSETS):
        (tmp_path / "val" / synset).mkdir(parents=True)
        for index in range(4):
            noise = np.random.default_rng([label, index]).integers(0, 40, (20, 30, 3)) + 60 * label + 10 * index
            Image.fromarray(noise.astype(np.uint8)).save(tmp_path / "val" / synset / f"{index}.png")
    return tmp_path / "val"


@pytest.mark.parametrize("how", ["random", "balanced"])
def test_every_image_is_taken_at_most_once_in_an_order_of_the_seed(how):
    labels = torch.arange(3).repeat_interleave(10)

    def draw(n, seed):
        return choose(labels, n, how, torch.Generator().manual_seed(seed))

    assert draw(30, 0).sort().values.tolist() == list(range(30))
    assert draw(30, 0).tolist() != list(range(30))
    assert draw(30, 0).tolist() != draw(30, 1).tolist()
    part = draw(15, 0)
    assert len(part.unique()) == 15
    if how == "balanced":
        assert labels[part].bincount().tolist() == [5, 5, 5]
    with pytest.raises(ArtuneError, match=f"31 {how} images asked for, but there are"):
        draw(31, 0)


@pytest.mark.parametrize("n", [12, 5])
def test_images_of_the_validation_split_are_adms_crops_with_their_labels(val, n):
    images, labels = chosen_images(real_run(), protocol(samples=n), val)
    assert images.shape == (n, 16, 16, 3)
    crops = {}
    for label, synset in enumerate(SYNSETS):
        for index in range(4):
            crop = np.asarray(centre_crop(Image.open(val / synset / f"{index}.png"), 16))
            crops[crop.tobytes()] = label
    assert [crops[image.tobytes()] for image in images] == labels.tolist()
    assert len({image.tobytes() for image in images}) == n
    assert sorted(labels.tolist()) != labels.tolist()  # the images are not sorted by class


def test_images_of_a_trained_scale_are_of_its_own_split(tmp_path):
    images = np.arange(9 * 4 * 4 * 3, dtype=np.uint8).reshape(9, 4, 4, 3)
    labels = np.repeat(np.arange(3), 3)
    save_npz(tmp_path / "data.npz", {"train_images": images, "train_labels": labels})
    found, ids = chosen_images(
        real_run("mnist", images="train"), protocol(samples=6, labels="balanced"), tmp_path / "data.npz"
    )
    assert np.bincount(ids).tolist() == [2, 2, 2]
    for image, label in zip(found, ids, strict=True):
        assert any(np.array_equal(image, images[at]) for at in np.flatnonzero(labels == label))


def test_samples_and_grid_are_written(val, tmp_path):
    line = write_real_samples(real_run(), protocol(), val, tmp_path / "samples.npz", tmp_path / "grid.png")
    assert load_npz(tmp_path / "samples.npz", "arr_0", "labels")["arr_0"].shape == (12, 16, 16, 3)
    assert (tmp_path / "grid.png").stat().st_size > 0
    assert line.endswith("12 real images of imagenet_val")
    with pytest.raises(ArtuneError, match="no class has 9 of the 12 images"):
        write_real_samples(real_run(), protocol(grid_per_class=9), val, tmp_path / "s.npz", tmp_path / "g.png")


def test_scores_name_the_images_and_leave_out_the_reference_that_they_are(tmp_path):
    save_npz(tmp_path / "features.npz", draws(0))
    for name, seed in (("adm_virtual", 1), ("imagenet_val", 2)):
        save_npz(tmp_path / f"{name}.npz", reference(seed, OFFICIAL))
    further = {"imagenet_val": tmp_path / "imagenet_val.npz"}
    output = tmp_path / "scores.json"
    files = ScoreFiles(tmp_path / "features.npz", tmp_path / "adm_virtual.npz", output, references=further)
    evaluate(real_run(), OFFICIAL, files, {})
    found = json.loads(output.read_text())
    assert found["references"] == {}
    assert (found["images"], found["resize"], found["cfg"]) == ("imagenet_val", "ADM's centre crop", None)
    assert found["scores"]["fid"] > 0


def test_the_run_is_planned_without_any_policy():
    plan = Plan({"scale": "mnist"}, ROOT / "config")
    assert plan.real_runs == ["real"]
    assert plan.real("real") == "results/mnist/inputs/data.npz"
    assert plan.timings("real") == []
    with pytest.raises(ArtuneError, match="real: consists of real images and has no policy"):
        plan.policy("real")
    imagenet = Plan({"scale": "imagenet"}, ROOT / "config")
    assert imagenet.real("real-s1") == "results/imagenet/assets/imagenet_val.json"
    assert "real" not in [
        row.run for name, table in imagenet.registry.tables.items() if name != "extra_real" for row in table.rows
    ]


def test_a_line_of_real_images_without_their_source_is_one_line(tmp_path):
    import shutil

    shutil.copytree(ROOT / "config", tmp_path / "config")
    path = tmp_path / "config/experiments.yaml"
    path.write_text(path.read_text() + "photos: {method: real}\nmore: {base: real, sampling.cfg: 1.0}\n")
    registry = Registry("imagenet", root=tmp_path / "config")
    with pytest.raises(ArtuneError, match="photos: images: missing; method real needs it"):
        registry.resolve("photos")
    with pytest.raises(ArtuneError, match="sampling: unknown key; a run of method real has method, images"):
        registry.resolve("more")
