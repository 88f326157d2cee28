"""The file of votes, one SQLite database: how it is opened, and what a file from elsewhere must hold to be read.

SQLite stores any type in any column, and a view can stand in the place of a table and never end.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Json, model_validator

from artune.config.fields import Fraction, Frozen
from artune.config.tables import VOTES, Task
from artune.config.yaml_layers import parse
from artune.errors import ArtuneError, brief, cut
from artune.results.study.pairs import SIDES, Item

VERSION = 1
MAX_RATERS = 1000
MOST_VOTES = 300_000  # as many as a thousand raters cast on three hundred items
LONGEST = 1_000_000  # bytes of a value
SECONDS = 60.0  # for reading a file
Name = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS study (
    digest TEXT NOT NULL, seed INTEGER NOT NULL, check_share REAL NOT NULL, totals TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS raters (
    number INTEGER PRIMARY KEY, code_sha256 TEXT NOT NULL UNIQUE, joined_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS shown (
    rater INTEGER NOT NULL REFERENCES raters, position INTEGER NOT NULL, item TEXT NOT NULL, left_side TEXT NOT NULL,
    PRIMARY KEY (rater, position), UNIQUE (rater, item)
);
CREATE TABLE IF NOT EXISTS votes (
    rater INTEGER NOT NULL, position INTEGER NOT NULL, item TEXT NOT NULL,
    kind TEXT NOT NULL, setting TEXT NOT NULL, task TEXT NOT NULL,
    left_side TEXT NOT NULL, right_side TEXT NOT NULL, pressed TEXT NOT NULL, choice TEXT NOT NULL,
    seconds REAL NOT NULL, seed INTEGER NOT NULL, cast_at TEXT NOT NULL,
    PRIMARY KEY (rater, position), UNIQUE (rater, item), FOREIGN KEY (rater, position) REFERENCES shown
);
CREATE TABLE IF NOT EXISTS withdrawn AS SELECT *, '' AS withdrawn_at FROM votes;
CREATE INDEX IF NOT EXISTS votes_of_item ON votes (item);
PRAGMA user_version = {VERSION};
"""


class Vote(Frozen):
    """A row of ``votes``, as far as the tally reads it."""

    rater: Annotated[int, Field(ge=0, strict=True)]
    position: Annotated[int, Field(ge=0, strict=True)]
    item: Name
    kind: Literal["pair", "check"]
    setting: Name
    task: Task
    choice: Name
    seconds: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False, strict=True)]

    @model_validator(mode="after")
    def _choice_fits(self) -> "Vote":
        known = tuple(VOTES) if self.kind == "pair" else (*SIDES["check"], "tie")
        if self.choice not in known:
            raise ValueError(f"unknown choice {brief(self.choice)}; known are {', '.join(known)}")
        return self


class Study(Frozen):
    """The row of ``study``."""

    digest: Name
    seed: Annotated[int, Field(strict=True)]
    check_share: Annotated[Fraction, Field(strict=True)]
    totals: Json[dict[Name, dict[Task, Annotated[int, Field(ge=0, strict=True)]]]]


def connect_votes(path: Path, create: bool = False) -> sqlite3.Connection:
    """Open the store at ``path``; the journal of a killed server is rolled back.

    Raises:
        ArtuneError: the file cannot be opened, is not a store of votes of this version, or holds other tables, views or
            triggers than a store.
    """
    if path.exists() and not path.is_file():
        raise ArtuneError(f"{path}: not a store of votes (not a regular file)")
    try:
        database = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}",
            uri=True,
            timeout=30,
            isolation_level=None,
            check_same_thread=False,
        )
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
        # With a rollback journal all votes are in one file: its modification time is that of the last vote, and other
        # hosts can read it. PERSIST and FULL: a commit survives a power cut, at half the cost of deleting the journal.
        database.execute("PRAGMA journal_mode = PERSIST")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA foreign_keys = ON")
        if create and not database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
            database.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT")  # in one transaction
        version = database.execute("PRAGMA user_version").fetchone()[0]
        strange = _strange(database) if version == VERSION else None
    except (
        sqlite3.Error,
        UnicodeDecodeError,
    ) as error:  # a text in the file is damaged
        raise ArtuneError(f"{path}: not a store of votes, or it cannot be opened ({error})") from error
    if version != VERSION:
        database.close()
        raise ArtuneError(f"{path}: not a store of votes (version {version}, this program reads {VERSION})")
    if strange is not None:
        database.close()
        raise ArtuneError(f"{path}: not a store of votes as this program makes it ({strange})")
    return database


