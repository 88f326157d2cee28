"""Description of a run on its MLflow page, above its curves: the run in words, as in a lab notebook (Markdown)."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from artune.config.glossary import COLUMNS, METRICS
from artune.config.methods import used
from artune.config.paper import paper_values, tables_of
from artune.config.registry import RUN_SECTIONS, Registry
from artune.config.seeds import row_of
from artune.config.settings import results_name
from artune.config.yaml_layers import leaves
from artune.tracking.mlflow_run import RUN_ID, RunView
from artune.tracking.source_code import SourceCode

ARTIFACTS = ("grid.png", "config.yaml", "scores.json", "manifest.json")
PICTURE, BROAD = "samples.png", 800  # file name of the page's picture, and its largest width in pixels
STRIP, TILE, MOST_TILES = "strip.png", 40, 16  # file name of the low picture, pixels and number of its images per row
SEEN_FIRST = f"![samples, first and last](get-artifact?path={STRIP}&run_uuid={RUN_ID})"
WHITE = 250  # brightness from which a pixel belongs to the space between two images
INPUTS = {"tokenizer_seed": "tokenizer of seed", "networks_seed": "frozen networks of set"}  # key of a run -> in words
REWARD_NAMES = {
    "clip": "CLIP",
    "hps": "HPS",
    "maniqa": "MANIQA",
    "loo_fid": "LOO-FID",
    "loo_fid_second": "LOO-FID (second network)",
}


def describe_run(
    registry: Registry,
    spec: Mapping[str, Any],
    scores: Mapping[str, Any] | None = None,
    code: SourceCode | None = None,
) -> str:
    """Markdown that says what a run is, where the paper has it, its results, its base and how to reproduce it.

    Args:
        registry: registry of the run's scale.
        spec: the run's resolved settings.
        scores: contents of the run's scores.json; None while the run is trained.
        code: the code that made it.
    """
    pictured = scores is not None or spec["method"] == "grpo"  # a training by GRPO draws its first grid at once
    parts = [SEEN_FIRST] if pictured else []
    parts.append(f"**{_sentence(registry, spec)}**")
    if registry.about.note:
        parts.append(f"> {registry.about.note}")
    parts.append(_results(registry, row_of(spec), scores))
    if pictured:
        while_tuning = ", repeated while tuning" if spec["method"] == "grpo" else ""
        told = f"Samples of every class from the same draws{while_tuning}; none was selected by its looks."
        parts.append(f"### Samples\n{told}\n\n![samples](get-artifact?path={PICTURE}&run_uuid={RUN_ID})")
    parts += [_places(registry, spec), _differences(registry, spec), _commands(spec, code or SourceCode())]
    parts.append(
        "### On this page\n"
        "- *Parameters*: the settings that people compare; `config.yaml` under *Artifacts* has all of them.\n"
        "- *Model metrics*: `eval/*` are the final scores, `paper/*` the paper's values of the same names, the rest "
        "curves over the iterations; `samples` is a grid of the same draws, repeated while tuning (press its "
        "full-screen sign). *System metrics*: load and memory of the machine while tuning.\n"
        "- *Artifacts*: `grid.png` (pretrained beside tuned, same seeds), settings, scores, provenance.\n"
        "- The experiment's own description says what every metric means and how to find the runs of a table."
    )
    return "\n\n".join(parts)


def describe_seeds(
    registry: Registry, spec: Mapping[str, Any], names: Sequence[str], points: Sequence[tuple[str, float, int]]
) -> str:
    """Markdown of the page that has the means of several seeds.

    Args:
        registry: registry of the runs' scale.
        spec: the resolved settings of the first of them.
        names: names of the runs.
        points: metrics of the page: means under ``eval/``, standard deviations under ``seeds/``.
    """
    values = {key: value for key, value, _ in points}
    paper, lines = paper_values(registry, row_of(spec)), []
    for key, column in COLUMNS.items():
        if f"eval/{key}" in values and f"seeds/{key}" in values:
            ours = f"{values[f'eval/{key}']:.{column.decimals}f} ± {values[f'seeds/{key}']:.{column.decimals}f}"
            theirs = f"{paper[key]:.{column.paper_decimals}f}" if key in paper else ""
            lines.append(f"| {column.title} | {ours} | {theirs} |")
    whole = _sentence(registry, spec).replace(f", seed {spec['seed']}", f", {len(names)} seeds")
    return "\n\n".join(
        [
            SEEN_FIRST,
            f"**{whole}** Every number and curve is the mean of the runs {', '.join(f'`{name}`' for name in names)}.",
            *([f"> {registry.about.note}"] if registry.about.note else []),
            "\n".join(["### Results\n± is the standard deviation over the seeds.\n", "| | here | paper |",
                       "| --- | --- | --- |", *lines]),
            _places(registry, spec),
            _differences(registry, spec),
        ]
    )  # fmt: skip


def attach_page(view: RunView, folder: Path, names: Sequence[str] = ARTIFACTS) -> None:
    """Upload the files ``names`` of a run's folder that are there, and the pictures that are drawn from its grids."""
    with tempfile.TemporaryDirectory() as made:
        picture, strip = Path(made) / PICTURE, Path(made) / STRIP
        draw_page_picture(folder, picture)
        draw_strip(folder, strip)
        view.attach([path for name in names if (path := folder / name).exists()] + [picture, strip])


