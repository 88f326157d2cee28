"""The sizes of text and pictures that a paper wants, and what tells curves apart in grey."""

import itertools
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from test_figures import pictures, write_trace
from test_over_optimisation import KEY, REGISTRY
from test_over_optimisation import results as curve_results

from artune.results.figures import method, samples, toy, training_dynamics
from artune.results.figures.draw import draw_figure
from artune.runtime.plotting import COLUMN, LOOKS, PAGE, SIZE, SMALL
from artune.sampling.grids import draw_grid

NAMES = ["t-shirt", "American Staffordshire terrier"]
RUN = "llamagen_l-half_prompts-class_matched"


def draw_dynamics(folder):
    traces = {name: write_trace(folder / f"{name}.jsonl") for name in ("ours", "other", "third")}
    training_dynamics.draw_training_dynamics(traces, 5, folder / "figure.pdf")


def draw_samples(folder, images=4, classes=NAMES):
    columns = [pictures(len(classes), images, seed=seed) for seed in (0, 1)]
    samples.draw_comparison(columns, classes, ["pretrained", "ours"], folder / "figure.pdf")


KINDS = {
    "method": lambda folder: method.draw_figure1(folder / "figure.pdf"),
    "dynamics": draw_dynamics,
    "few classes": draw_samples,
    "many classes": lambda folder: draw_samples(folder, 8, [*NAMES, "bag"]),
    "toy": lambda folder: toy.draw_toy(folder / "figure.pdf", (3,), toy.Toy(iterations=4, shown_at=2, every=2)),
    "curve": lambda folder: draw_figure(REGISTRY, KEY, curve_results(folder / "r"), folder / "figure.pdf"),
    "grid": lambda folder: draw_grid([pictures()] * 2, NAMES, ["pretrained", RUN], folder / "figure.png"),
    "training": lambda folder: draw_grid(
        [pictures(images=4)], NAMES, [f"{RUN} after iteration 25"], folder / "figure.png"
    ),
}


def figure_of(draw, folder):
    """The figure that ``draw(folder)`` saves, laid out; empty files take the place of its own."""
    saved = []

    def keeping(figure, path, *, format, **options):
        saved.append(figure)
        Path(path).touch()
        if format == "png":
            FigureCanvasAgg(figure).draw()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matplotlib.figure.Figure, "savefig", keeping)
        draw(folder)
    return saved[-1]


@pytest.fixture(scope="module", params=KINDS)
def drawn(request, tmp_path_factory):
    """The figure of a kind as it was saved, and the kind."""
    return figure_of(KINDS[request.param], tmp_path_factory.mktemp("figure")), request.param


def texts(figure):
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def test_a_figure_is_as_wide_as_a_column_or_both_and_its_text_has_7_or_8_points(drawn):
    figure, kind = drawn
    width = figure.get_figwidth()
    wide = {"curve": [COLUMN], "grid": [width], "training": [width]}.get(kind, [PAGE])
    assert any(width == pytest.approx(one) for one in wide)
    assert width < PAGE + 1e-6
    assert figure.get_figheight() < 9.2  # the height of a page
    assert {text.get_fontsize() for text in texts(figure)} <= {SIZE, SMALL}


def test_no_text_leaves_the_picture_and_no_title_stands_over_the_whole(drawn):
    figure, kind = drawn
    assert not figure.get_suptitle()
    assert not figure.get_supxlabel()  # captions stand outside
    renderer, scale = figure.canvas.get_renderer(), figure.dpi
    hidden = list(out_of_view(figure))
    for text in texts(figure):
        box = text.get_window_extent(renderer)
        inside = [box.x0, box.y0, figure.get_figwidth() * scale - box.x1, figure.get_figheight() * scale - box.y1]
        assert text in hidden or min(inside) > -0.01 * scale, f"{kind}: {text.get_text()!r} {inside}"


def out_of_view(figure):
    """Labels of ticks beyond the limits of their axis, which Matplotlib keeps and does not draw."""
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        yield from (tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high)


def test_panels_of_a_row_are_aligned(drawn):
    figure, _ = drawn
    places = [axes.get_position() for axes in figure.axes]
    for one, other in itertools.combinations(places, 2):
        if min(one.y1, other.y1) - max(one.y0, other.y0) > 0.5 * min(one.height, other.height):
            assert one.y0 == pytest.approx(other.y0, abs=0.005)
            assert one.y1 == pytest.approx(other.y1, abs=0.005)


def test_curves_have_dashes_and_a_marker_of_their_own():
    assert len({str(look.dash) for look in LOOKS}) == len({look.marker for look in LOOKS}) == len(LOOKS)


def test_curves_of_a_panel_are_told_apart_in_grey(drawn):
    figure, kind = drawn
    handles, labels = figure.axes[0].get_legend_handles_labels()
    lines = [handle[0] for handle in handles if isinstance(handle, tuple)] or handles
    if kind in ("dynamics", "curve"):
        assert len({(str(line._unscaled_dash_pattern), line.get_marker()) for line in lines}) == len(labels) >= 3


def test_each_row_of_a_grid_is_named_beside_its_images(tmp_path):
    names = [f"class {number}" for number in range(5)]
    figure = figure_of(lambda folder: draw_grid([pictures(5)], names, ["run"], folder / "grid.png"), tmp_path)
    assert [text.get_text() for text in figure.texts] == names
    place = figure.axes[0].get_position()
    middles = place.y1 - place.height * (9 * np.arange(5) + 4) / 44  # images of 8 pixels, a gap of 1
    assert [text.get_position()[1] for text in figure.texts] == pytest.approx(list(middles), abs=1e-6)
