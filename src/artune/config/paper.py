"""The paper's tables: which runs they need, and the tables, rows and paper's values of a run."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from artune.config.registry import Registry
from artune.config.tables import Row, Table
from artune.errors import ArtuneError, unknown

PLACEHOLDER = re.compile(r"\{([\w.]+)\}")


def find_table(registry: Registry, key: str) -> Table:
    """The layout of the table ``key``. Raises ArtuneError: there is no such table."""
    if key not in registry.tables:
        raise ArtuneError(f"config/tables.yaml: {unknown(key, registry.tables, 'table')}")
    return registry.tables[key]


def available_runs(registry: Registry, rows: Iterable[Row]) -> list[str]:
    """The runs behind rows of tables that are available at the scale: each once, in the order of the rows."""
    runs = dict.fromkeys(row.run for row in rows if row.run)
    return [run for run in runs if not registry.unavailable(run)]


def seeded_runs(registry: Registry, rows: Iterable[Row], seeds: int) -> list[str]:
    """The available runs behind rows of tables, each with its ``seeds`` repetitions, the plain name first."""
    return [name for run in available_runs(registry, rows) for name in registry.seed_names(run, seeds)]


def runs_of_tables(registry: Registry, tables: Iterable[str], seeds: int) -> list[str]:
    """The available runs behind the tables of these keys, each once; ``seeds`` repeats those of most tables."""
    found = ((registry.tables[key].rows, registry.tables[key].repetitions(seeds)) for key in tables)
    return list(dict.fromkeys(name for rows, number in found for name in seeded_runs(registry, rows, number)))


def pairs_of(registry: Registry, table: str) -> list[tuple[str, str]]:
    """In each block of a table, its baseline (the first run, or the one that the table names) and every other run.

    Only runs available at the scale count, and two runs that are scored by one set of frozen networks.
    """
    layout, pairs = registry.tables[table], []
    for span in layout.spans:
        runs = available_runs(registry, (layout.rows[at] for at in span))
        baseline = layout.baseline if layout.baseline in runs else next(iter(runs), None)
        pairs += [(baseline, run) for run in runs if baseline and run != baseline]
    return [pair for pair in pairs if len({registry.split(run)[1].networks for run in pair}) == 1]


def report_tables(registry: Registry, folder: Path) -> list[str]:
    """Keys of the report's tables: all of the paper's, and every other table with a ``{key}.md`` in ``folder``."""
    return [key for key in registry.tables if not key.startswith("extra_") or (folder / f"{key}.md").exists()]


def available_figures(registry: Registry) -> list[str]:
    """The figures whose runs are all available at the scale; they make up the target ``figures`` and the report's."""
    figures = registry.figures.items()
    return [key for key, figure in figures if not any(registry.unavailable(run) for run in figure.shown)]


def curve_shares(registry: Registry, key: str, runs: Iterable[str]) -> list[float]:
    """The share of the iterations at which each run of a curve stands: 0 pretrained, ``at`` on the way, 1 at its end.

    Raises:
        ArtuneError: the runs of figure ``key`` are not one training in this order.
    """
    names, specs = list(runs), [registry.spec(run) for run in runs]
    shares = [0.0 if spec["method"] == "pretrained" else float(spec.get("at", 1.0)) for spec in specs]
    trained = {spec.get("policy", name) for name, spec in zip(names, specs, strict=True) if spec["method"] == "grpo"}
    if trained != {names[-1]} or shares != sorted(set(shares)):
        raise ArtuneError(
            f"config/figures.yaml: {key}: curves: {', '.join(names)}: name the runs of one training in order: "
            "pretrained, those with at, and the tuned run"
        )
    return shares


def row_labels(registry: Registry, row: Row) -> tuple[str, ...]:
    """The text cells of a row, with the run's setting for ``{dotted.key}`` and the scale's for ``{about.key}``.

    A run with seeds that the scale has not got shows the settings of the run without them.
    """
    run = registry.split(str(row.run))[0] if row.run and registry.unavailable(row.run) else str(row.run)

    def setting(match: re.Match[str]) -> str:
        value: Any = registry if match[1].startswith("about.") else registry.resolve(run)
        for part in match[1].split("."):
            known = value if isinstance(value, dict) else vars(value)
            if part not in known:
                raise ArtuneError(f"config/tables.yaml: row {row.run}: {match[0]} names no setting of the run")
            value = known[part]
        return str(value)

    return tuple(PLACEHOLDER.sub(setting, label) for label in row.labels)


def tables_of(registry: Registry, run: str) -> dict[str, str]:
    """Table -> the row's text, for every table that shows a run."""
    found = {}
    for key, table in registry.tables.items():
        for row in table.rows:
            if row.run == run:
                found[key] = " | ".join(row_labels(registry, row))
    return found


def paper_values(registry: Registry, run: str) -> dict[str, float]:
    """The paper's numbers for a run, from all its tables (the tables agree, which a test checks)."""
    values: dict[str, float] = {}
    for table in registry.tables.values():
        for row in table.rows:
            if row.run == run:
                pairs = zip(table.columns, row.paper or (None,) * len(table.columns), strict=True)
                values |= {column: value for column, value in pairs if value is not None}
    return values
