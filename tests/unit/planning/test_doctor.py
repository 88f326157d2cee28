"""Checks of `artune doctor`, with scripts in place of a cluster's programs."""

import os
import sqlite3
from pathlib import Path

import pytest
from project import ROOT

from artune.commands.cli import main
from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.planning import doctor, environment, slurm

PROFILE = ROOT / "workflow/profiles/slurm_a100"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A function: `programs("sinfo", "echo ...")` puts a script of that name first in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def put(name, script):
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return put


def cluster(programs, nodes="gpu:a100:4|64|512000|3-00:00:00", accounts="lab", remembered=300):
    programs(
        "sinfo",
        f'case "$*" in *version*) echo slurm 23.11.4;; *"-p a100"*) echo "{nodes}";; *-p*) ;; *%R*) echo a100 cpu;;'
        " *) echo a100;; esac",
    )
    programs("sacctmgr", f"echo {accounts}")
    programs("scontrol", f"echo 'MinJobAge = {remembered} sec'")
    return {finding.check: finding for finding in doctor.cluster(PROFILE)}


def test_a_cluster_that_fits_the_profile_passes(programs):
    found = cluster(programs)
    assert [finding.good for finding in found.values()] == [True] * 4
    assert "23.11.4" in found["SLURM"].text


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ("gpu:a100:2|64|512000|3-00:00:00", ["train asks for 4 GPUs of a100", "gpu:a100:2"]),
        ("gpu:h100:4|64|512000|3-00:00:00", ["4 GPUs of a100", "gpu:h100:4"]),
        ("gpu:a100:4|8|512000|3-00:00:00", ["train asks for 16 CPUs (nodes have 8)"]),
        ("gpu:a100:4|64|64000|3-00:00:00", ["train asks for 200000 MB (nodes have 64000)"]),
        ("gpu:a100:4|64|512000|12:00:00", ["train asks for 24 h (the limit is 12:00:00)"]),
    ],
)
def test_what_no_node_can_give_is_named_by_rule_and_number(programs, nodes, words):
    found = cluster(programs, nodes)["partition"]
    assert found.good is False
    for word in (*words, "slurm_a100/config.yaml"):
        assert word in found.text


def test_one_kind_of_node_that_fits_is_enough(programs):
    programs("sinfo", "echo 'gpu:t4:1|8|64000|1:00:00'; echo 'gpu:a100:8(S:0-1)|128|1000000|infinite'")
    assert slurm.misfits(slurm.read_profile(PROFILE), "a100") == []


def test_an_unknown_partition_and_account_are_named_with_the_known_ones(programs):
    found = cluster(programs, nodes="", accounts="physics")
    assert "partition a100 is unknown" in found["partition"].text
    assert "partitions: a100, cpu" in found["partition"].text
    assert "lab is not yours (physics)" in found["account"].text


def test_a_cluster_without_accounts_is_not_wrong(programs):
    assert cluster(programs, accounts="")["account"].good is None


def test_a_user_whom_the_system_does_not_list_has_accounts_by_number(programs, monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_123_456)
    programs("sacctmgr", 'case "$*" in *user=4123456*) echo lab;; esac')
    assert slurm.accounts() == ["lab"]


def test_a_controller_that_hangs_costs_seconds(programs, monkeypatch):
    programs("sinfo", 'case "$*" in *version*) echo slurm 23.11.4;; *) sleep 60;; esac')
    whole = slurm.run_tool
    monkeypatch.setattr(slurm, "run_tool", lambda *command: whole(*command, seconds=0.5))
    found = list(doctor.cluster(PROFILE))
    assert [finding.good for finding in found] == [True, False]
    assert "does not answer" in found[1].text


@pytest.mark.parametrize(
    ("command", "settings", "good", "words"),
    [
        ("squeue", "MinJobAge = 300 sec", True, ("300 s", "every 100 s")),
        ("squeue", "MinJobAge = 30 sec", True, ("30 s", "every 10 s")),
        ("squeue", "MinJobAge = 3 sec", False, ("3 s", "every 10 s", "MinJobAge of 30 s or more")),
        ("squeue", "MinJobAge = 0 sec", True, ("every 180 s",)),  # SLURM's word for: never forgotten
        ("squeue", "SlurmUser = slurm", None, ("not checked",)),
        ("sacct", "AccountingStorageType   = accounting_storage/none", False, ("squeue",)),
        ("sacct", "AccountingStorageType   = accounting_storage/slurmdbd\\nMinJobAge = 3 sec", True, ("accounting",)),
    ],
)
def test_slurm_must_remember_jobs_for_longer_than_snakemake_waits_between_two_looks(
    programs, command, settings, good, words
):
    programs("scontrol", f"printf '{settings}\\n'")
    found = slurm.memory({"slurm-status-command": command})
    assert found[0] is good
    for word in words:
        assert word in found[1]


