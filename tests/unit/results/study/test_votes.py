"""A file of votes from elsewhere: read, or refused in one line that names the file and the vote, in bounded time."""

import os
import sqlite3
import time
import zipfile
from contextlib import closing

import pytest
from study_pairs import make_study

from artune.errors import ArtuneError
from artune.results.study.pairs import PairFile
from artune.results.study.store import VoteStore
from artune.results.study.tally import tally_votes

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
COLUMNS = "rater, position, item, kind, setting, task, left_side, right_side, pressed, choice, seconds, seed, cast_at"
VALUES = "x, x, 'i' || x, 'pair', 'CFG', 'Realism', 'ours', 'pretrained', 'left', 'ours', 1.0, 0, ''"


@pytest.fixture
def study(tmp_path):
    """A file of pairs, and a store with three votes of one rater."""
    make_study(tmp_path / "pairs.zip", pairs=6)
    pairs = PairFile(tmp_path / "pairs.zip").pairs
    store = VoteStore(tmp_path / "votes.sqlite", pairs)
    rater = store.rater(store.register())
    for position in range(3):
        store.vote(rater, position, "left", 1.0)
    store.close()
    return tmp_path / "votes.sqlite", pairs


def change(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA foreign_keys = OFF")
        for statement in statements:
            database.execute(statement)


def refused(call, *arguments):
    """The one line with which a call is refused, within two seconds."""
    began = time.process_time()
    with pytest.raises(ArtuneError) as found:
        call(*arguments)
    assert time.process_time() - began < 2
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 600
    return str(found.value)


WRONG = {
    "seconds": ["'soon'", "9e999", "-9e999", "-1.0", "x'00ff'", "1e9"],
    "rater": ["'one'", "-1", "x'00'", "1.5"],
    "position": ["'first'", "-3", "x'01'"],
    "item": ["x'ff'", "''||char(10)||'x'", "printf('%.900000c', 'x')"],
    "kind": ["'other'", "7"],
    "setting": ["'no such'", "x'00'", "char(27)||'[2J'"],
    "task": ["'Other'", "3"],
    "choice": ["'mine'", "x'00'", "0"],
}


@pytest.mark.parametrize(("column", "value"), [(column, value) for column, values in WRONG.items() for value in values])
def test_a_vote_of_the_wrong_kind_names_file_and_vote(study, column, value):
    path, pairs = study
    change(
        path,
        f"UPDATE votes SET {column} = {value} WHERE position = (SELECT MAX(position) FROM votes WHERE kind = 'pair')",
    )
    message = refused(tally_votes, path)
    assert message.startswith(f"{path}: vote ")
    assert column in message
    assert str(path) in refused(VoteStore, path, pairs)


@pytest.mark.parametrize("row", [
    "check_share = 'all'", "check_share = 9e999", "check_share = -1", "totals = 'no json'", "totals = '[1]'", "totals = '{\"CFG\": 3}'",
    "totals = '{\"CFG\": {\"Realism\": \"three\"}}'", "seed = 'x'", "digest = x'00'",
    "totals = printf('%.200000c', '[')",
])  # fmt: skip
def test_a_record_of_the_wrong_kind_names_the_file(study, row):
    path, _ = study
    change(path, f"UPDATE study SET {row}")
    message = refused(tally_votes, path)
    assert message.startswith(f"{path}: study: ")
    assert row.split(" ")[0] in message


def test_two_records_or_none_are_refused(study):
    path, _ = study
    change(path, "INSERT INTO study SELECT * FROM study")
    assert "2 rows" in refused(tally_votes, path)
    change(path, "DELETE FROM study")
    assert "is not in the study" in refused(tally_votes, path)


@pytest.mark.parametrize("statements", [
    ("DROP TABLE votes", f"CREATE VIEW votes AS {ENDLESS} SELECT " + ", ".join(f"{v} AS {c}" for v, c in zip(VALUES.split(", "), COLUMNS.split(", "), strict=True)) + " FROM n"),
    ("DROP TABLE study", f"CREATE VIEW study AS {ENDLESS} SELECT x AS digest FROM n"),
    (f"CREATE TRIGGER more AFTER INSERT ON votes BEGIN SELECT count(*) FROM ({ENDLESS} SELECT x FROM n); END",),
    ("DROP TABLE raters",),
    ("ALTER TABLE votes ADD COLUMN more TEXT",),
    ("ALTER TABLE votes ADD COLUMN more AS (hex(zeroblob(900000)))",),
    ("DROP TABLE withdrawn", "CREATE VIEW withdrawn AS SELECT 1"),
], ids=["endless votes", "endless study", "a trigger", "no raters", "a column", "a computed column", "a view"])  # fmt: skip
def test_another_schema_is_refused_before_it_is_read(study, statements):
    path, pairs = study
    change(path, *statements)
    for message in (refused(tally_votes, path), refused(VoteStore, path, pairs)):
        assert message.startswith(f"{path}: not a store of votes")


def test_tables_of_others_do_not_matter(study):
    path, _ = study
    change(path, "CREATE TABLE notes (text)", "CREATE VIEW counted AS SELECT COUNT(*) FROM votes", "ANALYZE")
    assert sum(line["votes"] for line in tally_votes(path)["raters"]) >= 2


def test_a_trigger_behind_a_thousand_tables_of_others_is_found(study):
    path, pairs = study
    change(path, *(f"CREATE TABLE dummy{number} (text)" for number in range(1000)))
    assert tally_votes(path)["raters"]
    change(path, "CREATE TRIGGER more AFTER INSERT ON Votes BEGIN SELECT 1; END")
    for message in (refused(tally_votes, path), refused(VoteStore, path, pairs)):
        assert "its trigger more is another" in message


def test_more_votes_than_a_study_can_have_are_refused(study, monkeypatch):
    path, _ = study
    change(path, f"INSERT INTO votes SELECT {VALUES} FROM ({ENDLESS} SELECT x + 100 AS x FROM n LIMIT 2000)")
    monkeypatch.setattr("artune.results.study.votes.MOST_VOTES", 1000)
    assert "more than 1,000 votes" in refused(tally_votes, path)


def test_a_huge_value_is_not_read(study):
    path, _ = study
    change(path, "UPDATE votes SET item = printf('%.50000000c', 'x') WHERE position = 1")
    assert "too big" in refused(tally_votes, path)


def test_a_session_with_other_items_is_refused_when_the_page_starts(study):
    path, pairs = study
    change(path, "UPDATE shown SET item = 'no such item' WHERE position = 5")
    assert "shown 6: 'no such item'" in refused(VoteStore, path, pairs)
    change(path, "UPDATE shown SET item = x'00' WHERE position = 5")
    refused(VoteStore, path, pairs)


def test_what_is_no_regular_file_is_refused(tmp_path, study):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        assert "not a regular file" in refused(tally_votes, path)


def test_a_file_of_pairs_from_elsewhere_is_read_in_bounds(tmp_path):
    path = tmp_path / "pairs.zip"
    for text in ("[" * 200_000, " " * 60_000_000 + "{}", "[1, 2]", '{"items": 1}'):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("pairs.json", text)
        assert refused(PairFile, path).startswith(f"{path}: ")
    os.mkfifo(tmp_path / "pipe.zip")
    assert "not a regular file" in refused(PairFile, tmp_path / "pipe.zip")
