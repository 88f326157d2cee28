"""The server of the rating page, on 127.0.0.1. It never tells the browser which model made an image."""

import shutil
import socket
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Header, Request
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from artune.config.fields import Frozen
from artune.config.tables import StudyPage
from artune.errors import ArtuneError
from artune.results.study.connections import LIMITS, LimitedBody, Limits, limited, line
from artune.results.study.first_page import first_page
from artune.results.study.pairs import PairFile
from artune.results.study.store import Pressed, RefusedError, Session, Shown, UnknownCodeError, VoteStore
from artune.runtime.files import replacing
from artune.runtime.progress import say

FILES = {
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
LOCAL = ("127.0.0.1", "localhost")
LAST = 10**6  # greatest position that is accepted; no session is longer
Position = Annotated[int, Field(ge=0, le=LAST, strict=True)]


class Vote(Frozen):
    """A vote as the page sends it."""

    position: Position
    pressed: Pressed
    seconds: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False, strict=True)]


class Place(Frozen):
    """A position in a rater's session."""

    position: Position


class Told(Frozen):
    """What the first page says beside its own words."""

    page: StudyPage = StudyPage()
    classes: tuple[str, ...] = ()  # names of the classes of the data set; empty: not known


NOTHING = Told()


def _store(request: Request) -> VoteStore:
    return request.app.state.store


Store = Annotated[VoteStore, Depends(_store)]


def _rater(store: Store, authorization: Annotated[str, Header()] = "") -> int:
    return store.rater(authorization.removeprefix("Bearer "))


Rater = Annotated[int, Depends(_rater)]
router = APIRouter()


@router.post("/api/raters")
def join(store: Store) -> dict[str, Any]:
    """Register a rater; return the code to continue with, and the first session."""
    code = store.register()
    return {"code": code} | state(store.session(store.rater(code)))


@router.get("/api/session")
def session(store: Store, rater: Rater) -> dict[str, Any]:
    """The state of a rater's session."""
    return state(store.session(rater))


@router.post("/api/votes")
def cast_vote(store: Store, rater: Rater, vote: Vote) -> dict[str, Any]:
    """Store a vote; it is on the disk when the answer is sent."""
    return state(store.vote(rater, vote.position, vote.pressed, vote.seconds))


@router.post("/api/undo")
def undo(store: Store, rater: Rater, place: Place) -> dict[str, Any]:
    """Take the last vote back."""
    return state(store.take_back(rater, place.position))


@router.post("/api/more")
def more(store: Store, rater: Rater) -> dict[str, Any]:
    """Give the rater another session."""
    return state(store.go_on(rater))


@router.get("/image/{code}/{position}/{place}")
def image(
    request: Request, store: Store, code: str, position: Annotated[int, InPath(ge=0, le=LAST)], place: str
) -> Response:
    """The image shown at a position: ``left``, ``right``, or reference 0, 1, ...; the address reveals no more."""
    shown = store.shown(store.rater(code), position)
    names = {"left": shown.item.images[shown.left], "right": shown.item.images[shown.right]}
    names |= {str(at): name for at, name in enumerate(shown.item.references)}
    if place not in names:
        raise RefusedError("there is no such image")
    headers = {"Cache-Control": "private, max-age=86400, immutable"}
    return Response(request.app.state.study.png(names[place]), media_type="image/png", headers=headers)


def state(session: Session) -> dict[str, Any]:
    """The state that the page is sent; it contains no setting, no side and no kind of item."""

    def item(shown: Shown) -> dict[str, Any]:
        return {"position": shown.position, "task": shown.item.task, "references": len(shown.item.references)}

    return {
        "done": session.done,
        "total": session.total,
        "waiting": [item(shown) for shown in session.waiting],
        "last": session.last,
        "more": session.more,
    }


def build_app(
    study: PairFile, store: VoteStore, hosts: tuple[str, ...] = LOCAL, limits: Limits = LIMITS, told: Told = NOTHING
) -> FastAPI:
    """The web application.

    Args:
        study: the open file of pairs.
        store: the store of votes.
        hosts: host names that a request may use (against DNS rebinding); ``*`` allows any.
        limits: limits of a request.
        told: what the first page says.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.study, app.state.store = study, store
    app.include_router(router)
    _serve_file(app, "/", first_page(told.page, told.classes, study.pairs), "text/html")
    for address, (name, kind) in FILES.items():
        _serve_file(app, address, Path(__file__).with_name(name).read_bytes(), kind)
    app.middleware("http")(_guard)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app.add_middleware(LimitedBody, headers=HEADERS, limits=limits)  # the outermost: it reads every body first
    statuses = {UnknownCodeError: 401, RefusedError: 409, ArtuneError: 500, sqlite3.Error: 503}
    for error_type, status in statuses.items():
        app.exception_handler(error_type)(lambda _, error, status=status: line(status, str(error)))
    app.exception_handler(HTTPException)(lambda _, error: line(error.status_code, error.detail))
    app.exception_handler(RequestValidationError)(_invalid)
    return app


def _serve_file(app: FastAPI, address: str, content: bytes, kind: str) -> None:
    app.add_api_route(address, lambda: Response(content, media_type=kind), methods=["GET"])


async def _guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse requests that our page never sends, and set the same headers on every response."""
    problem = _problem(request) if request.method not in ("GET", "HEAD") else None
    response = line(*problem) if problem else await call_next(request)
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _problem(request: Request) -> tuple[int, str] | None:
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        return 415, "the body must be application/json"  # a form on another site cannot send JSON
    return None


def _invalid(_: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    return line(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:200])


def keep_pairs(pairs: Path, votes: Path) -> PairFile:
    """The pairs that the votes belong to: a copy beside the store, which a rerun of the pipeline leaves as it is.

    Raises:
        ArtuneError: there are no pairs, or the copy cannot be written.
    """
    kept = votes.with_suffix(".pairs.zip")
    if not kept.exists():
        PairFile(pairs)
        with replacing(kept) as temporary:
            shutil.copyfile(pairs, temporary)
    study = PairFile(kept)
    if pairs.exists() and PairFile(pairs).digest != study.digest:
        say(f"note: {pairs} has other pairs by now; the page shows those in {kept}, to which the votes belong")
    return study


def serve(pairs: Path, votes: Path, host: str, port: int, limits: Limits = LIMITS, told: Told = NOTHING) -> str:
    """Serve the page until interrupted; port 0 takes a free one, and ``told`` is what the first page says.

    Raises:
        ArtuneError: there are no pairs, the store holds votes on other pairs, or the address is not available.
    """
    study = keep_pairs(pairs, votes)
    store = VoteStore(votes, study.pairs)
    # Without the protocol, asyncio leaves Nagle's algorithm on, which delays every response by 40 ms.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)  # a browser that connects before the server is ready waits
    except (OSError, OverflowError) as error:
        listener.close()
        raise ArtuneError(f"--host {host} --port {port}: {error}; choose another") from error
    app = build_app(study, store, LOCAL if host in LOCAL else ("*",), limits, told)
    address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    number = len(study.pairs.of_kind("pair"))
    say(f"{address}  {number} pairs, {store.count()} votes so far; Ctrl-C stops, votes are kept")
    config = uvicorn.Config(
        app,
        http=limited(limits),  # type: ignore[arg-type]
        ws="none",
        h11_max_incomplete_event_size=2 * limits.whole,  # the connection counts before h11 does
        log_level="error",  # malformed requests are warnings, as many as somebody sends
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[listener])
    return f"{votes}: {store.count()} votes"
