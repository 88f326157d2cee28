"""The command ``figure``: a figure's kind in ``config/figures.yaml`` picks the module that draws it."""

from pathlib import Path

from artune.config.paper import figure_caption, same_figures
from artune.config.registry import Registry
from artune.data.prompts import class_names
from artune.errors import ArtuneError, unknown
from artune.results.figures import method, over_optimisation, samples, toy, training_dynamics
from artune.runtime.files import load_npz, write_text


def draw_figure(
    registry: Registry,
    key: str,
    results: Path,
    output: Path,
    smoothing: int = 15,
    compare: tuple[str, ...] = (),
    seeds: int = 1,
) -> str:
    """Draw a figure from result files, as PDF, as PNG beside it, and write its caption beside them as ``.txt``.

    Args:
        registry: registry of the scale, with the figure's layout and the scale's note.
        key: name of the figure, such as ``figure2``.
        results: ``results/{scale}``.
        output: the PDF.
        smoothing: iterations of the moving average (training dynamics).
        compare: further runs to draw (training dynamics).
        seeds: seeds of every run (over-optimisation).

    Raises:
        ArtuneError: the figure is unknown, or a file is missing or damaged.
    """
    if key not in registry.figures:
        raise ArtuneError(f"config/figures.yaml: {unknown(key, registry.figures, 'figure')}")
    layout = registry.figures[key]
    caption = figure_caption(registry, key, smoothing, compare, seeds)
    if layout.kind == "training_dynamics":
        paths = {run: results / "runs" / run / "metrics.jsonl" for run in (*layout.runs, *compare)}
        training_dynamics.draw_training_dynamics(paths, smoothing, output)
    elif layout.kind == "samples":
        names = class_names(registry.data)
        shown = [names[index] for index in samples.choose_classes(layout, names)]
        folder = results / "figures/samples" / same_figures(registry, key)[0]
        columns = [load_npz(folder / f"{run}.npz", "images")["images"] for run in layout.runs]
        samples.draw_comparison(columns, shown, ("pretrained", "ours"), output)
    elif layout.kind == "over_optimisation":
        over_optimisation.draw_over_optimisation(registry, key, layout, results, seeds, output)
    elif layout.kind == "toy":
        toy.draw_toy(output)
    else:
        method.draw_figure1(output)
    write_text(output.with_suffix(".txt"), f"{caption}\n")
    return f"{output}: {layout.title}"
