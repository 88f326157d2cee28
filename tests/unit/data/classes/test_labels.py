"""Labels of samples from others: converted where their meaning is certain, refused in one line where not."""

import numpy as np
import pytest

from artune.data.classes.labels import (
    class_ids,
    doubtful,
    read_labels,
    refuse_closer_to_class_before,
    refuse_count_from_1,
)
from artune.errors import ArtuneError
from artune.inputs.token_codes import load_codes
from artune.runtime.files import npz_rows, save_npz

TRUE = np.array([0, 3, 1, 2, 3, 0])
N, CLASSES = len(TRUE), 4

CERTAIN = {
    "int64": TRUE,
    "uint8": TRUE.astype(np.uint8),
    "int16, big-endian": TRUE.astype(">i2"),
    "uint64": TRUE.astype(np.uint64),
    "float32": TRUE.astype(np.float32),
    "float16": TRUE.astype(np.float16),
    "column": TRUE[:, None],
    "row": TRUE[None],
    "column of floats": TRUE[:, None].astype(np.float64),
    "one-hot": np.eye(CLASSES, dtype=np.int64)[TRUE],
    "one-hot floats": np.eye(CLASSES, dtype=np.float32)[TRUE],
    "one-hot truth values": np.eye(CLASSES, dtype=bool)[TRUE],
    "without class 0": np.maximum(TRUE, 1),
}


@pytest.mark.parametrize("kind", CERTAIN)
def test_labels_of_certain_meaning_are_class_ids(kind):
    found = class_ids(CERTAIN[kind], N, CLASSES, "x")
    assert found.dtype == np.int64
    assert np.array_equal(found, np.maximum(TRUE, 1) if kind == "without class 0" else TRUE)


UNCERTAIN = {
    "from 1": (TRUE + 1, "1 to 4 count from 1; subtract 1"),
    "from 1, floats": ((TRUE + 1).astype(float), "count from 1"),
    "from 1, a column": ((TRUE + 1)[:, None], "count from 1"),
    "all -1": (np.full(N, -1), "label -1"),
    "one -1": (np.where(TRUE == 2, -1, TRUE), "label -1"),
    "too large": (TRUE + 3, "label 6, but classes are 0 to 3"),
    "uint64 beyond int64": (np.array([0, 1, 2, 3, 0, 2**64 - 1], np.uint64), "label 18446744073709551615"),
    "huge floats": (np.array([0, 1, 2, 3, 0, 1e300]), "has the label 1000"),
    "fractions": (TRUE + 0.5, "not whole numbers"),
    "nan": (np.where(TRUE == 2, np.nan, TRUE), "not whole numbers"),
    "infinite": (np.where(TRUE == 2, np.inf, TRUE), "not whole numbers"),
    "too few": (TRUE[:5], r"shape \[5\], but there are 6 images"),
    "too many": (np.append(TRUE, 0), r"shape \[7\]"),
    "two columns": (np.stack([TRUE, TRUE], 1), r"shape \[6, 2\]"),
    "three axes": (TRUE[None, :, None], r"shape \[1, 6, 1\], but there are 6 images; labels are \[n\]"),
    "a number": (np.array(3), r"shape \[\]"),
    "none": (np.zeros(0, np.int64), r"shape \[0\]"),
    "probabilities": (np.full((N, CLASSES), 0.25), "neither class ids nor one-hot"),
    "two-hot": (np.eye(CLASSES)[TRUE] + np.eye(CLASSES)[(TRUE + 1) % CLASSES], "neither class ids nor one-hot"),
    "truth values": (TRUE > 1, "truth values"),
    "text": (np.array(["0", "3", "1", "2", "3", "0"]), "text"),
    "synsets": (np.array(["n01440764"] * N), "text"),
    "bytes": (np.array([b"0"] * N), "text"),
    "complex": (TRUE.astype(complex), "complex128"),
    "dates": (TRUE.astype("datetime64[s]"), "datetime64"),
}


@pytest.mark.parametrize("kind", UNCERTAIN)
def test_labels_of_uncertain_meaning_are_refused_in_one_line(kind):
    values, message = UNCERTAIN[kind]
    with pytest.raises(ArtuneError, match=message) as caught:
        class_ids(values, N, CLASSES, "samples.npz: labels")
    line = str(caught.value)
    assert line.startswith("samples.npz: labels: ")
    assert "\n" not in line
    assert len(line) < 400


def test_a_type_that_cannot_hold_all_classes_is_refused():
    for kind in (np.uint8, np.int8, np.float16):
        classes = 5000 if kind is np.float16 else 1000
        with pytest.raises(ArtuneError, match="cannot hold the classes 0 to"):
            class_ids(TRUE.astype(kind), N, classes, "x")
    assert np.array_equal(class_ids(TRUE.astype(np.uint8), N, 256, "x"), TRUE)


