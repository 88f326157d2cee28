"""Figure 1: likelihood training looks at one token, the proposed tuning at finished images and their distribution."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from artune.runtime.plotting import COLOURS, FAINT, INK, PAPER, save, style

BLUE, RED, GREEN, PINK = COLOURS[:4]
TOKENS = ("#c6dbef", "#fdd0a2", "#c7e9c0", "#dadaeb", "#fdae6b", "#9ecae1")


def draw_figure1(output: Path) -> None:
    """Write Figure 1 as PDF and PNG."""
    with style():
        figure = Figure(figsize=(9.6, 4.0), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[1.0, 1.9])
        for panel, width, title in (
            (left, 5.0, "Maximum likelihood: one token, true context"),
            (right, 9.6, "Policy-based tuning: whole images, own context"),
        ):
            panel.set(xlim=(0, width), ylim=(0, 6.2), aspect="equal")
            panel.set_title(title, fontweight="bold")
            panel.axis("off")
        _likelihood(left)
        _tuning(right)
        save(figure, output)


def _likelihood(panel: Axes) -> None:
    _box(panel, 0.2, 0.5, 1.2, 0.7, "class c", PAPER)
    _tokens(panel, 1.75, 0.6, 4, "ground-truth tokens $x_{<t}$")
    _box(panel, 0.6, 2.3, 3.6, 0.9, "autoregressive model $p_\\theta$", "#dbe9f6", BLUE)
    _arrow(panel, (0.8, 1.2), (0.8, 2.3))
    _arrow(panel, (2.7, 1.15), (2.7, 2.3))
    _bars(panel, 1.6, 3.75, (0.15, 0.3, 0.85, 0.2, 0.1), 2)
    _arrow(panel, (2.4, 3.2), (2.4, 3.72))
    panel.text(3.4, 4.1, "$p_\\theta(\\cdot\\,|\\,x_{<t}, c)$", fontsize=8, va="center")
    panel.text(2.4, 5.65, "maximise $\\log p_\\theta(x_t\\,|\\,x_{<t}, c)$", ha="center", fontsize=9, color=RED)
    _arrow(panel, (2.4, 5.45), (2.4, 4.8), RED)


def _tuning(panel: Axes) -> None:
    _box(panel, 0.1, 2.3, 1.1, 0.9, "class c", PAPER)
    _box(panel, 1.6, 2.3, 1.5, 0.9, "policy $\\pi_\\theta$", "#dbe9f6", BLUE)
    _arrow(panel, (1.2, 2.75), (1.6, 2.75))
    _tokens(panel, 1.45, 0.75, 4, "generated tokens $x_1 \\ldots x_T$")
    _arrow(panel, (2.1, 2.3), (2.1, 1.3))
    _arrow(panel, (2.65, 1.3), (2.65, 2.3), FAINT)
    panel.text(2.75, 1.8, "next", fontsize=6.5, color=FAINT, va="center")
    _box(panel, 3.85, 0.6, 1.25, 0.9, "decoder\n(frozen)", PAPER)
    _arrow(panel, (3.4, 1.03), (3.85, 1.03))
    for shift in (0.24, 0.12, 0.0):
        panel.add_patch(Rectangle((4.05 + shift, 2.3 + shift), 0.85, 0.85, facecolor="white", edgecolor=INK, lw=0.8))
    panel.text(4.47, 2.72, "G\nimages", ha="center", va="center", fontsize=6.5)
    _arrow(panel, (4.47, 1.5), (4.47, 2.3))

    image = "each image (correctness):\nCLIPScore $r^{\\mathrm{clip}}$ + HPSv2 $r^{\\mathrm{hps}}$"
    _box(panel, 5.9, 3.1, 3.4, 1.0, image, "#fde3d0", RED, size=7.5)
    distribution = "all images (distribution):\nleave-one-out FID $r^{\\mathrm{dist}}$"
    _box(panel, 5.9, 1.75, 3.4, 1.0, distribution, "#d5efe3", GREEN, size=7.5)
    _box(panel, 6.35, 0.45, 2.5, 0.6, "moments of real images", PAPER, size=7.5)
    _arrow(panel, (5.15, 2.95), (5.9, 3.5), RED)
    _arrow(panel, (5.15, 2.65), (5.9, 2.3), GREEN)
    _arrow(panel, (7.6, 1.05), (7.6, 1.75), GREEN)
    rewards = "+".join(f"r^{{\\mathrm{{{name}}}}}" for name in ("clip", "hps", "dist"))
    update = f"group advantage of ${rewards}$\nGRPO loss, KL, adaptive entropy"
    _box(panel, 3.0, 4.75, 4.3, 1.1, update, "#f3e3ee", PINK)
    panel.plot([9.3, 9.45, 9.45], [2.25, 2.25, 5.45], color=GREEN, lw=1.1)
    _arrow(panel, (9.45, 5.45), (7.3, 5.45), GREEN)
    panel.plot([7.9, 7.9], [4.1, 5.1], color=RED, lw=1.1)
    _arrow(panel, (7.9, 5.1), (7.3, 5.1), RED)
    panel.plot([3.0, 2.35], [5.3, 5.3], color=PINK, lw=1.1)
    _arrow(panel, (2.35, 5.3), (2.35, 3.2), PINK)
    panel.text(2.25, 4.3, "policy\ngradient", ha="right", va="center", color=PINK, fontsize=7.5)


def _box(
    panel: Axes, x: float, y: float, width: float, height: float, text: str, face: str, edge: str = INK, size: float = 8
) -> None:
    shape = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.12", fc=face, ec=edge, lw=1.0)
    panel.add_patch(shape)
    panel.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=size, color=INK)


def _tokens(panel: Axes, x: float, y: float, number: int, text: str) -> None:
    for at in range(number):
        panel.add_patch(Rectangle((x + 0.5 * at, y), 0.44, 0.5, facecolor=TOKENS[at], edgecolor=INK, lw=0.7))
    panel.text(x + 0.25 * number, y - 0.3, text, ha="center", va="center", fontsize=7)


def _bars(panel: Axes, x: float, y: float, heights: tuple[float, ...], chosen: int) -> None:
    for at, height in enumerate(heights):
        colour = RED if at == chosen else FAINT
        panel.add_patch(Rectangle((x + 0.33 * at, y), 0.26, height, facecolor=colour, edgecolor="none"))


def _arrow(panel: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = INK) -> None:
    arrow = FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, color=colour, lw=1.1, shrinkA=0, shrinkB=0)
    panel.add_patch(arrow)
