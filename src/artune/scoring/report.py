"""The scores as a table for people, as JSON and as CSV."""

import csv
import io
from pathlib import Path
from typing import Any

from artune.config.glossary import COLUMNS, SCORES
from artune.runtime.files import write_json, write_text
from artune.scoring.request import Scored

SHOWN = (
    "fid", "fid_bias_corrected", "sfid", "inception_score", "precision", "recall", "kid", "density", "coverage",
    "clip_score", "accuracy",
)  # fmt: skip
FURTHER = 2  # digits beyond those of the tables
CORRECTED = "FID, bias-corrected"


def rows(scored: Scored) -> list[dict[str, Any]]:
    """One row per score: ``score``, ``value``, ``standard_error``, the difference of a second set, and ``note``."""
    found = []
    for name in SHOWN:
        line: dict[str, Any] = {
            "score": name,
            "value": scored.scores.get(name),
            "standard_error": scored.scores.get(f"{name}_se"),
        }
        if scored.differences:
            paired = scored.differences.get(name, {})
            line |= {"against": paired.get("second_value"), "difference": paired.get("difference")}
            line |= {"difference_se": paired.get("se"), "p": paired.get("p"), "p_holm": paired.get("p_holm")}
        found.append(line | {"note": scored.missing.get(name, "")})
    return found


def text(scored: Scored) -> str:
    """The table, and below it what was noticed."""
    headings = ["score", "value", "error"]
    if scored.differences:
        headings += ["against", "difference", "its error", "p", "p (Holm)"]
    lines, missing = [headings], []
    for row in rows(scored):
        if row["value"] is None:
            missing.append(f"{_heading(row['score'])}: not computed: {row['note']}")
            continue
        keys = ("value", "standard_error", "against", "difference", "difference_se")
        cells = [_number(row["score"], row[key]) for key in keys[: 5 if scored.differences else 2]]
        cells += ["-" if row[key] is None else f"{row[key]:.2g}" for key in ("p", "p_holm") if scored.differences]
        lines.append([_heading(row["score"]), *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*table, *missing, *(f"note: {note}" for note in scored.notes)])


def _heading(name: str) -> str:
    return CORRECTED if name == "fid_bias_corrected" else COLUMNS[name].title


def _number(name: str, value: float | None) -> str:
    decimals = COLUMNS[name if name in SCORES else name.split("_")[0]].decimals + FURTHER
    return "-" if value is None else f"{value:.{decimals}f}"


def write(scored: Scored, versions: dict[str, Any], output: Path) -> None:
    """Write the JSON ``output`` and the CSV of the same name beside it."""
    whole = {**scored.facts, "versions": versions, "scores": scored.scores, "missing": scored.missing}
    write_json(output, {**whole, "notes": scored.notes, "differences": scored.differences})
    buffer, lines = io.StringIO(), rows(scored)
    writer = csv.DictWriter(buffer, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{x:.6g}" if isinstance(x, float) else x for key, x in line.items()} for line in lines)
    write_text(output.with_suffix(".csv"), buffer.getvalue())
