"""Samples from other programs and data sets in other layouts: what is certain is used, the rest is refused in one line."""

import io
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from project import ROOT

from artune.commands.cli import main
from artune.config.registry import Registry
from artune.config.yaml_layers import merge, read_yaml
from artune.models.encoders.build import build_network
from artune.models.weights.checkpoints import save_module
from artune.runtime.files import load_npz, save_npz

REGISTRY = Registry("smoke", root=ROOT / "config")
N, CLASSES = REGISTRY.evaluation.samples, REGISTRY.data.classes
TRUE = np.arange(N) % CLASSES


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """The frozen networks of the smoke scale with random weights."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    for name in set(REGISTRY.evaluation.networks.values()):
        save_module(folder / f"{name}.safetensors", build_network(REGISTRY.networks[name], REGISTRY.data))
    return folder


@pytest.fixture
def features(networks, tmp_path, monkeypatch, capsys):
    """A function that runs `artune features` on samples with other arrays; returns status, arrays and last line."""
    monkeypatch.chdir(ROOT)
    side = REGISTRY.data.image_size
    images = np.random.default_rng(0).integers(0, 256, (N, side, side, 3), dtype=np.uint8)

    def run(stored):
        output = tmp_path / "features.npz"
        output.unlink(missing_ok=True)
        save_npz(tmp_path / "foreign.npz", {"arr_0": images} | stored)
        words = ["features", "--samples", tmp_path / "foreign.npz", "--networks", networks, "--output", output]
        status = main([*map(str, words), "--scale", "smoke", "--device", "cpu", "--threads", "1"])
        text = capsys.readouterr().err
        assert "Traceback" not in text
        return status, load_npz(output) if output.exists() else {}, text.splitlines()[-1]

    return run


CONVERTED = {
    "as uint8": {"labels": TRUE.astype(np.uint8)},
    "as floats that are whole": {"labels": TRUE.astype(np.float32)},
    "as a column [n, 1]": {"labels": TRUE[:, None]},
    "one-hot": {"labels": np.eye(CLASSES)[TRUE]},
    "under the name `arr_1` (ADM's sampler)": {"arr_1": TRUE},
}


@pytest.mark.parametrize("kind", CONVERTED)
def test_labels_of_another_form(features, kind, fault):
    """Samples from another program hold their labels in another form"""
    _, expected, _ = features({"labels": TRUE})
    status, found, _ = features(CONVERTED[kind])
    assert status == 0
    assert set(found) == set(expected)
    assert all(np.array_equal(found[key], expected[key]) for key in expected)
    fault.fault = f"Samples from another program hold their labels {kind}"
    fault.done = f"`artune features` on {N} samples whose labels are stored {kind}"
    fault.happened = "the labels were converted; every feature and every cosine with a prompt is that of int64 labels"
    fault.lost = "nothing"


REFUSED = {
    "count from 1": {"labels": TRUE + 1},
    "hold -1": {"labels": np.where(TRUE == 3, -1, TRUE)},
    "are fewer than the images": {"labels": TRUE[:-1]},
    "are fractions": {"labels": TRUE + 0.5},
    "are text": {"labels": TRUE.astype(str)},
    "are beyond 64 bits": {"labels": np.where(TRUE == 3, 2**64 - 1, TRUE.astype(np.uint64))},
}


@pytest.mark.parametrize("kind", REFUSED)
def test_labels_of_no_certain_meaning(features, kind, fault):
    """Samples from another program have labels that cannot be trusted"""
    status, found, line = features(REFUSED[kind])
    assert status == 2
    assert found == {}
    assert "foreign.npz: labels: " in line
    fault.fault = f"The labels of samples from another program {kind}"
    fault.done = f"`artune features` on {N} samples whose labels {kind}"
    fault.happened = f"before anything is computed: `error: foreign.npz: {line.split('foreign.npz: ')[1]}`"
    fault.lost = "nothing; no score is made with wrong classes"


def test_no_labels(features, fault):
    """Samples from another program have no labels"""
    _, expected, _ = features({"labels": TRUE})
    status, found, line = features({})
    assert status == 0
    assert set(expected) - set(found) == {"labels", "clip", "reward_clip"}
    assert all(np.array_equal(found[key], expected[key]) for key in found)
    assert "has no labels, so there will be no accuracy and no CLIPScore" in line
    fault.done = f"`artune features` on {N} samples without labels"
    fault.happened = "one line says that there will be no accuracy and no CLIPScore; all other features are the same"
    fault.lost = "the two scores that need labels"


# -- class folders ------------------------------------------------------------------------------------------------

SIDE, FEW = 8, 40


def grey(number):
    """An image whose colour tells its class: red is the class over 4, green the class modulo 4."""
    data = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (number // 4, 60 * (number % 4), 0)).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def synsets():
    from timm.data import ImageNetInfo

    return ImageNetInfo("imagenet-1k").label_names()


@pytest.fixture
def real_samples(tmp_path, monkeypatch, capsys):
    """A function that runs `artune real_samples` at the imagenet scale, with 8 pixels and 40 samples, on a folder."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    scale = tmp_path / "config/scales/imagenet.yaml"
    sizes = {"data": {"image_size": SIDE}, "evaluation": {"samples": FEW, "grid_classes": 2, "grid_per_class": 1}}
    scale.write_text(yaml.safe_dump(merge(read_yaml(scale), sizes)))
    monkeypatch.chdir(tmp_path)
    shared = ["--scale", "imagenet", "--device", "cpu", "--threads", "1"]
    assert main(["run_config", "real", "--output", "run.yaml", *shared]) == 0

    def run(folder):
        output = tmp_path / "samples.npz"
        output.unlink(missing_ok=True)
        words = ["--config", "run.yaml", "--data", str(folder), "--output", str(output), "--grid", "grid.png"]
        status = main(["real_samples", *words, *shared])
        text = capsys.readouterr().err
        assert "Traceback" not in text
        return status, load_npz(output) if output.exists() else {}, text.splitlines()[-1]

    return run


