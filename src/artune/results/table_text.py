"""The readable forms of a table, Markdown and LaTeX, with the paper's value beside every cell."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from artune.config.glossary import AGAINST, COLUMNS, ROLES, WHERE_COMPUTED
from artune.config.paper import find_table
from artune.config.registry import Registry
from artune.config.tables import VOTES, Table
from artune.results.study.table import NO_VOTES, blocks_beside
from artune.runtime.files import write_text

if TYPE_CHECKING:
    from pandas import DataFrame


def write_markdown(frame: "DataFrame", registry: Registry, key: str, path: Path | str) -> None:
    """Write a table as Markdown: value ± spread, the paper's value beside it, the best value of each block in bold."""
    table = find_table(registry, key)
    lines = [f"**{name_of(key)}. {table.title}.** {caption(frame, registry, key)}", ""]
    lines += grid([*table.labels, *_headings(table.columns)], _body(table, frame, table.columns, paper=True))
    shown = (*table.columns, *table.extra)
    if extra := [*table.extra, *(name for name in WHERE_COMPUTED if name in frame and name not in shown)]:
        lines += ["", "Beyond the paper's columns:", ""]
        headings = [*table.labels, *_headings(extra, paper=False)]
        lines += grid(headings, _body(table, frame, extra, paper=False))
    for name in registry.evaluation.references if table.kind == "scores" else ():
        metrics = [metric for metric in AGAINST if f"{metric}_{name}" in frame]
        ours = {f"{metric}_{name}{kind}": f"{metric}{kind}" for metric in metrics for kind in ("", "_se")}
        part = frame[[*table.labels, "status", *(column for column in ours if column in frame)]].rename(columns=ours)
        lines += ["", f"The same against {name}:", ""]
        headings = [*table.labels, *_headings(metrics, paper=False)]
        lines += grid(headings, _body(table, part, metrics, paper=False))
    for title, headings, body in blocks_beside(frame, table) if table.kind == "study" else ():
        lines += ["", f"{title}:", "", *grid(headings, body)]
    write_text(path, "\n".join(lines) + "\n")


def write_latex(frame: "DataFrame", registry: Registry, key: str, path: Path | str) -> None:
    """Write the paper's columns as a LaTeX ``table`` (booktabs), with the same caption as the Markdown form."""
    table = find_table(registry, key)
    headings = [*table.labels, *_headings(table.columns)]
    body = _body(table, frame, table.columns, paper=True)
    rows = [" & ".join(_latex(cell) for cell in row) + r" \\" for row in [headings, *body]]
    sides = "l" * len(table.labels) + "r" * (len(headings) - len(table.labels))
    text = [r"\begin{table}", r"\centering"]
    text += [rf"\caption{{{_latex(f'{table.title}. {caption(frame, registry, key)}')}}}"]
    text += [rf"\begin{{tabular}}{{{sides}}}", r"\toprule", rows[0]]
    for span in table.spans:
        text += [r"\midrule", *(rows[1 + at] for at in span)]
    text += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    write_text(path, "\n".join(text) + "\n")


def caption(frame: "DataFrame", registry: Registry, key: str) -> str:
    """The caption of a table: scale, samples, seeds, reference, and the meaning of ±."""
    note = registry.about.note
    scale = registry.scale if registry.preset == "paper" else f"{registry.scale}, preset {registry.preset}"
    parts = [f"Scale {scale}" + (f": {note.removeprefix(f'{registry.scale} scale: ')}" if note else "")]
    if find_table(registry, key).kind == "study":
        if frame["ours_everyone"].isna().all():
            return "; ".join([*parts, NO_VOTES]) + "."
        parts += [f"{frame['votes'].sum()} votes; a pair counts once, by the majority of its votes"]
        parts += [
            "raters who failed attention checks are left out; share and p (exact sign test, two-sided) without ties"
        ]
        return "; ".join(parts) + "."
    done = frame[frame["status"] == "ok"]
    for column, text in (("n", "{} samples"), ("seeds", "seeds per row: {}"), ("reference", "reference: {}")):
        if values := list(dict.fromkeys(str(value) for value in done[column])):
            parts.append(text.format(" / ".join(values)))
    parts += [who_measured(registry)]
    if not note:  # a scale without a note is the paper's own
        parts += [f"not the official protocol: {text}" for text in sorted({*done["protocol"]} - {"official", None})]
    if len(done):
        several = [bool(seeds > 1) for seeds in done["seeds"]]
        alone = "standard error of the evaluation" + (" (rows of one seed)" if any(several) else "")
        parts.append(
            "± " + " or ".join(["standard deviation over seeds"] * any(several) + [alone] * (not all(several)))
        )
        parts.append("beside the paper's values, ours - paper in standard errors of ours")
    rows = [str(run) for run in frame["run"] if str(run) in registry.about.notes]
    parts += dict.fromkeys(registry.about.notes[run] for run in rows)
    parts += [frame.attrs["code"]] if frame.attrs.get("code") else []
    if gaps := sorted({str(status) for status in frame["status"]} - {"ok"}):
        parts.append(f"empty cells: {', '.join(gaps)}")
    return "; ".join(parts) + "."