def test_many_labels_without_class_0_are_doubtful():
    assert doubtful(np.repeat([1, 2, 3], 10), 4)
    assert not doubtful(np.repeat([0, 1, 2, 3], 10), 4)
    assert not doubtful(np.array([1, 2]), 4)


def test_possible_ids_that_count_from_1_are_told_by_the_classifier():
    true = np.arange(60) % 9  # class 9 of ten does not occur, so from 1 they are possible ids as well
    probabilities = np.full((60, 10), 0.02) + 0.8 * np.eye(10)[true]
    refuse_count_from_1(true, probabilities, "x")
    refuse_count_from_1(np.maximum(true, 1), probabilities, "x")
    refuse_count_from_1(true + 1, np.full((60, 10), 0.1), "x")  # a classifier that sees nothing refuses nothing
    with pytest.raises(ArtuneError, match=r"x: count from 1, .* in 60 of 60 images and the class itself in 0"):
        refuse_count_from_1(true + 1, probabilities, "x")


def test_labels_are_read_under_both_names_and_may_be_missing(tmp_path):
    images = np.zeros((N, 2, 2, 3), np.uint8)
    path = tmp_path / "samples.npz"
    save_npz(path, {"arr_0": images, "arr_1": TRUE[:, None]})
    assert np.array_equal(read_labels(path, N, CLASSES), TRUE)
    save_npz(path, {"arr_0": images, "arr_1": TRUE * 0, "labels": TRUE})
    assert np.array_equal(read_labels(path, N, CLASSES), TRUE)
    save_npz(path, {"arr_0": images})
    assert read_labels(path, N, CLASSES) is None
    save_npz(path, {"arr_0": images, "labels": np.zeros((N, 10**6), bool)})
    with pytest.raises(ArtuneError, match=r"shape \[6, 1000000\]"):
        read_labels(path, N, CLASSES)
    np.savez(path, arr_0=images, labels=np.array(["a", None] * 3, object))
    with pytest.raises(ArtuneError, match="labels is of object, not of numbers"):
        read_labels(path, N, CLASSES)
    np.savez(path, arr_0=images, labels=np.array(["0", "1"] * 3))
    with pytest.raises(ArtuneError, match=r"not of numbers.*; labels are integers from 0 to 3, or are left out"):
        read_labels(path, N, CLASSES)


def test_labels_that_count_from_1_are_told_by_the_prompts_of_the_classes():
    labels, draw = np.arange(1, 31).repeat(4), np.random.default_rng(0)
    noise = draw.normal(0, 0.1, len(labels))
    refuse_closer_to_class_before(labels, noise - 0.1, "x")
    refuse_closer_to_class_before(labels, noise, "x")
    with pytest.raises(ArtuneError, match=r"x: count from 1, as in the mean over 30 classes .* higher\); subtract 1"):
        refuse_closer_to_class_before(labels, noise + 0.1, "x")
    refuse_closer_to_class_before(np.ones(99, int), np.full(99, 0.1), "x")  # a prompt that is closer to every image
    by_class = np.array([0.3, -0.2, 0.1]).repeat(40)
    refuse_closer_to_class_before(np.arange(1, 4).repeat(40), by_class, "x")  # as are some prompts, of three


@pytest.mark.parametrize(
    ("labels", "message"),
    [(TRUE + 1, "count from 1"), (TRUE - 1, "label -1"), (TRUE[:3], r"shape \[3\]"), (TRUE + 0.5, "whole numbers")],
)
def test_codes_never_train_the_null_class_by_a_label_that_counts_from_1(tmp_path, labels, message):
    save_npz(tmp_path / "codes.npz", {"train_codes": np.zeros((N, 4), np.int64), "train_labels": labels})
    with pytest.raises(ArtuneError, match=f"train_labels: .*{message}"):
        load_codes(tmp_path / "codes.npz", "train", CLASSES)


@pytest.mark.parametrize("labels", [np.eye(CLASSES, dtype=np.int64)[TRUE], TRUE[:, None]], ids=["one-hot", "column"])
def test_labels_may_lie_in_any_order_of_memory_and_images_may_not(tmp_path, labels):
    path = tmp_path / "samples.npz"
    images = np.asfortranarray(np.zeros((N, 2, 2, 3), np.uint8))
    save_npz(path, {"arr_0": images, "labels": np.asfortranarray(labels)})
    assert np.array_equal(read_labels(path, N, CLASSES), TRUE)
    with pytest.raises(ArtuneError, match="arr_0 is not a plain array in C order"):
        list(npz_rows(path, "arr_0", 2))


def test_a_line_about_one_image_is_a_sentence():
    with pytest.raises(ArtuneError, match=r"shape \[\], but there is 1 image; labels are \[n\]"):
        class_ids(np.array(3), 1, CLASSES, "x")
