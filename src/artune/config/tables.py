"""Types of ``config/tables.yaml``, ``config/figures.yaml`` and ``config/study.yaml``."""

import operator
from collections.abc import Callable, Mapping
from itertools import accumulate, pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from artune.config.fields import Frozen
from artune.config.glossary import COLUMNS
from artune.config.yaml_layers import parse
from artune.errors import unknown

Task = Literal["Realism", "Ref. Match"]  # tasks of the human study, named as in Table 3
REALISM: Task = "Realism"
MATCH: Task = "Ref. Match"
TASKS: tuple[Task, ...] = (REALISM, MATCH)
VOTES: dict[str, str] = {"ours": "Ours", "tie": "Tie", "pretrained": "Pretrained"}  # columns of a study table


class Row(Frozen):
    """A row: the text cells, the run behind it, and the paper's numbers in the order of ``columns``.

    A text cell may hold ``{dotted.key}``, which becomes the run's own setting at the scale.
    """

    labels: tuple[str, ...] = Field(min_length=1)
    run: str | None = None  # None only in the human study, whose rows are tasks
    paper: tuple[float | None, ...] = ()


class Table(Frozen):
    """A table of the paper, or one that the paper does not have."""

    kind: Literal["scores", "study"] = "scores"
    title: str
    labels: tuple[str, ...]  # headings of the text cells
    columns: tuple[str, ...]
    extra: tuple[str, ...] = ()  # our columns that the paper does not have
    rows: tuple[Row, ...] = Field(min_length=1)
    blocks: tuple[Annotated[int, Field(gt=0)], ...] = ()  # rows per block, each with its own best; empty: one block
    baseline: str | None = (
        None  # run of the row that its block is compared with; in other blocks, and by default, the first
    )
    repeated: bool = True  # whether the setting ``seeds`` repeats the rows

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
                raise ValueError(f"columns: {unknown(column, known)}")
        if len(set(every)) != len(every):
            raise ValueError("columns and extra: a column is named twice")
        if self.baseline and self.baseline not in {row.run for row in self.rows}:
            raise ValueError(f"baseline: {self.baseline} is the run of no row")
        if self.blocks and sum(self.blocks) != len(self.rows):
            raise ValueError(f"blocks: {sum(self.blocks)} rows in all, but there are {len(self.rows)}")
        return self

    def repetitions(self, seeds: int) -> int:
        """Runs behind a row under the setting ``seeds``."""
        return seeds if self.repeated else 1

    @property
    def spans(self) -> list[range]:
        """Indices of the rows of every block."""
        ends = list(accumulate(self.blocks or (len(self.rows),)))
        return [range(start, end) for start, end in pairwise([0, *ends])]


class Figure(Frozen):
    """A figure: a kind names the module of ``artune.results.figures`` that draws it."""

    kind: Literal["method", "training_dynamics", "toy", "samples", "over_optimisation"]
    title: str
    runs: tuple[str, ...] = ()  # samples: pretrained, then tuned
    # over_optimisation: label -> runs, the tuned one last. Not dumped if empty, so that it outdates no other figure.
    curves: dict[str, tuple[str, ...]] = Field(default_factory=dict, exclude_if=operator.not_)
    classes: tuple[str, ...] = ()  # samples: the classes that the caption names
    number: int = Field(default=2, gt=0)  # samples: number of classes if ``classes`` is empty
    per_class: int = Field(default=6, gt=0)
    own_per_class: int | None = Field(default=None, gt=0)  # the same for a data set's own classes; None: per_class
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _runs_fit(self) -> "Figure":
        if self.kind == "samples" and len(self.runs) != 2:
            raise ValueError(f"runs: {len(self.runs)} given; samples need two, pretrained and tuned")
        if self.kind == "training_dynamics" and not self.runs:
            raise ValueError("runs: empty; training_dynamics needs one")
        if (self.kind == "over_optimisation") != bool(self.curves):
            raise ValueError("curves: over_optimisation needs them, and no other kind has any")
        return self

    @property
    def shown(self) -> tuple[str, ...]:
        """All runs of the figure."""
        return tuple(dict.fromkeys([*self.runs, *(run for runs in self.curves.values() for run in runs)]))


class StudySetting(Frozen):
    """One setting of the human study."""

    runs: tuple[str, str]  # pretrained, tuned
    pairs: int = Field(gt=0)  # per task


class StudyPage(Frozen):
    """What the first page tells raters; whoever runs the study fills it in."""

    contact: str | None = None  # who runs the study and how to reach them
    minutes: int | None = Field(default=None, gt=0)  # what a session takes
    purpose: str | None = None
    consent: str | None = None  # what a rater agrees to

    def missing(self) -> list[str]:
        """The keys without a value."""
        return [key for key, value in self.model_dump().items() if not value]


class HumanStudy(Frozen):
    """Contents of ``config/study.yaml``; its comments explain the fields."""

    settings: dict[str, StudySetting] = Field(min_length=1)
    seed: int = Field(ge=0)
    references: int = Field(gt=0)
    reference: str  # a key of assets.yaml, or a split of data.npz
    session: int = Field(gt=0)
    shared: int = Field(ge=0)
    check_every: int = Field(gt=0)
    checks: int = Field(ge=0)
    check_share: float = Field(ge=0, le=1)
    judge: str | None = None
    page: StudyPage = StudyPage()

    @model_validator(mode="after")
    def _consistent(self) -> "HumanStudy":
        runs = [run for setting in self.settings.values() for run in setting.runs]
        if len(set(runs)) != len(runs):
            raise ValueError("settings: a run is named twice")  # a run's images are drawn once, in one setting
        if len(TASKS) * self.shared * len(self.settings) > self.session:
            raise ValueError(f"shared: {self.shared} pairs per row do not fit into a session of {self.session}")
        return self


Known = Callable[[str, str], None]  # (run, file that names it); raises ArtuneError if there is no such run


def read_tables(tree: Mapping[str, Any], known: Known) -> dict[str, Table]:
    """Validate the tables of ``config/tables.yaml``."""
    tables = {}
    for key, value in tree.items():
        tables[key] = parse(Table, value, f"config/tables.yaml: {key}")
        for row in tables[key].rows:
            if row.run is not None:
                known(row.run, f"config/tables.yaml: {key}")
    return tables


def read_figures(tree: Mapping[str, Any], known: Known, own_classes: bool = False) -> dict[str, Figure]:
    """Validate the figures of ``config/figures.yaml``.

    Args:
        tree: contents of the file.
        known: see :data:`Known`.
        own_classes: whether the scale's data set has classes of its own instead of the paper's. All of the paper's
            figures of samples of the same runs are then one figure of these classes, with the title and the seed of the
            first of them; a figure with a name of its own stays as it is.
    """
    firsts: dict[tuple[str, ...], Figure] = {}
    figures: dict[str, Figure] = {}
    for key, value in tree.items():
        figure = figures[key] = parse(Figure, value, f"config/figures.yaml: {key}")
        for run in figure.shown:
            known(run, f"config/figures.yaml: {key}")
        if own_classes and figure.kind == "samples" and key.startswith("figure"):
            own = figure.model_copy(update={"classes": (), "per_class": figure.own_per_class or figure.per_class})
            figures[key] = firsts.setdefault(figure.runs, own)
    return figures
