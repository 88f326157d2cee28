"""Counting the votes of the human study: exact sign tests, intervals, agreement between raters."""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from artune.config.tables import VOTES
from artune.results.study.votes import connect_votes, read_votes
from artune.runtime.files import write_json

Tally = dict[str, Any]  # tally.json


@dataclass(frozen=True)
class SignTest:
    """Sign test of ours against pretrained among decided pairs; None if no pair is decided."""

    share: float | None  # share of ours among decided pairs
    low: float | None  # Clopper-Pearson, 95 %
    high: float | None
    p: float | None  # exact, two-sided, against 1/2


def sign_test(ours: int, pretrained: int) -> SignTest:
    """The exact two-sided sign test; ties are left out (Dixon and Mood, 1946)."""
    from scipy.stats import binomtest

    if not ours + pretrained:
        return SignTest(None, None, None, None)
    result = binomtest(ours, ours + pretrained)
    low, high = result.proportion_ci(0.95, method="exact")
    return SignTest(ours / (ours + pretrained), float(low), float(high), float(result.pvalue))


def krippendorff_alpha(units: Iterable[Sequence[str]]) -> float | None:
    """Krippendorff's alpha for nominal values (Krippendorff, 2011), None where it is not defined.

    ``1 - (n - 1) sum_{c != k} o_ck / sum_{c != k} n_c n_k`` with the coincidences ``o_ck``, in which a unit of m
    values counts each of its ordered pairs 1 / (m - 1) times.

    Args:
        units: the values that raters gave to each unit; units with fewer than two values are ignored.
    """
    totals: Counter[str] = Counter()
    differing = 0.0
    for values in units:
        if (m := len(values)) < 2:
            continue
        counts = Counter(values)
        totals += counts
        differing += (m**2 - sum(number**2 for number in counts.values())) / (m - 1)
    n = sum(totals.values())
    expected = n**2 - sum(number**2 for number in totals.values())
    return 1 - (n - 1) * differing / expected if expected else None


def verdict(votes: Sequence[str]) -> str:
    """The preference of one pair's raters: the side with more votes, otherwise a tie."""
    balance = votes.count("ours") - votes.count("pretrained")
    return "ours" if balance > 0 else "pretrained" if balance < 0 else "tie"


