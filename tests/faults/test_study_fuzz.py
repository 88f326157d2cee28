"""Hostile requests to the study's page: refused with a one-line error, nothing stored, no other file read."""

import contextlib
import json
import shutil
import sqlite3
import time
from contextlib import closing
from urllib.parse import quote

import pytest
from fuzzing import cases, row, trees
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from study_pairs import make_study

from artune.errors import ArtuneError
from artune.results.study.pairs import PairFile
from artune.results.study.serve import build_app
from artune.results.study.store import ALPHABET, VoteStore
from artune.results.study.tally import describe_tally, tally_votes

HOSTILE = ("", "..", "../../etc/passwd", "%00", "' OR 1=1 --", "__proto__", "Bearer ", "\u202e", "0" * 400)


@pytest.fixture
def page(tmp_path):
    """The application on a small study, its store, and the code of a rater who has cast one vote."""
    make_study(tmp_path / "pairs.zip", pairs=6)
    study = PairFile(tmp_path / "pairs.zip")
    store = VoteStore(tmp_path / "votes.sqlite", study.pairs)
    with TestClient(build_app(study, store), base_url="http://127.0.0.1") as client:
        code = store.register()
        store.vote(store.rater(code), 0, "left", 1.0)
        yield client, store, code
    store.close()


def draw(request, strategy, case):
    @settings(max_examples=cases(request), deadline=None, database=None, derandomize=True,
              phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck), print_blob=False)  # fmt: skip
    @given(strategy)
    def run(value):
        case(value)

    run()


def refused(answer):
    """Check that the application refused a request with a one-line error; the client would raise its exceptions."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
    assert "\n" not in answer.json()["error"]
    return True


def codes(real):
    """A strategy: arbitrary strings, hostile ones, and codes that are close to the code ``real`` of a rater."""
    near = st.tuples(st.integers(0, len(real) - 1), st.sampled_from(ALPHABET)).map(
        lambda change: real[: change[0]] + change[1] + real[change[0] + 1 :]
    )
    cut = st.integers(0, len(real) - 1).map(lambda length: real[:length])
    text = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=64)
    return st.one_of(
        near, cut, text, st.sampled_from([one.encode("latin-1", "ignore").decode("latin-1") for one in HOSTILE])
    ).filter(lambda code: code.removeprefix("Bearer ").strip() != real)


def test_tokens(request, page, fault):
    """A rater's token is guessed, cut, altered or missing"""
    client, store, real = page

    def case(code):
        headers = {"Authorization": f"Bearer {code}".encode("latin-1")}
        assert refused(client.get("/api/session", headers=headers))
        assert refused(client.post("/api/more", headers=headers, json={}))
        assert refused(client.get(f"/image/{quote(code, safe='') or '-'}/0/left"))

    draw(request, codes(real), case)
    assert store.count() == 1
    row(fault, request, "sent to ask for a session, for more pairs and for an image", "refused with a 4xx status")


def test_votes(request, page, fault):
    """A vote is malformed: another form, another position, another key, infinite seconds, bytes"""
    client, store, real = page
    headers = {"Authorization": f"Bearer {real}", "Content-Type": "application/json"}
    fields = {
        "position": st.one_of(trees, st.integers(-3, 10**7)),
        "pressed": st.one_of(trees, st.sampled_from(["left", "right", "tie", "ours", *HOSTILE])),
        "seconds": st.one_of(trees, st.floats(), st.just(1.0)),
    }
    bodies = st.one_of(
        st.fixed_dictionaries({}, optional=fields | {"rater": trees}).map(json.dumps),
        trees.map(json.dumps),
        st.binary(max_size=64),
        st.integers(0, 500).map(lambda depth: "[" * depth),
    )

    def case(body):
        before = store.count()
        data = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
        answer = client.post("/api/votes", headers=headers, content=data)
        if answer.status_code == 200:  # a vote that a rater might have sent
            assert set(json.loads(data)) == {"position", "pressed", "seconds"}
            assert store.count() in (before, before + 1)
        else:
            assert refused(answer)
            assert store.count() == before

    draw(request, bodies, case)
    row(
        fault,
        request,
        "sent as votes with a valid token",
        "refused with a 4xx status unless it was a complete vote",
    )


