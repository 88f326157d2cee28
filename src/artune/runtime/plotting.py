"""One look for all figures: colours that the colour-blind tell apart, and the same bytes for the same numbers."""

import contextlib
import textwrap
from collections.abc import Iterator
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from artune.runtime.files import replacing

# Okabe and Ito's palette, without its yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
INK, FAINT, PAPER = "#222222", "#9a9a9a", "#f3f3f3"
SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text stays text
    "savefig.dpi": 200,
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Use :data:`SETTINGS` for the figures that are made in the block."""
    with matplotlib.rc_context(SETTINGS):
        yield


def add_caption(figure: Figure, text: str, size: float = 7.0) -> None:
    """Put a caption under the figure, wrapped to the figure's width."""
    width = int(figure.get_figwidth() * 72 / (0.52 * size))
    figure.supxlabel("\n".join(textwrap.wrap(text, width)), fontsize=size, color=INK, x=0.01, ha="left")


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure as PDF with a PNG beside it, or as PNG alone if ``path`` does not end in ``.pdf``.

    The files hold no date and no version, so that equal figures have equal bytes.
    """
    path = Path(path)
    if path.suffix == ".pdf":
        with replacing(path) as temporary:
            figure.savefig(temporary, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
    with replacing(path.with_suffix(".png")) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
