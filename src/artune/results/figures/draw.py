"""The command ``figure``: a figure's kind in ``config/figures.yaml`` picks the module that draws it."""

from pathlib import Path

from artune.config.registry import Registry
from artune.data.prompts import class_names
from artune.errors import ArtuneError, unknown
from artune.results.figures import method, over_optimisation, samples, toy, training_dynamics
from artune.runtime.files import load_npz


def draw_figure(
    registry: Registry,
    key: str,
    results: Path,
    output: Path,
    smoothing: int = 15,
    compare: tuple[str, ...] = (),
    seeds: int = 1,
) -> str:
    """Draw a figure from result files, as PDF and as PNG beside it.

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
    note = registry.about.note or f"{registry.scale} scale"
    if layout.kind == "training_dynamics":
        paths = {run: results / "runs" / run / "metrics.jsonl" for run in (*layout.runs, *compare)}
        training_dynamics.draw_training_dynamics(paths, smoothing, output, note)
    elif layout.kind == "samples":
        names = class_names(registry.data)
        choice = samples.choose_classes(layout, names, strict=not registry.data.embedded)
        shown = [names[index] for index in choice.ids]
        title = f"{' and '.join(shown)}, for {layout.title.lower()}" if choice.stand_in else layout.title
        columns = [
            load_npz(results / "figures/samples" / key / f"{run}.npz", "images")["images"] for run in layout.runs
        ]
        across = layout.per_class if len(shown) > 2 else 3
        samples.draw_comparison(
            columns, shown, ("pretrained", "ours"), title, f"{choice.sentence} {note}.", output, across
        )
    elif layout.kind == "over_optimisation":
        over_optimisation.draw_over_optimisation(registry, key, layout, results, seeds, output, f"{note}.")
    elif layout.kind == "toy":
        toy.draw_toy(output)
    else:
        method.draw_figure1(output)
    return f"{output}: {layout.title}"