def tally_row(votes: Mapping[str, Sequence[str]], raters: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Counts and statistics of one row of Table 3.

    Args:
        votes: pair -> choices of its raters.
        raters: pair -> numbers of its raters.

    Returns:
        ``ours``, ``tie``, ``pretrained``: pairs by verdict; ``votes``: the single votes; the sign test of the
        verdicts; ``alpha`` over the pairs that several raters saw, and the number of those pairs.
    """
    pairs = Counter(verdict(choices) for choices in votes.values())
    single = Counter(choice for choices in votes.values() for choice in choices)
    return {
        **{choice: pairs[choice] for choice in VOTES},
        "votes": {choice: single[choice] for choice in VOTES},
        "raters": len({rater for numbers in raters.values() for rater in numbers}),
        **asdict(sign_test(pairs["ours"], pairs["pretrained"])),
        "alpha": krippendorff_alpha(votes.values()),
        "alpha_pairs": sum(len(choices) > 1 for choices in votes.values()),
    }


def read_store(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The record of the study, and all votes. Raises ArtuneError: as ``connect_votes`` and ``read_votes``."""
    with contextlib.closing(connect_votes(path)) as database:
        return read_votes(database, path)


def count_raters(votes: Sequence[Mapping[str, Any]], check_share: float) -> list[dict[str, Any]]:
    """One line per rater: votes, checks, right answers, whether flagged, median seconds per vote.

    A rater with fewer than ``check_share`` of the attention checks right is flagged; a rater without a check is not.
    """
    by_rater: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for vote in votes:
        by_rater[vote["rater"]].append(vote)
    lines = []
    for rater, own in sorted(by_rater.items()):
        checks = [vote["choice"] == "real" for vote in own if vote["kind"] == "check"]
        lines.append(
            {
                "rater": rater,
                "votes": len(own) - len(checks),
                "checks": len(checks),
                "right": sum(checks),
                "flagged": sum(checks) < check_share * len(checks),
                "seconds": round(median(vote["seconds"] for vote in own), 2),
            }
        )
    return lines


def tally_votes(path: Path | None, flagged: str = "exclude") -> Tally:
    """Count the votes of a store; if there is no file, the tally has no rows.

    Args:
        path: file of the store; None counts as a file that does not exist.
        flagged: ``exclude`` or ``include`` raters who failed attention checks; ``everyone`` always includes them.

    Raises:
        ArtuneError: as :func:`read_store`.
    """
    if path is None or not path.exists():
        return {"study": None, "flagged": flagged, "raters": [], "rows": {}, "everyone": {}, "pairs": {}}
    study, votes = read_store(path)
    raters = count_raters(votes, study.get("check_share", 0.0))
    out = {line["rater"] for line in raters if line["flagged"]} if flagged == "exclude" else set()
    cast = [vote for vote in votes if vote["kind"] == "pair"]
    return {
        "study": study.get("digest"),
        "flagged": flagged,
        "raters": raters,
        "rows": _rows([vote for vote in cast if vote["rater"] not in out]),
        "everyone": _rows(cast),
        "pairs": study.get("totals", {}),
    }


def _rows(votes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Setting -> task -> :func:`tally_row`."""
    grouped: dict[tuple[str, str], dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for vote in votes:
        grouped[vote["setting"], vote["task"]][vote["item"]].append(vote)
    rows: dict[str, dict[str, Any]] = {}
    for (setting, task), pairs in sorted(grouped.items()):
        choices = {item: [vote["choice"] for vote in own] for item, own in pairs.items()}
        numbers = {item: [vote["rater"] for vote in own] for item, own in pairs.items()}
        rows.setdefault(setting, {})[task] = tally_row(choices, numbers)
    return rows


def describe_tally(tally: Tally) -> str:
    """The tally as text: one line per row of Table 3, then the number of raters and those who failed checks."""
    if not tally["everyone"]:
        return "no votes yet"
    heads = ["", "ours", "tie", "pretrained", "of", "votes", "share of ours [95 %]", "p", "alpha"]
    rows = [
        [f"{setting} / {task}", *_cells(tally["rows"].get(setting, {}).get(task), number)]
        for setting, tasks in tally["pairs"].items()
        for task, number in tasks.items()
    ]
    widths = [max(len(row[at]) for row in [heads, *rows]) for at in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [heads, *rows]]
    flagged = ", ".join(str(line["rater"]) for line in tally["raters"] if line["flagged"])
    counted = "left out" if tally["flagged"] == "exclude" else "counted nevertheless"
    failed = f"failed the attention checks and {counted}: {flagged}" if flagged else "none failed the attention checks"
    return "\n".join([*(line.rstrip() for line in lines), f"{len(tally['raters'])} raters; {failed}"])


def _cells(row: Mapping[str, Any] | None, number: int) -> list[str]:
    if row is None:
        return ["–", "–", "–", str(number), "0", "", "", ""]
    share, p, alpha = row["share"], row["p"], row["alpha"]
    return [
        *(str(row[choice]) for choice in VOTES),
        str(number),
        str(sum(row["votes"].values())),
        "–" if share is None else f"{share:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
        "–" if p is None else f"{p:.2g}",
        "–" if alpha is None else f"{alpha:.2f} ({row['alpha_pairs']} pairs)",
    ]


def write_tally(votes: Path | None, output: Path, flagged: str = "exclude") -> Tally:
    """Count the votes and write the tally as JSON."""
    tally = tally_votes(votes, flagged)
    write_json(output, tally)
    return tally
