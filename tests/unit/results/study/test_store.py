"""Sessions and the store of votes."""

import sqlite3
from collections import Counter
from contextlib import closing

import pytest
from study_pairs import make_study

from artune.config.tables import TASKS
from artune.errors import ArtuneError
from artune.results.study.pairs import PairFile
from artune.results.study.serve import keep_pairs
from artune.results.study.sessions import left_side, next_session
from artune.results.study.store import RefusedError, VoteStore, connect_votes


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "pairs.zip", pairs=10, checks=6, session=12, shared=2, check_every=4)


@pytest.fixture
def store(tmp_path, study):
    store = VoteStore(tmp_path / "votes.sqlite", study)
    yield store
    store.close()


def finish(store, rater, pressed="left"):
    session = store.session(rater)
    while session.waiting:
        session = store.vote(rater, session.waiting[0].position, pressed, 1.0)
    return session


def test_a_session_has_its_length_every_shared_pair_and_a_check_to_a_block(study):
    order = next_session(study, 0, set(), {}, {})
    pairs = [item for item in order if item.kind == "pair"]
    assert len(pairs) == 12
    assert {item.id for item in study.items if item.shared} <= {item.id for item in pairs}
    assert 2 <= len(order) - len(pairs) <= 4
    assert len({item.id for item in order}) == len(order)


def test_the_tasks_come_one_after_the_other_and_raters_begin_with_different_ones(study):
    for rater, first in ((0, TASKS[0]), (1, TASKS[1])):
        tasks = [item.task for item in next_session(study, rater, set(), {}, {})]
        assert tasks == sorted(tasks, key=lambda task: task != first)


def test_sessions_are_seeded_and_differ_from_rater_to_rater(study):
    first, again, other = (next_session(study, rater, set(), {}, {}) for rater in (0, 0, 2))
    assert first == again
    assert first != other


def test_pairs_with_the_fewest_votes_come_first_then_those_given_to_fewest(study):
    plain = [item.id for item in study.of_kind("pair") if not item.shared]
    votes = dict.fromkeys(plain[:4], 1)
    given = votes | dict.fromkeys(plain[4:10], 1)  # shown to a rater who never came back
    chosen = {item.id for item in next_session(study, 3, set(), votes, given) if item.kind == "pair"}
    assert {item.id for item in study.items if item.shared} | set(plain[10:]) <= chosen
    assert len(chosen & set(plain[4:10])) == 2
    assert not chosen & set(plain[:4])


def test_sides_are_mirrored_from_rater_to_rater(study):
    for item in study.items:
        assert {left_side(item, 0), left_side(item, 1)} == set(item.images)
        assert left_side(item, 2) == left_side(item, 0) == item.left


def test_every_pair_is_rated_once_by_one_rater_and_then_nothing_is_left(store, study):
    rater = store.rater(store.register())
    while True:
        session = finish(store, rater)
        if not session.more:
            break
        assert store.go_on(rater).total > session.total
    assert store.count() == 20
    assert store.go_on(rater) == session
    choices = Counter(
        choice for (choice,) in store.database.execute("SELECT choice FROM votes WHERE kind = 'pair'").fetchall()
    )
    assert choices == {"ours": 10, "pretrained": 10}  # always pressing left favours neither side


def test_going_on_before_the_end_gives_nothing(store):
    rater = store.rater(store.register())
    assert store.go_on(rater) == store.session(rater)


def test_the_first_vote_counts_and_a_repetition_changes_nothing(store):
    rater = store.rater(store.register())
    after = store.vote(rater, 0, "left", 1.0)
    assert store.vote(rater, 0, "right", 9.0) == after
    assert store.database.execute("SELECT pressed, seconds FROM votes").fetchall() == [("left", 1.0)]


def test_a_vote_taken_back_is_kept_apart_and_cast_anew(store):
    rater = store.rater(store.register())
    for position, pressed in enumerate(("left", "right", "tie")):
        store.vote(rater, position, pressed, 1.0)
    assert store.take_back(rater, 0).done == 3  # only the last vote can be taken back
    session = store.take_back(rater, 2)
    assert (session.done, session.last, session.waiting[0].position) == (2, 1, 2)
    assert store.take_back(rater, 2) == session  # a double click takes back nothing more
    store.vote(rater, 2, "left", 1.0)
    assert store.database.execute("SELECT pressed FROM votes ORDER BY position").fetchall() == [
        ("left",),
        ("right",),
        ("left",),
    ]
    # Times are in milliseconds, and both may fall into the same one.
    withdrawn = store.database.execute("SELECT position, pressed, withdrawn_at >= cast_at FROM withdrawn").fetchall()
    assert withdrawn == [(2, "tie", 1)]


