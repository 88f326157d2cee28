"""Types of ``config/study.yaml``: the pairs that people are shown, and the conditions under which a rater counts."""

from typing import Literal

from pydantic import Field, model_validator

from artune.config.fields import Frozen

Task = Literal["Realism", "Ref. Match"]  # tasks of the human study, named as in Table 3
REALISM: Task = "Realism"
MATCH: Task = "Ref. Match"
TASKS: tuple[Task, ...] = (REALISM, MATCH)
VOTES: dict[str, str] = {"ours": "Ours", "tie": "Tie", "pretrained": "Pretrained"}  # columns of a study table


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