def test_addresses_of_images(request, page, fault):
    """An image is requested by an address that leads elsewhere"""
    client, _, real = page
    home = client.get("/").content  # the page to which "../.." leads, in a browser too
    places = st.one_of(
        st.text(max_size=20), st.sampled_from(HOSTILE), st.sampled_from(["ours", "pretrained", "-1", "99"])
    )
    positions = st.one_of(st.integers(-5, 10**7), st.text(max_size=8), st.sampled_from(HOSTILE))

    def case(value):
        position, place = value
        known = place in ("left", "right", *map(str, range(5)))
        address = "/".join(
            quote(str(part).encode("utf-8", "surrogatepass"), safe="") for part in (real, position, place)
        )
        answer = client.get(f"/image/{address}")
        assert (known and answer.headers["content-type"] == "image/png") or answer.content == home or refused(answer)

    draw(request, st.tuples(positions, places), case)
    row(fault, request, "sent as position and place of an image, with a valid token", "refused with a 4xx status")


COLUMNS = {
    "votes": [
        "rater",
        "position",
        "item",
        "kind",
        "setting",
        "task",
        "left_side",
        "pressed",
        "choice",
        "seconds",
        "seed",
    ],
    "shown": ["rater", "position", "item", "left_side"],
    "study": ["digest", "seed", "check_share", "totals"],
    "raters": ["code_sha256", "joined_at"],
}
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT"
STATEMENTS = (
    "DROP TABLE votes", "DROP TABLE raters", f"CREATE VIEW more AS {ENDLESS} x FROM n", "DELETE FROM study", "PRAGMA user_version = 2",
    f"CREATE TRIGGER t AFTER INSERT ON votes BEGIN {ENDLESS} count(*) FROM n; END", "INSERT INTO study SELECT * FROM study",
    "ALTER TABLE votes RENAME COLUMN seconds TO minutes",
)  # fmt: skip


def test_stores_of_votes_from_elsewhere(request, page, tmp_path, fault):
    """A store of votes holds other types, infinite seconds, views, triggers or damaged bytes"""
    _, store, code = page
    rater, pairs = store.rater(code), store.pairs
    for position in range(1, 5):
        store.vote(rater, position, "right", 2.0)
    describe_tally(tally_votes(tmp_path / "votes.sqlite"))  # imports what a tally needs
    whole, copy = tmp_path / "votes.sqlite", tmp_path / "copy.sqlite"
    size = whole.stat().st_size
    values = st.one_of(
        st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=20), st.binary(max_size=20),
        st.sampled_from(["ours", "pair", "CFG", "Realism", "[" * 10_000, "x" * 2_000_000, float("inf"), -1, "{}", "1"]),
    )  # fmt: skip
    cells = st.sampled_from([(table, column) for table, columns in COLUMNS.items() for column in columns])
    changes = st.one_of(
        st.tuples(cells, values, st.booleans()),
        st.sampled_from(STATEMENTS),
        st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, 255)), min_size=1, max_size=30),
    )

    def opened():
        VoteStore(copy, pairs).close()

    def case(change):
        shutil.copyfile(whole, copy)
        if isinstance(change, list):
            data = bytearray(copy.read_bytes())
            for at, byte in change:
                data[at] = byte
            copy.write_bytes(data)
        else:
            with (
                closing(sqlite3.connect(copy, isolation_level=None)) as database,
                contextlib.suppress(sqlite3.Error, ValueError),
            ):
                if isinstance(change, str):
                    database.execute(change)
                else:
                    (table, column), value, every = change
                    where = "" if every else f" WHERE rowid = (SELECT MAX(rowid) FROM {table})"
                    database.execute(f"UPDATE {table} SET {column} = ?{where}", (value,))
        for call in (lambda: describe_tally(tally_votes(copy)), opened):
            began = time.process_time()
            try:
                call()
            except ArtuneError as error:
                text = str(error)
                assert "\n" not in text
                assert len(text) < 1000
                assert str(copy) in text
            assert time.process_time() - began < 2

    draw(request, changes, case)
    row(fault, request, "a value, the schema or bytes of a store altered, then `study_tally` and the page",
        "refused in less than two seconds with a line that names the file, or read")  # fmt: skip
