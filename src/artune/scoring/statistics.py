"""What a file of the command ``score`` holds: images, features, or saved moments in the layouts of several programs."""

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from artune.errors import ArtuneError, cut
from artune.metrics.fid import feature_moments
from artune.models.weights.tensor_files import UNREADABLE
from artune.runtime.files import load_npz, npz_names, npz_shape
from artune.runtime.outside.regular import open_regular
from artune.runtime.outside.zips import open_zip

Kind = Literal["images", "adm", "features", "reference", "moments"]
Arrays = dict[str, np.ndarray]
# Names that clean-fid and torch-fidelity give to their statistics -> the resize behind them; ours and ADM's is
# TensorFlow 1's bilinear one, as in the graph of 2015. Nothing inside these files says it.
RESIZES = {
    r"_clean(_|$)": "clean-fid's bicubic with antialias",
    r"_legacy_pytorch(_|$)": "PyTorch's bilinear",
    r"_legacy_tensorflow(_|$)|-inception-v3-compat-": "TensorFlow 1's bilinear",
}
OWN_RESIZE = "TensorFlow 1's bilinear"
RECONSTRUCT = np.ndarray.__reduce__(np.zeros(0))[0]  # the function that a pickled array names
SIDE = 299  # pixels, to which images are resized for Inception
INDEFINITE = 1e-3  # share of the largest eigenvalue below which negative ones of a covariance are rounding


@dataclass(frozen=True)
class Source:
    """A file or folder, and what it holds.

    ``images``: an npz with ``arr_0``, a folder or a tar. ``adm``: such an npz that has moments of other images beside
    it. ``features``: an npz with ``features`` (ours), or ``feats`` (clean-fid's for KID). ``reference``: our
    reference.npz. ``moments``: ``mu`` and ``sigma``.
    """

    path: Path
    kind: Kind
    foreign: bool = False  # features of another program (``feats``)

    @property
    def resize(self) -> str | None:
        """The resize behind saved moments or features, if the layout or the file's name says it."""
        if self.kind != "moments" and not self.foreign:
            return OWN_RESIZE
        return next((what for name, what in RESIZES.items() if re.search(name, self.path.stem)), None)


def source_of(path: Path, judge: str) -> Source:
    """What ``path`` holds.

    Args:
        path: a file or folder.
        judge: name of the network whose features are compared.

    Raises:
        ArtuneError: it does not exist, or is an npz of other arrays.
    """
    if path.suffix.lower() in (".pt", ".pth"):  # torch-fidelity's cache
        return Source(path, "moments")
    if not path.is_file():
        return Source(path, "images")
    with open_regular(path) as handle:
        if handle.read(2) != b"PK":
            return Source(path, "images")
    names = set(npz_names(path))
    if "arr_0" in names:
        return Source(path, "adm" if {"mu", "sigma"} <= names else "images")
    if {"features", "feats"} & names:
        return Source(path, "features", foreign="features" not in names)
    if {f"heldout/{judge}/mu", f"heldout/{judge}/sigma"} <= names:
        return Source(path, "reference")
    if {"mu", "sigma"} <= names:
        return Source(path, "moments")
    raise ArtuneError(
        f"{path}: holds {', '.join(sorted(names)[:8]) or 'nothing'}; give images (arr_0), features, or moments (mu and "
        f"sigma, or heldout/{judge}/mu)"
    )


def features_shape(path: Path) -> tuple[int, ...]:
    """Shape of the features of an npz, [n, D] if they are what they should be; they are not read."""
    return npz_shape(path, "features" if "features" in npz_names(path) else "feats")


def given_features(path: Path) -> Arrays:
    """The arrays of an npz of features, float32 or float64 [n, D] under ``features``, of which all have n rows.

    Raises:
        ArtuneError: an array has another number of rows, or is not two-dimensional where it must be.
    """
    names = set(npz_names(path))
    own = "features" if "features" in names else "feats"
    wanted = [own, *(sorted(names & {"probabilities", "spatial", "labels", "clip"}) if own == "features" else [])]
    found = load_npz(path, *wanted)
    found["features"] = found.pop(own)
    for name, array in found.items():
        unlike = not array.ndim or not found["features"].ndim or len(array) != len(found["features"])
        if unlike or (array.ndim != 2 and name not in ("labels", "clip")):
            raise ArtuneError(
                f"{path}: {name} has the shape {list(array.shape)}; all arrays are [n, ...] of the same n"
            )
    return found


