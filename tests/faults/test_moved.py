"""A results folder, or a whole clone, is moved or copied: nothing finished is made again, and nothing points back."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from project import RUN, SMOKE, artune, copy_project, digest, environment, four_rows, planned, snakemake

TABLE = "results/table4.csv"
TRAINED = f"{RUN}/policy.safetensors"
STORE = "results/mlflow.db"
NOTHING = "nothing: no job ran"


@pytest.fixture
def project(smoke, tmp_path):
    """A finished project of its own, called "old"."""
    return shutil.copytree(smoke, tmp_path / "old", symlinks=True)


def times(project):
    """When the outputs of the longest chain were written, in its order."""
    chain = (f"{RUN}/config.yaml", TRAINED, f"{RUN}/features.npz", f"{RUN}/scores.json", TABLE)
    return [(project / path).stat().st_mtime_ns for path in chain]


def shell(*words):
    subprocess.run([str(word) for word in words], check=True)


def by_new_times(source, target):
    """`cp -r`, and then times in the order that would have every job run again: what was made first is the newest."""
    shell("cp", "-r", source, target)
    files = [path for path in target.rglob("*") if path.is_file() and not path.is_symlink()]
    now = time.time()
    made = sorted(files, key=lambda path: (source / path.relative_to(target)).stat().st_mtime_ns)
    for seconds, path in enumerate(made):
        os.utime(path, (now - seconds, now - seconds))


def moved(project, target):
    shell("mv", project, target)


def copied_with_times(project, target):
    shell("cp", "-a", project, target)


def results_alone(project, target):
    target.mkdir()
    copy_project(target)
    by_new_times(project / "results", target / "results")


def to_another_disk(project, target):
    shell("mv", project / "results", target.with_name("disk"))
    (project / "results").symlink_to(target.with_name("disk"))
    shell("mv", project, target)


def taken_elsewhere(project, target):
    """Links are not copied by all programs: here `.snakemake/metadata` is left out."""
    by_new_times(project, target)
    (target / ".snakemake/metadata").unlink()


WAYS = {
    "mv of the clone": moved,
    "`cp -a` of the clone": copied_with_times,
    "`cp -r` of the clone, which gives new times in any order": by_new_times,
    "`cp -r` of results/ into a fresh clone": results_alone,
    "`mv results` to another disk, and a link in its place": to_another_disk,
    "a copy of the clone with new times and without its links, as `rsync -r` makes it": taken_elsewhere,
}


QUICK = ("mv of the clone",)


@pytest.mark.parametrize("way", [pytest.param(way, marks=() if way in QUICK else pytest.mark.faults) for way in WAYS])
def test_finished_results_in_another_place(project, tmp_path, way, fault):
    """Finished results are moved or copied"""
    fault.fault = f"{fault.fault}: {way}"
    before, target = times(project), tmp_path / "new"
    table, weights = (project / TABLE).read_bytes(), digest(project / TRAINED)
    WAYS[way](project, target)
    shutil.rmtree(project, ignore_errors=True)  # another machine does not have the old place
    text = snakemake(target, *SMOKE, TABLE)
    assert "Nothing to be done" in text
    assert times(target) == before
    assert ((target / TABLE).read_bytes(), digest(target / TRAINED)) == (table, weights)
    done = artune(target, "mlflow", "--runs", "results/smoke/runs")
    finished = len(list((target / "results/smoke/runs").glob("*/scores.json")))  # other tests may have added to the four rows
    assert finished >= 4
    assert f" {finished} runs up to date" in done.stderr, done.stderr
    assert not project.exists()
    with sqlite3.connect(target / STORE) as store:
        assert not store.execute("SELECT * FROM runs WHERE artifact_uri LIKE '%/old/%'").fetchall()
        assert not store.execute("SELECT * FROM experiments WHERE artifact_location LIKE '%/old/%'").fetchall()
    fault.done = f"{way}; the old place removed; the same command; `artune mlflow`"
    fault.happened = "Snakemake had nothing to do; MLflow found and kept its artifacts in the new place"
    fault.lost = NOTHING


@pytest.mark.faults
def test_the_pages_of_mlflow_in_another_place(project, tmp_path, fault):
    """MLflow's pages are opened after the clone was moved and another folder took its old place"""
    target = tmp_path / "new"
    moved(project, target)
    project.mkdir()
    with sqlite3.connect(target / STORE) as store:
        ((run,),) = store.execute("SELECT run_uuid FROM runs WHERE name = 'llamagen_l-ours'").fetchall()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
         "--backend-store-uri", f"sqlite:///{STORE}"],
        cwd=target,
        env=environment(target) | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        address, end = f"http://127.0.0.1:{port}/get-artifact?path=%s&run_uuid={run}", time.monotonic() + 180
        while True:
            try:
                grid = urllib.request.urlopen(address % "grid.png", timeout=10).read()
                break
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < end
                time.sleep(0.5)
        scores = urllib.request.urlopen(address % "scores.json", timeout=10).read()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    assert grid == (target / RUN / "grid.png").read_bytes()
    assert scores == (target / RUN / "scores.json").read_bytes()
    assert not list(project.iterdir())
    fault.done = "`mv` of the clone, an empty folder in its old place; `mlflow ui` as `make mlflow` starts it"
    fault.happened = "the page of a run served its picture and its scores from the new place"
    fault.lost = "nothing"


