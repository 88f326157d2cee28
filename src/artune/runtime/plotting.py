"""One look for all figures: a paper's sizes, readable in grey, and the same bytes for the same numbers."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from artune.runtime.files import replacing

COLUMN, PAGE = 3.3, 6.9  # inches: figures as wide as one column or as both columns of a paper
SIZE, SMALL = 8.0, 7.0  # points at these widths: titles and labels of axes; ticks, legends and names
SHARPNESS = {"pdf": 300, "png": 200}  # dots per inch; of a PDF, only images have any
# Okabe and Ito's palette, without its yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
INK, FAINT, PAPER = "#222222", "#9a9a9a", "#f3f3f3"
SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": SIZE,
    "axes.titlesize": SIZE,
    "axes.labelsize": SIZE,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "axes.titlepad": 4.0,
    "axes.labelpad": 2.5,
    "xtick.major.pad": 2.5,
    "ytick.major.pad": 2.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "legend.borderpad": 0.2,
    "pdf.fonttype": 42,  # text stays text
}


class Look(NamedTuple):
    """What tells a curve from others: its dashes and marker do so in grey, too."""

    colour: str
    dash: Any
    marker: str


DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.3, 1, 1.3)), (0, (7, 1)), (0, (2.5, 1, 1, 1, 1, 1)))
LOOKS = tuple(Look(*look) for look in zip(COLOURS, DASHES, ("o", "s", "^", "D", "v", "P"), strict=True))


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Use :data:`SETTINGS` for the figures that are made in the block."""
    with matplotlib.rc_context(SETTINGS):
        yield


def text_width(text: str, size: float = SIZE) -> float:
    """Inches of the longest line of a text at ``size`` points."""
    lines = [line for line in text.split("\n") if line]
    return max((TextPath((0, 0), line, size=size).get_extents().width for line in lines), default=0.0) / 72


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure as PDF with a PNG beside it, or as PNG alone if ``path`` does not end in ``.pdf``.

    The files hold no date and no version, so that equal figures have equal bytes.
    """
    path = Path(path)
    if path.suffix == ".pdf":
        with replacing(path) as temporary:
            nameless = {"CreationDate": None, "Producer": None, "Creator": None}
            figure.savefig(temporary, format="pdf", dpi=SHARPNESS["pdf"], metadata=nameless)
    with replacing(path.with_suffix(".png")) as temporary:
        figure.savefig(temporary, format="png", dpi=SHARPNESS["png"], metadata={"Software": None})
