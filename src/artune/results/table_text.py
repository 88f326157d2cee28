"""The readable forms of a table, Markdown and LaTeX.

The first grid has the paper's value beside every cell, the second the differences of the rows to the baseline of their
block. Only a scale that is comparable with the paper, which is one without a note, shows differences to the paper.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from artune.config.glossary import AGAINST, COLUMNS, ROLES, WHERE_COMPUTED
from artune.config.paper import find_table
from artune.config.registry import Registry
from artune.config.tables import VOTES, Table
from artune.results.baselines import ENDINGS, limit, rows_compared
from artune.results.study.table import NO_VOTES, blocks_beside
from artune.runtime.files import write_text

if TYPE_CHECKING:
    from pandas import DataFrame

PAIRED = "paired standard error of the evaluation"


class _Grid(NamedTuple):
    """The text of a grid: its headings and rows, and the number of columns on the left that are no numbers."""

    headings: list[str]
    body: list[list[str]]
    left: int
    told: str = ""  # what it shows


def write_markdown(frame: "DataFrame", registry: Registry, key: str, path: Path | str) -> None:
    """Write a table as Markdown: value ± spread, the paper's value beside it, the best value of each block in bold.

    Differences to the baselines are a second grid, with those in bold that exceed their limit.
    """
    table = find_table(registry, key)
    lines = [f"**{name_of(key)}. {table.title}.** {caption(frame, registry, key)}", ""]
    main = _main_grid(frame, registry, key)
    lines += grid(main.headings, main.body)
    if compared := _differences_grid(frame, registry, key):
        lines += ["", f"{compared.told}:", "", *grid(compared.headings, compared.body)]
    shown = (*table.columns, *table.extra)
    if extra := [*table.extra, *(name for name in WHERE_COMPUTED if name in frame and name not in shown)]:
        lines += ["", "Beyond the paper's columns:", ""]
        headings = [*table.labels, *map(_heading, extra)]
        lines += grid(headings, _body(table, frame, extra))
    for name in registry.evaluation.references if table.kind == "scores" else ():
        metrics = [metric for metric in AGAINST if f"{metric}_{name}" in frame]
        plain = {f"{metric}_{name}{kind}": f"{metric}{kind}" for metric in metrics for kind in ("", "_se")}
        part = frame[[*table.labels, "status", *(column for column in plain if column in frame)]].rename(columns=plain)
        lines += ["", f"The same against {name}:", ""]
        lines += grid([*table.labels, *map(_heading, metrics)], _body(table, part, metrics))
    for title, headings, body in blocks_beside(frame, table) if table.kind == "study" else ():
        lines += ["", f"{title}:", "", *grid(headings, body)]
    write_text(path, "\n".join(lines) + "\n")


def write_latex(frame: "DataFrame", registry: Registry, key: str, path: Path | str) -> None:
    """Write the paper's columns as a LaTeX ``table`` (booktabs), with the caption and grids of the Markdown form."""
    table = find_table(registry, key)
    text = [r"\begin{table}", r"\centering"]
    text += [rf"\caption{{{_latex(f'{table.title}. {caption(frame, registry, key)}')}}}"]
    text += _tabular(_main_grid(frame, registry, key), table.spans)
    if compared := _differences_grid(frame, registry, key):
        text += [r"\par\medskip", rf"{_latex(compared.told)}:\par\smallskip"]
        text += _tabular(compared, [range(len(compared.body))])
    write_text(path, "\n".join([*text, r"\end{table}"]) + "\n")


def _tabular(shown: _Grid, spans: Sequence[range]) -> list[str]:
    """The lines of a LaTeX ``tabular`` with a rule above each span of rows."""
    rows = [" & ".join(_latex(cell) for cell in row) + r" \\" for row in [shown.headings, *shown.body]]
    sides = "l" * shown.left + "r" * (len(shown.headings) - shown.left)
    text = [rf"\begin{{tabular}}{{{sides}}}", r"\toprule", rows[0]]
    for span in spans:
        text += [r"\midrule", *(rows[1 + at] for at in span)]
    return [*text, r"\bottomrule", r"\end{tabular}"]


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
        if any(len(span) > 1 for span in find_table(registry, key).spans):
            parts.append("bold: best of its block")
        if not note:
            parts.append("beside the paper's values, here - paper in standard errors of the number here")
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


def _heading(column: str) -> str:
    return VOTES.get(column) or COLUMNS[column].title


def _main_grid(frame: "DataFrame", registry: Registry, key: str) -> _Grid:
    """The paper's columns, with the paper's values beside those that it prints."""
    table, comparable = find_table(registry, key), not registry.about.note
    headings, body = list(table.labels), _body(table, frame, ())
    for column in table.columns:
        headings.append(_heading(column))
        sides = [_column(table, frame, column)]
        if f"{column}_paper" in frame and frame[f"{column}_paper"].notna().any():
            headings.append("paper")
            sides.append(_paper_cells(table, frame, column, comparable))
        for row, cells in zip(body, zip(*sides, strict=True), strict=True):
            row += cells
    return _Grid(headings, body, len(table.labels))


