"""Counting the votes of the human study (paper, Table 3)."""

import sqlite3
from pathlib import Path

from artune.errors import ArtuneError
from artune.files import write_json

CHOICES = ("ours", "tie", "pretrained")
Tally = dict[str, dict[str, dict[str, int]]]


def count_votes(path: Path | None) -> Tally:
    """Votes by setting, task and choice from the table ``votes(setting, task, choice)`` of a SQLite file.

    A file that does not exist holds no votes: the tally is empty, and Table 3 says so.

    Raises:
        ArtuneError: the file is no SQLite store with such a table, or holds an unknown choice.
    """
    tally: Tally = {}
    if path is None or not path.exists():
        return tally
    try:
        store = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            rows = store.execute("SELECT setting, task, choice, COUNT(*) FROM votes GROUP BY 1, 2, 3").fetchall()
        finally:
            store.close()
    except sqlite3.Error as error:
        raise ArtuneError(f"{path}: not a store of votes ({error})") from error
    for setting, task, choice, number in rows:
        if choice not in CHOICES:
            raise ArtuneError(f"{path}: unknown choice {choice!r}; known are {', '.join(CHOICES)}")
        tally.setdefault(setting, {}).setdefault(task, dict.fromkeys(CHOICES, 0))[choice] = number
    return tally


def write_tally(votes: Path | None, output: Path) -> str:
    """Write the counts as JSON."""
    tally = count_votes(votes)
    write_json(output, tally)
    total = sum(number for tasks in tally.values() for counts in tasks.values() for number in counts.values())
    return f"{output}: {total or 'no'} votes"
