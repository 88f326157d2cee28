"""A wheel, installed where nothing but its own dependencies is: every public name, a reward, the command."""

import importlib.metadata
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
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
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
    place = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    for name in closure(PROJECT["dependencies"]):
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (place / top).exists():
                (place / top).symlink_to(distribution.locate_file(top))
    return python


def run(*command):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


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


def test_the_wheel_says_that_it_is_typed_and_brings_the_command(environment, wheel):
    done = run(environment.parent / "artune", "--version")
    assert done.stdout.startswith(f"artune {PROJECT['version']}"), done.stderr
    import zipfile

    names = zipfile.ZipFile(wheel).namelist()
    assert "artune/py.typed" in names
    assert "artune/planning/overridden_values.json" in names
    assert not [name for name in names if name.startswith(("tests", "examples"))]
