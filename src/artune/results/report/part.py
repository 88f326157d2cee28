"""One scale's part of the page: what is there of its tables, figures, claims, costs and runs, and what is missing."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from artune.config.paper import available_figures, report_tables
from artune.config.registry import Registry
from artune.config.settings import PRESETS, results_name
from artune.errors import ArtuneError
from artune.results.report import origins
from artune.results.report.costs import Costs, read_costs
from artune.results.report.grids import Table, read_table
from artune.results.report.rulegraph import Layout, lay_out, read_rules
from artune.results.report.runs import Run, read_run
from artune.results.report.verdicts import Verdict, judge_so_far, read_verdicts
from artune.results.table_text import name_of

RESULTS = ("tables/*.md", "figures/*.png", "claims.json", "runs/*/scores.json")  # any of these is something to show


@dataclass(frozen=True)
class Missing:
    """Something that is not made yet, in words, and the command that makes it."""

    what: str
    command: str


@dataclass(frozen=True)
class Figure:
    """A figure: its picture, and what its drawing says below it ("" if nothing)."""

    picture: Path
    caption: str


@dataclass(frozen=True)
class Part:
    """What a scale has to show; tables, figures and claims by key, runs by name."""

    registry: Registry
    folder: Path
    tables: dict[str, Table]
    figures: dict[str, Figure]
    claims: dict[str, Verdict]
    whole: bool  # whether all claims were judged, not only those whose runs are there
    seeds: int  # number of seeds behind the claims
    costs: Costs | None
    runs: dict[str, Run]
    steps: list[tuple[str, float]]
    versions: dict[str, str]
    graph: Layout | None
    missing: tuple[Missing, ...]

    @property
    def name(self) -> str:
        """The name of the scale's folder, such as ``mnist`` or ``mnist-release``."""
        return self.registry.results_name

    @property
    def note(self) -> str:
        """``not comparable with the paper's numbers``, or ""."""
        return self.registry.about.note.removeprefix(f"{self.registry.scale} scale: ")

    @property
    def option(self) -> str:
        """What a command of this project needs for the preset, such as `` --preset release``; "" for the paper's."""
        return "" if self.registry.preset == "paper" else f" --preset {self.registry.preset}"

    def command(self, target: str) -> str:
        """The command that makes a target of this scale."""
        return command_of(self.registry, target)


def command_of(registry: Registry, target: str) -> str:
    """The command that makes a target of a scale."""
    preset = "" if registry.preset == "paper" else f" preset={registry.preset}"
    return f"snakemake -c2 --config scale={registry.scale}{preset} -- {target}"


def read_part(registry: Registry, folder: Path) -> Part:
    """Read what is there of a scale.

    Args:
        registry: registry of the scale.
        folder: ``results/{scale}``.

    Raises:
        ArtuneError: a file is damaged, or the folder has no table, figure, claim or scored run.
    """
    shown = [key for key in report_tables(registry, folder / "tables") if (folder / "tables" / f"{key}.md").exists()]
    tables = {key: read_table(registry, key, folder / "tables") for key in shown}
    pictures = {key: folder / "figures" / f"{key}.png" for key in available_figures(registry)}
    figures = {key: read_figure(registry, key, path) for key, path in pictures.items() if path.exists()}
    seeds = {run: number for table in tables.values() for run, number in table.seeds.items()}
    most, judged = max(seeds.values(), default=1), folder / "claims.json"
    claims = read_verdicts(judged) if judged.exists() else judge_so_far(registry, folder, most)
    if not (tables or figures or judged.exists() or any(folder.glob("runs/*/scores.json"))):
        makes = command_of(registry, "tables")
        raise ArtuneError(f"{folder}: has no table, figure or claim to show; `{makes}` makes tables")
    runs = {run: read_run(registry, folder, run, number) for run, number in seeds.items()}
    done = [made.name for run in runs.values() for made in run.made]
    graph = folder / "rulegraph.mmd"
    return Part(
        registry=registry,
        folder=folder,
        tables=tables,
        figures=figures,
        claims=claims,
        whole=judged.exists(),
        seeds=next((found.seeds for found in claims.values() if found.seeds), most),
        costs=read_costs(folder / "costs.csv") if (folder / "costs.csv").exists() else None,
        runs=runs,
        steps=origins.input_rows(folder, registry.scale),
        versions=origins.versions(folder, done),
        graph=lay_out(*read_rules(graph)) if graph.exists() else None,
        missing=tuple(_missing(registry, folder, tables, figures)),
    )


def read_figure(registry: Registry, key: str, picture: Path) -> Figure:
    """A figure whose picture is there, with the caption that lies beside it, but for the title."""
    path = picture.with_suffix(".txt")
    text = path.read_text(encoding="utf-8").strip() if path.exists() else ""
    return Figure(picture, text.removeprefix(f"{registry.figures[key].title}. "))


def _missing(registry: Registry, folder: Path, tables: Iterable[str], figures: Iterable[str]) -> Iterable[Missing]:
    name = registry.results_name
    lacking = [key for key in report_tables(registry, folder / "tables") if key not in tables]
    for key in lacking:
        target = f"results/{name}/tables/{key}.csv"
        yield Missing(f"{name_of(key)}: {registry.tables[key].title}", command_of(registry, target))
    for key in available_figures(registry):
        if key not in figures:
            target = f"results/{name}/figures/{key}.pdf"
            yield Missing(f"{figure_name(key)}: {registry.figures[key].title}", command_of(registry, target))
    for file, what in (
        ("claims.csv", "Verdicts on all claims"),
        ("costs.csv", "Costs"),
        ("rulegraph.mmd", "The graph of the workflow"),
    ):
        if not (folder / file).with_suffix(".json" if file == "claims.csv" else Path(file).suffix).exists():
            yield Missing(what, command_of(registry, f"results/{name}/{file}"))


def figure_name(key: str) -> str:
    """``Figure 2`` for ``figure2``; other keys as they are."""
    return re.sub(r"^figure(\d+)$", r"Figure \1", key)


def folders_of(results: Path, scales: Sequence[str], own: tuple[str, str]) -> list[tuple[str, str, Path]]:
    """Scale, preset and folder of all scales that have results to show, in ``results``.

    Args:
        results: the folder of all scales.
        scales: names of the scales that there are.
        own: scale and preset of the call. The smoke scale, whose numbers mean nothing, is shown if it is this one.
    """
    found = []
    for scale in scales:
        for preset in PRESETS:
            folder = results / results_name(scale, preset)
            made = any(any(folder.glob(pattern)) for pattern in RESULTS)
            if made and (scale != "smoke" or own == (scale, preset)):
                found.append((scale, preset, folder))
    return found
