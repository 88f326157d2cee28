"""Grids of sample images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from artune.errors import ArtuneError
from artune.runtime.seeds import generator_for
from artune.sampling.generate import Sampler
from artune.sampling.rollout import Renderer, roll_out

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP = 1  # white pixels between images


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
    rows = -(-number // columns)
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, dtype=np.uint8)
    for at, image in enumerate(images):
        top, left = (at // columns) * (height + GAP), (at % columns) * (width + GAP)
        sheet[top : top + height, left : left + width] = image
    return sheet


def draw_grid(
    columns: Sequence[np.ndarray], row_labels: Sequence[str], column_titles: Sequence[str], title: str, path: Path
) -> None:
    """Draw a grid with a row per class and a block of images per policy; a row's blocks were drawn with the same seeds.

    Args:
        columns: one array per policy, uint8 [classes, images, H, W, 3].
        row_labels: names of the classes.
        column_titles: names of the policies.
        title: title above the grid.
        path: output file; ``.png`` writes only that, ``.pdf`` writes both.
    """
    from matplotlib.figure import Figure  # imported here because benchmarks run without matplotlib

    from artune.runtime.plotting import save, style

    _check(columns, row_labels, column_titles)
    classes, images = columns[0].shape[:2]
    cell = 0.5
    with style():
        size = (0.9 + len(columns) * (images * cell + 0.15), 0.7 + classes * cell)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(columns), squeeze=False)[0]
        for panel, block, name in zip(panels, columns, column_titles, strict=True):
            height = block.shape[2] + GAP
            panel.imshow(tile(block.reshape(-1, *block.shape[2:]), images), interpolation="nearest")
            panel.set_title(name)
            _bare(panel)
            if panel is panels[0]:
                panel.set_yticks([row * height + height / 2 for row in range(classes)], row_labels)
        figure.suptitle(title, fontsize=9)
        save(figure, path)


def _bare(panel: "Axes") -> None:
    panel.set_xticks([])
    panel.set_yticks([])
    panel.grid(visible=False)
    panel.tick_params(length=0)
    for spine in panel.spines.values():
        spine.set_visible(False)


def _check(columns: Sequence[np.ndarray], rows: Sequence[str], titles: Sequence[str]) -> None:
    shapes = {block.shape for block in columns}
    if len(shapes) != 1 or any(block.dtype != np.uint8 or block.ndim != 5 for block in columns):
        raise ArtuneError(f"sample grid: need equal uint8 [classes, images, H, W, 3], got {sorted(map(str, shapes))}")
    if len(rows) != columns[0].shape[0] or len(titles) != len(columns):
        raise ArtuneError(f"sample grid: {len(rows)} rows and {len(titles)} titles do not fit {columns[0].shape}")
