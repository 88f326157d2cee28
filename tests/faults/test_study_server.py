"""Hostile connections to the study's server: answered with one line and closed, in bounded memory; others are served."""

import json
import socket
import time

import pytest
from fuzzing import cases
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from raw_http import (
    answers,
    chunk,
    closed_after,
    connect,
    head,
    memory,
    send_until_closed,
    sockets,
    statuses,
)
from study_pairs import make_study
from study_server import Client, Server

SECONDS, MOST, BODY = 1.5, 40, 1024
LARGE = 200  # MB


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that waits a second and a half where the command waits a minute, and holds 40 connections, not 200."""
    folder = tmp_path_factory.mktemp("study")
    make_study(folder / "pairs.zip", pairs=6)
    with Server(folder, seconds=SECONDS, connections=MOST) as running:
        Client(running.port).join()
        yield running
        running.process.terminate()
        assert running.process.stderr.read() == ""  # no traceback, and no line per attack


@pytest.fixture(autouse=True)
def _still_serving(server):
    """After each attack another rater votes at once."""
    yield
    began = time.monotonic()
    client = Client(server.port)
    client.join()
    assert client.vote(0)[0] == 200
    assert time.monotonic() - began < 5


def is_line(answer: bytes) -> bool:
    error = json.loads(answer.rpartition(b"\r\n\r\n")[2])
    return set(error) == {"error"} and "\n" not in error["error"]


@pytest.mark.parametrize("path", ["/api/raters", "/api/votes", "/nowhere"])
def test_chunked(server, path, fault):
    """A body of 200 MB arrives in chunks, without a rater's code"""
    before = memory(server.process.pid)
    with connect(server.port) as connection:
        connection.sendall(head("POST", path, "Transfer-Encoding: chunked"))
        sent = send_until_closed(connection, chunk(b" " * 2**20), LARGE)
        answer = answers(connection)
    assert statuses(answer) == [413]
    assert is_line(answer)
    assert sent < 40 * 2**20  # what the two kernels hold, not what was to be sent
    assert memory(server.process.pid) - before < 20
    fault.fault = f"A body of 200 MB arrives in chunks at {path}, without a rater's code"
    fault.done = f"`POST {path}` over a socket, with chunks of 1 MB and no length"
    fault.happened = "status 413 and a closed connection after the first part; the server's memory stays the same"
    fault.lost = "nothing; another rater votes at once"


