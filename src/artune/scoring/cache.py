"""Features and scores kept beside the images: a second call reads no image, and a changed file is scored anew."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from artune.data.digests import evidence, measure
from artune.data.pins import unaltered
from artune.errors import ArtuneError
from artune.evaluation.features import Extractor
from artune.evaluation.samples import as_rows
from artune.runtime.chunks import Chunks
from artune.runtime.files import load_npz, read_json, save_npz, write_json
from artune.runtime.progress import Progress, say
from artune.scoring.image_sets import ImageSet, open_images

Arrays = dict[str, np.ndarray]
SUFFIX = "artune"


@dataclass(frozen=True)
class Known:
    """Images, what is known of them without reading them again, and the files in which that is kept."""

    images: ImageSet
    digest: str
    facts: Mapping[str, Any]  # ``size`` [height, width] and ``formats``
    measured: Mapping[str, Any]  # as :func:`artune.data.digests.measure` returns
    folder: Path
    name: str  # of these images in that folder

    def file(self, end: str) -> Path:
        """A file of these images in the folder of the cache."""
        return self.folder / f"{self.name}.{SUFFIX}{end}"


def cache_folder(path: Path, given: Path | None) -> Path:
    """The folder of the features: ``given``, or that of the images; one that cannot be written gives way to another."""
    folder = given if given is not None else path.absolute().parent
    if given is not None:
        folder.mkdir(parents=True, exist_ok=True)
    if os.access(folder, os.W_OK):
        return folder
    say(f"note: {folder} cannot be written, so the features of {path} are not kept; --cache names another folder")
    return Path(tempfile.mkdtemp(prefix="artune-"))


def cache_name(path: Path, given: Path | None) -> str:
    """The name of images in the folder of the cache; in a ``given`` one other images of this name may be kept too."""
    place = Path(os.path.abspath(path))
    if given is None:
        return place.name
    return f"{place.name}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:12]}"


def known_images(path: Path, given: Path | None) -> Known:
    """The images of ``path`` and their digest; they are read only if they are new, or were written to since.

    Args:
        path: an npz, a folder or a tar.
        given: the folder of the cache; None is that of the images.

    Raises:
        ArtuneError: as :func:`artune.scoring.image_sets.open_images`, or the first image is damaged.
    """
    images, folder, name = open_images(path), cache_folder(path, given), cache_name(path, given)
    note = folder / f"{name}.{SUFFIX}.json"
    kept = _read_note(note)
    if kept is None or not unaltered(path, kept["measured"]):
        say(f"reading {path} for its digest")
        kept = {"measured": measure(path), "facts": images.facts()}
        write_json(note, kept)
    measured = kept["measured"]
    digest = measured.get("contents") or measured.get("state") or measured["sha256"]
    return Known(images, digest, kept["facts"], measured, folder, name)


def _read_note(note: Path) -> dict[str, Any] | None:
    """What is kept of images in a file, None if there is no such file or it is damaged."""
    try:
        kept = read_json(note) if note.exists() else None
        whole = isinstance(kept, dict) and "sha256" in kept["measured"] and {"size", "formats"} <= kept["facts"].keys()
    except (ArtuneError, KeyError, TypeError, AttributeError):
        return None
    return kept if whole else None


def kept_features(
    known: Known, identity: str, batch: int, ids: torch.Tensor | None, extractor: Callable[[], Extractor]
) -> Arrays:
    """The features of all images: kept ones, or computed batch by batch and kept.

    A killed computation continues from its last batch. Features and scores of other images under the same name are
    removed.

    Args:
        known: the images.
        identity: all that decides the features of given images.
        batch: images per forward pass.
        ids: per image the row of the extractor's texts, [n]; None compares them with no text.
        extractor: makes the networks, if they are needed.

    Raises:
        ArtuneError: an image is damaged or of another size, or the files were written to meanwhile.
    """
    whole = hashlib.sha256(identity.encode()).hexdigest()[:12]
    kept = known.file(f"-{known.digest[:12]}-{whole}.npz")
    forget_others(known)
    if kept.exists():
        try:
            return load_npz(kept)
        except ArtuneError:
            kept.unlink()  # damaged, and made again
    chunks = Chunks(known.file("-part"), f"{known.digest} {identity}")
    chunks.clear_others()
    number, start = -(-known.images.count // batch), 0
    while start < number and chunks.has(start):
        start += 1
    if start < number:
        extract = extractor()
        progress = Progress(f"features of {known.images.path}", number, start)
        for at, rows in enumerate(known.images.batches(batch, known.facts["size"], start), start):
            own = None if ids is None else ids[at * batch : at * batch + len(rows)]
            chunks.save(at, as_rows(extract(torch.from_numpy(rows.copy()), own)))
            progress.update(at + 1)
    parts = [chunks.load(at) for at in range(number)]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0].dtype.names or ()}
    if not evidence(known.images.path).items() <= known.measured.items():
        raise ArtuneError(f"{known.images.path}: was written to while it was read; run the same command again")
    save_npz(kept, arrays)
    chunks.remove()
    return arrays


def forget_others(known: Known) -> None:
    """Remove features and scores of other images under the same name."""
    for stale in known.folder.glob(f"{_plain(known.file('-'))}*.*"):
        if stale.is_file() and not stale.name.startswith(known.file(f"-{known.digest[:12]}-").name):
            stale.unlink()


def kept_scores(known: Known, identity: str) -> dict[str, Any] | None:
    """What :func:`keep_scores` kept under this identity; None if there is no such file or it is damaged."""
    path = _scores_file(known, identity)
    try:
        found = read_json(path) if path.exists() else None
    except ArtuneError:
        return None
    return found if isinstance(found, dict) else None


def keep_scores(known: Known, identity: str, scores: Mapping[str, Any]) -> None:
    """Keep scores beside the images, under all that decides them."""
    forget_others(known)
    write_json(_scores_file(known, identity), scores)


def _scores_file(known: Known, identity: str) -> Path:
    return known.file(f"-{known.digest[:12]}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.json")


def _plain(path: Path) -> str:
    """A file's name in which no letter has a meaning for glob."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path.name)


def identity_of(facts: Sequence[object]) -> str:
    """All that decides the features of given images, as one text."""
    return json.dumps(list(facts), sort_keys=True, default=str)
