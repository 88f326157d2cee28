"""Reads the images of an npz file, the format of runs and published references. Needs no torch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from artune.errors import ArtuneError
from artune.runtime.files import npz_rows, npz_shape

LONGEST_SIDE = 4096  # pixels; a batch of images is held in memory


def image_rows(path: Path, batch: int) -> Iterator[np.ndarray]:
    """The images of ``arr_0``, uint8 [b, H, W, 3], ``batch`` at a time; the arrays are read-only.

    Raises:
        ArtuneError: the file is missing, not an npz, truncated or lacks ``arr_0``, or ``arr_0`` is not of this kind.
    """
    shape = npz_shape(path, "arr_0")
    if max(shape[1:3], default=0) > LONGEST_SIDE:
        raise ArtuneError(f"{path}: arr_0 has images of {shape[1:3]} pixels; sides of at most {LONGEST_SIDE} are read")
    for rows in npz_rows(path, "arr_0", batch):
        if rows.dtype != np.uint8 or rows.ndim != 4 or rows.shape[-1] != 3:
            raise ArtuneError(f"{path}: arr_0 must be uint8 [n, H, W, 3], not {rows.dtype} {rows.shape}")
        yield rows
