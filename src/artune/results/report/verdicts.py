"""The claims of one scale for a reader: both verdicts of each, with the numbers behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from artune.config.claims import Claim
from artune.config.registry import Registry
from artune.results.claims import SIDES, Judged
from artune.results.comparisons import Evidence, compare_all
from artune.results.verdicts import BOTH, CONTRARY, FURTHER, HOLDS, JUDGES, PARTLY, REWARD, UNTESTED, VERDICTS, WITHIN
from artune.runtime.files import read_json

MARKS = {HOLDS: "✓", PARTLY: "◐", WITHIN: "≈", CONTRARY: "✗", UNTESTED: "–"}
MEASURED_BY = {REWARD: "reward's network", JUDGES: "judge", BOTH: "", FURTHER: "further judge, decides nothing"}


@dataclass(frozen=True)
class Side:
    """A claim on one side (``claims.SIDES``): verdict, its comparisons counted in words, why some are lacking."""

    verdict: str
    counts: str
    reason: str


@dataclass(frozen=True)
class Verdict:
    """A claim's two sides, whether they part, the comparisons as in claims.json; ``seeds`` is 0 if unknown."""

    sides: dict[str, Side]
    parts: bool
    comparisons: tuple[dict[str, Any], ...]
    seeds: int = 0


def read_verdicts(path: Path) -> dict[str, Verdict]:
    """The claims of a claims.json. Raises ArtuneError: as :func:`read_json`."""
    return {record["id"]: _verdict(record) for record in read_json(path)}


def judge_so_far(registry: Registry, folder: Path, seeds: int) -> dict[str, Verdict]:
    """Judge the claims whose files are all there, each by as many seeds as all its runs have; the others are left out.

    Args:
        registry: registry of the scale.
        folder: ``results/{scale}``.
        seeds: largest number of seeds of a run.
    """
    evidence, found = {number: Evidence(registry, folder, number) for number in range(seeds, 0, -1)}, {}
    for key, claim in registry.claims.items():
        there = [number for number in evidence if _is_there(claim, registry, folder, number)]
        if there and not claim.why_not(registry.scale):
            judged = Judged(key, claim, tuple(compare_all(claim, evidence[there[0]])))
            record = judged.record() | {"seeds": there[0], "comparisons": [asdict(one) for one in judged.comparisons]}
            found[key] = _verdict(record)
    return found


def _is_there(claim: Claim, registry: Registry, folder: Path, seeds: int) -> bool:
    """Whether every file is there that judges a claim."""
    needs = ((claim.scored, "scores.json"), (claim.traced, "metrics.jsonl"), (claim.timed, "timings.jsonl"))
    files = [
        folder / "runs" / name / file
        for runs, file in needs
        for run in runs
        if not registry.unavailable(run)
        for name in registry.seed_names(run, seeds)
    ]
    if claim.votes:
        files += [folder / "tables" / f"{key}.csv" for key, table in registry.tables.items() if table.kind == "study"]
    return all(path.exists() for path in files)


def _verdict(record: Mapping[str, Any]) -> Verdict:
    sides = {}
    for side, counted in SIDES.items():
        comparisons = [found for found in record["comparisons"] if found["by"] in counted]
        sides[side] = Side(record[f"verdict_{side}"], count_words(comparisons), record[f"reason_{side}"])
    return Verdict(sides, bool(record["parts"]), tuple(record["comparisons"]), int(record.get("seeds") or 0))


def count_verdicts(claims: Mapping[str, Verdict], side: str) -> dict[str, int]:
    """Number of claims per verdict on a side."""
    return {name: sum(claim.sides[side].verdict == name for claim in claims.values()) for name in VERDICTS}


def count_words(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """Text such as ``9 of 12 hold, 3 within error``; for a single comparison its numbers; "" if none was tested."""
    tested = [comparison for comparison in comparisons if comparison["verdict"] != UNTESTED]
    if len(tested) == 1 == len(comparisons):
        return str(tested[0]["measured"])
    counts = {name: sum(comparison["verdict"] == name for comparison in comparisons) for name in VERDICTS}
    words = {WITHIN: "within error", CONTRARY: "to the contrary", UNTESTED: "not tested"}
    parts = [f"{counts[HOLDS]} of {len(comparisons)} hold"]
    parts += [f"{counts[name]} {text}" for name, text in words.items() if counts[name]]
    return ", ".join(parts) if tested else ""