def _differences_grid(frame: "DataFrame", registry: Registry, key: str) -> _Grid | None:
    """The differences to the baselines in the paper's columns; None if there are none."""
    table, compared = find_table(registry, key), rows_compared(frame, registry, key)
    known = [column for column in table.columns if f"{column}_{ENDINGS[0]}" in frame]
    columns = [column for column in known if frame[f"{column}_{ENDINGS[0]}"].notna().any()]
    if not (compared and columns):
        return None
    names = [_row_name(table, [str(frame.iloc[at][label]) for label in table.labels]) for at in range(len(frame))]
    several = len({names[first] for first, _ in compared}) > 1
    seeds = sorted({int(frame["baseline_seeds"].iloc[second]) for _, second in compared})
    rows = _body(table, frame, ())
    body = []
    for first, second in compared:
        row = [*rows[second], names[first]] if several else rows[second]
        row = [*row, str(frame["baseline_seeds"].iloc[second])] if len(seeds) > 1 else row
        body.append([*row, *(_difference(frame, column, second) for column in columns)])
    what = f"Difference to {'the row under “compared with”' if several else names[compared[0][0]]}"
    told = ", or ".join(_error_told(number, frame.attrs.get("errors") or PAIRED) for number in seeds)
    left = [*table.labels, *["compared with"] * several, *["seeds"] * (len(seeds) > 1)]
    return _Grid([*left, *map(_heading, columns)], body, len(left), f"{what}, {told}")


def _row_name(table: Table, labels: Sequence[str]) -> str:
    """A row's text cells in a sentence: ``Ours, Feat. dim. 64``. An empty cell (``–``) is left out."""
    numbers = [bool(re.fullmatch(r"[\d.]+", label)) for label in labels]
    both = zip(table.labels, labels, numbers, strict=True)
    named = [f"{heading} {label}" if number else label for heading, label, number in both if label != "–"]
    return ", ".join(named)


def _error_told(seeds: int, error: str) -> str:
    """What stands behind ± in the grid of differences, and which differences are in bold."""
    if seeds > 1:
        bold = f"more than {limit(seeds):.1f} errors (95 %, Student's t)"
        return f"mean over {seeds} seeds ± its standard error, seed by seed; bold: {bold}"
    return f"± {error}; bold: more than two errors"


def _difference(frame: "DataFrame", column: str, at: int) -> str:
    """Text of a difference, such as ``-0.87 ± 0.07``, in bold where it exceeds its limit."""
    value, error = (float(frame[f"{column}_{ending}"].iloc[at]) for ending in ENDINGS)
    if value != value:
        return "–"
    decimals = COLUMNS[column].decimals
    text = f"{value:+.{decimals}f}"
    marked = abs(value) > limit(int(frame["baseline_seeds"].iloc[at])) * error
    return f"{f'**{text}**' if marked else text} ± {error:.{decimals}f}"


def grid(headings: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = ["| " + " | ".join(headings) + " |", "|" + " --- |" * len(headings)]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in body]


def _body(table: Table, frame: "DataFrame", columns: Sequence[str]) -> list[list[str]]:
    """The text cells of every row, and its cells in ``columns``."""
    sides = [[str(cell) for cell in frame[label]] for label in table.labels]
    return [list(row) for row in zip(*sides, *(_column(table, frame, column) for column in columns), strict=True)]


def _column(table: Table, frame: "DataFrame", column: str) -> list[str]:
    return [str(cell) for cell in frame[column]] if column in VOTES else _cells(table, frame, column)


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


def _paper_cells(table: Table, frame: "DataFrame", column: str, comparable: bool) -> list[str]:
    """Texts of the paper's values, the best one in bold.

    At a comparable scale with the difference here - paper in standard errors of the number here: ``3.83 (+1.4)``.
    """
    values = frame[f"{column}_paper"]
    if column in VOTES:
        return [str(value) for value in values]
    decimals, name = COLUMNS[column].paper_decimals, f"{column}_difference_in_se"
    shown = [None if value != value or value is None else f"{value:.{decimals}f}" for value in values]
    apart = frame[name] if comparable and name in frame else [float("nan")] * len(frame)
    cells = _bold(table, shown, COLUMNS[column].better)
    return [
        cell if errors != errors else f"{cell} ({_shift(errors)})" for cell, errors in zip(cells, apart, strict=True)
    ]


def _shift(errors: float) -> str:
    """A difference in standard errors; above 100 its size means nothing (the CSV has it)."""
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