def _strange(database: sqlite3.Connection) -> str | None:
    """What the file holds beside, or in place of, the tables of a store; tables of other names do not matter."""

    def listed(of: sqlite3.Connection) -> dict[tuple[str, str], str]:
        tables = "'study', 'raters', 'shown', 'votes', 'withdrawn'"
        rows = of.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL "
            f"AND lower(tbl_name) IN ({tables}) LIMIT 1000"  # far more than a store has
        ).fetchall()
        return {
            (str(kind), str(name)): "" if name == "withdrawn" else " ".join(str(sql).split())
            for kind, name, sql in rows
        }

    fresh = sqlite3.connect(":memory:")
    fresh.executescript(SCHEMA)
    ours, theirs = listed(fresh), listed(database)
    fresh.close()
    if missing := ours.keys() - theirs.keys():
        return f"no {' '.join(min(missing))}"
    other = [key for key, sql in theirs.items() if ours.get(key) != sql]
    return f"its {cut(' '.join(other[0]))} is another" if other else None


def _rows(database: sqlite3.Connection, path: Path, query: str) -> Iterator[dict[str, Any]]:
    """Rows of a query by column. Raises ArtuneError: it fails, takes too long or gives too many rows."""
    end = time.monotonic() + SECONDS
    database.set_progress_handler(lambda: time.monotonic() > end, 100_000)
    try:
        cursor = database.execute(query)
        names = [column[0] for column in cursor.description]
        for number, row in enumerate(cursor):
            if number == MOST_VOTES:
                raise ArtuneError(f"{path}: more than {MOST_VOTES:,} votes")
            yield dict(zip(names, row, strict=True))
    except sqlite3.Error as error:
        raise ArtuneError(f"{path}: not a store of votes, or damaged ({error})") from error
    except UnicodeDecodeError as error:
        raise ArtuneError(f"{path}: damaged (a text is not UTF-8)") from error
    finally:
        with contextlib.suppress(sqlite3.ProgrammingError):  # closed before the last row was read
            database.set_progress_handler(None, 0)


def read_votes(database: sqlite3.Connection, path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The record of the study, {} if there is none, and all votes, as :class:`Study` and :class:`Vote` have them.

    Raises:
        ArtuneError: a value has another type or range; the message names the file and the vote.
    """
    found = [parse(Study, row, f"{path}: study") for row in _rows(database, path, "SELECT * FROM study LIMIT 2")]
    columns = ", ".join(Vote.model_fields)
    votes = []
    for number, row in enumerate(_rows(database, path, f"SELECT {columns} FROM votes ORDER BY rater, position"), 1):
        who = f"rater {brief(row['rater'])}, position {brief(row['position'])}"
        vote = parse(Vote, row, f"{path}: vote {number} ({who})")
        if vote.kind == "pair" and (not found or vote.task not in found[0].totals.get(vote.setting, {})):
            what = f"setting {brief(vote.setting)} with {vote.task}"
            raise ArtuneError(f"{path}: vote {number} ({who}): {what} is not in the study")
        votes.append(row)
    if len(found) > 1 or (votes and not found):
        raise ArtuneError(f"{path}: study: {len(found) or 'no'} rows; a store has one")
    return (found[0].model_dump() if found else {}), votes


def check_shown(database: sqlite3.Connection, path: Path, items: Mapping[str, Item]) -> None:
    """Check that raters were shown only ``items``. Raises ArtuneError: they were not, or a value has another type."""
    for number, row in enumerate(_rows(database, path, "SELECT * FROM shown ORDER BY rater, position"), 1):
        where = f"{path}: shown {number}"
        if not all(isinstance(row[name], int) and row[name] >= 0 for name in ("rater", "position")):
            raise ArtuneError(f"{where}: rater and position must be whole numbers of at least 0 (got {brief(row)})")
        item = items.get(row["item"]) if isinstance(row["item"], str) else None
        if item is None or row["left_side"] not in item.images:
            raise ArtuneError(
                f"{where}: {brief(row['item'])} with {brief(row['left_side'])} is not in the file of pairs"
            )
