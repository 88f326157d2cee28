"""The runs behind a page's tables: what each is, its settings, the command that makes it, and the code that made it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artune.config.paper import tables_of
from artune.config.registry import Registry
from artune.config.yaml_layers import read_yaml
from artune.results.report import origins
from artune.tracking.run_page import describe_run


@dataclass(frozen=True)
class Made:
    """One seed of a run: the commit ("" if unknown) and whether it had changes, seconds per stage, memory in MiB."""

    name: str
    seed: int
    commit: str
    changed: bool
    device: str
    threads: int | None
    seconds: dict[str, float | None]
    memory: float | None


@dataclass(frozen=True)
class Run:
    """A run: what it is, what differs from its base (HTML), the commands that make and show it, its settings, seeds."""

    name: str
    sentence: str
    differs: str
    command: str
    show: str
    settings: str
    made: tuple[Made, ...]
    tables: tuple[str, ...]


def read_run(registry: Registry, folder: Path, name: str, seeds: int) -> Run:
    """A run from its settings and, as far as they are there, from the files that it left.

    Args:
        registry: registry of the run's scale.
        folder: ``results/{scale}``.
        name: name of the run without its repetition.
        seeds: number of repetitions; those without a scores.json are left out.

    Raises:
        ArtuneError: a file is damaged.
    """
    import yaml
    from markdown_it import MarkdownIt

    path = folder / "runs" / name / "config.yaml"
    spec: dict[str, Any] = read_yaml(path) if path.exists() else registry.spec(name)
    told = describe_run(registry, spec)
    differs = next((part for part in told.split("### ") if part.startswith("How it differs")), "")
    heading, _, table = differs.partition("\n")
    words = f"{heading.strip()}\n\n{table.strip()}"
    preset = "" if registry.preset == "paper" else f" preset={registry.preset}"
    option = "" if registry.preset == "paper" else f" --preset {registry.preset}"
    files = f"results/{registry.results_name}/runs/{name}/scores.json"
    names = [seed for seed in registry.seed_names(name, seeds) if (folder / "runs" / seed / "scores.json").exists()]
    return Run(
        name=name,
        sentence=next(part.strip("*") for part in told.split("\n\n") if part.startswith("**")),
        differs=MarkdownIt("commonmark", {"html": False}).enable("table").render(words) if differs else "",
        command=f"snakemake -c2 --config scale={registry.scale}{preset} -- {files}",
        show=f"python -m artune show {name} --scale {registry.scale}{option}",
        settings=path.read_text(encoding="utf-8") if path.exists() else yaml.safe_dump(spec, sort_keys=False),
        made=tuple(_made(row) for row in origins.run_rows(registry, folder, names)),
        tables=tuple(tables_of(registry, name)),
    )


def _made(row: dict[str, Any]) -> Made:
    known = str(row["commit"] or "") not in ("", "unknown")
    commit = str(row["commit"]) if known else ""
    return Made(
        row["run"],
        row["seed"],
        commit,
        bool(row["uncommitted_changes"]),
        str(row["device"] or ""),
        row["threads"],
        row["seconds"],
        row["memory"],
    )
