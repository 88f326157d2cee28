"""Grids of sample images."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from artune.errors import ArtuneError
from artune.runtime.seeds import generator_for
from artune.sampling.generate import Sampler
from artune.sampling.rollout import Renderer, roll_out

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP = 1  # fewest white pixels between images
# Inches: around the grid, between two policies, a line of text. Characters of a line of a class name.
EDGE, BETWEEN, LINE, LABEL = 0.04, 0.12, 0.16, 14


def grid_images(
    sampler: Sampler, render: Renderer, class_ids: list[int], per_class: int, seed: int, device: torch.device
) -> np.ndarray:
    """Images uint8 [classes, per_class, H, W, 3] from one generator: the same draws for every policy of a family."""
    labels = torch.tensor(class_ids).repeat_interleave(per_class).to(device)
    generator = generator_for(seed, "grid", device=device)
    images = roll_out(sampler, render, labels, generator).images.permute(0, 2, 3, 1).cpu().numpy()
    return images.reshape(len(class_ids), per_class, *images.shape[1:])


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """One picture uint8 [H', W', 3] of images uint8 [N, H, W, 3], row by row, with white gaps between them."""
    number, height, width, _ = images.shape
    rows, gap = -(-number // columns), gap_of(height)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for at, image in enumerate(images):
        top, left = (at // columns) * (height + gap), (at % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def gap_of(height: int) -> int:
    """White pixels between images of this height: about a point in print, whatever the resolution."""
    return max(GAP, height // 32)


def draw_grid(
    columns: Sequence[np.ndarray],
    row_labels: Sequence[str],
    column_titles: Sequence[str],
    path: Path,
    across: int | None = None,
    largest: float = 0.5,
) -> None:
    """Draw one row per class and one block of images per policy; a row's blocks were drawn with the same seeds.

    Blocks and rows are aligned, and text has the size that it is to have in a paper of two columns.

    Args:
        columns: one array per policy, uint8 [classes, images, H, W, 3].
        row_labels: names of the classes.
        column_titles: names of the policies.
        path: output file; ``.png`` writes only that, ``.pdf`` writes both.
        across: images side by side in a block, in as many lines as they need; None: all of a class in one line.
        largest: side of an image in inches, less where the page is not wide enough.

    Raises:
        ArtuneError: the arrays do not fit each other, the labels or the titles.
    """
    from matplotlib.figure import Figure  # imported here because benchmarks run without matplotlib

    from artune.runtime.plotting import INK, SIZE, SMALL, save, style

    _check(columns, row_labels, column_titles)
    across = across or columns[0].shape[1]
    sheets = [_sheet(block, across) for block in columns]
    side, alone = columns[0].shape[2], path.suffix == ".png"
    page = _sizes_of(sheets[0].shape[:2], side, row_labels, column_titles, largest, alone)
    gap = _gap_between(columns[0], across) / sheets[0].shape[0]
    step = (1 + gap) / len(row_labels)  # from class to class, as a share of the height
    with style():
        figure = Figure(figsize=(page.width, page.height))
        for at, (sheet, title) in enumerate(zip(sheets, page.titles, strict=True)):
            left = page.left + at * (page.block + BETWEEN)
            place = (left / page.width, EDGE / page.height, page.block / page.width, page.tall / page.height)
            panel = figure.add_axes(place)
            exact = alone and page.times >= 1
            picture, how = (sheet, "nearest") if exact else (_enlarged(sheet), "auto")
            panel.imshow(picture, aspect="auto", interpolation=how)
            panel.set_title(title, fontsize=SIZE, color=INK, pad=3)
            _bare(panel)
        for row, label in enumerate(page.labels):
            middle = EDGE + page.tall * (1 - row * step - (step - gap) / 2)
            figure.text(
                (page.left - EDGE) / page.width, middle / page.height, label, size=SMALL, color=INK, ha="right",
                va="center", linespacing=1.05,
            )  # fmt: skip
        save(figure, path)


class _Sizes(NamedTuple):
    """Sizes of a grid in inches, and its texts in lines that fit."""

    width: float
    height: float
    left: float  # of the first block
    block: float  # width of a block
    tall: float  # height of a block
    times: int  # dots of a PNG for each pixel, 0 where several pixels share a dot
    labels: list[str]
    titles: list[str]


def _sizes_of(
    sheet: tuple[int, int], side: int, labels: Sequence[str], titles: Sequence[str], largest: float, alone: bool
) -> _Sizes:
    """The page with blocks whose picture is ``sheet`` pixels high and wide, of images ``side`` pixels high.

    ``alone``: only a PNG is written. Each of its pixels is then a square of dots, which is drawn fast and sharp.
    """
    from artune.runtime.plotting import PAGE, SHARPNESS, SIZE, SMALL, text_width

    wrapped = ["\n".join(textwrap.wrap(label, LABEL)) for label in labels]
    left = EDGE + max(text_width(label, SMALL) for label in wrapped) + EDGE
    room = (PAGE - EDGE - left - (len(titles) - 1) * BETWEEN) / len(titles)
    block = min(room, largest * sheet[1] / side)
    times = int(block * SHARPNESS["png"] / sheet[1] + 1e-6)
    if alone and times:
        block = times * sheet[1] / SHARPNESS["png"]
    fitting = max(8, int(10 * block / text_width("n" * 10, SIZE)))
    heads = ["\n".join(textwrap.wrap(title, fitting)) for title in titles]
    tall = block * sheet[0] / sheet[1]
    head = LINE * max(title.count("\n") + 1 for title in heads) if any(heads) else 0.0
    width = left + len(titles) * (block + BETWEEN) - BETWEEN + EDGE
    return _Sizes(width, EDGE + tall + head + EDGE, left, block, tall, times, wrapped, heads)


def _sheet(block: np.ndarray, across: int) -> np.ndarray:
    """The picture of a policy: its classes one below the other."""
    gap = _gap_between(block, across)
    rows = [np.pad(tile(images, across), ((0, gap), (0, 0), (0, 0)), constant_values=255) for images in block]
    return np.concatenate(rows)[:-gap]


def _gap_between(block: np.ndarray, across: int) -> int:
    """White pixels between two classes: more than between two images where a class has several lines."""
    return gap_of(block.shape[2]) * (3 if block.shape[1] > across else 1)


def _enlarged(sheet: np.ndarray) -> np.ndarray:
    """Each pixel as a square of several, so that all are of one size after the picture is fitted to the page."""
    times = max(1, 1200 // sheet.shape[1])
    return sheet.repeat(times, axis=0).repeat(times, axis=1)


def _bare(panel: "Axes") -> None:
    panel.set_xticks([])
    panel.set_yticks([])
    panel.grid(visible=False)
    for spine in panel.spines.values():
        spine.set_visible(False)


def _check(columns: Sequence[np.ndarray], rows: Sequence[str], titles: Sequence[str]) -> None:
    shapes = {block.shape for block in columns}
    if len(shapes) != 1 or any(block.dtype != np.uint8 or block.ndim != 5 for block in columns):
        raise ArtuneError(f"sample grid: need equal uint8 [classes, images, H, W, 3], got {sorted(map(str, shapes))}")
    if len(rows) != columns[0].shape[0] or len(titles) != len(columns):
        raise ArtuneError(f"sample grid: {len(rows)} rows and {len(titles)} titles do not fit {columns[0].shape}")
