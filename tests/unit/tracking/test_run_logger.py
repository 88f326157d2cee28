import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

from artune.config.glossary import METRICS
from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.tracking.mlflow_run import MlflowRun, RunView, connect_mlflow, experiment_id
from artune.tracking.mlflow_store import init_store, upsert
from artune.tracking.run_logger import RunLogger, read_lines

REGISTRY = Registry("mnist")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A real SQLite store; each test uses its own run names."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"
    assert init_store(uri, ["mnist"])
    return uri


def runs_where(uri: str, condition: str) -> list:
    client = connect_mlflow(uri)
    experiment = client.get_experiment_by_name("mnist").experiment_id
    return client.search_runs([experiment], condition)


def curve(uri: str, run, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in connect_mlflow(uri).get_metric_history(run.info.run_id, key)]


def logged(logger: RunLogger, iterations: range) -> None:
    for iteration in iterations:
        logger.log(iteration, {"reward/total": iteration / 3, "fid/ema": 1.0}, {"time/iteration": 0.5})


def test_a_clock_that_is_set_back_gives_a_run_no_negative_time(store, monkeypatch):
    view = RunView(MlflowRun(store, "mnist", "set-back", {}, {}))
    before = time.time
    monkeypatch.setattr(time, "time", lambda: before() - 86_400)
    view.add([("loss", 1.0, 0)])
    view.finish()
    again = RunView(MlflowRun(store, "mnist", "set-back", {}, {}))  # a resumed training, which began in the future
    again.reopen()
    again.finish()
    run = view.client.get_run(view.id)
    assert run.info.start_time <= run.info.end_time < run.info.start_time + 600_000
    assert run.info.start_time <= view.client.get_metric_history(view.id, "loss")[0].timestamp


def test_two_trainings_that_start_together_share_the_experiment_that_one_of_them_creates(store):
    client, other = connect_mlflow(store), connect_mlflow(store)
    look, made = client.get_experiment_by_name, []

    def look_before_the_other_creates(name: str):
        found = look(name)
        if found is None and not made:
            made.append(other.create_experiment(name))
        return found

    client.get_experiment_by_name = look_before_the_other_creates
    assert experiment_id(client, store, "started together") == made[0]


def test_an_experiment_that_nobody_can_create_is_an_error(store):
    client = connect_mlflow(store)
    client.create_experiment = lambda *_: (_ for _ in ()).throw(OSError("the disk is full"))
    with pytest.raises(OSError, match="the disk is full"):
        experiment_id(client, store, "no room for it")


def finished_run(folder: Path, name: str, fid: float = 1.25) -> Path:
    folder = folder / name
    folder.mkdir(parents=True)
    spec = REGISTRY.spec(name)
    (folder / "config.yaml").write_text(yaml.safe_dump(spec))
    logger = RunLogger(folder)
    logged(logger, range(4))
    logger.close()
    scores = {"run": name, "base": spec["base"], "commit": "abc", "n": 8, "scores": {"fid": fid, "recall": 0.5}}
    (folder / "scores.json").write_text(json.dumps(scores))
    Image.new("RGB", (8, 8)).save(folder / "grid.png")
    return folder


def test_numbers_and_seconds_go_to_files_of_their_own_as_strict_json(tmp_path):
    logger = RunLogger(tmp_path)
    logger.log(0, {"reward/total": 0.1, "fid/ema": float("nan")}, {"time/update": 2})
    logger.close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"iteration": 0, "reward/total": 0.1, "fid/ema": null}\n'
    assert (tmp_path / "timings.jsonl").read_text() == '{"iteration": 0, "time/update": 2.0}\n'


def test_a_line_is_on_disk_as_soon_as_it_is_logged(tmp_path):
    logger = RunLogger(tmp_path)
    logged(logger, range(2))
    assert len(read_lines(tmp_path / "metrics.jsonl")) == 2
    logger.close()


def test_resume_cuts_later_and_torn_lines_and_the_rest_reads_as_undisturbed(tmp_path):
    disturbed, calm = tmp_path / "disturbed", tmp_path / "calm"
    for folder in (disturbed, calm):
        folder.mkdir()
    logger = RunLogger(disturbed)
    logged(logger, range(5))
    logger.close()
    with open(disturbed / "metrics.jsonl", "a") as handle:
        handle.write('{"iteration": 5, "rewa')
    logger = RunLogger(disturbed)
    logger.resume(3)
    assert [line["iteration"] for line in read_lines(disturbed / "metrics.jsonl")] == [0, 1, 2]
    logged(logger, range(3, 6))
    logger.close()
    logger = RunLogger(calm)
    logger.resume(0)
    logged(logger, range(6))
    logger.close()
    for name in ("metrics.jsonl", "timings.jsonl"):
        assert (disturbed / name).read_bytes() == (calm / name).read_bytes()


