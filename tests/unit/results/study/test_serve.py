"""The study's server as a process: many votes, kills, and requests that must be refused."""

import http.client
import io
import json
import signal
import sqlite3
import threading
import time
import zipfile
from collections import Counter
from contextlib import closing
from urllib.parse import quote

import pytest
from PIL import Image
from study_pairs import COLOURS, make_study
from study_server import Client, Server

from artune.results.study.store import ALPHABET


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("study")
    make_study(path / "pairs.zip", pairs=6)
    return path


@pytest.fixture(scope="module")
def server(folder):
    with Server(folder) as running:
        yield running


@pytest.fixture
def client(server):
    client = Client(server.port)
    client.join()
    return client


def votes(folder, what="*"):
    with closing(sqlite3.connect(folder / "votes.sqlite")) as database:
        return database.execute(f"SELECT {what} FROM votes").fetchall()


def rate(port: int, number: int, acknowledged: list) -> None:
    """Cast ``number`` votes as a new rater, every third one twice, as a double click would."""
    client = Client(port)
    state = client.join()
    for count in range(number):
        position = state["waiting"][0]["position"]
        status, state = client.vote(position, ("left", "right", "tie")[count % 3], 0.5)
        assert status == 200, state
        acknowledged.append((client.code, position))
        if count % 3 == 0:
            assert client.vote(position, "tie")[1] == state


