"""Every command of README.md, config/README.md and docs/: run on the finished smoke project, or as a dry run.

Not run: what needs a GPU, a cluster, a network or minutes. In a code block such a command says so in its comment; where it
stands within a sentence, :data:`NOT_RUN` says why. Its words are checked all the same.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pages import MARKER, PAGES, PLACEHOLDER, command, commands, every_command
from project import ROOT, copy_project, planned, snakemake

from artune.commands.arguments import COMMANDS
from artune.commands.cli import main, parse_words

COMMANDS_OF_PAGES = every_command()
# Programs whose commands are checked by this test; another program's command in a code block needs a marker.
CHECKED = ("snakemake", "artune", "make", "pip")
# Commands of artune within sentences that are not run here, and why.
NOT_RUN = {
    "selfcheck": "minutes: networks at full size",
    "bench": "a minute or more: tests/unit/bench",
    "study_serve": "runs until it is stopped: tests/browser",
    "study_make": "needs the samples of the study: tests/unit/results/study/test_make.py",
    "mlflow_store": "made by the fixture",
}
# Snakemake's targets that depend on a file that the reader adds, and the test that adds it.
ADDED = {
    "llamagen_l-contrast": "test_extending.py",
    "extra_contrast": "test_extending.py",
    "scale=pets": "test_own_images.py",
    "llamagen_l-kl5": "../workflow/test_plan.py",
}


def named(program):
    return [one for one in COMMANDS_OF_PAGES if one.program == program]


def is_a_name(one):
    """Whether the words only name a command of artune, such as ``artune train``, without what it requires."""
    words = [word for word in one.words if not word.startswith("-")]
    name = "_".join(words[:2]) if words[:1] == ["study"] else (words or [""])[0]
    about = COMMANDS.get(name)
    if name == "compare" and len(one.words) == 1:  # it needs two runs or a table
        return True
    return about is not None and len(one.words) <= name.count("_") + 1 and bool(about.positional or about.required)


@pytest.mark.parametrize("page", PAGES)
def test_what_cannot_run_here_says_so_where_a_reader_copies_it(page):
    for one in commands(page):
        if one.in_block and one.program not in CHECKED:
            assert MARKER.search(one.remark), f"{page}: {one.text}: say in its comment what it needs"


def test_a_marker_is_a_comment_in_words():
    assert MARKER.search(command("x", "tail -f log  # needs a cluster", True).remark)
    assert not MARKER.search(command("x", "tail -f log  # the log", True).remark)


def groups():
    """Snakemake's commands that differ in their targets only: (options, scale settings) -> targets."""
    found = {}
    for one in named("snakemake"):
        if PLACEHOLDER.search(one.text) or not one.words or any(word in one.text for word in ADDED):
            continue
        words = [word for word in one.words if word not in ("-n", "-p", "--quiet", "rules", "--", "--keep-going")]
        words = [word for word in words if not re.fullmatch(r"-c\d", word)]
        if "--unlock" in words:
            continue
        options, targets = [], []
        while words:
            word = words.pop(0)
            if word in ("--config", "--profile", "--report"):
                taken = [word]
                while words and (word != "--config" or "=" in words[0]):
                    taken.append(words.pop(0))
                    if word != "--config":
                        break
                options += taken if word != "--report" else []
            else:
                assert not word.startswith("-"), f"{one.page}: {one.text}: unknown option {word}"
                targets.append(word)
        found.setdefault(tuple(options), {}).update(dict.fromkeys(targets))
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project without results."""
    return copy_project(tmp_path_factory.mktemp("pages"))


@pytest.mark.usefixtures("warm_calls")
@pytest.mark.parametrize("options", groups(), ids=" ".join)
def test_snakemake_plans_every_target(project, options):
    targets = groups()[options]
    cores = None if "--profile" in options else 2
    output = snakemake(project, "-n", "--quiet", "rules", *options, "--", *targets, cores=cores)
    assert planned(output) or not targets, output


def test_snakemake_has_enough_commands_to_test():
    assert sum(map(len, groups().values())) > 15
    for name, test in ADDED.items():
        assert "pets" in name or name in (Path(__file__).parent / test).read_text(), f"{test} does not make {name}"


@pytest.mark.parametrize("one", named("make"), ids=lambda one: one.text)
def test_make_knows_every_target(one):
    if not one.words:
        return
    done = subprocess.run(["make", "-n", *one.words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("one", named("pip"), ids=lambda one: one.text)
def test_pip_finds_its_files(one):
    for option, value in zip(one.words, one.words[1:], strict=False):
        assert option != "-r" or (ROOT / value).exists(), one.text


def runs(one):
    """Whether a command of artune is run here."""
    words = one.words
    if not words or PLACEHOLDER.search(one.text) or "--help" in words or "--fetch" in words or "--accept" in words:
        return False
    if is_a_name(one):
        return False
    try:
        name = parse_words(list(words)).command
    except SystemExit:  # a test of its own says so
        return False
    untrained = name == "compare" and "llamagen_l-kl5" in one.words  # tests/workflow/test_plan.py plans its training
    return name not in NOT_RUN and not untrained


@pytest.mark.parametrize("one", named("artune"), ids=lambda one: one.text)
def test_artune_knows_every_command_and_its_options(one):
    if not one.words or PLACEHOLDER.search(one.text):
        return
    if is_a_name(one):
        return
    if "--help" in one.words:
        with pytest.raises(SystemExit) as ended:
            parse_words(list(one.words))
        assert ended.value.code == 0
    else:
        assert parse_words(list(one.words)).command in COMMANDS


@pytest.fixture(scope="module")
def finished(smoke, tmp_path_factory):
    """A copy of the finished smoke project with the committed tables of mnist, in which commands may write."""
    folder = tmp_path_factory.mktemp("finished") / "project"
    shutil.copytree(smoke, folder, symlinks=True)
    shutil.copytree(ROOT / "docs/results-mnist", folder / "docs/results-mnist")
    # The run that the README tells a reader to add.
    line = re.search(r"`(llamagen_l-kl5: \{.*?\})`", (ROOT / "README.md").read_text())[1]
    with open(folder / "config/experiments.yaml", "a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    return folder


@pytest.mark.parametrize("one", [one for one in named("artune") if runs(one)], ids=lambda one: one.text)
def test_artune_runs_every_command(finished, one, monkeypatch, capsys):
    monkeypatch.chdir(finished)
    words = list(one.words)
    if words[0] == "expected":  # of the runs that are there; the first that is kept is what the next is compared with
        words = ["smoke" if word == "mnist" else word for word in words]
        assert main(["expected", "table4", "--scale", "smoke", "--machine", "another machine"]) == 0
    if "--scale" not in words and words[0] != "plan":
        words += ["--scale", "smoke"]
    status = main(words)
    told = capsys.readouterr()
    missing_here = ("checks failed", "missing", "wrong")  # of imagenet's files, which doctor and assets list
    assert status == 0 or any(word in told.err.splitlines()[-1] for word in missing_here), told.err
