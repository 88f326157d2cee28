"""Figures 3, 4 and 6-26: samples of the pretrained policy beside those of the tuned one, class by class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from artune.config.tables import Figure as Layout
from artune.errors import ArtuneError
from artune.sampling.grids import draw_grid

FEW = 2  # classes, up to which every class has several lines of larger images
LARGEST = 1.0  # inches: side of an image


def choose_classes(layout: Layout, class_names: Sequence[str]) -> list[int]:
    """The ids of the classes that a figure shows.

    If the layout names classes, these are shown; case is ignored. If it names none, ``layout.number`` classes at even
    steps through the data set's list are shown, or all if it has no more.

    Raises:
        ArtuneError: the data set lacks one of the named classes.
    """
    if not layout.classes:
        total = len(class_names)
        number = min(layout.number, total)
        return [(2 * at + 1) * total // (2 * number) for at in range(number)]
    ids = {name.casefold(): index for index, name in reversed(list(enumerate(class_names)))}
    for name in layout.classes:
        if name.casefold() not in ids:
            raise ArtuneError(f"config/figures.yaml: {layout.title}: unknown class {name!r}")
    return [ids[name.casefold()] for name in layout.classes]


def draw_comparison(
    columns: Sequence[np.ndarray], class_names: Sequence[str], column_titles: Sequence[str], path: Path
) -> None:
    """Write a figure of samples as PDF and PNG, as wide as both columns of a paper.

    Args:
        columns: as in :func:`artune.sampling.grids.draw_grid`, pretrained first.
        class_names: one name per class.
        column_titles: one title per policy.
        path: the PDF; a PNG is written beside it.
    """
    across = 3 if len(class_names) <= FEW else None
    draw_grid(columns, class_names, column_titles, path, across, LARGEST)
