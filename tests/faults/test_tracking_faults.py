"""The tracking store is absent, slow, locked, damaged or crowded: the training continues and fills the store later."""

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cluster import free_ports
from project import ROOT, RUN
from trainings import ITERATIONS

from artune.config.registry import Registry
from artune.tracking.mlflow_run import MlflowRun, connect_mlflow
from artune.tracking.mlflow_store import init_store, upsert
from artune.tracking.run_logger import RunLogger, read_lines

NAME = "llamagen_l-ours"
GOES_ON = "nothing: the training ended like the undisturbed run, bit for bit; metrics.jsonl is complete"


@pytest.fixture
def registry():
    return Registry("smoke", root=ROOT / "config")


def finished(training, undisturbed):
    """Wait for a training that must end well with exactly one warning; returns that warning."""
    done = training.wait()
    assert done.status == 0, done.text
    warnings = [line for line in done.text.splitlines() if line.startswith("warning:")]
    assert len(warnings) == 1, done.text
    return warnings[0]


def points(uri, name=NAME):
    """A run in the store, and for each of its metrics the steps that the store holds."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("smoke").experiment_id
    (run,) = client.search_runs([experiment], f"attributes.run_name = '{name}'")
    keys = [key for key in run.data.metrics if not key.startswith(("eval/", "paper/"))]
    return run, {key: [metric.step for metric in client.get_metric_history(run.info.run_id, key)] for key in keys}


def filled(uri, folder, registry):
    """Update the store twice; every number of the files is then in the store exactly once."""
    assert upsert(uri, registry, [folder])
    assert upsert(uri, registry, [folder])
    run, steps = points(uri, folder.name)
    written = [key for line in read_lines(folder / "metrics.jsonl") for key, value in line.items()
               if key != "iteration" and value is not None]  # fmt: skip
    for key in written:
        assert sorted(steps[key]) == sorted(set(steps[key])), f"{key} is there twice"
        assert len(steps[key]) == written.count(key), key
    assert run.info.status == "FINISHED"


@pytest.fixture
def folder(smoke, tmp_path):
    """A copy of a finished run's folder."""
    return Path(shutil.copytree(smoke / RUN, tmp_path / NAME))


class Server:
    """A real `mlflow server`, which can be killed and started again on the same port."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_ports(1)
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self):
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
             "--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--artifacts-destination", f"{self.folder}/files"],
            cwd=self.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        end = time.monotonic() + 600
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                if init_store(self.uri, ["smoke"]):
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError("the server did not start")

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path):
    running = Server(tmp_path)
    running.start()
    yield running
    running.stop()


def test_no_server(training, undisturbed, fault):
    """No tracking server is running"""
    warning = finished(training.start(MLFLOW_TRACKING_URI="http://127.0.0.1:9"), undisturbed)
    assert training.result() == undisturbed
    assert "training goes on" in warning
    fault.done = "`MLFLOW_TRACKING_URI=http://127.0.0.1:9`"
    fault.happened = "one warning (MLflow failed); the training continued"
    fault.lost = GOES_ON


def test_server_that_never_answers(training, undisturbed, fault):
    """The tracking server accepts connections and never answers"""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        finished(training.start(MLFLOW_TRACKING_URI=uri), undisturbed)
    assert training.result() == undisturbed
    fault.done = "a listening socket in place of the server"
    fault.happened = "one warning after 5-8 s, from a thread beside the training; no iteration waited for it"
    fault.lost = GOES_ON


def test_store_locked(training, undisturbed, tmp_path, fault):
    """Another program holds the SQLite store's lock all the time"""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert init_store(uri)
    with sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        warning = finished(training.start(MLFLOW_TRACKING_URI=uri), undisturbed)
        other.execute("ROLLBACK")
    assert training.result() == undisturbed
    fault.done = "`BEGIN EXCLUSIVE` in another process"
    fault.happened = f"one warning ({'too slow' if 'too slow' in warning else 'MLflow failed'}); the training continued"
    fault.lost = GOES_ON


