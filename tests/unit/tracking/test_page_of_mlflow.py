"""What MLflow is given: source, settings, data, load of the machine, saved views, means over seeds."""

import itertools
import json
import os
import shutil
import stat
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from finished_runs import ITERATIONS, finished_run
from PIL import Image

from artune.config.registry import Registry
from artune.config.seeds import row_of
from artune.tracking.mlflow_run import connect_mlflow
from artune.tracking.mlflow_store import live_record, mean_points, upsert
from artune.tracking.run_facts import DataFile, colour_of, compared_settings
from artune.tracking.run_logger import RunLogger, read_lines
from artune.tracking.run_page import draw_strip, tiles_of
from artune.tracking.saved_views import SHARED, experiments_with_views, link, rows_of, view_of, view_tags
from artune.tracking.source_code import SourceCode, code_of, web_address
from artune.tracking.sqlite_store import create_database
from artune.tracking.usage import Usage, parse_gpus, read_gpus

REGISTRY = Registry("mnist")
TABLE4 = ("llamagen_l-argrpo", "llamagen_l-ours", "llamagen_l-argrpo-maniqa", "llamagen_l-ours-maniqa")

# -- source ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("remote", "address"),
    {
        "git@github.com:someone/artune.git": "https://github.com/someone/artune",
        "https://github.com/someone/artune": "https://github.com/someone/artune",
        "https://alice:s3cret@gitlab.example.org/group/sub/artune.git/": "https://gitlab.example.org/group/sub/artune",
        "ssh://git@bitbucket.org:7999/someone/artune.git": "https://bitbucket.org/someone/artune",
        "/srv/git/artune.git": None,
        "../artune": None,
        "file:///srv/git/artune.git": None,
        "": None,
        None: None,
    }.items(),
)
def test_a_remote_on_a_host_has_a_page_and_a_folder_has_none(remote, address):
    assert web_address(remote) == address


def test_a_commit_is_linked_only_where_its_remote_is_known():
    known, local = SourceCode("0123456789", False, "https://github.com/someone/artune"), SourceCode("0123456789", True)
    assert known.link() == "[commit `01234567`](https://github.com/someone/artune/commit/0123456789)"
    assert local.link() == "commit `01234567` with changes that were not committed"
    assert known.tags()["mlflow.source.type"] == "PROJECT"
    assert known.tags()["mlflow.source.git.repoURL"] == known.tags()["mlflow.source.name"] == known.address
    assert local.tags()["mlflow.source.type"] == "LOCAL"
    assert local.tags()["mlflow.source.git.dirty"] == "true"
    assert "mlflow.source.git.commit" not in SourceCode().tags()


# -- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", REGISTRY.run_names)
def test_a_run_shows_the_settings_that_people_compare_and_not_all(run):
    found = compared_settings(REGISTRY, REGISTRY.spec(run))
    assert 2 <= len(found) <= 35
    assert {"method", "seed"} <= set(found)


def test_what_lines_vary_is_a_parameter_and_what_is_switched_off_is_none():
    ours, argrpo = (compared_settings(REGISTRY, REGISTRY.spec(run)) for run in ("llamagen_l-ours", "llamagen_l-argrpo"))
    assert ours["rewards.terms"] == "clip + hps + loo_fid"
    assert (ours["grpo.beta"], ours["rewards.loo_fid.covariance"], ours["entropy.enabled"]) == (3.0, "diag", True)
    assert "rewards.loo_fid.pca" in ours  # a line of Table 9 sets it
    assert not {key for key in argrpo if key.startswith(("rewards.loo_fid", "entropy.c"))}
    assert not {key for key in ours if key.startswith(("tokenizer", "networks.", "data"))}


def test_the_four_rows_of_table_4_have_colours_that_differ():
    colours = [colour_of(REGISTRY, run)["mlflow.runColor"] for run in TABLE4]
    parts = [np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) for colour in colours]
    assert min(np.abs(one - other).max() for one, other in itertools.combinations(parts, 2)) > 60


# -- pictures -------------------------------------------------------------------------------------------------------


