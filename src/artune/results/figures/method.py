"""Figure 1: likelihood training looks at one token, the proposed tuning at finished images and their distribution."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from artune.runtime.plotting import COLOURS, FAINT, INK, PAGE, PAPER, SIZE, SMALL, save, style

BLUE, RED, GREEN, PINK = COLOURS[:4]
TOKENS = ("#c6dbef", "#fdd0a2", "#c7e9c0", "#dadaeb", "#fdae6b", "#9ecae1")
HEIGHT = 2.75
SIDE, STEP = 0.2, 0.225  # of a token, and from one to the next


def draw_figure1(output: Path) -> None:
    """Write Figure 1 as PDF and PNG, as wide as both columns of a paper; all lengths in this module are inches."""
    with style():
        figure = Figure(figsize=(PAGE, HEIGHT))
        panel = figure.add_axes((0, 0, 1, 1))
        panel.set(xlim=(0, PAGE), ylim=(0, HEIGHT))
        panel.axis("off")
        for x, head, about in (
            (0.08, "(a) Maximum likelihood", "one token, true context"),
            (2.25, "(b) Policy-based tuning", "whole images, own context"),
        ):
            panel.text(x, 2.6, head, fontweight="bold", va="center")
            panel.text(x, 2.42, about, fontsize=SMALL, va="center")
        panel.plot([2.1, 2.1], [0.08, 2.68], color=FAINT, linewidth=0.6)
        _likelihood(panel)
        _tuning(panel)
        save(figure, output)


def _likelihood(panel: Axes) -> None:
    _box(panel, (0.08, 0.45, 0.55, 0.3), "class $c$")
    _tokens(panel, 0.9, 0.5, "true tokens $x_{<t}$")
    _box(panel, (0.08, 1.0, 1.85, 0.34), "autoregressive model $p_\\theta$", "#dbe9f6", BLUE)
    _arrow(panel, (0.35, 0.75), (0.35, 1.0))
    _arrow(panel, (1.34, 0.72), (1.34, 1.0))
    _arrow(panel, (0.7, 1.34), (0.7, 1.52))
    for at, height in enumerate((0.06, 0.12, 0.32, 0.08, 0.04)):
        colour = RED if at == 2 else FAINT
        panel.add_patch(Rectangle((0.4 + 0.125 * at, 1.55), 0.1, height, facecolor=colour, edgecolor="none"))
    panel.text(1.12, 1.68, "$p_\\theta(\\cdot\\,|\\,x_{<t}, c)$", fontsize=SIZE, va="center")
    panel.text(0.7, 2.16, "maximise $\\log p_\\theta(x_t\\,|\\,x_{<t}, c)$", fontsize=SMALL, ha="center", color=RED)
    _arrow(panel, (0.7, 2.1), (0.7, 1.89), RED)


def _tuning(panel: Axes) -> None:
    _box(panel, (2.25, 1.12, 0.55, 0.36), "class $c$")
    _box(panel, (3.0, 1.12, 0.8, 0.36), "policy $\\pi_\\theta$", "#dbe9f6", BLUE)
    _arrow(panel, (2.8, 1.3), (3.0, 1.3))
    _tokens(panel, 2.96, 0.5, "sampled tokens $x_1 \\ldots x_T$")
    _arrow(panel, (3.22, 1.12), (3.22, 0.72))
    _arrow(panel, (3.52, 0.72), (3.52, 1.12), FAINT)
    panel.text(3.57, 0.92, "next", fontsize=SMALL, color=INK, va="center")
    _box(panel, (4.1, 0.42, 0.62, 0.36), "decoder\n(frozen)", size=SMALL)
    _arrow(panel, (3.87, 0.6), (4.1, 0.6))
    for shift in (0.1, 0.05, 0.0):
        place = (4.16 + shift, 1.08 + shift)
        panel.add_patch(Rectangle(place, 0.46, 0.42, facecolor="white", edgecolor=INK, linewidth=0.7))
    panel.text(4.39, 1.29, "$G$\nimages", ha="center", va="center", fontsize=SMALL)
    _arrow(panel, (4.41, 0.78), (4.41, 1.08))

    image = "each image (correctness):\nCLIPScore $r^{\\mathrm{clip}}$ + HPSv2 $r^{\\mathrm{hps}}$"
    _box(panel, (5.02, 1.42, 1.66, 0.42), image, "#fde3d0", RED, SMALL)
    distribution = "all images (distribution):\nleave-one-out FID $r^{\\mathrm{dist}}$"
    _box(panel, (5.02, 0.8, 1.66, 0.42), distribution, "#d5efe3", GREEN, SMALL)
    _box(panel, (5.12, 0.26, 1.46, 0.26), "moments of real images", size=SMALL)
    _arrow(panel, (5.85, 0.52), (5.85, 0.8), GREEN)
    _arrow(panel, (4.72, 1.4), (5.02, 1.6), RED)
    _arrow(panel, (4.72, 1.2), (5.02, 1.02), GREEN)

    rewards = "+".join(f"r^{{\\mathrm{{{name}}}}}" for name in ("clip", "hps", "dist"))
    update = f"group advantage of ${rewards}$\nGRPO loss, KL penalty, adaptive entropy bonus"
    _box(panel, (3.98, 2.08, 2.62, 0.46), update, "#f3e3ee", PINK, SMALL)
    _arrow(panel, (5.85, 1.84), (5.85, 2.08), RED)
    _path(panel, ((6.68, 1.01), (6.82, 1.01), (6.82, 2.31), (6.6, 2.31)), GREEN)
    _path(panel, ((3.98, 2.31), (3.4, 2.31), (3.4, 1.48)), PINK)
    panel.text(3.34, 1.85, "policy\ngradient", ha="right", va="center", color=INK, fontsize=SMALL)


def _box(
    panel: Axes,
    place: tuple[float, float, float, float],
    text: str,
    face: str = PAPER,
    edge: str = INK,
    size: float = SIZE,
) -> None:
    """A box with its lower left corner, width and height in ``place``."""
    x, y, width, height = place
    shape = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.05", fc=face, ec=edge, lw=0.9)
    panel.add_patch(shape)
    panel.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=size, color=INK)


def _tokens(panel: Axes, x: float, y: float, text: str) -> None:
    for at, colour in enumerate(TOKENS[:4]):
        panel.add_patch(Rectangle((x + STEP * at, y), SIDE, 0.22, facecolor=colour, edgecolor=INK, linewidth=0.7))
    panel.text(x + 2 * STEP, y - 0.14, text, ha="center", va="center", fontsize=SMALL)


def _arrow(panel: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = INK) -> None:
    arrow = FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=7, color=colour, lw=1.0, shrinkA=0, shrinkB=0)
    panel.add_patch(arrow)


def _path(panel: Axes, corners: Sequence[tuple[float, float]], colour: str) -> None:
    """An arrow around corners."""
    panel.plot(*zip(*corners[:-1], strict=True), color=colour, linewidth=1.0, solid_capstyle="butt")
    _arrow(panel, corners[-2], corners[-1], colour)
