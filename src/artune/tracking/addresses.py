"""Addresses of stores: a SQLite file or a server."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from artune.errors import SECRET, without_secrets


def shown(uri: str) -> str:
    """``uri`` without its secret, for messages; without a scheme (``alice:pw@host``) all before the ``@`` goes."""
    return without_secrets(uri) if "://" in uri or "@" not in uri else f"{SECRET}@{uri.rpartition('@')[2]}"


def with_plain_scheme(uri: str) -> str:
    """``uri`` with its scheme in small letters, as its libraries know it: ``SQLite:///x.db`` is ``sqlite:///x.db``."""
    scheme, colon, rest = uri.partition(":")
    return f"{scheme.lower()}{colon}{rest}"


def sqlite_file(uri: str) -> Path | None:
    """The database file of a SQLite address, None for a server.

    SQLAlchemy reads the address, as in MLflow itself: with options (``sqlite:///results/my.db?timeout=60``), with a
    driver (``sqlite+pysqlite://``), or with SQLite's own form (``sqlite:///file:results/my.db?uri=true``).

    Raises:
        ValueError: the store would be in memory, and lost with the process, or on a host, which SQLite cannot reach.
    """
    uri = with_plain_scheme(uri)
    if not uri.startswith(("sqlite:", "sqlite+")):
        return None
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        address = make_url(uri)
    except ArgumentError as error:
        raise ValueError(f"{shown(uri)} is no address of a database; write sqlite:///results/mlflow.db") from error
    if address.host:
        wanted = f"sqlite:///{address.host}/{address.database or ''}"
        raise ValueError(f"{shown(uri)} names the host {address.host}, and SQLite is a file; write {wanted}")
    name, options = address.database or "", {str(key): str(value) for key, value in address.query.items()}
    if name.startswith("file:") and options.get("uri", "").lower() in ("true", "1", "yes", "on", "y", "t"):
        parts = urlsplit(name)
        name = unquote(parts.path) if options.get("mode") != "memory" else ""
    if name in ("", ":memory:"):
        raise ValueError(
            f"{shown(uri)} is a store in memory, lost with each process; write sqlite:///results/mlflow.db"
        )
    return Path(name)
