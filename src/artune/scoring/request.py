"""What the command ``score`` is asked, what it opens for that, and what it answers."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artune.runtime.files import sha256
from artune.scoring.cache import Known
from artune.scoring.statistics import Source, features_shape


@dataclass(frozen=True)
class Request:
    """What is scored, and how."""

    samples: Path
    reference: Path
    against: Path | None = None
    networks: tuple[Path, ...] = ()  # weight files and folders of them
    labels: Path | None = None
    captions: Path | None = None
    accepted: frozenset[str] = frozenset()  # keys of :data:`artune.scoring.options.TRAPS`
    batch: int | None = None
    cache: Path | None = None


@dataclass(frozen=True)
class Scored:
    """Scores of a set of images, and all that is said about them."""

    facts: dict[str, Any]  # what the JSON holds beside the scores
    scores: dict[str, float]
    missing: dict[str, str]  # score -> why it could not be computed
    notes: list[str]
    differences: dict[str, dict[str, float]] = field(default_factory=dict)  # of a second set, by score


@dataclass(frozen=True)
class Opened:
    """A file or folder of the call, and what is known of its images if it holds some."""

    source: Source
    known: Known | None = None

    def count(self) -> int | None:
        """Number of its images, or of its features; None if it holds moments alone, or features of no rows."""
        if self.known is not None:
            return self.known.images.count
        shape = features_shape(self.source.path) if self.source.kind == "features" else ()
        return shape[0] if shape else None

    def described(self) -> dict[str, Any]:
        """Its place, its digest, and of images their size and formats."""
        if self.known is not None:
            return {"file": str(self.source.path), "sha256": self.known.digest, **self.known.facts}
        return {"file": str(self.source.path), "sha256": sha256(self.source.path)}
