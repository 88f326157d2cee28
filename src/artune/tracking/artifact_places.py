"""Where a SQLite store looks for artifacts: beside the database, by addresses that hold after a move.

MLflow makes every address absolute when it creates an experiment, so a results folder that is moved or copied would
read from its old place, and write there. The addresses are therefore given as the database's own is, which is relative
to the folder in which Artune and ``mlflow ui`` run unless the user configures another.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

# Runs of an experiment whose address ends as MLflow makes it but does not lie in the experiment's folder.
ELSEWHERE = (
    "experiment_id = ? AND artifact_uri LIKE '%/' || run_uuid || '/artifacts' "
    "AND artifact_uri != ? || '/' || run_uuid || '/artifacts'"
)


def artifact_address(database: Path, experiment: str) -> str:
    """Address of an experiment's artifacts: a path if ``database`` is relative, otherwise a ``file:`` URI."""
    folder = database.parent / database.stem / experiment
    return folder.as_uri() if folder.is_absolute() else folder.as_posix()


def keep_artifacts_beside(database: Path) -> None:
    """Let the experiments of ``database`` that Artune made, and their runs, keep their artifacts beside it.

    Nothing is written where that is so already. An experiment whose address the user chose is left alone.

    Raises:
        sqlite3.Error: the database is damaged, or another process keeps it locked.
    """
    stems = {database.stem, quote(database.stem)}
    with closing(sqlite3.connect(database, timeout=20)) as store, store:
        rows = store.execute("SELECT experiment_id, name, artifact_location FROM experiments").fetchall()
        for number, name, at in rows:
            made = (*(f"/{stem}/{name}" for stem in stems), f"/mlruns/{number}")  # the last is MLflow's for "Default"
            if not f"/{at}".endswith(made):
                continue
            address = artifact_address(database, name)
            if at != address:
                store.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (address, number))
            which = (number, address)
            if store.execute(f"SELECT 1 FROM runs WHERE {ELSEWHERE} LIMIT 1", which).fetchone():
                moved = f"UPDATE runs SET artifact_uri = ? || '/' || run_uuid || '/artifacts' WHERE {ELSEWHERE}"
                store.execute(moved, (address, *which))