def test_a_killed_process_leaves_every_logged_iteration_and_resume_mends_the_file(tmp_path):
    script = (
        "import sys; from pathlib import Path; from artune.tracking.run_logger import RunLogger\n"
        "logger = RunLogger(Path(sys.argv[1]))\n"
        "for i in range(10**9): logger.log(i, {'reward/total': i}, {}); print(i, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    while int(process.stdout.readline()) < 50:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [line["iteration"] for line in read_lines(tmp_path / "metrics.jsonl")][:51] == list(range(51))
    RunLogger(tmp_path).resume(20)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == list(range(20))


def test_a_damaged_line_in_the_middle_is_an_error_of_one_line(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"iteration": 0}\n{"iter\n{"iteration": 2}\n')
    with pytest.raises(ArtuneError, match=r"metrics\.jsonl: line 2 is damaged"):
        RunLogger(tmp_path).resume(3)


def test_iterations_appear_in_mlflow_while_training(tmp_path, store):
    logger = RunLogger(tmp_path, MlflowRun(store, "mnist", "live", {"grpo": {"beta": 3.0}}, {"backbone": "llamagen_l"}))
    logger.resume(0)
    logged(logger, range(3))
    for _ in range(100):
        runs = runs_where(store, "attributes.run_name = 'live' AND tags.backbone = 'llamagen_l'")
        if runs and "fid/ema" in runs[0].data.metrics:
            break
        time.sleep(0.1)
    assert runs[0].info.status == "RUNNING"
    logged(logger, range(3, 5))
    logger.close()
    (run,) = runs_where(store, "attributes.run_name = 'live'")
    assert (run.info.status, run.data.params["grpo.beta"]) == ("FINISHED", "3.0")
    assert curve(store, run, "reward/total") == [(i, i / 3) for i in range(5)]


def test_a_resumed_training_goes_on_in_its_own_run_and_logs_no_step_twice(tmp_path, store):
    logger = RunLogger(tmp_path, MlflowRun(store, "mnist", "resumed", {}, {}))
    logger.resume(0)
    logged(logger, range(4))
    logger.close()
    logger = RunLogger(tmp_path, MlflowRun(store, "mnist", "resumed", {}, {}))
    logger.resume(2)
    logged(logger, range(2, 6))
    logger.close()
    (run,) = runs_where(store, "attributes.run_name = 'resumed'")
    assert curve(store, run, "reward/total") == [(i, i / 3) for i in range(6)]


def test_a_training_from_the_start_replaces_the_run_of_an_older_one(tmp_path, store):
    for last in (5, 2):
        logger = RunLogger(tmp_path, MlflowRun(store, "mnist", "again", {}, {}))
        logger.resume(0)
        logged(logger, range(last))
        logger.close()
    (run,) = runs_where(store, "attributes.run_name = 'again'")
    assert len(curve(store, run, "fid/ema")) == 2


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def hanging_server() -> socket.socket:
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(8)  # accepts connections and never answers
    return server


@pytest.mark.parametrize("kind", ["refused", "hanging", "no database"])
def test_a_dead_store_is_one_warning_and_training_goes_on_at_full_speed(kind, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    server = hanging_server()
    uri = {
        "refused": f"http://127.0.0.1:{free_port()}",
        "hanging": f"http://127.0.0.1:{server.getsockname()[1]}",
        "no database": f"sqlite:///{tmp_path}/absent/mlflow.db",
    }[kind]
    logger = RunLogger(tmp_path, MlflowRun(uri, "mnist", "run", {}, {}))
    logger.resume(0)
    began = time.monotonic()
    logged(logger, range(200))
    assert time.monotonic() - began < 1.0
    logger.close()
    assert time.monotonic() - began < 10.0
    server.close()
    assert len(read_lines(tmp_path / "metrics.jsonl")) == 200
    warnings = capfd.readouterr().err.splitlines()
    assert len(warnings) == 1, warnings
    assert uri in warnings[0]


@pytest.mark.parametrize("kind", ["refused", "hanging"])
def test_upsert_to_a_dead_server_warns_once_and_says_no(kind, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    folder = finished_run(tmp_path, "llamagen_l-ours")
    server = hanging_server()
    port = free_port() if kind == "refused" else server.getsockname()[1]
    began = time.monotonic()
    assert not upsert(f"http://127.0.0.1:{port}", REGISTRY, [folder])
    assert time.monotonic() - began < 15.0
    server.close()
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_a_store_is_put_in_place_whole_by_several_processes_at_once(tmp_path):
    uri = f"sqlite:///{tmp_path}/results/mlflow.db"
    script = f"import sys; from artune.tracking.mlflow_store import init_store; sys.exit(not init_store({uri!r}))"
    processes = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        assert process.communicate()[1] == b""
        assert process.returncode == 0
    assert connect_mlflow(uri).search_experiments() == []  # an experiment is made when its first run is logged
    assert not [name for name in os.listdir(tmp_path / "results") if "tmp" in name]


def test_a_finished_run_is_found_by_its_table_with_curves_scores_and_the_papers_values(tmp_path, store):
    folders = [finished_run(tmp_path, name) for name in ("llamagen_l-ours", "llamagen_l-argrpo", "llamagen_l-kl2")]
    assert upsert(store, REGISTRY, folders)
    table4 = {run.info.run_name: run for run in runs_where(store, "tags.table4 IS NOT NULL")}
    assert set(table4) == {"llamagen_l-ours", "llamagen_l-argrpo"}
    run = table4["llamagen_l-ours"]
    assert (run.data.metrics["eval/fid"], run.data.metrics["paper/fid"]) == (1.25, 3.83)
    assert curve(store, run, "reward/total") == [(i, i / 3) for i in range(4)]
    assert curve(store, run, "time/iteration") == [(i, 0.5) for i in range(4)]
    assert run.data.tags["table4"] == "Ours (CLIPScore + HPSv2)"
    expected = {"method": "grpo", "rewards": "clip+hps+loo_fid", "cfg": "1.5", "seed": "0", "commit": "abc"}
    assert expected.items() <= run.data.tags.items()
    artifacts = {artifact.path for artifact in connect_mlflow(store).list_artifacts(run.info.run_id)}
    assert artifacts == {"grid.png", "config.yaml", "scores.json", "samples.png", "strip.png"}
    assert f"get-artifact?path=samples.png&run_uuid={run.info.run_id}" in run.data.tags["mlflow.note.content"]


def draw_grids(folder, *iterations):
    (folder / "grids").mkdir(exist_ok=True)
    for iteration in iterations:
        Image.new("RGB", (8, 8), (iteration, 0, 0)).save(folder / f"grids/iteration-{iteration:06d}.png")


def pictures(store, run) -> list[int]:
    names = [
        file.path for file in connect_mlflow(store).list_artifacts(run.info.run_id, "images") if "webp" not in file.path
    ]
    return sorted(int(re.search(r"samples\Wstep\W(\d+)", name)[1]) for name in names)


def test_grids_drawn_while_tuning_are_steps_of_one_picture_logged_once(tmp_path, store):
    folder = finished_run(tmp_path, "llamagen_l-pca_diag")
    draw_grids(folder, 0, 25)
    live = RunLogger(tmp_path, MlflowRun(store, "mnist", "llamagen_l-pca_diag", {}, {}))
    live.resume(0)
    logged(live, range(1))
    live.show(0, folder / "grids/iteration-000000.png")
    live.close()
    (run,) = runs_where(store, "attributes.run_name = 'llamagen_l-pca_diag'")
    assert pictures(store, run) == [0]
    for _ in range(2):
        assert upsert(store, REGISTRY, [folder])
        (run,) = runs_where(store, "attributes.run_name = 'llamagen_l-pca_diag'")
        assert pictures(store, run) == [0, 25]
    assert "### Results" in run.data.tags["mlflow.note.content"]
    experiment = connect_mlflow(store).get_experiment(run.info.experiment_id)
    assert "What every metric means" in experiment.tags["mlflow.note.content"]


def test_upserting_twice_adds_nothing(tmp_path, store):
    folder = finished_run(tmp_path, "llamagen_l-fid")

    def state() -> list:
        (run,) = runs_where(store, "attributes.run_name = 'llamagen_l-fid'")
        return [run.to_dictionary(), {key: curve(store, run, key) for key in run.data.metrics}]

    assert upsert(store, REGISTRY, [folder])
    before = state()
    assert upsert(store, REGISTRY, [folder])
    assert state() == before


def test_upsert_completes_what_the_live_view_missed(tmp_path, store):
    folder = finished_run(tmp_path, "llamagen_l-kl1")
    (tmp_path / "elsewhere").mkdir()
    live = RunLogger(tmp_path / "elsewhere", MlflowRun(store, "mnist", "llamagen_l-kl1", {}, {}))
    logged(live, range(2))
    live.close(finished=False)
    (before,) = runs_where(store, "attributes.run_name = 'llamagen_l-kl1'")
    assert upsert(store, REGISTRY, [folder])
    (run,) = runs_where(store, "attributes.run_name = 'llamagen_l-kl1'")
    assert (run.info.run_id, run.info.status) == (before.info.run_id, "FINISHED")
    assert curve(store, run, "reward/total") == [(i, i / 3) for i in range(4)]


def test_a_run_scored_again_is_logged_afresh(tmp_path, store):
    assert upsert(store, REGISTRY, [finished_run(tmp_path / "first", "llamagen_l-kl0")])
    assert upsert(store, REGISTRY, [finished_run(tmp_path / "second", "llamagen_l-kl0", fid=0.75)])
    (run,) = runs_where(store, "attributes.run_name = 'llamagen_l-kl0'")
    assert curve(store, run, "eval/fid") == [(0, 0.75)]


def test_a_run_without_scores_is_passed_over(tmp_path, store):
    folder = finished_run(tmp_path, "llamagen_l-hps")
    (folder / "scores.json").unlink()
    assert upsert(store, REGISTRY, [folder])
    assert runs_where(store, "attributes.run_name = 'llamagen_l-hps'") == []


def test_every_metric_has_a_meaning_of_one_line():
    assert {key.split("/")[0] for key in METRICS} == {
        "reward", "fid", "policy", "entropy", "optim", "mle", "vapi", "time", "eval", "paper",
    }  # fmt: skip
    assert all(text and "\n" not in text for text in METRICS.values())
    assert {"reward/loo_fid_std_between", "policy/clip_acting_fraction", "time/reward_hps", "eval/fid_se"} <= set(
        METRICS
    )
    assert {"policy/ratio_outside_fraction", "paper/fid"} <= set(METRICS)


def test_an_older_log_is_read_under_the_present_names(tmp_path):
    """Before, ``policy/clip_fraction`` counted all ratios outside the band; no number has that name any more."""
    logger = RunLogger(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"iteration": 0, "policy/clip_fraction": 0.625, "policy/kl": 0.5}\n')
    logger.resume(1)  # a training that was begun by the older code
    logger.log(1, {"policy/ratio_outside_fraction": 0.5, "policy/clip_acting_fraction": 0.25}, {})
    logger.close()
    first, second = read_lines(tmp_path / "metrics.jsonl")
    assert first == {"iteration": 0, "policy/ratio_outside_fraction": 0.625, "policy/kl": 0.5}
    assert second == {"iteration": 1, "policy/ratio_outside_fraction": 0.5, "policy/clip_acting_fraction": 0.25}
    assert "policy/clip_fraction" not in METRICS


def test_a_training_makes_the_store_if_nobody_has_and_its_folder_is_there(tmp_path, capfd):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    logger = RunLogger(tmp_path, MlflowRun(uri, "mnist", "first", {}, {}))
    logger.resume(0)
    logged(logger, range(2))
    while not runs_where_if_any(uri, "attributes.run_name = 'first'"):
        assert logger.view.thread.is_alive()
        time.sleep(0.1)
    logger.close()
    (run,) = runs_where(uri, "attributes.run_name = 'first'")
    assert curve(uri, run, "reward/total") == [(0, 0.0), (1, 1 / 3)]
    assert not capfd.readouterr().err


def runs_where_if_any(uri: str, condition: str) -> list:
    """As :func:`runs_where`; [] while there is no database or experiment."""
    if not Path(uri.removeprefix("sqlite:///")).exists():
        return []
    return runs_where(uri, condition) if connect_mlflow(uri).get_experiment_by_name("mnist") else []
