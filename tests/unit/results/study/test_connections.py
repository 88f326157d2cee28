"""Connections to the study's server that are not as the page's own, and those that must go on working."""

import json
import socket

import pytest
from raw_http import answers, chunk, connect, head, statuses
from study_pairs import make_study
from study_server import Client, Server

from artune.results.study.connections import LIMITS


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    make_study(folder / "pairs.zip", pairs=6)
    with Server(folder) as running:
        yield running


def exchange(server, data):
    """What the server answers until it closes the connection."""
    with connect(server.port) as connection:
        connection.sendall(data)
        return answers(connection)


def test_a_minute_and_two_hundred_connections():
    assert (LIMITS.seconds, LIMITS.connections, LIMITS.body) == (60, 200, 1024)


def test_one_connection_serves_request_after_request(server):
    client = Client(server.port)
    client.join()
    first = client.connection.sock
    for position in range(4):
        assert client.ask("/api/session")[0] == 200
        assert client.raw("GET", f"/image/{client.code}/{position}/left")[0] == 200
        assert client.vote(position)[0] == 200
        assert client.connection.sock is first


def test_requests_that_follow_at_once_are_answered_in_order(server):
    requests = head("GET", "/") + head("GET", "/nowhere") + head("POST", "/api/raters", "Content-Length: 2") + b"{}"
    answer = exchange(server, requests + head("GET", "/page.css", "Connection: close"))
    assert statuses(answer) == [200, 404, 200, 200]


def test_many_requests_that_follow_at_once_are_bounded_together(server):
    answer = exchange(server, head("GET", "/") * 5000)  # half a megabyte before the first answer
    assert len(statuses(answer)) < 500
    assert Client(server.port).raw("GET", "/")[0] == 200


@pytest.mark.parametrize("body", [b"{}", b" " * (LIMITS.body - 2) + b"{}"])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_within_the_limit_is_taken_whatever_its_form(server, body, chunked):
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    half = len(body) // 2
    sent = chunk(body[:half]) + chunk(body[half:]) + b"0\r\n\r\n" if chunked else body
    answer = exchange(server, head("POST", "/api/raters", length, "Connection: close") + sent)
    assert statuses(answer) == [200]
    assert "code" in json.loads(answer.rpartition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("length", ["Content-Length: 1025", "Transfer-Encoding: chunked"])
def test_a_rater_with_a_code_has_the_same_limit(server, length):
    client = Client(server.port)
    client.join()
    sent = b" " * 1025 if "Length" in length else chunk(b" " * 1025) + b"0\r\n\r\n"
    request = head("POST", "/api/votes", f"Authorization: Bearer {client.code}", length)
    answer = exchange(server, request + sent)
    assert statuses(answer) == [413]
    assert b"connection: close" in answer.lower()
    assert b"content-security-policy" in answer.lower()


def test_what_follows_a_body_that_is_longer_than_its_length_is_no_request(server):
    answer = exchange(server, head("POST", "/api/raters", "Content-Length: 2") + b"{}" + b"{" * 500 + b"\r\n\r\n")
    assert statuses(answer) == [200, 400]


def test_a_body_that_is_shorter_than_its_length_is_not_taken(server):
    with connect(server.port) as connection:
        connection.sendall(head("POST", "/api/raters", "Content-Length: 20") + b"{}")
        connection.shutdown(socket.SHUT_WR)
        assert answers(connection) == b""


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/", 405),
        ("PUT", "/api/votes", 405),
        ("DELETE", "/", 405),
        ("OPTIONS", "/", 405),
        ("TRACE", "/", 405),
        ("BREW", "/", 405),
        ("GET", "/../pairs.zip", 404),
        ("GET", "/%2e%2e/pairs.zip", 404),
        ("GET", "/image/x/0/..%2f..%2fpairs.json", 404),
        ("GET", "//etc/passwd", 404),
        ("CONNECT", "127.0.0.1:80", 404),
    ],
)
def test_other_methods_and_addresses_stay_refused(server, method, path, status):
    answer = exchange(server, head(method, path, "Content-Length: 0", "Connection: close"))
    assert statuses(answer) == [status], answer[:200]


def test_an_upgrade_of_the_protocol_is_not_made(server):
    headers = (
        "Connection: close, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAA",
    )
    assert statuses(exchange(server, head("GET", "/", *headers))) == [200]


def test_a_client_that_asks_before_it_sends_a_long_body_is_refused_without_it(server):
    with connect(server.port) as connection:
        connection.sendall(head("POST", "/api/raters", "Content-Length: 5000000", "Expect: 100-continue"))
        assert statuses(answers(connection)) == [413]
