"""Table 3: people's preferences, with the paper's counts beside ours and an automatic judge in its own columns."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from artune.config.paper import find_table
from artune.config.registry import Registry
from artune.config.tables import VOTES, Table
from artune.errors import ArtuneError
from artune.results.study.tally import sign_test

if TYPE_CHECKING:
    from pandas import DataFrame

NO_VOTES = "no votes yet"
NONE_COUNTS = "none that counts"  # everyone who voted failed the attention checks
TESTS = ("share", "low", "high", "p")


def build_study_table(
    registry: Registry, key: str, tally: Mapping[str, Any] | None, judged: Mapping[str, Any] | None = None
) -> "DataFrame":
    """Table 3: pairs by verdict per setting and task, with the paper's counts beside them.

    Args:
        registry: registry of the scale, with the table's layout.
        key: ``table3``.
        tally: result of :func:`artune.results.study.tally.tally_votes`; if it is None, or a task has no votes, the
            cells contain the words "no votes yet", never a number.
        judged: result of :func:`artune.results.study.judge.judge_pairs`; its counts are in the columns ``judge_*``,
            never among the votes.

    Returns:
        One row per row of ``tables.yaml``: our counts and the paper's, then share of ours among decided pairs with its
        interval and p-value, the paper's own share and p-value (from its counts), votes, raters, agreement, the
        counts with flagged raters, the judge's counts, and scale, note and status.

    Raises:
        ArtuneError: the table is unknown, or the tally has an unknown setting or task.
    """
    from pandas import DataFrame

    table = find_table(registry, key)
    if table.kind != "study":
        raise ArtuneError(f"{key}: holds scores, not votes")
    rows, everyone = ((tally or {}).get(part, {}) for part in ("rows", "everyone"))
    given = {(setting, task) for setting, tasks in everyone.items() for task in tasks}
    if unknown := sorted(given - {(row.labels[0], row.labels[1]) for row in table.rows}):
        raise ArtuneError(f"{key}: the tally holds votes for {' / '.join(unknown[0])}, which is not a row of the table")
    lines = []
    for row in table.rows:
        setting, task = row.labels
        found, counted_all = (part.get(setting, {}).get(task) for part in (rows, everyone))
        planned = registry.study.settings[setting].pairs if setting in registry.study.settings else None
        line: dict[str, Any] = dict(zip(table.labels, row.labels, strict=True))
        line |= _count_cells(found, counted_all, dict(zip(table.columns, row.paper, strict=True)))
        line |= {"pairs_drawn": (tally or {}).get("pairs", {}).get(setting, {}).get(task, planned)}
        line |= _judge_cells(tally, judged, setting, task)
        line |= {"scale": registry.scale, "note": registry.about.note, "status": "ok" if found else "no-votes"}
        lines.append(line)
    counts = [name for name in lines[0] if name.startswith("judge_") or name.endswith("_everyone")]
    counts += [f"{column}_paper" for column in table.columns] + ["pairs_drawn", "alpha_pairs"]
    numbers = [*TESTS, *(f"{name}_paper" for name in TESTS), "alpha"]
    return DataFrame(lines).astype(dict.fromkeys(counts, "Int64") | dict.fromkeys(numbers, "float64"))


def _count_cells(
    found: Mapping[str, Any] | None, everyone: Mapping[str, Any] | None, paper: Mapping[str, float | None]
) -> dict[str, Any]:
    """Counts, sign tests and agreement of a row; ``everyone`` includes the raters who are left out of ``found``."""
    words = NO_VOTES if everyone is None else NONE_COUNTS
    cells: dict[str, Any] = {}
    for column, value in paper.items():
        cells |= {column: str(found[column]) if found else words, f"{column}_paper": value}
    own, theirs = found or {}, sign_test(int(paper["ours"] or 0), int(paper["pretrained"] or 0))
    cells |= {name: own.get(name) for name in TESTS}
    cells |= {f"{name}_paper": getattr(theirs, name) for name in TESTS}
    cells |= {"pairs": sum(own[column] for column in VOTES) if own else 0}
    cells |= {"votes": sum(own["votes"].values()) if own else 0, "raters": own.get("raters", 0)}
    cells |= {name: own.get(name) for name in ("alpha", "alpha_pairs")}
    return cells | {f"{column}_everyone": (everyone or {}).get(column) for column in VOTES}


def _judge_cells(
    tally: Mapping[str, Any] | None, judged: Mapping[str, Any] | None, setting: str, task: str
) -> dict[str, Any]:
    """The judge's counts; None if the votes belong to other pairs than the judge's."""
    voted = (tally or {}).get("study")
    if judged is None or voted not in (None, judged["study"]):
        judged = {"judge": None, "rows": {}}
    counts = judged["rows"].get(setting, {}).get(task, {})
    return {f"judge_{column}": counts.get(column) for column in VOTES} | {"judge": judged["judge"]}


def blocks_beside(frame: "DataFrame", table: Table) -> list[tuple[str, list[str], list[list[str]]]]:
    """The blocks below Table 3 in its readable form: (title, headings, rows) of each."""
    lines: list[dict[Any, Any]] = frame.to_dict("records")
    labels = [[str(line[label]) for label in table.labels] for line in lines]

    def counts(which: str) -> list[list[str]]:
        cells = ([_whole(line[which.format(column)]) for column in VOTES] for line in lines)
        return [[*own, *row] for own, row in zip(labels, cells, strict=True)]

    headings = ["share of ours [95 %]", "p", "paper: share", "paper: p", "pairs", "votes", "raters", "alpha"]
    body = [
        [*own, _share(line, ""), _number(line["p"]), _share(line, "_paper"), _number(line["p_paper"]),
         f"{line['pairs']} of {_whole(line['pairs_drawn'])}", str(line["votes"]), str(line["raters"]),
         _number(line["alpha"])]
        for own, line in zip(labels, lines, strict=True)
    ]  # fmt: skip
    blocks = [("Sign tests, and agreement between raters", [*table.labels, *headings], body)]
    if names := {line["judge"] for line in lines if isinstance(line["judge"], str)}:
        title = f"Automatic judge ({', '.join(names)}, a network that no reward used; not people)"
        blocks.append((title, [*table.labels, *VOTES.values()], counts("judge_{}")))
    if any(isinstance(line["ours_everyone"], int) for line in lines):
        title = "The same with the raters who failed attention checks"
        blocks.append((title, [*table.labels, *VOTES.values()], counts("{}_everyone")))
    return blocks


def _whole(value: Any) -> str:
    return str(value) if isinstance(value, int) else "–"


def _number(value: float) -> str:
    return "–" if value != value else f"{value:.2g}"


def _share(line: Mapping[str, Any], which: str) -> str:
    share, low, high = (line[f"{name}{which}"] for name in ("share", "low", "high"))
    return "–" if share != share else f"{share:.3f} [{low:.3f}, {high:.3f}]"