def who_measured(registry: Registry) -> str:
    """The networks behind the paper's columns, and whether a reward saw them."""
    networks = registry.evaluation.networks
    judges = dict.fromkeys(networks[role] for role in ROLES)
    rewards = dict.fromkeys(networks[reward] for reward, _ in ROLES.values())
    if judges.keys() & rewards.keys():
        return f"measured by {', '.join(judges)}, as in the paper networks of the rewards"
    return f"measured by {', '.join(judges)}, which no reward uses; (reward's network): by {', '.join(rewards)}"


def name_of(key: str) -> str:
    """``Table 4`` for ``table4``; other keys as they are."""
    return re.sub(r"^table(\d+)$", r"Table \1", key)


def _headings(columns: Sequence[str], paper: bool = True) -> list[str]:
    headings = []
    for column in columns:
        text = VOTES.get(column) or COLUMNS[column].title
        headings += [text, "paper"] if paper else [text]
    return headings


def grid(headings: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = ["| " + " | ".join(headings) + " |", "|" + " --- |" * len(headings)]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in body]


def _body(table: Table, frame: "DataFrame", columns: Sequence[str], paper: bool) -> list[list[str]]:
    rows = [[str(frame.iloc[at][label]) for label in table.labels] for at in range(len(frame))]
    for column in columns:
        cells = [str(cell) for cell in frame[column]] if column in VOTES else _cells(table, frame, column)
        for row, cell in zip(rows, cells, strict=True):
            row.append(cell)
        if paper:
            for row, cell in zip(rows, _paper_cells(table, frame, column), strict=True):
                row.append(cell)
    return rows


def _cells(table: Table, frame: "DataFrame", column: str) -> list[str]:
    """Texts of a column, such as ``1.05 ± 0.18``; the status of an empty row; the best value of each block in bold."""
    better, decimals = COLUMNS[column].better, COLUMNS[column].decimals
    shown = [None if value != value else f"{value:.{decimals}f}" for value in frame[column]]
    texts = []
    for at, (text, cell) in enumerate(zip(shown, _bold(table, shown, better), strict=True)):
        if text is None:
            status = str(frame["status"].iloc[at])
            texts.append("–" if status == "ok" else f"({status})")
            continue
        names = [f"{column}_{kind}" for kind in ("std", "se") if f"{column}_{kind}" in frame]
        spreads = [float(frame[name].iloc[at]) for name in names]
        error = next((spread for spread in spreads if spread == spread), None)
        texts.append(cell if error is None else f"{cell} ± {error:.{decimals}f}")
    return texts


def _paper_cells(table: Table, frame: "DataFrame", column: str) -> list[str]:
    """Texts of the paper's values, such as ``3.83 (+1.4)``: ours - paper in standard errors; the best value in bold."""
    values = frame[f"{column}_paper"]
    if column in VOTES:
        return [str(value) for value in values]
    decimals, name = COLUMNS[column].paper_decimals, f"{column}_difference_in_se"
    shown = [None if value != value or value is None else f"{value:.{decimals}f}" for value in values]
    apart = frame[name] if name in frame else [float("nan")] * len(frame)
    cells = _bold(table, shown, COLUMNS[column].better)
    return [
        cell if errors != errors else f"{cell} ({_shift(errors)})" for cell, errors in zip(cells, apart, strict=True)
    ]


def _shift(errors: float) -> str:
    """A difference in standard errors; above 100, as between two scales, its size means nothing (the CSV has it)."""
    if abs(errors) < 100:
        return f"{errors:+.1f}"
    return "> +100" if errors > 0 else "< -100"


def _bold(table: Table, shown: Sequence[str | None], better: int) -> list[str]:
    """The printed numbers (None: ""), with the best of every block, and all numbers equal to it, in bold."""
    cells = [text or "" for text in shown]
    for span in table.spans:
        numbers = {at: float(text) * better for at in span if (text := shown[at]) is not None}
        for at, number in numbers.items():
            if len(numbers) > 1 and number == max(numbers.values()):
                cells[at] = f"**{cells[at]}**"
    return cells


def _latex(text: str) -> str:
    text = re.sub(r"([&%#_])", r"\\\1", text)
    text = re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", text)
    signs = {"±": r"$\pm$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "α": r"$\alpha$", "β": r"$\beta$", "π": r"$\pi$"}
    for sign, command in (signs | {"✓": r"$\checkmark$", "–": "--", "<": "$<$", ">": "$>$"}).items():
        text = text.replace(sign, command)
    return text