LIES = {
    "says chunks and a length": ("POST", ["Transfer-Encoding: chunked", "Content-Length: 2"], chunk(b"{}"), [400]),
    "gives a negative length": ("POST", ["Content-Length: -5"], b"{}", [400]),
    "gives a length that is no number": ("POST", ["Content-Length: 0x10"], b"{}", [400]),
    "gives a length of 5,000 digits": ("POST", [f"Content-Length: {'9' * 5000}"], b"{}", [400, 413]),
    "gives a length of 1 GB": ("POST", ["Content-Length: 1073741824"], b"{" * 4096, [413]),
    "gives a length of 1 GB to a page": ("GET", ["Content-Length: 1073741824"], b"{" * 4096, [413]),
    "gives two lengths": ("POST", ["Content-Length: 2", "Content-Length: 3"], b"{}", [400]),
    "sends chunks of no number": ("POST", ["Transfer-Encoding: chunked"], b"zz\r\n{}\r\n", [400]),
    "sends chunks of 2^70 bytes": ("POST", ["Transfer-Encoding: chunked"], b"4" + b"0" * 17 + b"\r\n{}", [408]),
    "sends another coding": ("POST", ["Transfer-Encoding: gzip, chunked"], chunk(b"{}"), [400, 501]),
    "sends 1,025 bytes in chunks of one": ("POST", ["Transfer-Encoding: chunked"], chunk(b" ") * (BODY + 1), [413]),
    "pads its chunks with 1 MB of extensions": (
        "POST", ["Transfer-Encoding: chunked"], (b"1;" + b"x" * 1000 + b"\r\n \r\n") * 1000, [413],
    ),
    "ends its chunks with 1 MB of trailers": (
        "POST", ["Transfer-Encoding: chunked"], b"0\r\n" + (b"a: " + b"x" * 1000 + b"\r\n") * 1000, [400, 413],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", LIES)
def test_lies(server, what, fault):
    """The headers of a request say something else than what arrives"""
    method, headers, body, expected = LIES[what]
    with connect(server.port) as connection:
        connection.sendall(head(method, "/api/raters" if method == "POST" else "/", *headers))
        send_until_closed(connection, body, 1)
        answer = answers(connection)
    assert statuses(answer)[0] in expected
    assert len(statuses(answer)) == 1
    assert is_line(answer)
    fault.fault = f"A request {what}"
    fault.done = "sent over a socket, without a rater's code"
    fault.happened = f"status {statuses(answer)[0]} with one line, and a closed connection"
    fault.lost = "nothing; another rater votes at once"


FLOODS = {
    "10,000 lines": b"".join(b"X-%d: y\r\n" % number for number in range(10_000)),
    "1,000 short lines": b"a: b\r\n" * 1000,
    "a line of 100 MB": b"X-Long: " + b"y" * 100 * 2**20,
    "an address of 1 MB": None,
    "lines without end": b"X: y\r\n" * 2**22,
}


@pytest.mark.parametrize("what", FLOODS)
def test_headers(server, what, fault):
    """The head of a request is very long"""
    before = memory(server.process.pid)
    with connect(server.port) as connection:
        begin = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        flood = FLOODS[what] or b"GET /" + b"x" * 2**20 + b" HTTP/1.1\r\n"
        send_until_closed(connection, (begin if FLOODS[what] else b"") + flood + b"\r\n", 1)
        answer = answers(connection)
    assert statuses(answer) == [431]
    assert is_line(answer)
    assert memory(server.process.pid) - before < 20
    fault.fault = f"The head of a request is {what}"
    fault.done = "sent over a socket"
    fault.happened = "status 431 and a closed connection; the server's memory stays the same"
    fault.lost = "nothing; another rater votes at once"


PARTS = {
    "sends nothing": b"",
    "sends half a line": b"GET / HT",
    "sends a head without its end": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n",
    "promises a body and sends none": head("POST", "/api/raters", "Content-Length: 100"),
    "sends a chunk and no end": head("POST", "/api/raters", "Transfer-Encoding: chunked") + chunk(b"{"),
}


@pytest.mark.parametrize("what", PARTS)
def test_silence(server, what, fault):
    """A connection stays open and silent"""
    with connect(server.port) as connection:
        connection.sendall(PARTS[what])
        assert SECONDS - 0.5 < closed_after(connection, 20) < SECONDS + 5
    fault.fault = f"A client {what}, and stays"
    fault.done = f"a minute of silence, shortened to {SECONDS} s"
    fault.happened = "the server closes the connection after the minute"
    fault.lost = "nothing; another rater votes at once"


def test_slow_sender(server, fault):
    """A client sends its request byte by byte, to hold the connection"""
    request = head("GET", "/") + b"x"
    with connect(server.port) as connection:
        began, sent = time.monotonic(), 0
        try:
            for byte in request:
                connection.sendall(bytes([byte]))
                sent += 1
                time.sleep(0.15)
        except OSError:
            pass
        assert sent < len(request)
        assert time.monotonic() - began < SECONDS + 5
    fault.done = f"a byte every 0.15 s; the minute is shortened to {SECONDS} s"
    fault.happened = "the whole request has a minute: the connection is closed in the middle of it"
    fault.lost = "nothing; another rater votes at once"


def test_slow_reader(server, fault):
    """A client asks for image after image and reads no answer"""
    client = Client(server.port)
    client.join()
    request = head("GET", f"/image/{client.code}/0/left")
    with connect(server.port) as connection:
        connection.settimeout(SECONDS + 10)
        began, before = time.monotonic(), memory(server.process.pid)
        sent = send_until_closed(connection, request * 20, 100_000)
        assert sent < 100_000 * 20 * len(request)
        assert time.monotonic() - began < SECONDS + 10
    assert memory(server.process.pid) - before < 20
    fault.done = "requests for an image one after the other over one socket, never reading from it"
    fault.happened = "the connection is closed after a minute (shortened); the server's memory stays the same"
    fault.lost = "nothing; another rater votes at once"


def test_many_connections(server, fault):
    """Hundreds of connections are opened and left silent"""
    opened = []
    try:
        for _ in range(400):
            opened.append(connect(server.port))
        client = Client(server.port)
        client.join()
        assert client.vote(0)[0] == 200
        assert sockets(server.process.pid) <= MOST + 10
    finally:
        for connection in opened:
            connection.close()
    fault.done = f"400 connections to a server that holds {MOST} (200 without this option of the test)"
    fault.happened = (
        "the connection that has waited longest is closed for each new one; a rater joins and votes meanwhile"
    )
    fault.lost = "nothing"


def test_bytes(server, request, fault):
    """Bytes that are nearly a request arrive: cut, altered, doubled, or two requests run into each other"""
    whole = [
        head("GET", "/"),
        head("POST", "/api/undo", "Content-Length: 3") + b"[1]",
        head("POST", "/api/votes", "Transfer-Encoding: chunked") + chunk(b'{"position": 0}') + b"0\r\n\r\n",
        head("POST", "/api/more", "Content-Length: 2", "Expect: 100-continue") + b"{}",
    ]
    hostile = [
        b"",
        b"\r\n",
        b"\x00",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 7\r\n",
        b"ffffffff\r\n",
        b" ",
    ]
    pieces = st.tuples(st.sampled_from(whole), st.integers(0, 250), st.integers(0, 250), st.sampled_from(hostile))
    changed = pieces.map(lambda piece: piece[0][: piece[1]] + piece[3] + piece[0][min(piece[1:3]) :])
    seen = set()

    @settings(max_examples=cases(request), deadline=None, database=None, derandomize=True,
              phases=[Phase.generate], suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.lists(st.one_of(changed, st.sampled_from(whole), st.binary(max_size=200)), min_size=1, max_size=3))
    def run(parts):
        with connect(server.port) as connection:
            try:
                connection.sendall(b"".join(parts))
                connection.shutdown(socket.SHUT_WR)
            except OSError:  # refused already
                pass
            seen.update(statuses(answers(connection)))

    run()
    assert seen <= {100, 200, 400, 401, 404, 405, 408, 413, 415, 422, 431}, seen
    assert 400 in seen
    fault.done = f"{cases(request):,} cases drawn by Hypothesis, sent over sockets without a rater's code"
    fault.happened = "an answer with a 4xx status or none, and a closed connection; no traceback"
    fault.lost = "nothing; another rater votes at once"
