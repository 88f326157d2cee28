"""Outputs of a finished training are restored for exactly the same training, and for no other; a disk that is full."""

import resource

import pytest
import torch

from artune.errors import ArtuneError
from artune.runtime import resume
from artune.runtime.resume import FOLDER, give_back, keep, load_state, save_state


@pytest.fixture
def outputs(tmp_path):
    paths = [tmp_path / name for name in ("policy.safetensors", "metrics.jsonl")]
    for path in paths:
        path.write_text(f"bytes of {path.name}")
    keep(tmp_path, "settings and inputs", paths)
    return paths


def test_outputs_that_were_removed_come_back_byte_by_byte(tmp_path, outputs):
    for path in outputs:
        path.unlink()
    assert give_back(tmp_path, "settings and inputs", outputs)
    assert [path.read_text() for path in outputs] == ["bytes of policy.safetensors", "bytes of metrics.jsonl"]
    assert give_back(tmp_path, "settings and inputs", outputs)  # also while the outputs still exist
    assert sorted(path.name for path in tmp_path.iterdir()) == [FOLDER, "metrics.jsonl", "policy.safetensors"]


def test_what_is_kept_takes_no_space_of_its_own(tmp_path, outputs):
    assert outputs[0].stat().st_ino == (tmp_path / FOLDER / outputs[0].name).stat().st_ino


def test_other_settings_inputs_or_code_are_another_training(tmp_path, outputs, monkeypatch):
    assert not give_back(tmp_path, "other settings", outputs)
    monkeypatch.setattr(resume.importlib.metadata, "version", lambda name: "0")
    assert not give_back(tmp_path, "settings and inputs", outputs)


def test_a_damaged_or_missing_file_is_not_given_back(tmp_path, outputs):
    for path in outputs:
        path.unlink()
    kept = tmp_path / FOLDER / outputs[0].name
    kept.write_text("damaged")
    assert not give_back(tmp_path, "settings and inputs", outputs)
    assert not outputs[0].exists()
    kept.unlink()
    assert not give_back(tmp_path, "settings and inputs", outputs)
    (tmp_path / FOLDER / resume.NOTE).write_text("[]")
    assert not give_back(tmp_path, "settings and inputs", outputs)


def test_a_file_system_without_links_keeps_nothing_and_says_nothing(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError("no links here")

    monkeypatch.setattr(resume.os, "link", refuse)
    path = tmp_path / "policy.safetensors"
    path.write_text("bytes")
    keep(tmp_path, "x", [path])
    assert [found.name for found in tmp_path.iterdir()] == ["policy.safetensors"]


def test_a_state_for_which_there_is_no_room_leaves_the_one_before(tmp_path):
    save_state(tmp_path, 3, {"config": "c", "trainer": {"w": torch.zeros(4)}})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(ArtuneError, match=r"state-000006\.pt: cannot be written \(File too large\)"):
            save_state(tmp_path, 6, {"config": "c", "trainer": {str(n): torch.zeros(100_000) for n in range(9)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name[:12] for path in tmp_path.iterdir()] == ["state-000003"]
    assert load_state(tmp_path, "c")[0] == 3
