"""A store in a SQLite file: put in place whole, and changed by one process at a time."""

import contextlib
import errno
import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from artune.runtime.places import destination
from artune.tracking.addresses import sqlite_file
from artune.tracking.mlflow_run import connect_mlflow

if TYPE_CHECKING:
    from mlflow import MlflowClient

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)  # of a file system without locks


def hide_default(client: "MlflowClient") -> None:
    """Put the experiment that MLflow makes by itself into the trash, unless somebody has a run in it."""
    default = client.get_experiment_by_name("Default")
    if default is None or default.lifecycle_stage == "deleted":
        return
    if not client.search_runs([default.experiment_id], max_results=1):
        client.delete_experiment(default.experiment_id)


def create_database(database: Path) -> None:
    """Make an empty store under another name and rename it.

    MLflow's migrations, started by several processes at once or interrupted, would leave a database that cannot be
    used.
    """
    # A new name each time, because MLflow keeps a connection per address for a whole process.
    temporary = database.with_name(f".{database.name}.{uuid.uuid4().hex[:16]}.tmp")
    try:
        client = connect_mlflow(f"sqlite:///{os.path.relpath(temporary)}")  # a ? in the path would begin options
        hide_default(client)
        client._tracking_client.store._dispose_engine()
        os.replace(temporary, database)
    finally:
        temporary.unlink(missing_ok=True)


def make_if_missing(uri: str) -> None:
    """Make the database of ``uri`` if its folder is there and no process has made it yet."""
    database = sqlite_file(uri)
    if database is None or database.exists() or not database.parent.is_dir():
        return
    with alone(uri):
        if not database.exists():
            create_database(database)


@contextlib.contextmanager
def alone(uri: str, wait: float = 180.0) -> Iterator[None]:
    """Hold a lock on the database in a ``with`` block, because two processes could log the same points.

    Raises:
        TimeoutError: another process still holds the lock after ``wait`` seconds.
    """
    database = sqlite_file(uri)
    if database is None:
        yield
        return
    with open(destination(database.with_name(f".{database.name}.lock")), "w", encoding="utf-8") as handle:
        end = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno in NO_LOCKS:  # then only SQLite's own locks are left
                    break
                if not isinstance(error, BlockingIOError):
                    raise
                if time.monotonic() > end:
                    raise TimeoutError(f"{handle.name} is held by another process") from None
                time.sleep(0.1)
        yield