@pytest.mark.faults
def test_a_file_was_cut_short_on_the_way(project, tmp_path, fault):
    """A copy of the results is incomplete: a file was cut short"""
    target = tmp_path / "new"
    results_alone(project, target)
    path = target / RUN / "scores.json"
    path.write_bytes(path.read_bytes()[:100])
    text = snakemake(target, "-n", *SMOKE, TABLE)
    assert f"{RUN}/scores.json: differs from what was recorded" in text
    assert planned(text)["table"] == 1
    path.unlink()
    text = snakemake(target, *SMOKE, TABLE, f"{RUN}/scores.json")
    assert planned(text) == {"evaluate": 1, "table": 1, "mlflow_log": 1, "publish_table": 1}
    assert four_rows(target / TABLE)
    fault.done = "`cp -r` of results/ into a fresh clone, one scores.json cut to 100 bytes; then deleted, as the warning says, and asked for"
    fault.happened = (
        "a warning named the file; once it was deleted, that run was scored again and the table was made again"
    )
    fault.lost = "the scores of one run, which took seconds; no training and no sampling was repeated"


@pytest.mark.faults
def test_settings_changed_in_the_new_place(project, tmp_path, fault):
    """Results are copied into a clone that has other settings"""
    target = tmp_path / "new"
    results_alone(project, target)
    overlay = target / "config/scales/smoke.yaml"
    text = overlay.read_text()
    assert "grpo: {iterations: 3," in text
    overlay.write_text(text.replace("grpo: {iterations: 3,", "grpo: {iterations: 4,"))
    counts = planned(snakemake(target, "-n", *SMOKE, TABLE))
    assert counts["train"] == 4
    assert not {"tokenizer", "pretrained_policy", "network", "reference"} & set(counts)
    fault.done = "`cp -r` of results/ into a clone whose trainings have one more iteration; `snakemake -n`"
    fault.happened = "the four trainings and what follows from them were planned, and nothing else"
    fault.lost = "nothing: results of other settings are never called up to date, and the rest is kept"


@pytest.mark.faults
def test_the_mark_of_the_store_is_missing(project, fault):
    """The tracking store and the file that marks it as made are lost, and the code has changed since"""
    weights = digest(project / TRAINED)
    (project / "results/.mlflow_store.json").unlink()
    (project / STORE).unlink()
    shutil.rmtree(project / "results/smoke/tracking")
    with open(project / "src/artune/tuning/train.py", "a") as source:
        source.write("# a comment\n")
    text = snakemake(project, *SMOKE, TABLE, "results/smoke/tracking/table4.json")
    assert planned(text) == {"mlflow_store": 1, "mlflow_log": 1, "publish_table": 1}
    assert digest(project / TRAINED) == weights
    with sqlite3.connect(project / STORE) as store:
        assert store.execute("SELECT COUNT(*) FROM runs").fetchone() == (4,)
    fault.done = (
        "`rm -r results/.mlflow_store.json results/mlflow.db results/smoke/tracking`, a comment added to the code"
    )
    fault.happened = "the store was made again and filled from the files; no training was planned"
    fault.lost = "nothing: every number is in the store again"