def test_store_damaged(training, undisturbed, tmp_path, folder, registry, fault):
    """The SQLite store is overwritten with other bytes"""
    uri, database = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlflow.db"
    database.write_bytes(b"no database" * 1000)
    finished(training.start(MLFLOW_TRACKING_URI=uri), undisturbed)
    assert training.result() == undisturbed
    assert not upsert(uri, registry, [folder])
    filled(f"sqlite:///{tmp_path}/new.db", folder, registry)  # this process still holds a handle of the damaged store
    fault.done = "11 kB of text in place of mlflow.db; afterwards a new store and `mlflow_log` twice"
    fault.happened = "one warning; the training continued; the store was rebuilt from the files, with no number twice"
    fault.lost = GOES_ON


@pytest.mark.faults
def test_killed_while_logging(folder, registry, tmp_path, fault):
    """A process is killed while it updates the store"""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    code = (
        "import sys; from pathlib import Path; from artune.config.registry import Registry; from artune.tracking.mlflow_store import upsert;"
        "upsert(sys.argv[1], Registry('smoke', root=sys.argv[2]), [Path(sys.argv[3])])"
    )
    for pause in (0.0, 0.05, 0.2):
        process = subprocess.Popen([sys.executable, "-c", code, uri, ROOT / "config", folder])
        end = time.monotonic() + 120
        while not (tmp_path / "mlflow.db").exists() and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(pause)
        process.kill()
        process.wait()
    filled(uri, folder, registry)
    fault.done = "`kill -9` of `mlflow_log`, three times at different moments; then two complete runs of it"
    fault.happened = "every number of metrics.jsonl is in the store exactly once"
    fault.lost = "nothing"


AWAY = 600.0  # seconds for which the server is down


@pytest.mark.faults
def test_server_away_in_the_middle(server, registry, folder, tmp_path, fault):
    """The tracking server is down for ten minutes in the middle of a training"""
    lines = read_lines(folder / "metrics.jsonl") * 30  # ninety iterations
    for name in ("metrics.jsonl", "timings.jsonl"):
        (folder / name).unlink()
    logger = RunLogger(folder, MlflowRun(server.uri, "smoke", NAME, {"grpo": {"iterations": len(lines)}}, {}))
    logger.resume(0)
    slowest = 0.0
    for number, line in enumerate(lines):
        if number == 30:
            server.stop()
            left = time.monotonic()
        if number == 60:
            server.start()
            assert time.monotonic() - left >= AWAY
        began = time.monotonic()
        logger.log(number, {key: value for key, value in line.items() if key != "iteration"}, {"time/iteration": 1.0})
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(AWAY / 30 if 30 <= number < 60 else 0.2)
    logger.close()
    assert slowest < 0.5
    assert len(read_lines(folder / "metrics.jsonl")) == 90
    filled(server.uri, folder, registry)
    fault.done = (
        "a real `mlflow server` was killed after 30 of 90 iterations and started again on its database ten minutes and "
        "30 iterations later"
    )
    fault.happened = (
        f"no iteration waited for it (the slowest line took {1000 * slowest:.0f} ms); `mlflow_log` filled the gap"
    )
    fault.lost = "nothing: every number is in the store exactly once"


@pytest.mark.faults
def test_store_on_a_full_disk(training, undisturbed, small_disk, folder, registry, tmp_path, fault):
    """The disk of the tracking store is full"""
    disk = small_disk(4000)
    uri = f"sqlite:///{disk}/mlflow.db"
    assert init_store(uri)
    with open(disk / "other", "wb", buffering=0) as other, contextlib.suppress(OSError):
        while True:
            other.write(bytes(4096))
    warning = finished(training.start(MLFLOW_TRACKING_URI=uri), undisturbed)
    assert training.result() == undisturbed
    (disk / "other").unlink()
    filled(uri, folder, registry)
    fault.done = "a tmpfs of 4 MB with the store and no space left; `mlflow_log` twice when there was space again"
    fault.happened = f"one warning ({'too slow' if 'too slow' in warning else 'MLflow failed'}); the training continued"
    fault.lost = GOES_ON


