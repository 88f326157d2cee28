"""The paper's claims against what was measured here (``config/claims.yaml``), each with two verdicts."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from artune.config.claims import Claim
from artune.config.registry import Registry
from artune.results.comparisons import Evidence, compare_all
from artune.results.verdicts import BOTH, JUDGES, REWARD, UNTESTED, VERDICTS, Comparison, overall
from artune.runtime.files import write_json, write_text

# Who measured -> which comparisons count. Comparisons by a further judge count for neither.
SIDES = {"as_paper": (REWARD, BOTH), "by_judges": (JUDGES, BOTH)}
SIDE_NAMES = {"as_paper": "as the paper measures", "by_judges": "by judges that no reward saw"}
FIELDS = (
    "id", "section", "where", "network", "claim", "verdict_as_paper", "verdict_by_judges", "parts", "measured_as_paper",
    "measured_by_judges", "reason_as_paper", "reason_by_judges", "scale", "seeds", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """A claim and its comparisons, from which both verdicts follow."""

    id: str
    claim: Claim
    comparisons: tuple[Comparison, ...]
    untested: str = ""  # why the claim as a whole is not tested

    def of(self, side: str) -> list[Comparison]:
        """The comparisons that count on a side, a key of :data:`SIDES`."""
        return [comparison for comparison in self.comparisons if comparison.by in SIDES[side]]

    def verdict(self, side: str) -> str:
        """The verdict on a side."""
        return overall([comparison.verdict for comparison in self.of(side)])

    @property
    def parts(self) -> bool:
        """Whether the two sides part: their verdicts on what both sides tested differ."""
        tested = {side: [found for found in self.of(side) if found.verdict != UNTESTED] for side in SIDES}
        common = set.intersection(*({found.quantity for found in tested[side]} for side in SIDES))
        sides = ([found.verdict for found in tested[side] if found.quantity in common] for side in SIDES)
        return len({overall(verdicts) for verdicts in sides}) > 1

    def record(self) -> dict[str, Any]:
        """The claim's line of ``claims.csv``, without the columns that are equal in all lines."""
        claim = self.claim
        line: dict[str, Any] = {"id": self.id, "section": claim.section, "where": claim.where}
        line |= {"network": " ".join(claim.network), "claim": claim.claim, "parts": self.parts}
        for side in SIDES:
            tested = [found for found in self.of(side) if found.verdict != UNTESTED]
            reasons = dict.fromkeys(found.reason for found in self.of(side) if found.reason)
            line[f"verdict_{side}"] = self.verdict(side)
            line[f"measured_{side}"] = "; ".join(
                f"{found.what}: {found.measured} ({found.verdict})" for found in tested
            )
            line[f"reason_{side}"] = self.untested or "; ".join(reasons)
        return line


def judge_claims(registry: Registry, results: Path, seeds: int = 1) -> list[Judged]:
    """Judge every claim from the files of one scale.

    Args:
        registry: registry of the scale.
        results: ``results/{scale}``.
        seeds: number of seeds of every run.

    Raises:
        ArtuneError: a file that a test needs is missing or damaged.
    """
    return judge_by(Evidence(registry, results, seeds))


def judge_by(evidence: Evidence) -> list[Judged]:
    """Judge every claim by ``evidence``."""
    judged = []
    for key, claim in evidence.registry.claims.items():
        if reason := claim.why_not(evidence.registry.scale):
            judged.append(Judged(key, claim, (), reason))
        else:
            judged.append(Judged(key, claim, tuple(compare_all(claim, evidence))))
    return judged


def count(judged: Sequence[Judged]) -> str:
    """Text with the number of claims per verdict on both sides, and the number of claims on which the sides part."""
    parts = []
    for side, name in SIDE_NAMES.items():
        verdicts = [found.verdict(side) for found in judged]
        parts.append(f"{name}: {', '.join(f'{verdicts.count(verdict)} {verdict}' for verdict in VERDICTS)}")
    return f"{len(judged)} claims; {'; '.join(parts)}; the two differ on {sum(found.parts for found in judged)}"


def write_claims(registry: Registry, results: Path, seeds: int, output: Path) -> str:
    """Write the verdicts as CSV, one line per claim, and as JSON beside it, with every comparison."""
    judged = judge_claims(registry, results, seeds)
    shared = {"scale": registry.scale, "seeds": seeds, "note": registry.about.note}
    write_json(
        output.with_suffix(".json"),
        [
            found.record() | shared | {"comparisons": [asdict(comparison) for comparison in found.comparisons]}
            for found in judged
        ],
    )
    write_text(output, claims_csv(judged, shared))
    return f"{output}: {count(judged)}"


def claims_csv(judged: Sequence[Judged], shared: dict[str, Any]) -> str:
    """The text of claims.csv; ``shared`` are the columns that are equal in all lines."""
    table = io.StringIO()
    writer = csv.DictWriter(table, FIELDS, lineterminator="\n")
    writer.writeheader()
    for found in judged:
        record = found.record() | shared
        writer.writerow(record | {"parts": "yes" if record["parts"] else "no"})
    return table.getvalue()
