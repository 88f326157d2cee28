"""suite.md from the results of the suite, and its main number. Never imports torch."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from artune.bench.suite.parts import BACKBONE, Row

ABOUT = ("device", "memory GB", "driver", "capability", "torch", "cuda", "cudnn", "nccl", "python", "commit")


def to_markdown(whole: Mapping[str, Any]) -> str:
    """The whole report: the machine, the parts with their seconds, and the rows of each part."""
    about = whole["about"]
    machine = ", ".join(f"{key} {cell(about[key])}" for key in ABOUT if about.get(key) is not None)
    changed = " with uncommitted changes" if about.get("uncommitted_changes") else ""
    lines = ["# Results of `benchmarks/gpu_suite.sh`", "", f"{machine}{changed}. Weights are random.", ""]
    summary = [
        {"part": part["name"], "what": part["summary"], "result": part["status"], "seconds": float(part["seconds"]),
         "reason": part["reason"] or None}
        for part in whole["parts"]
    ]  # fmt: skip
    lines += [tables(summary)]
    for part in whole["parts"]:
        if part["rows"]:
            lines += ["", f"## {part['name']}", tables(part["rows"])]
    return "\n".join(lines) + "\n"


def tables(rows: Sequence[Row]) -> str:
    """Rows as Markdown tables, one per sequence of rows with the same keys; columns without any value are left out."""
    found = []
    for keys, same in itertools.groupby(rows, key=_keys):
        part = list(same)
        shown = [key for key in keys if any(row[key] is not None for row in part)]
        table = [shown, ["---"] * len(shown), *([cell(row[key]) for key in shown] for row in part)]
        found.append("\n".join("| " + " | ".join(line) + " |" for line in table))
    return "\n\n".join(found)


def _keys(row: Row) -> tuple[str, ...]:
    return tuple(row)


def cell(value: Any) -> str:
    """A value as it stands in a table, floats with three digits."""
    text = "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
    return text.replace("|", "/").replace("\n", " ")


def main_number(parts: Sequence[Mapping[str, Any]]) -> str:
    """``, llamagen_l: 3.20 s per iteration of 144 images``; empty without such a row."""
    for row in (row for part in parts if part["name"] == "iteration" for row in part["rows"]):
        if row.get("case") == f"{BACKBONE} iteration":
            return f", {BACKBONE}: {row['median s']:.2f} s per iteration of {row['images']} images"
    return ""
