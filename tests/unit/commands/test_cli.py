"""The command line: a function per command, help, version, and suggestions for mistyped names."""

import importlib
import inspect

import pytest
from project import ROOT

from artune import RESULTS_VERSION, __version__
from artune.commands.arguments import COMMANDS, parse_words
from artune.commands.cli import main


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def said(capsys, *words):
    """Exit status, standard output and standard error of a command line."""
    try:
        status = main(words)
    except SystemExit as ended:
        status = ended.code
    return status, *capsys.readouterr()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_function_of_its_name(name):
    module = importlib.import_module(f"artune.commands.{COMMANDS[name].module}")
    assert list(inspect.signature(getattr(module, name)).parameters) == ["context", "arguments"]


def test_no_function_of_the_command_modules_is_without_a_command():
    for module in {command.module for command in COMMANDS.values()}:
        loaded = importlib.import_module(f"artune.commands.{module}")
        own = [name for name, value in vars(loaded).items() if getattr(value, "__module__", "") == loaded.__name__]
        assert [name for name in own if not name.startswith("_") and name not in COMMANDS] == []


def test_the_version_names_the_results_version_too(capsys):
    assert said(capsys, "--version") == (0, f"artune {__version__}, results version {RESULTS_VERSION}\n", "")


def test_what_a_benchmark_writes_beside_its_output_is_looked_at_before(tmp_path, capsys):
    (tmp_path / "manifest.json").mkdir()
    status, _, error = said(capsys, "bench", "iteration", "--output", str(tmp_path / "timings.jsonl"))
    assert status == 2
    assert error.startswith(f"error: --output: {tmp_path}/manifest.json: is a folder")


def test_a_command_of_two_words_is_the_one_with_the_underscore(capsys):
    status, out, _ = said(capsys, "study", "--help")
    assert status == 0
    for name in ("samples", "make", "serve", "judge", "tally"):
        assert f"    {name} " in out
        assert COMMANDS[f"study_{name}"].summary in out
    assert parse_words(["study", "serve", "--port", "0"]) == parse_words(["study_serve", "--port", "0"])
    assert parse_words(["study", "serve", "--port", "0"]).command == "study_serve"
    assert parse_words(["mlflow", "store", "--output", "x"]).command == "mlflow_store"
    assert parse_words(["mlflow", "--runs", "x"]).command == "mlflow"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["tabel", "table4"], "error: command: unknown 'tabel'; did you mean table?"),
        (["study", "serv"], "error: command study: unknown 'serv'; did you mean serve?"),
        (["qqq"], "error: command: unknown 'qqq'; known are run_config, asset, "),
        (["show", "llamagen_l-our"], "error: run: unknown run 'llamagen_l-our'; did you mean llamagen_l-ours"),
        (["show", "nothing-like-it"], "error: run: unknown run 'nothing-like-it'; known are "),
        (["table", "tabel4", "--runs", "x", "--output", "y"], "error: config/tables.yaml: unknown table 'tabel4'; did you mean table4"),
        (["figure", "figrue2", "--results", "x", "--output", "y"], "unknown figure 'figrue2'; did you mean figure2"),
        (["plan", "results/tabel4.csv"], "results/tabel4.csv: unknown target; did you mean table4"),
        (["bench", "rolout"], "unknown benchmark 'rolout'; did you mean rollout?"),
        (["show", "llamagen_l-ours", "--scale", "mnits"], "scale: unknown 'mnits'; did you mean mnist?"),
    ],
)  # fmt: skip
def test_a_mistyped_name_is_one_line_that_says_what_was_meant(capsys, words, line):
    status, _, error = said(capsys, *words)
    assert status == 2
    assert line in error
    assert error.count("\n") == 1
