"""Types of ``config/study.yaml``: which pairs people are shown, and when a rater counts."""

from typing import Literal

from pydantic import Field, model_validator

from artune.config.fields import Frozen

Task = Literal["Realism", "Ref. Match"]  # of the human study, as Table 3 calls them
REALISM: Task = "Realism"
MATCH: Task = "Ref. Match"
TASKS: tuple[Task, ...] = (REALISM, MATCH)
VOTES: dict[str, str] = {"ours": "Ours", "tie": "Tie", "pretrained": "Pretrained"}  # columns of a study table


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
