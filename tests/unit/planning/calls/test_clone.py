"""Folders in which Snakemake and its jobs cannot work, and the shell text that finds Python in any folder."""

import subprocess
from pathlib import Path

import pytest

from artune.errors import ArtuneError
from artune.planning import doctor
from artune.planning.calls.clone import (
    check_clone,
    path_prefix,
    problem_of_caches,
    problem_of_temporary_files,
    try_results,
)

ENVIRONMENT = Path("/opt/env/bin/python")


@pytest.mark.parametrize(
    "name", ["a b", "a'b", 'a"b', "a$HOME", "ä漢", "a\nb", "a\\b", "-a", "#a", "a;b", "*", ".a", "a:b"]
)
def test_ordinary_and_odd_names_are_taken(name):
    check_clone(Path("/home") / name, ENVIRONMENT)


@pytest.mark.parametrize(
    ("folder", "python", "words"),
    [
        ("/a/{x}", ENVIRONMENT, "/a/{x}: Snakemake cannot work in a path with an opening brace ({); move the clone"),
        ("/a/x}", ENVIRONMENT, "a closing brace (})"),
        (
            "/a",
            "/b:c/bin/python",
            "/b:c/bin/python: a path with : cannot stand in PATH; make the environment elsewhere",
        ),
        ("/a", "/b%/bin/python", "a path with % keeps MLflow from making its store; make the environment elsewhere"),
    ],
)
def test_a_path_that_would_fail_later_is_refused_in_one_line(folder, python, words):
    with pytest.raises(ArtuneError) as raised:
        check_clone(Path(folder), Path(python))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "name", ["a b", "a'b", 'a"b', "a$HOME", "ä漢", "a\nb", "a\\b", "-a", "#a", "a;b", "`a`", "{a}", "*"]
)
def test_the_shell_finds_python_first_in_a_folder_of_any_name(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    program = folder / "python"
    program.write_text("#!/bin/sh\necho this one\n")
    program.chmod(0o755)
    text = path_prefix(program).format()  # as Snakemake formats it
    done = subprocess.run(["bash", "-c", f"{text} python"], capture_output=True, text=True, check=True)
    assert done.stdout == "this one\n"


def test_results_are_tried_as_a_training_writes_them(tmp_path, monkeypatch):
    try_results(tmp_path)
    assert list(tmp_path.iterdir()) == []
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ArtuneError, match="cannot be written"):
        try_results(blocked)


def test_caches_and_temporary_files_name_the_variable_that_helps(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert problem_of_caches() is None
    monkeypatch.setenv("HOME", "/dev/null")
    assert "/dev/null/.cache: Not a directory; set XDG_CACHE_HOME to a folder" in problem_of_caches()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    found = doctor.scratch()
    assert found.good is False
    assert f"{tmp_path}/gone is no folder; set TMPDIR to a folder with free space" in found.text
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert doctor.scratch().good
    assert problem_of_temporary_files() is None


def test_a_user_without_a_home_folder_is_told_which_variable_helps(monkeypatch):
    """As in a container whose user is a bare number."""
    monkeypatch.setattr("os.getuid", lambda: 4_123_456)
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert problem_of_caches() == "no home folder; set XDG_CACHE_HOME to a folder that can be written"
