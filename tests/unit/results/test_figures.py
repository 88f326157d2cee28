import json
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

from artune.config.tables import Figure as Layout
from artune.errors import ArtuneError
from artune.results.figures import method, samples, toy, training_dynamics
from artune.results.figures.training_dynamics import moving_average
from artune.sampling import grids


def write_trace(path: Path, iterations: int = 30, **changes: float | None) -> Path:
    """A metrics.jsonl as a training writes it; ``changes`` replace a key's value, None leaves the key out."""
    rng = np.random.default_rng(0)
    lines = []
    for iteration in range(iterations):
        line = {
            "iteration": iteration,
            "reward/clip": 0.2 + 0.001 * iteration + 0.01 * rng.normal(),
            "reward/hps": 0.25 + 0.01 * rng.normal(),
            "fid/ema": 20 - 0.1 * iteration + rng.normal(),
            "policy/entropy": 0.7 + 0.001 * iteration,
        } | {key.replace("_", "/"): value for key, value in changes.items()}
        lines.append(json.dumps({key: value for key, value in line.items() if value is not None}))
    path.write_text("\n".join(lines) + "\n")
    return path


def pictures(classes: int = 2, images: int = 6, side: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (classes, images, side, side, 3), dtype=np.uint8)


def test_figure_2_is_drawn_from_metrics_alone_and_is_the_same_every_time(tmp_path):
    trace = write_trace(tmp_path / "metrics.jsonl")
    for name in ("a", "b"):
        training_dynamics.draw_training_dynamics({"ours": trace}, 5, tmp_path / f"{name}.pdf")
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_another_smoothing_redraws_figure_2_from_the_same_file(tmp_path):
    trace = write_trace(tmp_path / "metrics.jsonl")
    before = trace.read_bytes()
    for smoothing in (1, 9):
        training_dynamics.draw_training_dynamics({"ours": trace}, smoothing, tmp_path / f"{smoothing}.pdf")
    one, nine = (matplotlib.image.imread(tmp_path / f"{smoothing}.png") for smoothing in (1, 9))
    assert one.shape == nine.shape
    assert (one != nine).any()
    assert trace.read_bytes() == before


