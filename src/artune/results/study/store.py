"""What a rater does to the store of votes. A vote is on the disk before it is acknowledged, and counts once."""

import contextlib
import hashlib
import json
import re
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from artune.errors import ArtuneError
from artune.results.study.pairs import Item, Pairs
from artune.results.study.sessions import left_side, next_session
from artune.results.study.votes import MAX_RATERS, check_shown, connect_votes, read_votes

Pressed = Literal["left", "right", "tie"]
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # no characters that are easily confused
CODE = re.compile(rf"[{ALPHABET}]{{20}}")  # 99 bits


class UnknownCodeError(ArtuneError):
    """No rater has this code."""


class RefusedError(ArtuneError):
    """A request that does not fit the rater's session."""


@dataclass(frozen=True)
class Shown:
    """An item as a rater sees it."""

    position: int
    item: Item
    left: str
    right: str


@dataclass(frozen=True)
class Session:
    """The state of a rater's session."""

    rater: int
    done: int
    total: int
    waiting: tuple[Shown, ...]  # the current item, and the next if there is one
    last: int | None  # position of the vote that can be taken back
    more: bool  # whether there are pairs that the rater has not been given


class VoteStore:
    """Votes on one set of pairs; safe for several threads, and for several processes.

    Raises:
        ArtuneError: the file is not a store of votes, or holds votes on other pairs.
    """

    def __init__(self, path: Path, pairs: Pairs):
        self.path, self.pairs = path, pairs
        self.items = {item.id: item for item in pairs.items}
        self.lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.database = connect_votes(path, create=True)
        row = (pairs.digest(), pairs.seed, pairs.check_share, json.dumps(pairs.totals()))
        try:
            with self._transaction() as database:
                database.execute("INSERT INTO study SELECT ?, ?, ?, ? WHERE NOT EXISTS (SELECT * FROM study)", row)
                known = database.execute("SELECT digest FROM study").fetchone()[0]
            if known != row[0]:
                raise ArtuneError(f"{path}: holds votes on other pairs; move it away, or restore the old file of pairs")
            check_shown(self.database, path, self.items)
            read_votes(self.database, path)
        except sqlite3.Error as error:
            self.database.close()
            raise ArtuneError(f"{path}: damaged, or it cannot be written ({error}); restore a copy of it") from error
        except BaseException:
            self.database.close()
            raise

    def close(self) -> None:
        """Close the file."""
        with self.lock:
            self.database.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction, for one thread at a time; an exception rolls it back."""
        with self.lock:
            self.database.execute("BEGIN IMMEDIATE")
            try:
                yield self.database
                self.database.execute("COMMIT")
            except BaseException:
                if self.database.in_transaction:
                    self.database.execute("ROLLBACK")
                raise

    def count(self) -> int:
        """Votes on pairs, attention checks not counted."""
        with self.lock:
            return self.database.execute("SELECT COUNT(*) FROM votes WHERE kind = 'pair'").fetchone()[0]

    def register(self) -> str:
        """Register a rater with a first session; return the code to continue with, of which only a digest is stored.

        Raises:
            RefusedError: there are 1,000 raters already.
        """
        code = "".join(secrets.choice(ALPHABET) for _ in range(20))
        with self._transaction() as database:
            number = database.execute("SELECT COUNT(*) FROM raters").fetchone()[0]
            if number >= MAX_RATERS:
                raise RefusedError(f"there are {MAX_RATERS} raters already")
            database.execute("INSERT INTO raters VALUES (?, ?, ?)", (number, _digest(code), _now()))
            self._give(database, number)
        return code

    def rater(self, code: str) -> int:
        """The number of the rater with this code; dashes, spaces and case do not matter. Raises UnknownCodeError."""
        plain = code[:100].replace("-", "").replace(" ", "").lower()
        if CODE.fullmatch(plain):
            with self.lock:
                row = self.database.execute(
                    "SELECT number FROM raters WHERE code_sha256 = ?", (_digest(plain),)
                ).fetchone()
            if row:
                return row[0]
        raise UnknownCodeError("this code belongs to nobody")

    def session(self, rater: int) -> Session:
        """The state of the rater's session."""
        with self.lock:
            return self._session(rater)

    def shown(self, rater: int, position: int) -> Shown:
        """The item that the rater sees at ``position``. Raises RefusedError if there is none."""
        with self.lock:
            row = self.database.execute(
                "SELECT position, item, left_side FROM shown WHERE rater = ? AND position = ?", (rater, position)
            ).fetchone()
        if row is None:
            raise RefusedError("there is no such pair in this session")
        return self._shown(row)

    def vote(self, rater: int, position: int, pressed: Pressed, seconds: float) -> Session:
        """Store a vote unless that position has one already: the first counts, a repetition changes nothing.

        Args:
            rater: number of the rater.
            position: position of the item in the rater's session.
            pressed: the chosen image, or a tie.
            seconds: time from seeing the item to the vote.

        Raises:
            RefusedError: the rater has not been shown that position.
        """
        shown = self.shown(rater, position)
        choice = {"left": shown.left, "right": shown.right, "tie": "tie"}[pressed]
        with self._transaction() as database:
            first = self._open(rater, 1)
            if first and position > first[0][0]:
                raise RefusedError("that pair has not been shown yet")
            item = shown.item
            database.execute(
                "INSERT INTO votes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (rater, position, item.id, item.kind, item.setting, item.task, shown.left, shown.right, pressed,
                 choice, seconds, self.pairs.seed, _now()),
            )  # fmt: skip
            return self._session(rater)

    def take_back(self, rater: int, position: int) -> Session:
        """Move the rater's last vote, if it is that of ``position``, to ``withdrawn``; it no longer counts."""
        with self._transaction() as database:
            if self._last(rater) == position:
                own = "FROM votes WHERE rater = ? AND position = ?"
                database.execute(f"INSERT INTO withdrawn SELECT *, ? {own}", (_now(), rater, position))
                database.execute(f"DELETE {own}", (rater, position))
            return self._session(rater)

    def go_on(self, rater: int) -> Session:
        """Give another session to a rater who has finished the last one."""
        with self._transaction() as database:
            if not self._open(rater, 1):
                self._give(database, rater)
            return self._session(rater)

    def _open(self, rater: int, number: int) -> list[tuple]:
        return self.database.execute(
            "SELECT position, shown.item, shown.left_side FROM shown LEFT JOIN votes USING (rater, position)"
            " WHERE rater = ? AND votes.item IS NULL ORDER BY position LIMIT ?",
            (rater, number),
        ).fetchall()

    def _last(self, rater: int) -> int | None:
        return self.database.execute("SELECT MAX(position) FROM votes WHERE rater = ?", (rater,)).fetchone()[0]

    def _shown(self, row: tuple) -> Shown:
        position, name, left = row
        item = self.items[name]
        return Shown(position, item, left, next(side for side in item.images if side != left))

    def _session(self, rater: int) -> Session:
        counts = "SELECT (SELECT COUNT(*) FROM votes WHERE rater = :r), (SELECT COUNT(*) FROM shown WHERE rater = :r),"
        counts += " (SELECT COUNT(*) FROM shown WHERE rater = :r AND item NOT LIKE 'check/%')"
        done, total, pairs = self.database.execute(counts, {"r": rater}).fetchone()
        waiting = tuple(self._shown(row) for row in self._open(rater, 2))
        return Session(rater, done, total, waiting, self._last(rater), pairs < len(self.pairs.of_kind("pair")))

    def _give(self, database: sqlite3.Connection, rater: int) -> None:
        """Append a session to the items that the rater is shown."""

        def numbers(table: str) -> dict[str, int]:
            return dict(database.execute(f"SELECT item, COUNT(*) FROM {table} GROUP BY item").fetchall())

        given = {row[0] for row in database.execute("SELECT item FROM shown WHERE rater = ?", (rater,))}
        order = next_session(self.pairs, rater, given, numbers("votes"), numbers("shown"))
        rows = [(rater, len(given) + at, item.id, left_side(item, rater)) for at, item in enumerate(order)]
        database.executemany("INSERT INTO shown VALUES (?, ?, ?, ?)", rows)


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
