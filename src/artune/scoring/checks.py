"""Traps of comparing images: refused where scores would mean nothing, said where they mean less than they seem to."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from artune.config.run import Evaluation
from artune.errors import ArtuneError
from artune.metrics.inception_score import inception_score
from artune.scoring.cache import Known
from artune.scoring.image_sets import PIXELS
from artune.scoring.request import Opened
from artune.scoring.statistics import OWN_RESIZE, SIDE, Source

LOSSY = {"JPEG", "WebP"}
FEW = 0.5  # share of the classes that could occur below which labels may be those of another data set
RUNS = 0.1  # share of neighbours of one class beyond chance from which a file counts as sorted


def check_images(
    samples: Known | None, reference: Known | None, accepted: Collection[str], own: str = "samples"
) -> list[str]:
    """What to say about a set of samples and the images of the reference.

    Args:
        samples: the images that are scored, None if only their features are given.
        reference: the images of the reference, None if there are only its features or moments.
        accepted: traps that are said and not refused.
        own: what the samples are called.

    Raises:
        ArtuneError: the samples are JPEG and the reference is not, or their sizes differ, and that is not accepted.
    """
    said = []
    for known in (samples, reference):
        if known is not None and len(known.facts["formats"]) > 1:
            said.append(f"{known.images.path}: of several formats ({listed(known.facts['formats'])})")
    if samples is None:
        return said
    ours = set(samples.facts["formats"])
    if reference is None:
        if ours & LOSSY:
            said.append(
                f"{samples.images.path} holds {listed(samples.facts['formats'])}: compression alone moves every score, "
                "and the reference does not say whether its images were compressed as well"
            )
        return said
    theirs = set(reference.facts["formats"])
    if ours & LOSSY and not theirs & LOSSY:
        _refuse("jpeg", f"{_compressed(samples, reference)}; save the samples as PNG or npz", accepted, said)
    elif theirs & LOSSY and not ours & LOSSY:
        kind = "PNG" if PIXELS not in ours else "plain pixels"
        said.append(f"the reference is {listed(reference.facts['formats'])} and the {own} are {kind}")
    _check_sizes(samples, reference, accepted, said)
    if samples.digest == reference.digest:
        said.append(f"{own} and reference are the same images")
    return said


def check_pair(samples: Known | None, other: Known | None, accepted: Collection[str]) -> list[str]:
    """What to say about two sets of samples that are compared image by image.

    Raises:
        ArtuneError: only one of them is JPEG, or their sizes differ, and that is not accepted.
    """
    said: list[str] = []
    if samples is None or other is None:
        return said
    lossy, plain = (samples, other) if set(samples.facts["formats"]) & LOSSY else (other, samples)
    if set(lossy.facts["formats"]) & LOSSY and not set(plain.facts["formats"]) & LOSSY:
        _refuse("jpeg", f"{_compressed(lossy, plain)}; save both in the same way", accepted, said)
    _check_sizes(samples, other, accepted, said)
    if samples.digest == other.digest:
        said.append(f"{other.images.path} (--against) and the samples are the same images")
    return said


def _compressed(lossy: Known, plain: Known) -> str:
    return (
        f"{lossy.images.path} holds {listed(lossy.facts['formats'])}, {plain.images.path} holds "
        f"{listed(plain.facts['formats'])}: compression alone moves every score"
    )


def _check_sizes(one: Known, other: Known, accepted: Collection[str], said: list[str]) -> None:
    if list(one.facts["size"]) != list(other.facts["size"]):
        sizes = [f"{known.facts['size'][1]} x {known.facts['size'][0]} pixels" for known in (one, other)]
        what = f"{one.images.path} has {sizes[0]}, {other.images.path} has {sizes[1]}: detail alone moves scores"
        _refuse("size", f"{what}; resize one of them", accepted, said)


def check_resize(source: Source, accepted: Collection[str]) -> list[str]:
    """What to say about the resize behind saved moments, or features of another program.

    Raises:
        ArtuneError: the file's name says that it is another one, and that is not accepted.
    """
    said: list[str] = []
    if source.resize is None:
        said.append(
            f"{source.path} does not say how its images were resized to {SIDE} pixels; FID compares only if that "
            f"was {OWN_RESIZE}, as by ADM, torch-fidelity and clean-fid's legacy_tensorflow, and not by pytorch-fid"
        )
    elif source.resize != OWN_RESIZE:
        what = f"{source.path}: by its name made with {source.resize} resize, where this network has {OWN_RESIZE}"
        _refuse("resize", f"{what}; give the images, or other statistics", accepted, said)
    return said


def _refuse(trap: str, what: str, accepted: Collection[str], said: list[str]) -> None:
    if trap not in accepted:
        raise ArtuneError(f"{what}, or score all the same by --accept {trap}")
    said.append(f"{what} (accepted)")


def check_counts(samples: Opened, reference: Opened, against: Opened | None) -> None:
    """Refuse too few images before any features are computed.

    Raises:
        ArtuneError: fewer than 3 samples or 2 images of the reference, or not as many images in the second set.
    """
    given = (("SAMPLES", samples, 3), ("--reference", reference, 2), ("--against", against, 3))
    for option, opened, least in given:
        n = opened.count() if opened is not None else None
        if opened is not None and n is not None and n < least:
            raise ArtuneError(
                f"{opened.source.path}: {n} images; {option} needs at least {least} for FID and its error"
            )
    if against is None:
        return
    n, second = samples.count(), against.count()
    if n is not None and second is not None and n != second:
        raise ArtuneError(
            f"{against.source.path}: {second:,} images, but {samples.source.path} has {n:,}; a paired difference "
            "(--against) needs as many of both"
        )


def check_width(what: str, width: int, samples: int) -> None:
    """Raise an ArtuneError if features of the reference have another width than those of the samples."""
    if width != samples:
        raise ArtuneError(
            f"{what}: of {width} features, but those of the samples are {samples}; use one network for both"
        )


def check_number(n: int, width: int) -> list[str]:
    """What to say if there are too few samples for a covariance of full rank."""
    if n > width:
        return []
    return [
        f"{n:,} samples of {width:,} features: their covariance has a rank of at most {n - 1:,}, so FID is far too "
        "high and compares only with FIDs of as many samples; KID does not depend on the number"
    ]


def check_labels(labels: np.ndarray | None, classes: int, scale: str) -> list[str]:
    """What to say if labels may be the class ids of another data set: far fewer classes occur than these images allow.

    Args:
        labels: class ids [n]; None if there are none.
        classes: number of classes of the scale's data set.
        scale: its name.
    """
    if labels is None:
        return []
    found = np.unique(labels)
    if len(found) >= FEW * min(len(labels), classes):
        return []
    which = f"{found[0]}" if len(found) == 1 else f"between {found[0]} and {found[-1]}"
    return [
        f"labels: only {len(found):,} of {classes:,} classes occur ({which}); Accuracy and CLIPScore take them for the "
        f"class ids of the scale {scale}, and mean nothing if they are those of another data set; name the images' own "
        "texts by --captions then"
    ]


def check_order(arrays: Mapping[str, np.ndarray], evaluation: Evaluation, scores: Mapping[str, Any]) -> list[str]:
    """What to say about the Inception Score if the images are sorted by class.

    Without labels the predicted classes tell it: neighbours are of one class far more often than by chance.
    """
    if "probabilities" not in arrays or len(arrays["probabilities"]) <= evaluation.inception_split:
        return []
    classes = arrays.get("labels", arrays["probabilities"].argmax(axis=1))
    shares = np.unique(classes, return_counts=True)[1] / len(classes)
    if len(shares) == 1 or (classes[1:] == classes[:-1]).mean() < (shares**2).sum() + RUNS:
        return []
    import torch

    plain = inception_score(torch.from_numpy(arrays["probabilities"]), evaluation.inception_split)[0]
    how = "shuffled before it is cut into" if evaluation.inception_shuffle else "cut in this order into"
    return [
        f"the images are sorted by class; for the Inception Score ({scores['inception_score']:.4g}) they are {how} "
        f"chunks of {evaluation.inception_split:,}, and in the order of the file it is {plain:.4g}"
    ]


def listed(formats: Mapping[str, int]) -> str:
    """Formats with their numbers, such as ``900 PNG, 100 JPEG``."""
    return ", ".join(f"{number:,} {name}" for name, number in sorted(formats.items(), key=lambda item: -item[1]))