def test_a_store_that_is_opened_again_goes_on(store, tmp_path, study):
    code = store.register()
    store.vote(store.rater(code), 0, "left", 1.0)
    with closing(VoteStore(tmp_path / "votes.sqlite", study).database):
        second = VoteStore(tmp_path / "votes.sqlite", study)
        assert second.session(second.rater(code)).done == 1
        second.vote(second.rater(code), 1, "tie", 1.0)  # a second connection, while the first is open
        assert store.session(0).done == 2
        second.close()


def test_votes_on_other_pairs_are_not_mixed(store, tmp_path):
    other = make_study(tmp_path / "other.zip", pairs=3)
    with pytest.raises(ArtuneError, match="holds votes on other pairs; move it away"):
        VoteStore(tmp_path / "votes.sqlite", other)


def test_pairs_drawn_anew_take_none_from_the_votes(tmp_path, study, capsys):
    pairs, votes = tmp_path / "pairs.zip", tmp_path / "votes.sqlite"
    assert keep_pairs(pairs, votes).digest == study.digest()
    make_study(pairs, pairs=3)  # the pipeline ran again
    assert keep_pairs(pairs, votes).digest == study.digest()
    assert "has other pairs by now" in capsys.readouterr().err
    pairs.unlink()
    assert keep_pairs(pairs, votes).digest == study.digest()


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path, study):
    text, foreign = tmp_path / "text.sqlite", tmp_path / "foreign.sqlite"
    text.write_text("not a database, but longer than a hundred bytes " * 5)
    with closing(sqlite3.connect(foreign)) as database:
        database.execute("CREATE TABLE runs (name TEXT)")
    for path in (text, foreign):
        before = path.read_bytes()
        with pytest.raises(ArtuneError, match=f"{path.name}: not a store of votes"):
            VoteStore(path, study)
        assert path.read_bytes() == before
    with pytest.raises(ArtuneError, match="cannot be opened"):
        connect_votes(tmp_path / "missing.sqlite")


def test_a_full_disk_refuses_a_rater_whole_and_later_ones_are_stored(store):
    pages = store.database.execute("PRAGMA page_count").fetchone()[0]
    store.database.execute(f"PRAGMA max_page_count = {pages + 1}")  # SQLite then reports a full disk
    with pytest.raises(sqlite3.Error, match="full"):
        [store.register() for _ in range(100)]
    counts = "SELECT (SELECT COUNT(*) FROM raters), (SELECT COUNT(DISTINCT rater) FROM shown)"
    raters, given = store.database.execute(counts).fetchone()
    assert raters == given
    store.database.execute("PRAGMA max_page_count = 1000000")
    rater = store.rater(store.register())
    assert rater == raters
    assert store.vote(rater, 0, "right", 1.0).done == 1


def test_positions_outside_a_session_are_refused(store):
    rater = store.rater(store.register())
    with pytest.raises(RefusedError, match="not been shown yet"):
        store.vote(rater, 1, "left", 1.0)
    with pytest.raises(RefusedError, match="no such pair"):
        store.vote(rater, 999, "left", 1.0)


def test_a_damaged_file_of_pairs_is_one_line(tmp_path, study):
    path = tmp_path / "pairs.zip"
    data = path.read_bytes()
    for name, content, message in (
        ("short.zip", data[:500], "not a file of pairs"),
        ("text.zip", b"nothing", "not a file of pairs"),
        ("nowhere.zip", None, "snakemake -c2"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ArtuneError, match=message):
            PairFile(tmp_path / name)
    at = data.index(b"IDAT", 2000)
    (tmp_path / "bit.zip").write_bytes(data[: at + 6] + b"\xff\xff" + data[at + 8 :])
    file = PairFile(tmp_path / "bit.zip")
    names = {name for item in file.pairs.items for name in (*item.images.values(), *item.references)}
    with pytest.raises(ArtuneError, match=r"image \w+ is damaged"):
        [file.png(name) for name in names]
