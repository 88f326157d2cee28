"""A wheel, installed where nothing but its own dependencies is: every public name, a reward, the command, scores."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from project import ROOT
from scorer import N, as_npz, pixels, write_networks

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
USE = """
import importlib.util, sys
import artune, torch
assert sys.prefix in artune.__file__, artune.__file__
missing = [name for name in sys.argv[1:] if importlib.util.find_spec(name) is not None]
assert not missing, f"these are not hidden: {missing}"
for name in artune.PUBLIC:
    getattr(artune, name)
reference = artune.ReferenceMoments.from_moments(torch.zeros(4), covariance=torch.eye(4), compare="full")
rewards = artune.LooFidReward(reference)(torch.randn(8, 4, generator=torch.manual_seed(0)))
print(artune.__version__, len(rewards), bool(rewards.isfinite().all()))
try:
    artune.InceptionFeatures("nowhere.pth")
except artune.ArtuneError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the sources so that nothing is left beside them."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("src", "config"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    code = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


def closure(requirements):
    """Names of the distributions that these requirements need, as far as they are installed here."""
    found, waiting = set(), list(requirements)
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in (*requirement.extras, "")
        )
        if name in found or not wanted:
            continue
        try:
            waiting += importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # an optional library of another CUDA; what is really missing fails below
        found.add(name)
    return found


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment with the wheel and, as links, with its dependencies alone."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], check=True)
    link(closure(PROJECT["dependencies"]), Path(sysconfig.get_path("purelib", vars={"base": str(folder)})))
    return python


def link(names, place):
    """Links to the files of installed distributions."""
    for name in names:
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (place / top).exists():
                (place / top).symlink_to(distribution.locate_file(top))


def run(*command, folder=None, **variables):
    left_out = ("PYTHONPATH", "ARTUNE_CONFIG")
    environment = {name: value for name, value in os.environ.items() if name not in left_out} | variables
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def test_every_public_name_and_a_reward_need_the_core_dependencies_alone(environment):
    hidden = [
        "torchvision",
        "timm",
        "open_clip",
        "torch_fidelity",
        "mlflow",
        "snakemake",
        "pandas",
        "matplotlib",
        "PIL",
        "pytest",
    ]
    done = run(environment, "-I", "-c", USE, *hidden)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == f"{PROJECT['version']} 8 True"
    assert second == "InceptionFeatures needs torch_fidelity: pip install 'artune[networks]'"


def test_a_dependency_that_is_not_declared_would_be_missed(environment):
    done = run(environment, "-I", "-c", "import artune.models.encoders.maniqa")  # which no public name loads
    assert "ModuleNotFoundError: No module named 'timm'" in done.stderr


def test_the_command_scores_images_in_an_empty_folder(environment, tmp_path):
    """With the settings that the wheel brings; what is not installed it names."""
    samples, real = as_npz(tmp_path / "samples.npz", pixels(1)), as_npz(tmp_path / "real.npz", pixels(2))
    (tmp_path / "networks").mkdir()
    write_networks(tmp_path / "networks")
    words = ["--networks", "networks", "--scale", "smoke", "--device", "cpu", "--threads", "1"]
    command = [environment.parent / "artune", "score", samples.name, "--reference", real.name, *words]
    done = run(*command, folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: score needs PIL: pip install 'artune[networks]'\n")
    (tmp_path / "extra").mkdir()
    link(closure(PROJECT["optional-dependencies"]["networks"]), tmp_path / "extra")
    done = run(*command, "--mlflow", folder=tmp_path, PYTHONPATH=str(tmp_path / "extra"))
    assert done.stderr.endswith("error: --mlflow needs mlflow: pip install 'artune[workflow]'\n")
    done = run(*command, folder=tmp_path, PYTHONPATH=str(tmp_path / "extra"))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "samples.npz.scores.json").read_text())
    assert found["n"] == N
    assert found["scores"]["fid"] > 0
    assert not (tmp_path / "config").exists()


def test_the_wheel_says_that_it_is_typed_and_brings_the_command(environment, wheel):
    done = run(environment.parent / "artune", "--version")
    assert done.stdout.startswith(f"artune {PROJECT['version']}"), done.stderr
    import zipfile

    names = zipfile.ZipFile(wheel).namelist()
    assert "artune/py.typed" in names
    assert "artune/planning/overridden_values.json" in names
    brought = {name.partition("/data/share/artune/config/")[2] for name in names}
    assert brought - {""} == {str(path.relative_to(ROOT / "config")) for path in (ROOT / "config").rglob("*.yaml")}
    assert not [name for name in names if name.startswith(("tests", "examples"))]