def test_1000_votes_from_4_clients_at_once_are_all_stored_and_none_twice(tmp_path):
    make_study(tmp_path / "pairs.zip", pairs=125, checks=0, session=250)
    acknowledged: list = []
    with Server(tmp_path) as running:
        clients = [threading.Thread(target=rate, args=(running.port, 250, acknowledged)) for _ in range(4)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
    assert len(acknowledged) == len(set(acknowledged)) == 1000
    stored = votes(tmp_path, "rater, item, pressed")
    assert len(stored) == len({vote[:2] for vote in stored}) == 1000
    assert Counter(rater for rater, _, _ in stored) == dict.fromkeys(range(4), 250)
    assert Counter(item for _, item, _ in stored).most_common(1)[0][1] == 4
    # The second vote of a double click is a tie; it must not have replaced the first vote.
    assert Counter(pressed for _, _, pressed in stored) == {"left": 336, "right": 332, "tie": 332}


def test_votes_survive_a_server_that_is_killed_in_the_middle_and_raters_go_on(tmp_path):
    make_study(tmp_path / "pairs.zip", pairs=100, checks=0, session=200)
    acknowledged: list = []
    running = Server(tmp_path)

    def rate_until_dead():
        try:
            rate(running.port, 200, acknowledged)
        except (OSError, http.client.HTTPException):
            return

    clients = [threading.Thread(target=rate_until_dead) for _ in range(2)]
    for thread in clients:
        thread.start()
    while len(acknowledged) < 60:
        time.sleep(0.01)
    running.stop(signal.SIGKILL)
    for thread in clients:
        thread.join()
    code = acknowledged[0][0]
    own = sum(name == code for name, _ in acknowledged)
    with Server(tmp_path, running.port) as again:
        assert f"{len(votes(tmp_path))} votes so far" in again.line
        state = Client(again.port, code).ask("/api/session")[1]
        assert state["done"] in (own, own + 1)  # one may be stored although its answer was cut off
        assert Client(again.port, code).vote(state["waiting"][0]["position"])[0] == 200
    assert len(votes(tmp_path)) >= len(acknowledged) + 1
    assert len(acknowledged) < 400


def test_a_vote_keeps_the_sides_the_time_and_the_seed(folder, client):
    position = client.ask("/api/session")[1]["waiting"][0]["position"]
    client.vote(position, "right", 2.5)
    row = votes(folder, "rater, position, left_side, right_side, pressed, choice, seconds, seed, cast_at")[-1]
    assert row[1] == position
    assert row[4:8] == ("right", row[3], 2.5, 0)
    assert {row[2], row[3]} in ({"ours", "pretrained"}, {"real", "scrambled"})
    assert row[8].endswith("+00:00")


def test_what_the_browser_is_sent_tells_nothing_of_the_sides(folder, client):
    state = client.ask("/api/session")[1]
    assert set(state) == {"done", "total", "waiting", "last", "more"}
    assert {key for item in state["waiting"] for key in item} == {"position", "task", "references"}
    seen = Counter()
    for position in range(state["total"]):
        sides = []
        for place in ("left", "right"):
            status, headers, png = client.raw("GET", f"/image/{client.code}/{position}/{place}")
            assert status == 200
            assert set(headers) - {"date"} == {
                "content-length", "content-type", "cache-control", "content-security-policy", "x-content-type-options",
                "referrer-policy", "cross-origin-resource-policy",
            }  # fmt: skip
            image = Image.open(io.BytesIO(png))
            assert image.info == {}
            sides.append(next(name for name, colour in COLOURS.items() if colour == image.getpixel((5, 5))))
        client.vote(position, "left")
        seen[sides[0]] += 1
        assert votes(folder, "left_side, right_side")[-1] == tuple(sides)
    assert seen["ours"] > 0 < seen["pretrained"]


def test_the_file_of_pairs_has_names_that_tell_nothing(folder):
    names = zipfile.ZipFile(folder / "pairs.zip").namelist()
    assert all(name == "pairs.json" or len(name) == len("images/.png") + 24 for name in names)
    assert names[1:] == sorted(names[1:])


NASTY = [
    "", "x", "a" * 19, "a" * 21, "a" * 5000, "' OR '1'='1", "'; DROP TABLE votes; --", "../../etc/passwd", "%00", "\x00",
    "<script>alert(1)</script>", "${jndi:ldap://x}", "a" * 19 + "\n", "ａ" * 20, "null", "0", "-1", "[]", "Bearer " * 3,
    "a" * 10 + "%" + "a" * 9, "abcde-fghjk-mnpqr-stuvw",
]  # fmt: skip


@pytest.mark.parametrize("code", NASTY)
def test_a_code_that_belongs_to_nobody_opens_nothing(server, folder, code):
    before = len(votes(folder))
    client = Client(server.port)
    header = {"Authorization": f"Bearer {code}".encode("utf-8", "ignore").replace(b"\n", b"").replace(b"\x00", b"")}
    for method, path, body in (("GET", "/api/session", None), ("POST", "/api/votes", b'{"position":0}')):
        status, _, answer = client.raw(method, path, body, header | {"Content-Type": "application/json"})
        assert status == 401, answer
        assert json.loads(answer) == {"error": "this code belongs to nobody"}
    status, _, answer = client.raw("GET", f"/image/{quote(code, safe='')}/0/left")
    assert status in (401, 404)
    assert b"PNG" not in answer
    assert len(votes(folder)) == before


@pytest.mark.parametrize(
    "body",
    [
        "", "{", "[]", "null", "1", '"x"', "{}",
        {"position": -1}, {"position": 10**7}, {"position": "0"}, {"position": 0.5}, {"position": True},
        {"position": None}, {"position": [0]}, {"pressed": "ours"}, {"pressed": "LEFT"}, {"pressed": 1},
        {"pressed": None}, {"seconds": -1}, {"seconds": 1e9}, {"seconds": "1"}, {"seconds": None},
        {"choice": "ours"}, {"rater": 0}, {"setting": "CFG'; DROP TABLE votes; --"},
        '{"position": 0, "pressed": "left", "seconds": NaN}', '{"position": 0, "pressed": "left", "seconds": Infinity}',
        '{"position": 0, "pressed": "left", "seconds": 1' + "0" * 400 + "}", "[" * 500, "\x00", "ÿþ",
    ],
    ids=str,
)  # fmt: skip
def test_a_vote_that_our_page_does_not_send_is_refused_and_not_stored(client, folder, body):
    before = len(votes(folder))
    if isinstance(body, dict):
        body = json.dumps({"position": 0, "pressed": "left", "seconds": 1.0} | body)
    headers = {"Authorization": f"Bearer {client.code}", "Content-Type": "application/json"}
    status, _, answer = client.raw("POST", "/api/votes", body.encode("latin-1"), headers)
    assert status in (400, 422), (status, answer)
    assert set(json.loads(answer)) == {"error"}
    assert len(votes(folder)) == before
    assert client.vote(0)[0] == 200  # the session still works


def test_a_pair_that_was_not_shown_yet_takes_no_vote(client):
    status, answer = client.vote(1)
    assert (status, answer["error"]) == (409, "that pair has not been shown yet")
    assert client.vote(10**6)[0] == 409
    assert client.raw("GET", f"/image/{client.code}/999/left")[0] == 409
    for path in ("0/ours", "0/..%2f..%2fpairs.json", "0/9", "x/left", f"{10**30}/left", "-1/left"):
        assert client.raw("GET", f"/image/{client.code}/{path}")[0] in (404, 409, 422)


def test_one_rater_cannot_touch_the_votes_of_another(client, server):
    other = Client(server.port)
    other.join()
    client.vote(0)
    assert other.ask("/api/undo", {"position": 0})[1]["done"] == 0
    assert client.ask("/api/session")[1]["done"] == 1


def test_other_sites_and_other_names_are_refused(server):
    client = Client(server.port)
    assert client.raw("POST", "/api/raters", b"{}", {"Content-Type": "text/plain"})[0] == 415
    assert client.raw("POST", "/api/raters", b"x" * 2000, {"Content-Type": "application/json"})[0] == 413
    assert client.raw("GET", "/", headers={"Host": "evil.example"})[0] == 400
    assert client.raw("DELETE", "/api/votes", b"")[0] in (405, 415)
    assert client.raw("GET", "/../pairs.zip")[0] == 404
    assert client.raw("GET", "/docs")[0] == 404


def test_the_page_loads_nothing_from_elsewhere(server):
    for path in ("/", "/page.css", "/page.js", "/icon.svg"):
        status, headers, body = Client(server.port).raw("GET", path)
        assert status == 200
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert b"//" not in body.replace(b"http://www.w3.org/2000/svg", b"").replace(b"// ", b"")
        assert b"style=" not in body
        assert b"onclick" not in body


def test_codes_do_not_repeat_and_are_not_kept(folder, server):
    codes = set()
    for _ in range(20):
        client = Client(server.port)
        client.join()
        codes.add(client.code)
    assert len(codes) == 20
    assert {letter for code in codes for letter in code} <= set(ALPHABET)
    content = (folder / "votes.sqlite").read_bytes()
    assert not [code for code in codes if code.encode() in content]
    spelled = client.code.upper()
    spelled = "-".join(spelled[at : at + 5] for at in range(0, 20, 5))
    assert Client(server.port, spelled).ask("/api/session")[0] == 200
