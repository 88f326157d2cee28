"""Limits of the study's server: what one request may send, how long a connection may wait, how many there may be.

What arrives is counted, whatever a request's headers say of it, and a request that exceeds a limit is answered with one
line and its connection closed. uvicorn itself limits none of these.
"""

import asyncio
import functools
import http
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h11
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True)
class Limits:
    """Limits of requests and connections."""

    body: int = 1024  # bytes of a request's body
    whole: int = 32 * 1024  # bytes of a request as they arrive: its head, its body, and the marks around chunks of it
    lines: int = 100  # lines of a request's head
    seconds: float = 60.0  # that a request may take to arrive, or its answer to be fetched
    connections: int = 200  # at the same time


LIMITS = Limits()


def line(status: int, text: str) -> JSONResponse:
    """An answer of one line."""
    return JSONResponse({"error": text}, status_code=status)


class LimitedBody:
    """Reads the body of every request before the application sees it, and refuses the request once it is too long.

    Args:
        app: the application.
        headers: further headers of a refusal.
        limits: the limits.
    """

    def __init__(self, app: ASGIApp, headers: dict[str, str], limits: Limits = LIMITS):
        self.app, self.headers, self.limits = app, headers, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        problem, body, more = self._problem(scope["headers"]), b"", True
        while more and problem is None:
            message = await receive()
            if message["type"] != "http.request":  # the client has gone
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
            if len(body) > self.limits.body:
                problem = self._too_long()
        if problem is None:
            await self.app(scope, _replayed(body, receive), send)
            return
        answer = line(*problem)
        answer.headers.update(self.headers | {"Connection": "close", "Cache-Control": "no-store"})
        await answer(scope, receive, send)

    def _problem(self, headers: list[tuple[bytes, bytes]]) -> tuple[int, str] | None:
        """What the head alone says against a request."""
        lengths = [value for name, value in headers if name == b"content-length"]
        if len(headers) > self.limits.lines:
            return 431, f"a request may have {self.limits.lines} headers"
        if lengths and any(name == b"transfer-encoding" for name, _ in headers):
            return 400, "a request has a Content-Length or a Transfer-Encoding, not both"
        if len(lengths) > 1 or not all(length.isdigit() for length in lengths):
            return 400, "the Content-Length is not one number"
        # A number of many digits is not even converted.
        if lengths and (len(lengths[0].lstrip(b"0")) > 9 or int(lengths[0].lstrip(b"0") or b"0") > self.limits.body):
            return self._too_long()
        return None

    def _too_long(self) -> tuple[int, str]:
        return 413, f"the body may have {self.limits.body} bytes"


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body first, and then what the client does further."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


class LimitedProtocol(H11Protocol):
    """A connection that is closed if a request is too long or does not arrive in time, or if there are too many.

    Args:
        limits: the limits.
        arguments: arguments of uvicorn's class.
    """

    def __init__(self, *arguments: Any, limits: Limits = LIMITS, **further: Any):
        super().__init__(*arguments, **further)
        self.limits = limits
        self.arrived = 0  # bytes since the last answer
        self.since = self.loop.time()  # when the present wait began
        self.timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> bool:
        """Whether no whole request has arrived since the last answer."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection; if there are too many, the one that has waited longest for a request is closed."""
        super().connection_made(transport)
        self._wait()
        if len(self.connections) <= self.limits.connections:
            return
        others = [one for one in self.connections if one is not self and isinstance(one, LimitedProtocol)]
        idle = [one for one in others if one.waiting]
        if idle:
            oldest = min(idle, key=lambda one: one.since)
            self.connections.discard(oldest)
            oldest.transport.abort()
        else:
            self._refuse(503, "too many connections; try again")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        if self.timer is not None:
            self.timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what arrives, unless it is too much for one request."""
        if self.transport.is_closing():
            return
        room, waited = self.limits.whole - self.arrived, self.waiting
        self.arrived += len(data)
        super().data_received(data[:room])
        if self.arrived > self.limits.whole and not self.transport.is_closing():
            head = self.conn.their_state is h11.IDLE  # its end has not arrived
            self._refuse(431 if head else 413, f"a request may have {self.limits.whole} bytes")
        elif waited and not self.waiting:
            self._wait()  # for the client to fetch the answer

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP; uvicorn calls this."""
        self._refuse(400, msg)

    def on_response_complete(self) -> None:
        """Wait for the next request, of which a part may have arrived."""
        self.arrived = len(self.conn.trailing_data[0])
        self._wait()
        super().on_response_complete()

    def _wait(self) -> None:
        """Begin to count the seconds afresh."""
        self.since = self.loop.time()
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.loop.call_later(self.limits.seconds, self._expired)

    def _expired(self) -> None:
        if self.arrived and self.waiting:
            self._refuse(408, f"a request may take {self.limits.seconds:g} seconds")
        else:
            self.transport.abort()  # also if the client does not fetch the answer, for which close() would wait

    def _refuse(self, status: int, text: str) -> None:
        """Answer with one line, unless an answer has begun, and close the connection."""
        begun = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if self.cycle is not None:
            self.cycle.disconnected = True  # the application hears that the client has gone, and answers no more
            self.cycle.message_event.set()
        if begun or self.transport.get_write_buffer_size():
            self.transport.abort()
            return
        body = json.dumps({"error": text}).encode()
        head = [
            f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "connection: close",
        ]
        self.transport.write("\r\n".join([*head, "", ""]).encode() + body)
        self.transport.close()


def limited(limits: Limits) -> Callable[..., LimitedProtocol]:
    """The class of connections for ``uvicorn.Config(http=...)``."""
    return functools.partial(LimitedProtocol, limits=limits)