def moments_of(source: Source, judge: str) -> Arrays:
    """``mu``, ``sigma`` and, where they are there, ``mu_s``, ``sigma_s`` and ``features`` of a file of moments.

    Raises:
        ArtuneError: the file is damaged, or its moments are empty, not finite, not symmetric, not of a covariance, or
            of shapes that do not fit.
    """
    path = source.path
    if source.kind == "reference":
        prefix = f"heldout/{judge}/"
        names = [name for name in npz_names(path) if name.startswith(prefix)]
        found = {name.removeprefix(prefix): array for name, array in load_npz(path, *names).items()}
    elif path.suffix.lower() in (".pt", ".pth"):
        found = _torch_fidelity(path)
    else:
        found = load_npz(path, *({"mu", "sigma", "mu_s", "sigma_s"} & set(npz_names(path))))
    for mean, covariance in (("mu", "sigma"), ("mu_s", "sigma_s")):
        if mean in found and covariance in found:
            _check(path, mean, found[mean], found[covariance])
    return {name: array.astype(np.float64) if name != "features" else array for name, array in found.items()}


def _check(path: Path, name: str, mu: np.ndarray, sigma: np.ndarray) -> None:
    width = mu.size
    if not width:
        raise ArtuneError(f"{path}: {name} {list(mu.shape)} is empty; fetch or make it again")
    if mu.shape != (width,) or sigma.shape != (width, width):
        raise ArtuneError(f"{path}: {name} {list(mu.shape)} and its covariance {list(sigma.shape)} do not fit together")
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise ArtuneError(f"{path}: {name} or its covariance is not finite; fetch or make it again")
    if np.abs(sigma - sigma.T).max() > 1e-4 * np.abs(sigma).max() or sigma.diagonal().min() < 0:
        raise ArtuneError(f"{path}: the covariance of {name} is not one; fetch or make it again")
    values = np.linalg.eigvalsh(sigma.astype(np.float64))
    if values[0] < -INDEFINITE * values[-1]:
        raise ArtuneError(
            f"{path}: the covariance of {name} has the eigenvalue {values[0]:.3g} (the largest is {values[-1]:.3g}), "
            "and no covariance has negative ones; fetch or make it again"
        )


def _torch_fidelity(path: Path) -> Arrays:
    """The NumPy arrays of a file of torch-fidelity's cache (``...-stat-fid-2048.pt``); nothing else is unpickled."""
    allowed = [np.ndarray, np.dtype, type(np.dtype("f4")), type(np.dtype("f8")), RECONSTRUCT]
    try:
        with open_zip(path), torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ArtuneError(f"{path}: no such file") from error
    except pickle.UnpicklingError as error:
        raise ArtuneError(
            f"{path}: no statistics of torch-fidelity (it holds objects other than NumPy arrays, which are not read)"
        ) from error
    except UNREADABLE as error:
        reason = cut(" ".join(str(error).split()) or type(error).__name__)
        raise ArtuneError(f"{path}: no statistics of torch-fidelity, or damaged ({reason})") from error
    if not isinstance(found, dict) or not {"mu", "sigma"} <= found.keys():
        held = ", ".join(sorted(map(str, found))[:8]) if isinstance(found, dict) else f"a {type(found).__name__}"
        raise ArtuneError(f"{path}: no statistics of torch-fidelity (it holds {held or 'nothing'}, not mu and sigma)")
    if not all(isinstance(found[name], np.ndarray | torch.Tensor) for name in ("mu", "sigma")):
        raise ArtuneError(f"{path}: mu or sigma is no array; make the statistics again by torch-fidelity")
    arrays = {name: np.asarray(found[name]) for name in ("mu", "sigma")}
    if any(array.dtype.kind != "f" for array in arrays.values()):
        raise ArtuneError(f"{path}: mu or sigma is not of numbers")
    return arrays


def reference_arrays(found: Mapping[str, np.ndarray], judge: str) -> Arrays:
    """The arrays of a reference under the names of reference.npz, moments of its features among them if it has none."""
    arrays = {f"heldout/{judge}/{name}": array for name, array in found.items() if name != "spatial"}
    for name, suffix in (("features", ""), ("spatial", "_s")):
        if name in found and f"mu{suffix}" not in found:
            mu, sigma = feature_moments(torch.from_numpy(found[name]))
            arrays |= {f"heldout/{judge}/mu{suffix}": mu.numpy(), f"heldout/{judge}/sigma{suffix}": sigma.numpy()}
    return arrays
