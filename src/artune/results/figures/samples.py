"""Sample grids: the one of every run, and Figures 3, 4, 6-26 (pretrained beside tuned, class by class)."""

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
    """The classes of a figure: ids, a sentence for the caption, and whether they stand in for classes not there."""

    ids: list[int]
    sentence: str
    stand_in: bool = False


def choose_classes(layout: Layout, class_names: Sequence[str], strict: bool = False) -> Choice:
    """The classes that a figure shows.

    Those that the layout names, without regard to case. If it names none, ``layout.number`` at even steps through the
    data set's list. If the data set has none of them (digits have no goldfish) and the choice is not ``strict``, its
    own in turn: the figure's seed says whose turn it is, so that figure after figure all classes are shown.

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
    """``number`` of ``total`` ids, the next ones every turn, in other company every lap."""
    lap, first = divmod(number * turn, total)
    step = 1 + 2 * lap
    if number > total // math.gcd(step, total):  # would come round to the first again
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
        columns: as :func:`draw_grid`, pretrained first.
        class_names: one a class.
        column_titles: one a policy.
        title: above the grid.
        caption: scale and choice of classes; that seeds are shared and nothing was picked is added.
        path: the PDF; a PNG is written beside it.
        across: images side by side in a block.
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