def grid(columns: int, rows: int, side: int = 30) -> Image.Image:
    """A white sheet with a title and labels of a few pixels, and images of growing brightness between white lines."""
    sheet = np.full((20 + rows * (side + 4), 40 + columns * (side + 4)), 255, dtype=np.uint8)
    sheet[5:12, 10:60] = 0
    for row, column in itertools.product(range(rows), range(columns)):
        top, left = 20 + row * (side + 4), 40 + column * (side + 4)
        sheet[top : top + side, left : left + side] = 10 + 5 * (row * columns + column)
        sheet[top + 10 : top + 16, 5:20] = 0
    return Image.fromarray(sheet).convert("RGB")


def test_the_images_of_a_grid_are_found_without_its_words():
    tiles = tiles_of(grid(3, 4))
    assert [tile.size for tile in tiles] == [(30, 30)] * 12
    assert [tile.getpixel((15, 15))[0] for tile in tiles] == [10 + 5 * at for at in range(12)]
    assert tiles_of(Image.new("RGB", (50, 40), "white"))[0].size == (50, 40)


def test_the_strip_shows_the_first_grid_above_the_last_and_fits_above_the_fold(tmp_path):
    (tmp_path / "grids").mkdir()
    for iteration in (0, 25, 50):
        grid(4, 10).save(tmp_path / f"grids/iteration-{iteration:06d}.png")
    draw_strip(tmp_path, tmp_path / "strip.png")
    assert Image.open(tmp_path / "strip.png").size == (640, 80)


# -- load of the machine --------------------------------------------------------------------------------------------

LISTED = "0, 87, 40960, 351.2\n1, 3, 512, [N/A]\n"


def test_the_list_of_nvidia_smi_becomes_mlflows_names():
    assert parse_gpus(LISTED) == {
        "system/gpu_0_utilization_percentage": 87.0,
        "system/gpu_0_memory_usage_megabytes": 42949.7,
        "system/gpu_0_power_usage_watts": 351.2,
        "system/gpu_1_utilization_percentage": 3.0,
        "system/gpu_1_memory_usage_megabytes": 536.9,
    }


def nvidia_smi(folder: Path, monkeypatch, script: str) -> None:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_gpus_are_read_by_a_thread_and_their_mean_comes_with_the_next_reading(tmp_path, monkeypatch):
    nvidia_smi(tmp_path, monkeypatch, f'echo "$@" >> {tmp_path}/asked; printf "0, 50, 100, 10\\n"')
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    usage = Usage(every=0.05)
    first = usage.reading()
    end = time.monotonic() + 20
    while len(usage.gpus) < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    second = usage.reading()
    usage.close()
    usage.thread.join(20)
    assert "system/gpu_0_utilization_percentage" not in first
    assert second["system/gpu_0_utilization_percentage"] == 50.0
    assert {"system/cpu_utilization_percentage", "system/process_cpu_percentage"} <= set(second)
    assert first["system/process_memory_megabytes"] > 10
    assert "--id=0" in (tmp_path / "asked").read_text()


@pytest.mark.parametrize("script", ["exit 9", "echo nothing of use"])
def test_a_driver_that_fails_is_no_reading(script, tmp_path, monkeypatch):
    nvidia_smi(tmp_path, monkeypatch, script)
    assert read_gpus() == {}
    usage = Usage(every=0.0)
    usage.reading()
    usage.thread.join(20)
    assert not usage.thread.is_alive()
    assert not [name for name in usage.reading() if "gpu" in name]


def test_the_load_is_in_a_file_of_its_own_and_the_numbers_are_untouched(tmp_path):
    for name, usage in (("with", Usage(every=0.0)), ("without", None)):
        (tmp_path / name).mkdir()
        logger = RunLogger(tmp_path / name, usage=usage)
        logger.resume(0)
        for iteration in range(3):
            logger.log(iteration, {"reward/total": iteration / 3}, {"time/iteration": 0.5})
        logger.close()
    for file in ("metrics.jsonl", "timings.jsonl"):
        assert (tmp_path / "with" / file).read_bytes() == (tmp_path / "without" / file).read_bytes()
    lines = read_lines(tmp_path / "with/system.jsonl")
    assert [line["iteration"] for line in lines] == [0, 1, 2]
    assert not (tmp_path / "without/system.jsonl").exists()
    RunLogger(tmp_path / "with", usage=Usage()).resume(1)
    assert len(read_lines(tmp_path / "with/system.jsonl")) == 1