def draw_page_picture(folder: Path, output: Path) -> None:
    """Write the grids that a training drew, or else the run's grid.png, side by side as one picture for the page."""
    pictures = [Image.open(path).convert("RGB") for path in _grids(folder)]
    broad = min(BROAD // len(pictures), max(picture.width for picture in pictures))
    parts = [picture.resize((broad, round(picture.height * broad / picture.width))) for picture in pictures]
    sheet = Image.new("RGB", (broad * len(parts), max(part.height for part in parts)), "white")
    for at, part in enumerate(parts):
        sheet.paste(part, (broad * at, 0))
    sheet.save(output)


def draw_strip(folder: Path, output: Path) -> None:
    """Write a low picture that MLflow shows without a click: images of the first grid above those of the last one.

    MLflow folds a description away below 150 pixels and fades what is above that, from 60 pixels on.
    """
    grids = _grids(folder)
    rows = [tiles_of(Image.open(path).convert("RGB")) for path in dict.fromkeys((grids[0], grids[-1]))]
    number = min(MOST_TILES, *(len(row) for row in rows))
    strip = Image.new("RGB", (TILE * number, TILE * len(rows)), "white")
    for down, row in enumerate(rows):
        for across in range(number):
            tile = row[across * len(row) // number]  # of every class, where a row of the grid is one
            strip.paste(tile.resize((TILE - 2, TILE - 2)), (TILE * across, TILE * down))
    strip.save(output)


def tiles_of(grid: Image.Image) -> list[Image.Image]:
    """The images of a grid that white lines part, row by row; the whole picture if there is nothing else in it."""
    ink = np.asarray(grid.convert("L")) < WHITE
    found = []
    for top, bottom in _longest(np.max(ink, axis=1)):
        found += [grid.crop((left, top, right, bottom)) for left, right in _longest(np.max(ink[top:bottom], axis=0))]
    return found or [grid]


def _longest(ink: np.ndarray) -> list[tuple[int, int]]:
    """The stretches of true values that are at least nine tenths as long as the longest: images, and no letters."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ink, [False]]).astype(np.int8)))
    stretches = [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]
    longest = max((end - start for start, end in stretches), default=0)
    return [(start, end) for start, end in stretches if end - start >= 0.9 * longest]


def _grids(folder: Path) -> list[Path]:
    """The grids that a training drew, or else the run's grid.png."""
    return sorted(folder.glob("grids/iteration-*.png")) or [folder / "grid.png"]


def describe_experiment(registry: Registry) -> str:
    """Markdown that says what an experiment holds, how to find its runs, and what every metric means."""
    filters = "\n".join(
        f"| `tags.{key} IS NOT NULL` | {table.title} |"
        for key, table in registry.tables.items()
        if table.kind == "scores"
    )
    meanings = "\n".join(f"| `{key}` | {meaning} |" for key, meaning in METRICS.items())
    preset = "" if registry.preset == "paper" else f" with the preset **{registry.preset}**"
    return (
        f"All runs of the **{registry.scale}** scale{preset}. {registry.about.note}\n\n"
        "### Find the runs of a table\nType a filter into the search field, tick the runs, press *Compare*.\n\n"
        f"| filter | table |\n| --- | --- |\n{filters}\n\n"
        f"### What every metric means\n\n| metric | meaning |\n| --- | --- |\n{meanings}"
    )


def _sentence(registry: Registry, spec: Mapping[str, Any]) -> str:
    if spec["method"] == "real":
        return (
            f"Real images ({spec['images']}) scored as if they were samples, seed {spec['seed']}: nothing is generated."
        )
    family, _, size = spec["backbone_name"].partition("_")
    name = f"LlamaGen-{size.upper()}" if family == "llamagen" else family.upper()
    if registry.backbones[spec["backbone_name"]].train is not None:
        name += " (this scale's stand-in)"
    sampling = spec["sampling"]
    guidance = "without guidance" if sampling["cfg"] == 1.0 else f"with guidance of scale {sampling['cfg']:g}"
    if sampling["top_k"]:
        guidance += f", top-k {sampling['top_k']}"
    seed = f"seed {spec['seed']}" + "".join(f", {what} {spec[key]}" for key, what in INPUTS.items() if key in spec)
    if spec["method"] == "grpo":
        terms = " + ".join(REWARD_NAMES.get(term, term) for term in spec["rewards"]["terms"])
        grpo = spec["grpo"]
        entropy = "with" if spec["entropy"]["enabled"] else "without"
        images = f"{grpo['iterations']} iterations of {grpo['prompts']} x {grpo['group_size']} images"
        return (
            f"{name} tuned by GRPO with the rewards {terms}, KL weight {grpo['beta']:g}, {entropy} the adaptive "
            f"entropy bonus: {images}, tuned and sampled {guidance}, {seed}."
        )
    if spec["method"] == "mle":
        mle = spec["mle"]
        images = f"{mle['iterations']} iterations of {mle['batch']} images"
        return f"{name} trained further by maximum likelihood for {images}, sampled {guidance}, {seed}."
    if spec["method"] == "vapi":
        vapi = spec["vapi"]
        images = f"{vapi['iterations']} iterations of {vapi['images']} x {vapi['group_size']} sequences"
        return f"{name} tuned by our VA-π for {images}, sampled {guidance}, {seed}."
    if spec["method"] == "external":
        return f"{name} as others tuned and released it (`{spec['checkpoint']}`), sampled {guidance}, {seed}."
    return f"{name} as pretrained, sampled {guidance}, {seed}: what the tuned runs start from."


def _places(registry: Registry, spec: Mapping[str, Any]) -> str:
    rows = tables_of(registry, row_of(spec)).items()
    lines = [f"| `{key}` | {registry.tables[key].title} | {row.replace('|', '/')} |" for key, row in rows]
    figures = [key.removeprefix("figure") for key, figure in registry.figures.items() if row_of(spec) in figure.shown]
    parts = ["### Where it stands"]
    if lines:
        parts += ["", "| | title | row |", "| --- | --- | --- |", *lines]
    if figures:
        parts += ["", f"Figures {', '.join(figures)}."]
    return "\n".join(parts if lines or figures else [*parts, "In no table and no figure."])


def _commands(spec: Mapping[str, Any], code: SourceCode) -> str:
    """The commands that make the run and show its settings; the paper's preset is the default of both."""
    scale, preset = spec["scale"], spec.get("preset", "paper")
    config, option = ("", "") if preset == "paper" else (f" preset={preset}", f" --preset {preset}")
    return (
        "### Made by\n"
        f"```\nsnakemake -c2 --config scale={scale}{config} -- "
        f"results/{results_name(scale, preset)}/runs/{spec['name']}/scores.json\n```\n"
        f"Every setting and where it comes from: `python -m artune show {spec['name']} --scale {scale}{option}`. "
        f"Made by {code.link()}."
    )


def _differences(registry: Registry, spec: Mapping[str, Any]) -> str:
    base = registry.lines.get(spec["base"], {}).get("base")  # {} if a config.yaml edited by hand names no known run
    if base is None:
        return "### How it differs\nA line of its own in `config/experiments.yaml`: nothing but the axis files' values."
    sections = (*RUN_SECTIONS, "method", "checkpoint", "backbone_name")
    here, there = (
        {key: value for key, value in tree.items() if key in sections} for tree in (spec, registry.spec(base))
    )
    ours, theirs = leaves(here), leaves(there)
    set_here = {key for name, layer in registry.run_layers(spec["base"]) if name.endswith(f": {spec['base']}")
                for key in leaves(layer)}  # fmt: skip
    # What only one of the two uses, because the other has switched it off, says nothing beside the switch itself.
    told = {*set_here, *_used_under(here, there), *_used_under(there, here)}
    lines = [
        f"| `{key}` | {_show(theirs.get(key))} | {_show(ours.get(key))} |"
        for key in (*ours, *(key for key in theirs if key not in ours))
        if ours.get(key) != theirs.get(key) and ((key in ours and key in theirs) or key in told)
    ]
    return "\n".join([f"### How it differs from `{base}`", "", "| key | there | here |", "| --- | --- | --- |", *lines])


def _used_under(tree: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``tree`` that it would use with the reward terms and the entropy switch of ``other``."""
    switched = dict(tree)
    for section, switch in (("rewards", "terms"), ("entropy", "enabled")):
        if section in tree and switch in other.get(section, {}):
            switched[section] = {**tree[section], switch: other[section][switch]}
    return leaves(used(switched))


def _show(value: Any) -> str:
    if value is None:
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _results(registry: Registry, row: str, scores: Mapping[str, Any] | None) -> str:
    if scores is None:
        return "### Results\nNot scored yet."
    values, paper = scores["scores"], paper_values(registry, row)
    lines = []
    for key, column in COLUMNS.items():
        if values.get(key) is None:
            continue
        error = values.get(f"{key}_se")
        ours = f"{values[key]:.{column.decimals}f}" + ("" if error is None else f" ± {error:.{column.decimals}f}")
        theirs = f"{paper[key]:.{column.paper_decimals}f}" if key in paper else ""
        lines.append(f"| {column.title} | {ours} | {theirs} |")
    head = f"### Results\n{scores.get('n', '?')} samples; ± is the evaluation's standard error.\n"
    if scores.get("labels") == "none":
        head += "The samples have no labels, so there is no accuracy and no CLIPScore.\n"
    return "\n".join([head, "| | here | paper |", "| --- | --- | --- |", *lines])
