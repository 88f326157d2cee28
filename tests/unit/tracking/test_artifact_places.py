import itertools
import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
import yaml
from PIL import Image

from artune.config.registry import Registry
from artune.tracking.artifact_places import keep_artifacts_beside
from artune.tracking.mlflow_run import connect_mlflow
from artune.tracking.mlflow_store import init_store, upsert

REGISTRY = Registry("mnist")
RUN = Path("results/mnist/runs/llamagen_l-ours")


NUMBERS = itertools.count()


def address() -> str:
    """The address of ``results/mlflow.db``, spelled anew: MLflow keeps a connection per address for a whole process."""
    return f"sqlite:///{'./' * next(NUMBERS)}results/mlflow.db"


def finished_run(fid: float = 1.25) -> Path:
    RUN.mkdir(parents=True, exist_ok=True)
    spec = REGISTRY.spec(RUN.name)
    (RUN / "config.yaml").write_text(yaml.safe_dump(spec))
    scores = {"run": RUN.name, "base": spec["base"], "commit": "abc", "n": 8, "scores": {"fid": fid, "recall": 0.5}}
    (RUN / "scores.json").write_text(json.dumps(scores))
    Image.new("RGB", (8, 8)).save(RUN / "grid.png")
    return RUN


def addresses(database: str = "results/mlflow.db") -> list[str]:
    with sqlite3.connect(database) as store:
        experiments = [at for (at,) in store.execute("SELECT artifact_location FROM experiments")]
        return experiments + [at for (at,) in store.execute("SELECT artifact_uri FROM runs")]


def served() -> dict[str, int]:
    """Names and sizes of the files that MLflow finds for the run."""
    client = connect_mlflow(address())
    (run,) = client.search_runs([client.get_experiment_by_name("mnist").experiment_id])
    return {file.path: file.file_size for file in client.list_artifacts(run.info.run_id)}


def as_mlflow_makes_them(old: Path) -> None:
    """Give the store the absolute addresses that MLflow gives by itself, in the folder ``old``."""
    with sqlite3.connect("results/mlflow.db") as store:
        store.execute("UPDATE experiments SET artifact_location = ? || name", (f"file://{old}/results/mlflow/",))
        store.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0", (f"{old}/mlruns/0",))
        store.execute(
            "UPDATE runs SET artifact_uri = ? || run_uuid || '/artifacts'", (f"file://{old}/results/mlflow/mnist/",)
        )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project folder with one run in its store."""
    folder, here = tmp_path_factory.mktemp("finished"), Path.cwd()
    os.chdir(folder)
    assert upsert(address(), REGISTRY, [finished_run()])
    os.chdir(here)
    return folder


@pytest.fixture
def old(finished, tmp_path, monkeypatch):
    """A copy of that project folder, the working directory."""
    shutil.copytree(finished, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old"


@pytest.mark.parametrize("made", ["here", "by MLflow"])
@pytest.mark.parametrize("where", ["gone", "not writable", "still there"])
def test_a_store_that_was_moved_reads_and_writes_beside_its_database(made, where, old, tmp_path, monkeypatch):
    if made == "by MLflow":  # as before addresses were relative
        as_mlflow_makes_them(old)
    new = tmp_path / "new"
    shutil.copytree(old, new)
    if where != "still there":
        shutil.rmtree(old)
    if where == "not writable":
        old.write_text("a file where the old folder was")
    before = sorted(old.rglob("*")) if where == "still there" else []
    monkeypatch.chdir(new)
    assert upsert(address(), REGISTRY, [finished_run(fid=0.75)])
    assert {"scores.json", "grid.png", "config.yaml"} <= set(served())
    assert served()["scores.json"] == (RUN / "scores.json").stat().st_size
    assert all(at.startswith("results/mlflow/") for at in addresses())
    assert old.exists() == (where != "gone")
    assert (sorted(old.rglob("*")) if where == "still there" else []) == before


def test_addresses_are_relative_from_the_start(old, monkeypatch):
    assert addresses()
    assert all(at.startswith("results/mlflow/") for at in addresses())
    shutil.move(old / "results", old.parent / "results")
    monkeypatch.chdir(old.parent)
    assert {"scores.json", "grid.png", "config.yaml"} <= set(served())  # without a command that repairs anything


def test_a_database_with_an_address_of_its_own_keeps_artifacts_beside_it(tmp_path):
    database = tmp_path / "a store" / "my.db"
    assert init_store(f"sqlite:///{database}", ["mnist"])
    assert f"{(database.parent / 'my/mnist').as_uri()}" in addresses(str(database))
    shutil.move(database.parent, tmp_path / "moved")
    assert init_store(f"sqlite:///{tmp_path}/moved/my.db")
    assert {at for at in addresses(f"{tmp_path}/moved/my.db")} == {
        (tmp_path / "moved/my" / name).as_uri() for name in ("Default", "mnist")
    }


def test_a_store_is_made_in_a_folder_of_any_name(tmp_path, monkeypatch):
    folder = tmp_path / """a?b#c%41'd"e f"""
    (folder / "results").mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert init_store(f"SQLite:///{address().removeprefix('sqlite:///')}", ["mnist"])
    assert "results/mlflow/mnist" in addresses()
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]  # nothing beside it
    assert not [name for name in os.listdir("results") if name.endswith(".tmp")]


def test_an_address_that_the_user_chose_is_left_alone(old):
    client = connect_mlflow(address())
    chosen = client.create_experiment("own", artifact_location=f"file://{old}/elsewhere")
    run = client.create_run(chosen)
    keep_artifacts_beside(Path("results/mlflow.db"))
    assert client.get_experiment(chosen).artifact_location == f"file://{old}/elsewhere"
    assert client.get_run(run.info.run_id).info.artifact_uri == run.info.artifact_uri


def test_artifacts_that_stayed_behind_are_uploaded_again(old):
    shutil.rmtree("results/mlflow")
    assert upsert(address(), REGISTRY, [RUN])
    assert {"scores.json", "grid.png", "config.yaml"} <= set(served())