def test_a_reading_takes_no_time_that_a_training_would_feel():
    usage = Usage(every=0.0)
    usage.reading()
    began = time.process_time()
    for _ in range(20):
        usage.reading()
    usage.close()
    assert (time.process_time() - began) / 20 < 0.02


# -- saved views ----------------------------------------------------------------------------------------------------


def test_the_view_of_table_4_has_its_runs_its_scores_and_opens_on_curves():
    view = view_of(REGISTRY, "table4")
    names = [f"metrics.`eval/{name}`" for name in ("fid", "inception_score", "precision", "recall")]
    assert view["selectedColumns"][:4] == names
    first, *_, last = view["compareRunSections"]
    assert (first["name"], first["display"], last["display"]) == ("Curves", True, False)
    kinds = [chart["type"] for chart in view["compareRunCharts"] if chart["metricSectionId"] == first["uuid"]]
    assert kinds
    assert set(kinds) == {"LINE"}
    sections = {section["uuid"] for section in view["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in view["compareRunCharts"]} <= sections


@pytest.mark.parametrize("scale", ["mnist", "imagenet", "fashion"])
def test_every_tables_view_fits_a_tag_and_is_named(scale):
    registry = Registry(scale)
    tags = view_tags(registry, {row_of(registry.spec(run)) for run in registry.run_names})
    assert {f"{SHARED}table{number}" for number in (1, 4, 8)} <= set(tags)
    for value in tags.values():
        assert len(value) < 20_000
        kept = json.loads(value)
        assert json.loads(kept["state"])["compareRunCharts"]
        assert kept["name"]


def test_a_link_opens_the_model_training_view_on_a_table():
    parts = urlsplit(link("http://127.0.0.1:5000/", "3", "table4", charts=True))
    path, _, query = parts.fragment.partition("?")
    assert path == "/experiments/3/runs"
    expected = {"workflowType": "machine_learning", "compareRunsMode": "CHART", "viewStateShareKey": "table4"}
    assert {key: value for key, [value] in parse_qs(query).items()} == expected


# -- seeds, and the same page however it was logged -----------------------------------------------------------------


def test_means_are_of_numbers_that_all_seeds_have():
    points = [
        [("eval/fid", 1.0, 0), ("eval/fid_se", 0.1, 0), ("reward/total", 2.0, 0), ("reward/total", 3.0, 1)],
        [("eval/fid", 2.0, 0), ("eval/fid_se", 0.1, 0), ("reward/total", 4.0, 0)],
    ]
    assert mean_points(points) == [
        ("eval/fid", 1.5, 0),
        ("reward/total", 3.0, 0),
        ("seeds/fid", pytest.approx(0.5**0.5, abs=1e-6), 0),
    ]


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """An empty store, which takes seconds to make and is copied for each test."""
    database = tmp_path_factory.mktemp("empty") / "mlflow.db"
    create_database(database)
    return database


def new_store(empty: Path, folder: Path, name: str = "mlflow") -> str:
    shutil.copy(empty, folder / f"{name}.db")
    return f"sqlite:///{folder}/{name}.db"


def run_of(uri: str, name: str):
    client = connect_mlflow(uri)
    (run,) = client.search_runs(
        [client.get_experiment_by_name("mnist").experiment_id], f"attributes.run_name = '{name}'"
    )
    return client, run


def page(uri: str, name: str) -> dict:
    """All that a run's page shows, without its id and its times."""
    client, run = run_of(uri, name)
    tags = {key: value.replace(run.info.run_id, "ID") for key, value in run.data.tags.items()}
    return {
        "params": run.data.params,
        "metrics": {key: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)]
                    for key in run.data.metrics},
        "tags": tags,
        "files": sorted(file.path for file in client.list_artifacts(run.info.run_id)),
        "data": {(one.dataset.name, one.dataset.digest, one.tags[0].value) for one in run.inputs.dataset_inputs},
        "experiment": client.get_experiment(run.info.experiment_id).tags,
        "status": run.info.status,
    }  # fmt: skip