THIRTY = """
import sys, time, json
from pathlib import Path
from artune.tracking.mlflow_run import MlflowRun, connect_mlflow
from artune.tracking.run_logger import RunLogger
folder, name, uri, moment = Path(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
logger = RunLogger(folder, MlflowRun(uri, "smoke", name, {"grpo": {"beta": 3.0}}, {}))
logger.resume(0)
time.sleep(max(0.0, moment - time.time()))
for number in range(40):
    logger.log(number, {"reward/total": float(number), "policy/kl": 0.5}, {"time/iteration": 0.1})
    time.sleep(0.1)
logger.close()
"""


def thirty(uri, tmp_path, registry, grid, jobs=30):
    """Let thirty processes log at once, then check that the store has every number once; returns how many warned."""
    folders = [tmp_path / "runs" / f"llamagen_l-ours-s{number}" for number in range(1, jobs + 1)]
    scores = {"scores": {}, "n": 64, "commit": "unknown"}
    for number, folder in enumerate(folders, start=1):
        folder.mkdir(parents=True)
        spec = registry.spec(folder.name) | {"seed": number}
        (folder / "config.yaml").write_text(json.dumps(spec))
        (folder / "scores.json").write_text(json.dumps(scores))
        shutil.copy(grid, folder / "grid.png")
    moment = str(time.time() + 3 * jobs)  # by then all processes have imported their modules
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", THIRTY, folder, folder.name, uri, moment], stderr=subprocess.PIPE, text=True
        )
        for folder in folders
    ]
    texts = [process.communicate(timeout=900)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * jobs
    for folder in folders:
        assert [line["iteration"] for line in read_lines(folder / "metrics.jsonl")] == list(range(40))
    assert upsert(uri, registry, folders)
    for folder in folders:
        _, steps = points(uri, folder.name)
        assert sorted(steps["reward/total"]) == list(range(40)), folder.name
    return sum("warning" in text for text in texts)


@pytest.mark.faults
def test_thirty_jobs_one_sqlite(tmp_path, registry, smoke, fault):
    """Thirty trainings log to one SQLite store at once"""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert init_store(uri)
    warned = thirty(uri, tmp_path, registry, smoke / RUN / "grid.png")
    fault.done = "30 processes start to log at the same moment, 40 iterations each, a line every 0.1 s"
    fault.happened = (
        f"every metrics.jsonl is complete; {warned} of 30 stopped logging live; `mlflow_log` added what was missing"
    )
    fault.lost = "nothing: every number is in the store exactly once"


@pytest.mark.faults
def test_thirty_jobs_one_server(server, tmp_path, registry, smoke, fault):
    """Thirty trainings log to one mlflow server at once"""
    warned = thirty(server.uri, tmp_path, registry, smoke / RUN / "grid.png")
    fault.done = "30 processes start to log at the same moment, 40 iterations each, a line every 0.1 s"
    fault.happened = (
        f"every metrics.jsonl is complete; {warned} of 30 stopped logging live; `mlflow_log` added what was missing"
    )
    fault.lost = "nothing: every number is in the store exactly once"


class Trash:
    """What a user does on MLflow's pages; the pages call the same functions of the store."""

    def __init__(self, uri):
        self.client = connect_mlflow(uri)
        self.experiment = self.client.get_experiment_by_name("smoke")

    def runs(self):
        return self.client.search_runs([self.experiment.experiment_id], f"attributes.run_name = '{NAME}'")

    def delete_experiment(self):
        self.client.delete_experiment(self.experiment.experiment_id)

    def delete_run(self):
        for run in self.runs():
            self.client.delete_run(run.info.run_id)

    def rename_experiment(self):
        self.client.rename_experiment(self.experiment.experiment_id, "our old runs")


DELETED = {
    "delete_experiment": "its experiment is deleted",
    "delete_run": "its run is deleted",
    "rename_experiment": "its experiment is renamed",
}


def deleted_and_logged_again(uri, action, folder, registry, capsys):
    """Delete on the pages, then log the run again; returns what was printed."""
    assert upsert(uri, registry, [folder])
    getattr(Trash(uri), action)()
    capsys.readouterr()
    filled(uri, folder, registry)
    printed = capsys.readouterr().err
    assert ("restored" in printed) == (action == "delete_experiment"), printed
    assert printed.count("\n") <= 1
    return printed


@pytest.mark.parametrize("action", DELETED)
def test_deleted_in_the_ui(folder, registry, tmp_path, action, capsys, fault):
    """A user tidies up on MLflow's pages, and a run is logged again"""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    deleted_and_logged_again(uri, action, folder, registry, capsys)
    fault.fault = f"{fault.fault}: {DELETED[action]}"
    fault.done = f"`{action}` in a SQLite store, then `mlflow_log` twice"
    fault.happened = (
        f"{'the experiment was taken out of the trash, said in one line' if action == 'delete_experiment' else 'a new one was made'}; "
        "every number of the files is in the store exactly once"
    )
    fault.lost = "nothing"


@pytest.mark.faults
@pytest.mark.parametrize("action", DELETED)
def test_deleted_on_a_server(server, folder, registry, action, capsys, fault):
    """A user tidies up on the pages of a tracking server, and a run is logged again"""
    deleted_and_logged_again(server.uri, action, folder, registry, capsys)
    fault.fault = f"{fault.fault}: {DELETED[action]}"
    fault.done = f"`{action}` on a real `mlflow server`, then `mlflow_log` twice"
    fault.happened = "every number of the files is in the store exactly once"
    fault.lost = "nothing"


def test_experiment_deleted_before_a_training(training, undisturbed, tmp_path, fault):
    """The experiment lies in the trash when a training starts"""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert init_store(uri, ["smoke"])
    Trash(uri).delete_experiment()
    warning = finished(training.start(MLFLOW_TRACKING_URI=uri), undisturbed)
    assert "restored" in warning
    assert training.result() == undisturbed
    run, steps = points(uri, "disturbed")
    assert run.info.status == "FINISHED"
    assert sorted(next(iter(steps.values()))) == list(range(ITERATIONS))
    fault.done = "`delete_experiment` in the store before the training"
    fault.happened = "the training took it out of the trash, said so in one line, and logged to it"
    fault.lost = GOES_ON


ADDRESSES = {
    "options": "sqlite:///{}/my.db?timeout=60",
    "a driver and options": "sqlite+pysqlite:///{}/my.db?check_same_thread=false",
    "SQLite's own form": "sqlite:///file:{}/my.db?uri=true",
    "spaces and a percent sign in its path": "sqlite:///{}/50% done/my.db",
}


@pytest.mark.parametrize(
    "form", [form if form == "options" else pytest.param(form, marks=pytest.mark.faults) for form in ADDRESSES]
)
def test_forms_of_sqlite_addresses(training, undisturbed, tmp_path, form, fault):
    """The address of a SQLite store is not of the plainest form"""
    uri = ADDRESSES[form].format(tmp_path)
    assert init_store(uri)
    done = training.start(MLFLOW_TRACKING_URI=uri).wait()
    assert done.status == 0, done.text
    assert "warning" not in done.text
    assert training.result() == undisturbed
    run, steps = points(uri, "disturbed")
    assert run.info.status == "FINISHED"
    assert sorted(next(iter(steps.values()))) == list(range(ITERATIONS))
    (database,) = tmp_path.rglob("*.db")
    assert database.name == "my.db"
    fault.fault = f"{fault.fault}: it has {form}"
    fault.done = f"`MLFLOW_TRACKING_URI={ADDRESSES[form].format('/folder')}`, a new store and a training"
    fault.happened = "every iteration is in the store, as with MLflow itself"
    fault.lost = GOES_ON