def test_the_doctor_checks_the_memory_of_slurm(programs):
    assert cluster(programs, remembered=3)["ended jobs"].good is False


def test_a_machine_without_slurm_says_so(tmp_path, programs, monkeypatch):
    programs("sinfo", "echo 'fatal: Could not establish a configuration source' >&2; exit 1")
    assert "sinfo fails here" in next(iter(doctor.cluster(PROFILE))).text
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no sinfo here" in next(iter(doctor.cluster(PROFILE))).text


def test_without_a_scale_the_configured_one_is_checked_and_a_laptop_passes(tmp_path, programs, monkeypatch, capsys):
    programs("sinfo", "echo 'fatal: Could not establish a configuration source' >&2; exit 1")
    programs("nvidia-smi", "exit 1")
    (tmp_path / "slurm_a100").symlink_to(PROFILE)
    (tmp_path / "envs").symlink_to(ROOT / "envs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARTUNE_CONFIG", str(ROOT / "config"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert main(["doctor"]) == 0, capsys.readouterr()
    said = capsys.readouterr().out
    assert "mnist needs none" in said
    assert "SLURM" not in said
    assert main(["doctor", "--scale", "imagenet"]) == 2
    assert "WRONG SLURM" in capsys.readouterr().out


def test_an_old_driver_is_named_with_the_one_that_torch_needs_and_the_environment_that_fits(programs, monkeypatch):
    monkeypatch.setattr(environment, "torch_cuda", lambda: (13, 0))
    programs("nvidia-smi", "echo '525.60.13, NVIDIA A100-SXM4-80GB'")
    found = doctor.driver()
    assert found.good is False
    assert "driver 525 is too old for torch's CUDA 13.0, which needs 580" in found.text
    assert "envs/requirements-cuda12.txt fits it (`make CUDA=12 test`" in found.text


def test_a_driver_that_serves_neither_environment_has_to_be_updated(programs, monkeypatch):
    monkeypatch.setattr(environment, "torch_cuda", lambda: (12, 8))
    programs("nvidia-smi", "echo '515.105.01, NVIDIA A100-SXM4-80GB'")
    found = doctor.driver()
    assert found.good is False
    assert "driver 515 is too old for torch's CUDA 12.8, which needs 525; neither environment fits" in found.text


@pytest.mark.parametrize(("driver", "cuda"), [("580", 13), ("610", 13), ("579", 12), ("570", 12), ("525", 12)])
def test_each_driver_has_its_environment(driver, cuda):
    pins = environment.ENVIRONMENTS[cuda]
    assert f"{pins} fits it (`make CUDA={cuda} test`" in environment.fitting_environment(int(driver))
    assert f"nvidia-cudnn-cu{cuda}==" in (ROOT / pins).read_text()  # it does hold a build for that CUDA


def test_a_torch_without_cuda_beside_a_gpu_is_told_which_environment_to_install(programs, monkeypatch):
    monkeypatch.setattr(environment, "torch_cuda", lambda: None)
    programs("nvidia-smi", "echo '550.90.07, NVIDIA A100-SXM4-80GB'")
    assert "driver 550, but torch was built without CUDA; envs/requirements-cuda12.txt fits it" in doctor.driver().text


@pytest.mark.parametrize(("built", "pins"), [((13, 0), "requirements.txt"), ((12, 8), "requirements-cuda12.txt")])
def test_packages_are_compared_with_the_environment_of_torchs_cuda(built, pins, tmp_path, monkeypatch):
    for name in environment.ENVIRONMENTS.values():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no-such-thing==1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(environment, "torch_cuda", lambda: built)
    assert f"1 differ from envs/{pins}: no-such-thing missing" in doctor.packages().text


def test_a_new_driver_without_a_gpu_for_torch_is_wrong_too(programs):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    programs("nvidia-smi", "echo '580.65.06, NVIDIA A100-SXM4-80GB'")
    assert "torch sees no GPU" in doctor.driver().text


def test_missing_assets_are_listed_with_the_command_that_fetches_them(tmp_path):
    found = doctor.check_assets(Registry("imagenet", root=ROOT / "config"), tmp_path)
    assert found.good is False
    assert "hps_v2_1" in found.text
    assert "artune assets --scale imagenet --fetch" in found.text
    assert doctor.check_assets(Registry("mnist", root=ROOT / "config"), tmp_path).good


def test_a_full_disk_and_a_file_in_the_place_of_results_are_wrong(tmp_path):
    assert doctor.disk("smoke", 1, tmp_path).good
    assert list(tmp_path.iterdir()) == []  # the probe file was removed
    assert "needs 1000000000" in doctor.disk("smoke", 10**9, tmp_path).text


def test_the_tracking_store_is_tried_and_left_as_it_was(tmp_path):
    database = tmp_path / "mlflow.db"
    assert doctor.tracking(f"sqlite:///{database}").good
    assert not database.exists()
    database.write_bytes(b"this is no database" * 100)
    assert "not a database" in doctor.tracking(f"sqlite:///{database}").text
    database.unlink()
    with sqlite3.connect(database) as store:
        store.execute("CREATE TABLE runs (id)")
    assert doctor.tracking(f"sqlite:///{database}").good
    odd = database.rename(tmp_path / "is this 100% #1?.db")
    assert doctor.tracking(f"sqlite:///{odd}").good
    assert doctor.tracking("http://127.0.0.1:9").good is False


@pytest.mark.parametrize(("preset", "trash"), [("paper", False), ("release", True)])
def test_the_experiment_of_the_preset_is_looked_for_in_the_trash(tmp_path, preset, trash):
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        store.execute("CREATE TABLE experiments (name, lifecycle_stage)")
        store.execute("INSERT INTO experiments VALUES ('smoke-release', 'deleted'), ('smoke', 'active')")
    found = doctor.examine(Registry("smoke", preset), tmp_path, f"sqlite:///{tmp_path}/mlflow.db", None)
    (text,) = (finding.text for finding in found if finding.check == "tracking")
    assert ("the experiment smoke-release is in its trash" in text) == trash


def test_a_scheme_in_capitals_is_the_same_store(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    assert "not a database" in doctor.tracking(f"SQLite:///{tmp_path}/mlflow.db").text
    assert doctor.tracking("HTTP://127.0.0.1:9").good is False


@pytest.mark.parametrize(
    "uri", ["alice:hunter2@host", "alice:hun ter2@host", "http://alice:a hunter2@127.0.0.1:9", "ftp://a:b hunter2@h"]
)
def test_no_finding_on_the_store_shows_its_password(uri):
    line = str(doctor.tracking(uri))
    assert "ter2" not in line
    assert "***@" in line


def test_a_host_in_the_address_of_a_file_is_refused_with_the_form_to_write():
    found = doctor.tracking("sqlite://results/mlflow.db")
    assert found.good is False
    assert "names the host results, and SQLite is a file; write sqlite:///results/mlflow.db" in found.text


def test_sqlite_on_a_network_file_system_is_advised_against(tmp_path, programs):
    programs("stat", "echo nfs")
    found = doctor.tracking(f"sqlite:///{tmp_path}/mlflow.db")
    assert found.good is False
    assert "mlflow server" in found.text


def test_a_lock_left_behind_names_the_way_out(tmp_path):
    assert doctor.lock(tmp_path / "locks").good
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks/0.output.lock").touch()
    assert "--unlock" in doctor.lock(tmp_path / "locks").text


def test_packages_that_differ_are_named(tmp_path):
    pins = tmp_path / "requirements.txt"
    pins.write_text("numpy==0.1\nno-such-thing==1\n")
    found = doctor.packages(pins)
    assert found.good is False
    assert "no-such-thing missing" in found.text


def test_a_wrong_finding_is_a_status_of_its_own():
    good, bad = doctor.Finding("a", True, "x"), doctor.Finding("b", False, "y")
    assert doctor.conclude([good]) == "1 checks, nothing wrong"
    with pytest.raises(ArtuneError, match="1 of 2 checks failed: b"):
        doctor.conclude([good, bad])


def test_times_are_read_as_snakemake_and_sinfo_write_them():
    assert [slurm.minutes(text) for text in (90, "90", "24h", "2d")] == [90, 90, 1440, 2880]
    assert [slurm.limit_minutes(text) for text in ("30:00", "12:00:00", "2-00:00:00")] == [30, 720, 2880]
    assert slurm.limit_minutes("infinite") == float("inf")
    with pytest.raises(ArtuneError, match="soon"):
        slurm.minutes("soon")


def test_the_profile_that_ships_can_be_read():
    assert slurm.asked(slurm.read_profile(PROFILE))["train"] == {
        "gres": {"a100": 4}, "mem_mb": 200000, "runtime": 1440, "threads": 16, "partition": "a100",
    }  # fmt: skip
    assert Path(PROFILE / "config.yaml").exists()


@pytest.mark.parametrize(
    ("given", "refused"), [("0,1,2,3", True), ("GPU-8f2", True), ("", False), ("-1", False), ("NoDevFiles", False)]
)
def test_a_job_that_was_given_gpus_never_takes_the_cpu_quietly(given, refused, monkeypatch):
    import argparse

    import torch

    from artune.commands.context import Context

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    arguments = argparse.Namespace(scale=None, preset=None, seeds=None, threads=1, device="auto")
    if refused:
        with pytest.raises(ArtuneError, match="was given GPUs"):
            Context(arguments).device  # noqa: B018
    else:
        assert Context(arguments).device.type == "cpu"
    arguments.device = "cpu"
    assert Context(arguments).device.type == "cpu"
