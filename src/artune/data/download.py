"""Fetches a file over HTTPS: resumes after a cut connection, checks the digest, and renames only a complete file."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests

from artune.errors import ArtuneError
from artune.runtime.files import sha256
from artune.runtime.places import destination, sync
from artune.runtime.progress import Progress

LOOPBACK = ("127.0.0.1", "localhost", "::1")
CHUNK = 1 << 16  # bytes; a cut connection loses at most this many
MEGABYTE = 10**6
TIMEOUT = (15.0, 60.0)  # seconds to connect, seconds without a byte
REDIRECTS = 8
AGAIN = (408, 425, 429, 500, 502, 503, 504)  # statuses after which another try may succeed
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PAGES = ("text/html", "application/xhtml+xml", "application/xml", "text/xml", "application/json")
PAGE_SUFFIXES = (".html", ".htm", ".xml", ".json")  # addresses of files that are such pages
BROKEN = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)


class _CutError(Exception):
    """The transfer ended early; the part file holds the bytes that have arrived."""


def download(
    url: str,
    path: Path,
    digest: str | None = None,
    *,
    label: str = "",
    attempts: int = 5,
    pause: float = 1.0,
    check: Callable[[Path], str | None] = lambda part: None,
) -> str:
    """Fetch ``url`` to ``path`` through ``path.part``, which a later call resumes.

    A part is resumed only if the server confirms by ETag or date that its file is still the same; otherwise the
    transfer starts again. Redirects are followed to HTTPS only; one to the loopback must come from the loopback.

    Args:
        url: https, or http on the loopback.
        path: the file to write.
        digest: SHA-256 in hexadecimal, or its first digits; None checks only the length.
        label: name of the file in messages (default: the file name in ``path``).
        attempts: consecutive tries without a byte after which the transfer counts as failed.
        pause: seconds before the second such try; doubles with each further one.
        check: says what is wrong with a whole file before it gets its name, None if nothing.

    Returns:
        The SHA-256 of the file.

    Raises:
        ArtuneError: no connection, a refusal, a page in place of the file, a wrong digest or content (the file is
            removed), or a full disk.
    """
    label = label or path.name
    path = destination(path)
    part, tag = Path(f"{path}.part"), Path(f"{path}.part.tag")
    with _disk_errors(label, path):
        path.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        before = _size(part)
        try:
            _transfer(url, part, tag, label)
            break
        except _CutError as cut:
            failures = 0 if _size(part) > before else failures + 1
            if failures >= attempts:
                raise ArtuneError(
                    f"{label}: connection to {urlsplit(url).hostname} failed {attempts} times ({cut}); "
                    f"run again to continue from {_size(part):,} bytes, or put the file at {path} yourself"
                ) from cut
            time.sleep(min(pause * 2 ** max(failures - 1, 0), 60.0))
    found = sha256(part)
    if wrong := _wrong_content(part, found, digest, check):
        part.unlink()
        tag.unlink(missing_ok=True)
        raise ArtuneError(f"{label}: {url} sent {wrong}")
    _finish(part, tag, path, label)
    return found


def _finish(part: Path, tag: Path, path: Path, label: str) -> None:
    """Give a complete file its name."""
    with _disk_errors(label, path):
        with open(part, "rb") as handle:
            sync(handle.fileno())
        os.replace(part, path)
    tag.unlink(missing_ok=True)


def _wrong_content(part: Path, found: str, digest: str | None, check: Callable[[Path], str | None]) -> str | None:
    """Why a complete file is not the wanted one: its digest or, where none is known, what ``check`` says."""
    if digest is None:
        wrong = check(part)
        return wrong and f"{wrong}; it was removed: correct its url, or fetch the file yourself"
    if found.startswith(digest.lower()):
        return None
    return (
        f"a file that has sha256 {found}, not {digest}; it was removed: run again, or check whether the source "
        "replaced the file"
    )


def _transfer(url: str, part: Path, tag: Path, label: str) -> None:
    """Append the missing bytes to ``part`` over one connection. Raises _CutError if another try may succeed."""
    have, validator = _size(part), tag.read_text(encoding="utf-8") if tag.exists() else ""
    resuming = bool(have and validator)
    headers = {"Accept-Encoding": "identity"}  # so that lengths and digests refer to the file itself
    if resuming:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    try:
        with requests.Session() as session, _open(session, url, headers, label) as response:
            place = response.headers.get("Content-Range", "")
            if response.status_code == 416 and place == f"bytes */{have}":  # the part is complete
                return
            start = have if response.status_code == 206 and place.startswith(f"bytes {have}-") else 0
            if response.status_code != 200 and not start:
                part.unlink(missing_ok=True)
                raise _CutError(f"status {response.status_code} for the bytes from {have:,} on")
            known = "Content-Length" in response.headers and "Content-Encoding" not in response.headers
            total = start + int(response.headers["Content-Length"]) if known else None
            with _disk_errors(label, part):
                if not start:
                    part.unlink(missing_ok=True)  # before the tag changes: old bytes must not count as the new file's
                _write_validator(response, tag)
                _require_space(part, start, total, label)
                _append(response, part, start, total, label)
    except BROKEN as error:
        raise _CutError(type(error).__name__) from error
    except (requests.RequestException, ValueError) as error:  # an address, a proxy or a header that no try can mend
        text = f"{label}: {url} cannot be fetched ({type(error).__name__}: {error})"
        raise ArtuneError(f"{text}; check the address and the variable https_proxy, or fetch it yourself") from error
    if total is not None and _size(part) < total:
        raise _CutError(f"{_size(part):,} of {total:,} bytes")


def _append(response: requests.Response, part: Path, start: int, total: int | None, label: str) -> None:
    megabytes = -(-total // MEGABYTE) if total else 0
    progress = Progress(f"{label} [MB]", megabytes, start=start // MEGABYTE)
    with open(part, "ab" if start else "wb") as handle:
        for block in response.iter_content(CHUNK):
            handle.write(block)
            if megabytes:
                progress.update(min(handle.tell() // MEGABYTE, megabytes - 1))
    if megabytes:
        progress.update(megabytes)  # a cut transfer does not reach this line


def _open(session: requests.Session, url: str, headers: dict[str, str], label: str) -> requests.Response:
    """The response after redirects, each of which is checked before it is followed."""
    for _ in range(REDIRECTS):
        _require_safe(url, label)
        response = session.get(url, headers=headers, stream=True, allow_redirects=False, timeout=TIMEOUT)
        if not response.is_redirect:
            break
        target = urljoin(url, response.headers["Location"])
        response.close()
        if urlsplit(target).hostname in LOOPBACK and urlsplit(url).hostname not in LOOPBACK:
            raise ArtuneError(f"{label}: {url} redirects to this machine ({target}); fetch the file yourself")
        url = target
    else:
        raise ArtuneError(f"{label}: more than {REDIRECTS} redirects, the last to {url}; fetch the file yourself")
    status = response.status_code
    if status in (200, 206, 416):
        kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
        if status != 416 and kind in PAGES and Path(urlsplit(url).path).suffix not in PAGE_SUFFIXES:
            response.close()
            raise ArtuneError(
                f"{label}: {url} answers with a page ({kind}), not with the file; it may require an account: fetch it "
                "yourself"
            )
        return response
    reason = response.reason
    response.close()
    if status in AGAIN:
        raise _CutError(f"{status} {reason}")
    hint = {
        401: "it requires an account: fetch it yourself",
        403: "it may require an account: fetch it yourself",
        404: "the source moved it: correct its url, or fetch it yourself",
    }
    raise ArtuneError(f"{label}: {url} answers {status} {reason}; {hint.get(status, 'fetch it yourself')}")


def _require_safe(url: str, label: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        return
    raise ArtuneError(f"{label}: {url} is not https; use an https address")


def _write_validator(response: requests.Response, tag: Path) -> None:
    """Keep the ETag or date that identifies the server's file; a weak ETag cannot confirm bytes."""
    strong = response.headers.get("ETag", "")
    validator = strong if strong and not strong.startswith("W/") else response.headers.get("Last-Modified", "")
    if validator:
        tag.write_text(validator, encoding="utf-8")
    else:
        tag.unlink(missing_ok=True)


def _require_space(part: Path, start: int, total: int | None, label: str) -> None:
    missing, free = (total or 0) - start, shutil.disk_usage(part.parent).free
    if missing > free:
        raise ArtuneError(
            f"{label}: {part.parent} has {free:,} bytes free, {missing:,} are needed; make room and run again"
        )


@contextmanager
def _disk_errors(label: str, path: Path) -> Iterator[None]:
    try:
        yield
    except BROKEN:  # the exceptions of requests are OSErrors too
        raise
    except OSError as error:
        if error.errno in FULL:
            raise ArtuneError(f"{label}: disk full while writing {path}; make room and run again to resume") from error
        raise ArtuneError(f"{label}: {path} cannot be written ({error.strerror or error})") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