def test_a_run_that_was_logged_live_has_the_page_of_one_that_was_logged_from_its_files(tmp_path, empty):
    (tmp_path / "data.npz").write_bytes(b"images")
    data = (DataFile("mnist training images", "training", tmp_path / "data.npz"),
            DataFile("mnist reference", "evaluation", tmp_path / "absent.npz"))  # fmt: skip
    folder = finished_run(tmp_path / "runs", REGISTRY, "llamagen_l-ours")
    live, later = (new_store(empty, tmp_path, name) for name in ("live", "later"))
    training = folder / "training"
    training.mkdir()
    logger = RunLogger(training, live_record(live, REGISTRY, folder / "config.yaml", code_of("abc", False), data))
    logger.resume(0)
    for line, seconds in zip(read_lines(folder / "metrics.jsonl"), read_lines(folder / "timings.jsonl"), strict=True):
        number = line.pop("iteration")
        logger.log(number, line, {key: value for key, value in seconds.items() if key != "iteration"})
    logger.show(0, folder / "grids/iteration-000000.png")
    while not logger.view.queue.empty():
        time.sleep(0.05)
    logger.close()
    shutil.rmtree(training)
    at_once = page(live, "llamagen_l-ours")
    assert {"config.yaml", "samples.png", "strip.png"} <= set(at_once["files"])
    assert len(at_once["metrics"]["reward/total"]) == ITERATIONS
    for uri in (live, later):
        assert upsert(uri, REGISTRY, [folder], lambda run: data)
    assert page(live, "llamagen_l-ours") == page(later, "llamagen_l-ours")
    assert at_once["params"] == page(later, "llamagen_l-ours")["params"]
    assert at_once["data"] == {("mnist training images", data[0].digest(), "training")}
    assert {"system/cpu_utilization_percentage", "eval/fid", "paper/fid"} <= set(
        page(later, "llamagen_l-ours")["metrics"]
    )
    (experiment,) = experiments_with_views(later, REGISTRY.tables)
    assert (experiment.name, experiment.tables[0]) == ("mnist", "table4")
    assert [one.name for one in connect_mlflow(later).search_experiments()] == ["mnist"]  # no "Default", none empty


def test_several_seeds_of_a_row_get_one_parent_and_a_single_seed_none(tmp_path, empty):
    uri, runs = new_store(empty, tmp_path), tmp_path / "runs"
    folders = [finished_run(runs, REGISTRY, "llamagen_l-ours", 1.0), finished_run(runs, REGISTRY, "llamagen_l-kl2")]
    assert upsert(uri, REGISTRY, folders)
    client, _ = run_of(uri, "llamagen_l-ours")
    experiment = client.get_experiment_by_name("mnist").experiment_id
    assert len(client.search_runs([experiment])) == 2
    folders.append(finished_run(runs, REGISTRY, "llamagen_l-ours-s1", 3.0))
    for given in (folders[2:], folders):  # the seeds that lie beside those that are asked for belong to the row as well
        assert upsert(uri, REGISTRY, given)
        _, parent = run_of(uri, "llamagen_l-ours (mean)")
        assert (parent.data.metrics["eval/fid"], parent.data.tags["seeds"]) == (2.0, "2")
        assert parent.data.metrics["seeds/fid"] == pytest.approx(2**0.5, abs=1e-5)
        assert parent.data.tags["table4"] == "Ours (CLIPScore + HPSv2)"
        assert "seed" not in parent.data.params
        for name in ("llamagen_l-ours", "llamagen_l-ours-s1"):
            assert run_of(uri, name)[1].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert len(client.search_runs([experiment])) == 4
    shown = client.search_runs([experiment], rows_of("table4"))
    assert [run.info.run_name for run in shown] == ["llamagen_l-ours (mean)"]  # the view of Table 4: a line per row
    assert "mlflow.parentRunId" not in run_of(uri, "llamagen_l-kl2")[1].data.tags


def test_a_store_with_all_settings_as_parameters_is_brought_to_those_that_are_compared(tmp_path, empty):
    uri = new_store(empty, tmp_path)
    folder = finished_run(tmp_path, REGISTRY, "llamagen_l-fid")
    assert upsert(uri, REGISTRY, [folder])
    client, run = run_of(uri, "llamagen_l-fid")
    client.log_param(run.info.run_id, "tokenizer.channels", 8)
    assert upsert(uri, REGISTRY, [folder])
    assert "tokenizer.channels" not in run_of(uri, "llamagen_l-fid")[1].data.params
