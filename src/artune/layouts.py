"""Types of ``config/tables.yaml``, ``config/figures.yaml`` and ``config/study.yaml``."""

from itertools import accumulate, pairwise
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, model_validator

from artune.schema import Frozen


class Column(NamedTuple):
    """How a metric is shown; its name is its key in ``scores.json``."""

    heading: str
    better: int  # +1: higher, -1: lower
    decimals: int
    paper_decimals: int


COLUMNS: dict[str, Column] = {
    "fid": Column("FID", -1, 2, 2),
    "inception_score": Column("IS", +1, 2, 2),
    "clip_score": Column("CLIPScore", +1, 4, 4),
    "precision": Column("Precision", +1, 3, 2),
    "recall": Column("Recall", +1, 3, 2),
    "fid_reward": Column("FID (reward's network)", -1, 2, 2),
    "clip_score_reward": Column("CLIPScore (reward's network)", +1, 4, 4),
    "accuracy": Column("Accuracy", +1, 3, 3),
    "kid": Column("KID", -1, 4, 4),
    "sfid": Column("sFID", -1, 2, 2),
    "density": Column("Density", +1, 3, 3),
    "coverage": Column("Coverage", +1, 3, 3),
    "cmmd": Column("CMMD", -1, 3, 3),
    "fd_dinov2": Column("FD-DINOv2", -1, 1, 1),
    "loo_fid_ms": Column("LOO-FID time (ms)", -1, 1, 0),
}
WITH_STANDARD_ERROR = (
    "fid", "fid_reward", "kid", "inception_score", "precision", "clip_score", "clip_score_reward", "cmmd", "fd_dinov2",
)  # fmt: skip
JUDGES = ("sfid", "density", "coverage", "cmmd", "fd_dinov2")  # in every table of a scale whose evaluation has them
AGAINST = ("fid", "kid", "precision", "recall", *JUDGES)  # what a reference decides
TASKS = (REALISM, MATCH) = ("Realism", "Ref. Match")  # of the human study, as Table 3 calls them
VOTES: dict[str, str] = {"ours": "Ours", "tie": "Tie", "pretrained": "Pretrained"}  # columns of a study table


class Row(Frozen):
    """A row: the text cells, the run behind it, and the paper's numbers in the order of ``columns``.

    A text cell may hold ``{dotted.key}``, which becomes the run's own setting at the scale.
    """

    labels: tuple[str, ...] = Field(min_length=1)
    run: str | None = None  # None only in the human study, whose rows are tasks
    paper: tuple[float | None, ...] = ()


class Table(Frozen):
    """A table of the paper, or one beyond it."""

    kind: Literal["scores", "study"] = "scores"
    title: str
    labels: tuple[str, ...]  # headings of the text cells
    columns: tuple[str, ...]
    extra: tuple[str, ...] = ()  # columns of ours that the paper does not have
    rows: tuple[Row, ...] = Field(min_length=1)
    blocks: tuple[Annotated[int, Field(gt=0)], ...] = ()  # rows a block, each with a best of its own; empty: one block

    @model_validator(mode="after")
    def _rows_fit(self) -> "Table":
        for row in self.rows:
            name = row.run or row.labels[0]
            if len(row.labels) != len(self.labels):
                raise ValueError(f"row {name}: {len(row.labels)} labels for {len(self.labels)} headings")
            if row.paper and len(row.paper) != len(self.columns):
                raise ValueError(f"row {name}: {len(row.paper)} paper values for {len(self.columns)} columns")
            if self.kind == "scores" and row.run is None:
                raise ValueError(f"row {name}: run is missing")
        known = COLUMNS if self.kind == "scores" else VOTES
        every = (*self.columns, *self.extra)
        for column in every:
            if column not in known:
                raise ValueError(f"columns: unknown {column!r}; known are {', '.join(known)}")
        if len(set(every)) != len(every):
            raise ValueError("columns and extra: name a column twice")
        if self.blocks and sum(self.blocks) != len(self.rows):
            raise ValueError(f"blocks: {sum(self.blocks)} rows in all, but there are {len(self.rows)}")
        return self

    @property
    def spans(self) -> list[range]:
        """The rows of every block."""
        ends = list(accumulate(self.blocks or (len(self.rows),)))
        return [range(start, end) for start, end in pairwise([0, *ends])]


class Figure(Frozen):
    """A figure: a kind names the module of ``artune.figures`` that draws it."""

    kind: Literal["method", "training_dynamics", "toy", "samples"]
    title: str
    runs: tuple[str, ...] = ()  # samples: pretrained, then tuned
    classes: tuple[str, ...] = ()  # samples: the classes that the caption names
    number: int = Field(default=2, gt=0)  # samples: how many classes where it names none, or none that the data set has
    per_class: int = Field(default=6, gt=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _runs_fit(self) -> "Figure":
        if self.kind == "samples" and len(self.runs) != 2:
            raise ValueError(f"runs: {len(self.runs)} given; samples need two, pretrained and tuned")
        if self.kind == "training_dynamics" and not self.runs:
            raise ValueError("runs: empty; training_dynamics needs one")
        return self


class StudySetting(Frozen):
    """One setting of the human study."""

    runs: tuple[str, str]  # pretrained, tuned
    pairs: int = Field(gt=0)  # a task


class HumanStudy(Frozen):
    """``config/study.yaml``: which pairs people are shown, and when a rater counts."""

    settings: dict[str, StudySetting] = Field(min_length=1)
    seed: int = Field(ge=0)
    references: int = Field(gt=0)
    reference: str  # a key of assets.yaml, or the digits' split
    session: int = Field(gt=0)
    shared: int = Field(ge=0)
    check_every: int = Field(gt=0)
    checks: int = Field(ge=0)
    check_share: float = Field(ge=0, le=1)
    judge: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "HumanStudy":
        runs = [run for setting in self.settings.values() for run in setting.runs]
        if len(set(runs)) != len(runs):
            raise ValueError("settings: name a run twice")  # its images are drawn once, in one setting
        if len(TASKS) * self.shared * len(self.settings) > self.session:
            raise ValueError(f"shared: {self.shared} of every row do not fit into a session of {self.session}")
        return self
