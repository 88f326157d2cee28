"""Figures 3, 4 and 6-26: samples of the pretrained policy beside those of the tuned one, class by class."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from artune.config.tables import Figure as Layout
from artune.errors import ArtuneError
from artune.runtime.plotting import INK, add_caption, save, style
from artune.sampling.grids import _bare, _check, tile


class Choice(NamedTuple):
    """The classes of a figure: ids, a sentence for the caption, and whether they replace classes that are absent."""

    ids: list[int]
    sentence: str
    stand_in: bool = False


def choose_classes(layout: Layout, class_names: Sequence[str], strict: bool = False) -> Choice:
    """The classes that a figure shows.

    If the layout names classes, these are shown; case is ignored. If it names none, ``layout.number`` classes at even
    steps through the data set's list are shown. If the data set has none of the named classes (digits have no goldfish)
    and ``strict`` is false, classes of the data set replace them. The figure's seed selects which, so that the figures
    together show all classes.

    Raises:
        ArtuneError: the data set has some of the named classes and lacks others.
    """
    total = len(class_names)
    ids = {name.casefold(): index for index, name in reversed(list(enumerate(class_names)))}
    missing = [name for name in layout.classes if name.casefold() not in ids]
    if not layout.classes:
        number = min(layout.number, total)
        which = f"All {total} classes" if number == total else f"{number} classes at even steps through the list"
        return Choice([(2 * at + 1) * total // (2 * number) for at in range(number)], f"{which} of the data set.")
    if len(missing) == len(layout.classes) and not strict:
        sentence = f"The data set has no {' or '.join(missing)}: its own classes, in turn from figure to figure."
        return Choice(_in_turn(layout.seed, min(len(layout.classes), total), total), sentence, stand_in=True)
    if missing:
        raise ArtuneError(f"config/figures.yaml: {layout.title}: unknown class {missing[0]!r}")
    return Choice([ids[name.casefold()] for name in layout.classes], "The classes that the paper shows.")


def _in_turn(turn: int, number: int, total: int) -> list[int]:
    """``number`` of ``total`` ids: each turn takes the next ones, and each lap groups the ids differently."""
    lap, first = divmod(number * turn, total)
    step = 1 + 2 * lap
    if number > total // math.gcd(step, total):  # this step would return to the first id too early
        step = 1
    return [(first + at * step) % total for at in range(number)]


def draw_comparison(
    columns: Sequence[np.ndarray],
    class_names: Sequence[str],
    column_titles: Sequence[str],
    title: str,
    caption: str,
    path: Path,
    across: int = 3,
) -> None:
    """Figures 3, 4, 6-26: for every class all images of the pretrained policy beside all of the tuned one.

    Args:
        columns: as in :func:`artune.sampling.grids.draw_grid`, pretrained first.
        class_names: one name per class.
        column_titles: one title per policy.
        title: text above the grid.
        caption: scale and choice of classes; a sentence that seeds are shared and nothing was picked is appended.
        path: the PDF; a PNG is written beside it.
        across: number of images side by side in a block.
    """
    _check(columns, class_names, column_titles)
    classes, images = columns[0].shape[:2]
    rows = -(-images // across)
    cell = 0.95
    with style():
        size = (0.3 + len(columns) * (across * cell + 0.25), 0.95 + classes * (rows * cell + 0.12))
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(wspace=0.03, hspace=0.02))
        figure.suptitle(title, fontsize=9)
        panels = figure.subplots(classes, len(columns), squeeze=False)
        for row, name in enumerate(class_names):
            for column, block in enumerate(columns):
                panel = panels[row][column]
                panel.imshow(tile(block[row], across), interpolation="nearest")
                _bare(panel)
                if row == 0:
                    panel.set_title(column_titles[column])
                if column == 0:
                    panel.set_ylabel(name, color=INK)
        rule = "Both columns use the same seeds; every image drawn is shown, none was picked."
        add_caption(figure, f"{caption} {rule}".strip())
        save(figure, path)
