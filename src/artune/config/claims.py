"""Types of ``config/claims.yaml``: a claim of the paper, and the comparisons that test it."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field, model_validator

from artune.config.fields import Frozen
from artune.config.glossary import CLAIMABLE, METRICS, ROLES, SCORES
from artune.config.tables import Known, Table
from artune.config.yaml_layers import parse
from artune.errors import ArtuneError, unknown


def minus(runs: str) -> list[str]:
    """``"a - b"`` -> ``["a", "b"]``: the score of a minus that of b."""
    return runs.split(" - ")


def plus(keys: str) -> list[str]:
    """``"reward/clip + reward/hps"`` -> both keys: the sum of the two."""
    return keys.split(" + ")


def _known(keys: tuple[str, ...], among: tuple[str, ...], what: str) -> None:
    for key in keys:
        if key not in among:
            raise ValueError(f"{what}: {unknown(key, among)}")


class ScoreTest(Frozen):
    """Compare the scores of ``left`` with ``factor`` times those of ``right`` plus ``margin``."""

    left: str  # a run, or "a - b" for the difference of two runs
    right: str
    lower: tuple[str, ...] = ()  # metrics in which left must be lower
    higher: tuple[str, ...] = ()  # metrics in which left must be higher
    factor: float = Field(default=1.0, gt=0)
    margin: float = 0.0

    @model_validator(mode="after")
    def _metrics_known(self) -> "ScoreTest":
        if not (*self.lower, *self.higher):
            raise ValueError("names no metric; give lower or higher")
        _known((*self.lower, *self.higher), CLAIMABLE, "metric")
        return self


class CurveTest(Frozen):
    """Compare the last fifth of a curve logged during a training with its first fifth."""

    run: str
    rises: tuple[str, ...] = ()
    falls: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _metrics_known(self) -> "CurveTest":
        keys = (*self.rises, *self.falls)
        if not keys:
            raise ValueError("names no curve; give rises or falls")
        _known(tuple(key for sum_ in keys for key in plus(sum_)), tuple(METRICS), "curve")
        return self


class TimeTest(Frozen):
    """Median seconds of a stage of ``left`` over those of a stage of ``right``: a ratio with a limit below or above."""

    left: str
    right: str
    stage: str
    of: str | None = None  # stage of right; None: the stage of left
    below: float | None = Field(default=None, gt=0)
    above: float | None = Field(default=None, gt=0)
    paper: float | None = None  # the paper's ratio

    @model_validator(mode="after")
    def _stages_known(self) -> "TimeTest":
        if (self.below is None) == (self.above is None):
            raise ValueError("give either below or above")
        stages = (*plus(self.stage), *plus(self.of or self.stage))
        _known(stages, tuple(key for key in METRICS if key.startswith("time/")), "stage")
        return self


class VoteTest(Frozen):
    """People prefer the tuned to the pretrained policy; with ``more_than``, by more than in that setting."""

    setting: str
    task: str
    more_than: str | None = None


class SameTest(Frozen):
    """All ``runs`` have the same settings in ``sections``."""

    runs: tuple[str, ...] = Field(min_length=2)
    sections: tuple[str, ...] = Field(min_length=1)


class Claim(Frozen):
    """A sentence of the paper and its tests, or why there are none."""

    section: str = Field(pattern=r"^(\d|[A-F])$")  # section of the paper; a letter is an appendix
    where: str  # table, figure or paragraph
    claim: str  # in our words, with the paper's numbers
    network: tuple[str, ...] = ()  # the paper's networks that measure the scores; none without scores
    scores: tuple[ScoreTest, ...] = ()
    curves: tuple[CurveTest, ...] = ()
    times: tuple[TimeTest, ...] = ()
    votes: tuple[VoteTest, ...] = ()
    same: tuple[SameTest, ...] = ()
    untested: dict[str, str] = Field(default_factory=dict)  # scale, or "every" -> why it is not tested there

    @model_validator(mode="after")
    def _tested(self) -> "Claim":
        tests = (*self.scores, *self.curves, *self.times, *self.votes, *self.same)
        if bool(tests) == ("every" in self.untested):
            raise ValueError("give tests, or say under untested.every why there are none")
        metrics = (metric for test in self.scores for metric in (*test.lower, *test.higher))
        roles = (SCORES[metric].role for metric in metrics)
        measuring = _unique(ROLES[role][1] for role in roles if role in ROLES)
        if sorted(self.network) != sorted(measuring):
            given, needed = (f"[{', '.join(names)}]" for names in (self.network, measuring))
            raise ValueError(f"network: {given} given, but the paper measures its scores by {needed}; give that")
        return self

    def why_not(self, scale: str) -> str | None:
        """Why the claim is not tested at a scale, or None."""
        return self.untested.get("every") or self.untested.get(scale)

    @property
    def scored(self) -> list[str]:
        """Runs whose scores the claim needs."""
        return _unique(run for test in self.scores for runs in (test.left, test.right) for run in minus(runs))

    @property
    def traced(self) -> list[str]:
        """Runs whose curves the claim needs."""
        return _unique(test.run for test in self.curves)

    @property
    def timed(self) -> list[str]:
        """Runs whose timings the claim needs."""
        return _unique(run for test in self.times for run in (test.left, test.right))

    @property
    def runs(self) -> list[str]:
        """Every run that the claim names."""
        return _unique([*self.scored, *self.traced, *self.timed, *(run for test in self.same for run in test.runs)])


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def read_claims(tree: Mapping[str, Any], tables: Mapping[str, Table], known: Known) -> dict[str, Claim]:
    """Validate the claims; those about the human study must name rows of its table."""
    rows = {row.labels for table in tables.values() if table.kind == "study" for row in table.rows}
    claims = {}
    for key, value in tree.items():
        where = f"config/claims.yaml: {key}"
        claims[key] = parse(Claim, value, where)
        for run in claims[key].runs:
            known(run, where)
        for test in claims[key].votes:
            for setting in (test.setting, test.more_than or test.setting):
                if (setting, test.task) not in rows:
                    raise ArtuneError(f"{where}: votes: {setting} / {test.task} is not a row of the study's table")
    return claims