@pytest.mark.parametrize("window", [1, 2, 5, 100])
def test_the_moving_average_is_the_mean_over_its_window_at_every_iteration(window):
    values = np.random.default_rng(1).normal(size=20)
    values[7] = np.nan
    for at, mean in enumerate(moving_average(values, window)):
        near = values[max(0, at - window // 2) : at + (window - 1) // 2 + 1]
        near = near[np.isfinite(near)]
        assert (np.isnan(mean) and not len(near)) or mean == pytest.approx(near.mean())


def test_a_smoothing_below_one_is_refused():
    with pytest.raises(ArtuneError, match=r"figure2\.smoothing: 0"):
        moving_average(np.zeros(3), 0)


def test_a_torn_last_line_is_left_out(tmp_path):
    whole, torn = write_trace(tmp_path / "whole.jsonl"), write_trace(tmp_path / "torn.jsonl")
    torn.write_text(torn.read_text() + '{"iteration": 30, "rewa')
    for path in (whole, torn):
        training_dynamics.draw_training_dynamics({"ours": path}, 3, path.with_suffix(".pdf"))
    assert whole.with_suffix(".png").read_bytes() == torn.with_suffix(".png").read_bytes()


def test_another_run_without_a_curve_is_drawn_without_it_but_ours_must_have_all(tmp_path):
    ours = write_trace(tmp_path / "ours.jsonl")
    other = write_trace(tmp_path / "other.jsonl", fid_ema=None)
    training_dynamics.draw_training_dynamics({"ours": ours, "other": other}, 3, tmp_path / "both.pdf")
    assert (tmp_path / "both.pdf").exists()
    with pytest.raises(ArtuneError, match=r"other\.jsonl: logs no fid/ema"):
        training_dynamics.draw_training_dynamics({"other": other, "ours": ours}, 3, tmp_path / "none.pdf")
    assert not (tmp_path / "none.pdf").exists()


def test_an_empty_record_is_one_line(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ArtuneError, match=r"metrics\.jsonl: no iteration"):
        training_dynamics.draw_training_dynamics({"ours": tmp_path / "metrics.jsonl"}, 3, tmp_path / "figure.pdf")


def test_tile_puts_every_image_where_its_index_says():
    block = pictures(1, 5)[0]
    sheet = grids.tile(block, 3)
    side, step = 8, 8 + grids.GAP
    for at, image in enumerate(block):
        top, left = (at // 3) * step, (at % 3) * step
        assert (sheet[top : top + side, left : left + side] == image).all()
    assert (sheet[step:, 2 * step :] == 255).all()


def test_sample_figures_are_written_as_pdf_and_png_and_grids_as_png_alone(tmp_path):
    columns = [pictures(), pictures(seed=1)]
    samples.draw_comparison(columns, ["hen", "kite"], ["pretrained", "ours"], tmp_path / "figure9.pdf")
    grids.draw_grid(columns, ["hen", "kite"], ["pretrained", "ours"], tmp_path / "grid.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figure9.pdf", "figure9.png", "grid.png"]


@pytest.mark.parametrize(
    "columns",
    [[pictures(), pictures(images=5)], [pictures().astype(np.float32)] * 2, [pictures(3)] * 2],
)
def test_images_that_do_not_fit_a_grid_are_refused(columns, tmp_path):
    with pytest.raises(ArtuneError, match="sample grid"):
        grids.draw_grid(columns, ["hen", "kite"], ["pretrained", "ours"], tmp_path / "grid.png")


def layout(*classes: str, **settings: int) -> Layout:
    return Layout(kind="samples", title="t", runs=("a", "b"), classes=classes, **settings)


DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def test_named_classes_are_found_without_regard_to_case():
    names = ("tench", "Goldfish", "hen")
    assert samples.choose_classes(layout("hen", "goldfish"), names) == [2, 1]


def test_a_figure_that_names_no_classes_shows_them_at_even_steps():
    assert samples.choose_classes(layout(number=4), [str(name) for name in range(1000)]) == [125, 375, 625, 875]
    assert samples.choose_classes(layout(number=12), DIGITS) == list(range(10))


def test_a_class_that_the_data_set_lacks_is_an_error():
    with pytest.raises(ArtuneError, match="unknown class 'kit'"):
        samples.choose_classes(layout("hen", "kit"), ("hen", "kite"))
    with pytest.raises(ArtuneError, match="unknown class 'hen'"):
        samples.choose_classes(layout("hen", "kite"), DIGITS)


def test_the_toys_features_tell_a_slanted_line_from_an_upright_blob_of_equal_variances():
    generator = torch.Generator().manual_seed(0)
    line = toy.line(4000, generator)
    blob = torch.stack([line[torch.randperm(4000, generator=generator), axis] for axis in (0, 1)], dim=1)
    line_var, blob_var = toy.toy_features(line).var(0), toy.toy_features(blob).var(0)
    assert torch.allclose(line_var[:2], blob_var[:2])
    assert ((line_var[2:] - blob_var[2:]).abs() > 0.3).all()


def test_a_diagonal_distance_of_x_and_y_alone_does_not_find_the_slant():
    trace = toy.learn("ema", 0, toy.Toy(iterations=150, shown_at=30), toy.raw)
    assert trace.distance[-1] < 0.2  # x and y match separately
    assert torch.corrcoef(trace.points[150].T)[0, 1] < 0.7


@pytest.mark.parametrize("mode", ["ema", "batch"])
def test_the_toy_policy_converges_to_the_line(mode):
    trace = toy.learn(mode, 1, toy.Toy(iterations=300, shown_at=30))
    assert trace.distance[0] > 3
    assert trace.distance[-1] < 0.05
    final = trace.points[300]
    assert torch.corrcoef(final.T)[0, 1] > 0.8
    assert final.std(0)[0] > 0.9  # the policy has not collapsed


def test_figure_5_is_drawn_from_its_seeds_alone(tmp_path):
    short = toy.Toy(iterations=20, shown_at=10, every=5)
    ends = [toy.draw_toy(tmp_path / f"{name}.pdf", (3,), short) for name in ("a", "b")]
    assert ends[0] == ends[1]
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()


def test_figure_1_is_drawn(tmp_path):
    method.draw_figure1(tmp_path / "figure1.pdf")
    image = matplotlib.image.imread(tmp_path / "figure1.png")
    assert image.shape[1] == 1380  # both columns of a paper, 6.9 inches
    assert len(np.unique(image[..., :3].reshape(-1, 3), axis=0)) > 50