def write_set(folder, names):
    """A folder per class, in ImageNet's order of the classes, with one image of the class's colour."""
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        (folder / name / "1.png").write_bytes(grey(number))
    return folder


def right(arrays):
    """Whether the label of every image is the class that its colour tells."""
    told = [4 * int(red) + round(green / 60) for red, green, _ in arrays["arr_0"][:, 0, 0]]
    return len(told) == FEW and told == arrays["labels"].tolist()


def words_of(synsets):
    """A name of words for each of the 1,000 classes, as some copies of ImageNet have them; none occurs twice."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return [f"{info.label_name_to_description(name).split(',')[0]} {name[-3:]}" for name in synsets]


NAMES = {
    "words (`goldfish`, ...)": words_of,
    "numbers (`0` to `999`, as in ImageNet-V2)": lambda synsets: [str(number) for number in range(len(synsets))],
}


@pytest.mark.parametrize("kind", NAMES)
def test_class_folders_with_other_names(real_samples, synsets, tmp_path, kind, fault):
    """1,000 class folders have names that are no synset ids"""
    folder = write_set(tmp_path / "val", NAMES[kind](synsets))
    status, found, line = real_samples(folder)
    assert (status, found) == (2, {})
    assert "no synset id of ImageNet's 1,000 classes (such as n01440764), so the class is not known" in line
    rows = "".join(f"{name}\t{synset}\n" for name, synset in zip(NAMES[kind](synsets), synsets, strict=True))
    (tmp_path / "val.classes.tsv").write_text(rows)
    status, found, _ = real_samples(folder)
    assert status == 0
    assert right(found)
    fault.fault = f"The names of 1,000 class folders are {kind}"
    fault.done = "`artune real_samples` on the folder; the order of the names is not that of the classes"
    fault.happened = (
        "one line says that the classes are not known, which names were expected and in which file to map others; with "
        "that file every image has its class"
    )
    fault.lost = "nothing; no image gets a wrong class"


def test_synset_folders_are_taken_as_they_are(real_samples, synsets, tmp_path):
    status, found, _ = real_samples(write_set(tmp_path / "val", synsets))
    assert status == 0
    assert right(found)


def test_an_image_in_the_folder_of_another_class(real_samples, synsets, tmp_path, fault):
    """An image of one class lies in the folder of another"""
    folder = write_set(tmp_path / "val", synsets)
    (folder / synsets[5] / "1.png").rename(folder / synsets[5] / f"{synsets[7]}_1.png")
    status, found, line = real_samples(folder)
    assert (status, found) == (2, {})
    assert f"{synsets[5]} holds {synsets[7]}_1.png, whose name is that of another class" in line
    fault.done = "`artune real_samples` on 1,000 synset folders, one of which holds an image named after another synset"
    fault.happened = "one line names the folder and the image"
    fault.lost = "nothing; no image gets a wrong class"


def test_validation_images_with_their_ground_truth(real_samples, tmp_path, fault):
    """ImageNet's validation images lie in one folder, with the ground truth of the development kit beside them"""
    (tmp_path / "val").mkdir()
    for number in range(1, 1001):
        (tmp_path / f"val/ILSVRC2012_val_{number:08d}.JPEG").write_bytes(grey(number - 1))
    (tmp_path / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{at}\n" for at in range(1, 1001)))
    status, found, line = real_samples(tmp_path / "val")
    assert (status, found) == (2, {})
    assert "sort the images by synset" in line
    assert "ILSVRC2012_validation_ground_truth.txt are in another order" in line
    rows = (f"ILSVRC2012_val_{number:08d}.JPEG {number}\n" for number in range(1, 1001))
    (tmp_path / "val.classes.tsv").write_text("".join(rows))
    status, found, line = real_samples(tmp_path / "val")
    assert (status, found) == (2, {})
    assert "1000 is neither a class index 0 to 999 in the order of the sorted synset ids" in line
    fault.done = (
        "`artune real_samples` on the folder, without and with these numbers as classes, which are in another order"
    )
    fault.happened = "one line each: sort or map the images, not by these numbers; the numbers 1 to 1,000 are refused"
    fault.lost = "nothing; no image gets a wrong class"
