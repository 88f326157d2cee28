"""A data set of one's own: the YAML file that config/README.md shows, on a folder of tiny images."""

import re

import numpy as np
import pytest
import yaml
from PIL import Image
from project import ROOT, copy_project, snakemake

CLASSES = ("cat", "dog", "guinea pig")
SIZES = {"train_per_class": 12, "validation_per_class": 3, "heldout_per_class": 5}


def example():
    """The settings in the section of config/README.md about one's own images."""
    text = (ROOT / "config/README.md").read_text().split("## Your own images")[1]
    return yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.S)[1])


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """A copy of the project with the scale pets, short trainings, and 20 images of each class."""
    folder = copy_project(tmp_path_factory.mktemp("pets"))
    tree = example()
    tree["data"] |= SIZES
    tree["tokenizers"]["vq"] = {"train": {"steps": 4, "batch": 8}}
    tree["networks"] = {"inception": {"train": {"steps": 4, "batch": 8, "per_class": 10, "jitter": False}}}
    (folder / "config/scales/pets.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    draw = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (folder / "data/assets/pets" / name).mkdir(parents=True)
        for number in range(20):
            pixels = draw.integers(0, 80, (40, 48, 3), dtype=np.uint8)
            pixels[..., label] += 100  # the cats are red, the dogs green
            image = Image.fromarray(pixels)
            image = image.convert("L") if name == "guinea pig" else image
            image.save(folder / "data/assets/pets" / name / f"{number}.{'png' if number % 2 else 'jpg'}")
    target = ("results/pets/pretrained/vq/codes.npz", "results/pets/inputs/networks/inception.safetensors")
    return folder, snakemake(folder, "--config", "scale=pets", "--", *target)


def test_a_folder_of_class_folders_is_cut_into_splits_by_one_yaml_file(pets):
    folder, _ = pets
    with np.load(folder / "results/pets/inputs/data.npz") as data:
        seen = np.concatenate([data[f"{split}_images"] for split in ("train", "validation", "heldout")])
        for split, size in zip(("train", "validation", "heldout"), SIZES.values(), strict=True):
            assert data[f"{split}_images"].shape == (3 * size, 32, 32, 3)
            assert np.bincount(data[f"{split}_labels"]).tolist() == [size] * 3
        red, green, grey = (data["train_images"][data["train_labels"] == label].mean((0, 1, 2)) for label in range(3))
    assert len(np.unique(seen.reshape(len(seen), -1), axis=0)) == 60  # no image is in two splits
    assert red[0] > red[1] + 50
    assert green[1] > green[0] + 50
    assert grey[0] == grey[1] == grey[2]


def test_the_first_rules_train_on_it(pets):
    folder, output = pets
    with np.load(folder / "results/pets/pretrained/vq/codes.npz") as codes:
        assert codes["train_codes"].shape == (36, 64)
    assert "rule data" in output
    log = (folder / "results/pets/inputs/networks/inception.log").read_text()
    assert "validation accuracy" in log


def test_nothing_is_made_twice_and_a_folder_that_lost_an_image_is_refused(pets):
    folder, _ = pets
    arguments = ("-n", "--quiet", "rules", "--config", "scale=pets", "--", "results/pets/inputs/data.npz")
    assert "Nothing to be done" in snakemake(folder, *arguments)
    lost = folder / "data/assets/pets/cat/1.png"
    kept = lost.read_bytes()
    lost.unlink()
    output = snakemake(folder, "--forcerun", "data", *arguments[3:], check=False)
    lost.write_bytes(kept)
    assert "holds files of other names or sizes" in output
