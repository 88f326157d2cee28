"""The copy of the settings that the jobs of one call of Snakemake read."""

import shutil

import pytest
import yaml
from project import ROOT

from artune.commands.context import Context
from artune.config.registry import Registry
from artune.config.yaml_layers import config_folder, read_yaml
from artune.errors import ArtuneError
from artune.planning.calls.snapshot import plan_and_copy
from artune.planning.plan import Plan

SETTINGS = read_yaml(ROOT / "config/config.yaml")


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(**overrides):
    return plan_and_copy(SETTINGS | overrides, ROOT / "config")[1]


def arguments(**given):
    from argparse import Namespace

    return Namespace(**dict.fromkeys(("scale", "preset", "seeds", "threads", "device")) | given)


def test_a_job_reads_the_copy_and_not_what_was_edited_since(project, monkeypatch):
    snapshot = plan_and_copy(SETTINGS, project / "config")[1]
    snapshot.write()
    path = project / "config/evaluation.yaml"
    path.write_text(path.read_text().replace("neighbours: 3", "neighbours: 5"))
    (project / "config/config.yaml").write_text("scale: smoke\n")
    assert Context(arguments()).registry.evaluation.neighbours == 5
    monkeypatch.setenv("ARTUNE_CONFIG", str(snapshot.folder))
    job = Context(arguments())
    assert job.settings.scale == "mnist"
    assert job.registry.evaluation.neighbours == 3
    assert Registry("mnist").root == snapshot.folder


def test_what_the_command_line_of_snakemake_overrides_is_in_the_copy(project, monkeypatch):
    snapshot = planned(assets="elsewhere", tracking_uri="sqlite:///other.db", device="cpu", seeds=3)
    snapshot.write()
    monkeypatch.setenv("ARTUNE_CONFIG", str(snapshot.folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    job = Context(arguments())
    assert (str(job.assets), job.tracking_uri) == ("elsewhere", "sqlite:///other.db")
    assert (job.settings.device, job.settings.seeds) == ("cpu", 3)
    assert Plan(read_yaml(snapshot.folder / "config.yaml"), snapshot.folder).settings == job.settings


def test_equal_settings_share_a_folder_and_other_settings_have_another():
    assert planned().folder == planned().folder
    assert planned(seeds=2).folder != planned().folder
    assert "--" not in str(planned().folder)


def test_a_damaged_copy_is_written_again(project):
    snapshot = planned()
    snapshot.write()
    path = snapshot.folder / "grpo.yaml"
    path.write_text("grpo: {}\n")
    (snapshot.folder / "scales/mnist.yaml").unlink()
    snapshot.write()
    assert path.read_text() == (ROOT / "config/grpo.yaml").read_text()
    assert yaml.safe_load((snapshot.folder / "scales/mnist.yaml").read_text())


def test_the_variable_must_name_a_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("ARTUNE_CONFIG", str(tmp_path / "gone"))
    with pytest.raises(ArtuneError, match=r"^ARTUNE_CONFIG: .*gone: no such folder; unset the variable"):
        config_folder()


def test_a_file_that_is_not_text_is_named(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "config/old.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ArtuneError, match=r"old\.yaml: cannot be read"):
        plan_and_copy(SETTINGS, tmp_path / "config")


def test_the_copy_holds_no_password_of_an_address():
    text = planned(tracking_uri="http://alice:wonder@host:5000").texts["config.yaml"]
    assert "wonder" not in text
    assert "host:5000" in text
