"""The paper's claims against what was measured here (``config/claims.yaml``)."""

import csv
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from artune.config.claims import Claim
from artune.config.registry import Registry
from artune.results.comparisons import Evidence, compare_all
from artune.results.verdicts import UNTESTED, VERDICTS, Comparison, overall
from artune.runtime.files import write_json, write_text

FIELDS = ("id", "section", "where", "claim", "verdict", "measured", "reason", "scale", "seeds", "note")


@dataclass(frozen=True)
class Judged:
    """A claim, its comparisons, and the verdict on it."""

    id: str
    claim: Claim
    verdict: str
    comparisons: tuple[Comparison, ...]
    reason: str = ""  # why the claim, or a part of it, was not tested

    def record(self) -> dict[str, Any]:
        """The claim's line of ``claims.csv``, without the columns that are equal in all lines."""
        tested = [comparison for comparison in self.comparisons if comparison.verdict != UNTESTED]
        measured = "; ".join(f"{found.what}: {found.measured} ({found.verdict})" for found in tested)
        line = {"id": self.id, "section": self.claim.section, "where": self.claim.where, "claim": self.claim.claim}
        return line | {"verdict": self.verdict, "measured": measured, "reason": self.reason}


def judge_claims(registry: Registry, results: Path, seeds: int = 1) -> list[Judged]:
    """Judge every claim from the files of one scale.

    Args:
        registry: registry of the scale.
        results: ``results/{scale}``.
        seeds: number of seeds of every run.

    Raises:
        ArtuneError: a file that a test needs is missing or damaged.
    """
    evidence = Evidence(registry, results, seeds)
    judged = []
    for key, claim in registry.claims.items():
        if reason := claim.why_not(registry.scale):
            judged.append(Judged(key, claim, UNTESTED, (), reason))
            continue
        comparisons = tuple(compare_all(claim, evidence))
        reasons = dict.fromkeys(comparison.reason for comparison in comparisons if comparison.reason)
        verdict = overall([comparison.verdict for comparison in comparisons])
        judged.append(Judged(key, claim, verdict, comparisons, "; ".join(reasons)))
    return judged


def write_claims(registry: Registry, results: Path, seeds: int, output: Path) -> str:
    """Write the verdicts as CSV, one line per claim, and as JSON beside it, with every comparison."""
    judged = judge_claims(registry, results, seeds)
    shared = {"scale": registry.scale, "seeds": seeds, "note": registry.about.note}
    table = io.StringIO()
    writer = csv.DictWriter(table, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found.record() | shared for found in judged)
    records = [
        found.record() | shared | {"comparisons": [asdict(comparison) for comparison in found.comparisons]}
        for found in judged
    ]
    write_json(output.with_suffix(".json"), records)
    write_text(output, table.getvalue())
    numbers = (f"{sum(found.verdict == verdict for found in judged)} {verdict}" for verdict in VERDICTS)
    return f"{output}: {len(judged)} claims: {', '.join(numbers)}"
