"""Commands for the tracking store."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from argparse import Namespace
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from artune.commands.context import Context
from artune.config.seeds import cut_seeds
from artune.errors import ArtuneError
from artune.runtime.progress import say, tell
from artune.tracking.addresses import shown, sqlite_file, with_plain_scheme
from artune.tracking.run_facts import DataFile, data_of

if TYPE_CHECKING:
    from artune.tracking.saved_views import Experiment

WAIT = 300.0  # seconds for MLflow's pages to answer; on an idle machine about ten


def mlflow_store(context: Context, arguments: Namespace) -> str:
    """Create the tracking store."""
    from artune.runtime.files import write_json
    from artune.tracking.mlflow_store import init_store

    uri = context.tracking_uri
    ready = init_store(uri)
    write_json(arguments.output, {"ready": ready})
    return f"{shown(uri)}: {'ready' if ready else 'not reachable; metrics.jsonl stays the record'}"


def mlflow_log(context: Context, arguments: Namespace) -> str:
    """Bring the tracking store up to date with a table's runs."""
    from artune.config.paper import find_table, runs_of_tables
    from artune.runtime.files import write_json

    settings, registry = context.settings, context.registry
    find_table(registry, arguments.table)
    names = runs_of_tables(registry, [arguments.table], settings.seeds)
    line, logged = _upsert(context, [arguments.runs / name for name in names])
    write_json(arguments.output, {"runs": names, "logged": logged})
    return line


def mlflow(context: Context, arguments: Namespace) -> str:
    """Rebuild the tracking store from the files of all finished runs."""
    folders = sorted(path.parent for path in arguments.runs.glob("*/scores.json"))
    known = [folder for folder in folders if cut_seeds(folder.name)[0] in context.registry.run_names]
    return _upsert(context, known)[0]


def _upsert(context: Context, folders: list[Path]) -> tuple[str, bool]:
    """Log finished runs; the line that the command prints, and whether the store has them."""
    from artune.planning.sources import Sources
    from artune.tracking.mlflow_store import upsert

    uri, sources = context.tracking_uri, Sources(context.registry)

    def data(run: str) -> Sequence[DataFile]:
        return data_of(sources.scale, sources.images(), sources.reference_moments(cut_seeds(run)[1].networks))

    logged = upsert(uri, context.registry, folders, data)
    state = "up to date" if logged else "not logged; the store did not answer"
    return f"{shown(uri)}: {len(folders)} runs {state}", logged


def browse(context: Context, arguments: Namespace) -> str:
    """Show MLflow's pages: print links to the runs of Table 4, and open the first in a browser where there is one."""
    from artune.tracking.mlflow_store import init_store
    from artune.tracking.saved_views import experiments_with_views

    uri = with_plain_scheme(context.tracking_uri)
    database = sqlite_file(uri)
    if database is not None:
        _check_free(arguments.port)
    if not init_store(uri):
        raise ArtuneError(f"{shown(uri)}: cannot be used; is the server of tracking_uri running?")
    server = uri if database is None else f"http://127.0.0.1:{arguments.port}"
    registry = context.registry
    found = sorted(experiments_with_views(uri, registry.tables), key=lambda one: one.name != registry.results_name)
    if database is None:
        _show(server, found)
        return f"{shown(uri)}: a server that runs already"
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(arguments.port)]
    options = ["--workers", "1", "--uvicorn-opts", "--log-level warning", "--backend-store-uri", uri]
    if entry_points(group="mlflow.app", name="artune"):  # not where the code is found by PYTHONPATH alone
        options += ["--app-name", "artune"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    # A group of its own, because MLflow's first process leaves those that it starts behind when it is stopped.
    with subprocess.Popen([*command, *options], env=os.environ | quiet, start_new_session=True) as process:
        try:
            _wait_for(process, arguments.port)
            _show(server, found)
            process.wait()
        except KeyboardInterrupt:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
    return "MLflow's pages are closed"


def _show(server: str, experiments: Sequence["Experiment"]) -> None:
    """Print the links of the experiments' tables, and open the first where there is a browser with a window."""
    from artune.tracking.saved_views import link

    if not experiments:
        scored = any(Path("results").glob("*/runs/*/scores.json"))
        makes = (
            "`snakemake -c2 -- mlflow` logs those that are scored"
            if scored
            else "`make reproduce` makes the first ones"
        )
        say(f"{shown(server)}: no run of a table is logged yet; {makes}")
    for one in experiments:
        table, there = one.tables[0], shown(server)
        tell(f"Table {table.removeprefix('table')}, {one.name}\n")  # not say, which takes ...Key= for a secret
        tell(f"  runs and scores  {link(there, one.id, table)}\n")
        tell(f"  curves           {link(there, one.id, table, charts=True)}\n")
    window = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if experiments and window and "SSH_CONNECTION" not in os.environ:
        webbrowser.open(link(server, experiments[0].id, experiments[0].tables[0]))


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise ArtuneError(f"port {port} cannot be used ({error}); give another: make mlflow PORT=5001") from error


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + WAIT
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise ArtuneError(f"MLflow's pages do not answer on port {port}; its own messages stand above")
