"""Class labels from outside: integers 0 to C - 1 of shape [n], converted where that is certain, refused where not."""

import math
from pathlib import Path

import numpy as np

from artune.errors import ArtuneError
from artune.runtime.files import load_npz, npz_names, npz_shape

NAMES = ("labels", "arr_1")  # names of the labels in this project's samples, and in those of ADM's sampler


def read_labels(path: Path, count: int, classes: int) -> np.ndarray | None:
    """The labels of the samples in an npz, int64 [n], or None if it holds none.

    Args:
        path: npz with ``labels``, or with ``arr_1`` as ADM's sampler writes it.
        count: number of images of the file.
        classes: number of classes of the data set.

    Raises:
        ArtuneError: the file is damaged, or it is not certain which class a label means (:func:`class_ids`).
    """
    name = next((name for name in NAMES if name in npz_names(path)), None)
    if name is None:
        return None
    where = f"{path}: {name}"
    try:
        shape = npz_shape(path, name)
        fits = len(shape) > 0 and shape[0] in (1, count) and math.prod(shape) <= count * classes
        values = load_npz(path, name)[name] if fits else None  # never read what cannot fit
    except ArtuneError as error:  # the file is damaged, or the labels are text
        reason = str(error).removeprefix(f"{path}: ")
        raise ArtuneError(f"{where}: {reason}; labels are integers from 0 to {classes - 1}, or are left out") from error
    if values is None:
        raise _wrong_shape(where, shape, count)
    return class_ids(values, count, classes, where)


def class_ids(values: np.ndarray, count: int, classes: int | None, where: str) -> np.ndarray:
    """Class ids int64 [n], converted from an array of another type or shape where its meaning is certain.

    Taken are integers and whole floats of shape [n], [n, 1] or [1, n], and one-hot rows [n, C]. A type that cannot hold
    all class ids is refused, because larger ids would have been changed when they were stored.

    Args:
        values: the labels as found.
        count: number of images that they belong to.
        classes: number of classes; None sets no upper bound.
        where: file and array, for the message.

    Raises:
        ArtuneError: another shape or number; text, truth values, fractions or objects; a label below 0 or above C - 1,
            which includes labels that count from 1.
    """
    if values.dtype.kind not in "biuf":
        raise ArtuneError(f"{where}: of type {_kind(values)}, not class ids; store integers from 0")
    if classes is not None and values.shape == (count, classes) and classes > 1:
        values = _from_one_hot(values, where)
    if values.shape not in ((count,), (count, 1), (1, count)):
        raise _wrong_shape(where, values.shape, count)
    if values.dtype.kind == "b":
        raise ArtuneError(f"{where}: truth values, not class ids; store integers from 0")
    values = values.reshape(-1)
    if not count:
        return values.astype(np.int64)
    if classes is not None and _largest(values.dtype) < classes - 1:
        raise ArtuneError(f"{where}: {values.dtype} cannot hold the classes 0 to {classes - 1}; store int64")
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.floor(values))).all():
        raise ArtuneError(f"{where}: not whole numbers; labels are class ids from 0")
    lowest, highest = int(values.min()), int(values.max())
    if classes is not None and lowest >= 1 and highest == classes:
        raise ArtuneError(f"{where}: {lowest} to {highest} count from 1; subtract 1, as classes are 0 to {classes - 1}")
    if lowest < 0:
        raise ArtuneError(f"{where}: has the label {lowest}; leave the labels out if the samples have no classes")
    if highest > (np.iinfo(np.int64).max if classes is None else classes - 1):
        expected = "fit 64 bits" if classes is None else f"are 0 to {classes - 1}"
        raise ArtuneError(f"{where}: has the label {highest}, but classes {expected}")
    return values.astype(np.int64, copy=False)


def doubtful(labels: np.ndarray, classes: int) -> bool:
    """Whether class 0 is missing among so many labels that they may count from 1, although all are possible ids."""
    return len(labels) >= 5 * classes and int(labels.min()) > 0


def refuse_count_from_1(labels: np.ndarray, probabilities: np.ndarray, where: str) -> None:
    """Refuse labels without class 0 and class C if the classifier agrees with one less far more often.

    Args:
        labels: class ids [n].
        probabilities: the classifier's, [n, C], in the order of the classes.
        where: file and array, for the message.

    Raises:
        ArtuneError: the number of images on which it agrees is larger by more than three standard errors.
    """
    predicted = probabilities.argmax(axis=1)
    same, shifted = int((predicted == labels).sum()), int((predicted == labels - 1).sum())
    if len(labels) and labels.min() > 0 and shifted - same > 3 * len(labels) ** 0.5:
        raise ArtuneError(
            f"{where}: count from 1, as the classifier sees the class before in {shifted} of {len(labels)} images and "
            f"the class itself in {same}; subtract 1"
        )


def refuse_closer_to_class_before(labels: np.ndarray, lead: np.ndarray, where: str) -> None:
    """Refuse labels without class 0 and class C if the images look more like the prompts of the classes before.

    It must hold over the images and over the classes: some prompts are closer to images of any kind, which moves all
    images of a class, and few classes may agree by chance.

    Args:
        labels: class ids [n] from 1.
        lead: cosine with the prompt of the class before minus that with the class's own, [n].
        where: file and array, for the message.

    Raises:
        ArtuneError: the means over the images and over the classes are above 0 by more than three standard errors.
    """
    lead = lead.astype(np.float64)
    classes, rows = np.unique(labels, return_inverse=True)
    means = np.bincount(rows, weights=lead) / np.bincount(rows)
    above = all(len(x) > 1 and x.mean() > 3 * x.std(ddof=1) / len(x) ** 0.5 for x in (lead, means))
    if above:
        raise ArtuneError(
            f"{where}: count from 1, as in the mean over {len(classes)} classes the images are closer to the prompt of "
            f"the class before (CLIP's cosine is {means.mean():.3f} higher); subtract 1"
        )


def _from_one_hot(values: np.ndarray, where: str) -> np.ndarray:
    if not (((values == 0) | (values == 1)).all() and (values.sum(axis=1, dtype=np.float64) == 1).all()):
        raise ArtuneError(f"{where}: {list(values.shape)} is neither class ids nor one-hot; store integers from 0")
    return values.argmax(axis=1)


def _wrong_shape(where: str, shape: tuple[int, ...], count: int) -> ArtuneError:
    images = "there is 1 image" if count == 1 else f"there are {count} images"
    return ArtuneError(f"{where}: shape {list(shape)}, but {images}; labels are [n]")


def _largest(dtype: np.dtype) -> int:
    """The largest integer up to which a type holds all integers."""
    return 2 ** (np.finfo(dtype).nmant + 1) if dtype.kind == "f" else int(np.iinfo(dtype).max)


def _kind(values: np.ndarray) -> str:
    return {"U": "text", "S": "text", "O": "object"}.get(values.dtype.kind, values.dtype.name[:40])
