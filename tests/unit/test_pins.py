"""The pinned packages: every one with the digests of its files, installed by their digests, from no named index."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
NAMES = ("build", "requirements", "requirements-cuda12", "official")
PIN = re.compile(r"([A-Za-z0-9][\w.-]*)==([^\s;]+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)")


OF_CUDA = re.compile(
    r"(?:nvidia|cuda)-.+|torch|torchvision|triton|setuptools"
)  # setuptools: envs/build.txt installs it


def pins(name):
    return {pin: version for pin, version, _ in PIN.findall((ROOT / f"envs/{name}.txt").read_text())}


@pytest.mark.parametrize("name", NAMES)
def test_every_line_is_a_pin_with_digests_and_none_names_a_place(name):
    text = (ROOT / f"envs/{name}.txt").read_text()
    first, _, rest = text.partition("\n")
    assert PIN.sub("", rest).strip() == ""
    assert pins(name)
    assert not re.search(r"://|--(?!hash=)|^-|/", rest, re.M)
    assert first.startswith("# Install ")
    assert f"--require-hashes{'' if name == 'build' else ' --no-deps --no-build-isolation'} -r envs/{name}.txt" in first


def test_the_tools_of_the_build_are_pinned_and_agree():
    build = pins("build")
    assert set(build) == {"setuptools", "uv"}
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert required == [f"setuptools=={build['setuptools']}"]
    assert pins("requirements")["setuptools"] == pins("official")["setuptools"] == build["setuptools"]


def normal(pins):
    return {re.sub(r"[-_.]+", "-", pin).lower(): version for pin, version in pins.items()}


def wanted(file):
    """Packages and versions ("" for any) that a file of direct dependencies or of overrides names."""
    lines = (line.split("#")[0].strip() for line in (ROOT / f"envs/{file}").read_text().splitlines())
    return normal({pin: version for pin, _, version in (line.partition("==") for line in lines if line)})


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("build", wanted("build.in")),
        ("requirements", wanted("requirements.in")),
        ("requirements-cuda12", wanted("requirements.in") | wanted("overrides-cuda12.txt")),
        ("official", wanted("official.in")),
    ],
)
def test_every_direct_dependency_has_its_pin(name, asked):
    have = normal(pins(name))
    assert asked
    for pin, version in asked.items():
        assert version in ("", have[pin]), pin


def test_the_two_environments_differ_in_torch_and_in_the_libraries_of_its_cuda_alone():
    ours, older = pins("requirements"), pins("requirements-cuda12")
    assert {
        pin for pin in ours.keys() & older.keys() if ours[pin] != older[pin] and not OF_CUDA.fullmatch(pin)
    } == set()
    assert {pin for pin in ours.keys() ^ older.keys() if not OF_CUDA.fullmatch(pin)} == set()
    assert [pin for pin in ours if pin.endswith("-cu12")] == [pin for pin in older if pin.endswith("-cu13")] == []
    assert older["nvidia-cuda-runtime-cu12"].startswith("12.")
    assert ours["nvidia-cuda-runtime"].startswith("13.")


@pytest.mark.parametrize(("words", "pinned"), [([], "requirements.txt"), (["CUDA=12"], "requirements-cuda12.txt")])
def test_one_word_of_make_chooses_the_environment(words, pinned, tmp_path):
    for name in ("Makefile", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "envs").symlink_to(ROOT / "envs")
    done = subprocess.run(["make", "-n", "reproduce", *words], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.findall(r"uv pip install .* -r envs/(\S+)", done.stdout) == [pinned]


def test_make_keeps_the_kind_of_an_existing_environment_and_refuses_another_cuda(tmp_path):
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    (tmp_path / "envs").symlink_to(ROOT / "envs")
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".venv/lib/python3.11/site-packages/nvidia_cudnn_cu12-9.dist-info").mkdir(parents=True)
    kept = subprocess.run(["make", "-n", "reproduce"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "-r envs/requirements-cuda12.txt" in kept.stdout
    done = subprocess.run(["make", "CUDA=11", "help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode
    assert "CUDA=11: give 13 (driver 580 or later) or 12" in done.stderr


def machine(folder, **pythons):
    """A copy of the Makefile's surroundings, and a PATH whose interpreters do (True) or do not make environments."""
    for name in ("Makefile", "pyproject.toml"):
        (folder / name).write_text((ROOT / name).read_text())
    (folder / "envs").symlink_to(ROOT / "envs")
    (folder / "bin").mkdir()
    for name in ("bash", "make", "cat", "cksum", "cut", "test"):
        (folder / "bin" / name).symlink_to(shutil.which(name))
    for name, works in pythons.items():
        program = folder / "bin" / name.replace("_", ".")
        program.write_text(f"#!/bin/bash\nexit {0 if works else 127}\n")
        program.chmod(0o755)
    return os.environ | {"PATH": str(folder / "bin")}


@pytest.mark.parametrize(
    ("pythons", "chosen"),
    [
        ({"python3_11": True, "python3_12": True}, "python3.12"),
        ({"python3_11": True, "python3_13": False}, "python3.11"),  # a shim without a version behind it
        ({"python3_13": True, "python3_12": True}, "python3.13"),
    ],
)
@pytest.mark.parametrize("target", ["reproduce", "test"])
def test_make_takes_the_newest_python_that_works(pythons, chosen, target, tmp_path):
    done = subprocess.run(
        ["make", "-n", target], cwd=tmp_path, env=machine(tmp_path, **pythons), capture_output=True, text=True
    )
    assert re.findall(r"(\S+) -m venv \.venv\n", done.stdout) == [chosen], done.stderr


def test_make_says_how_to_get_a_python_where_there_is_none(tmp_path):
    done = subprocess.run(["make", "reproduce"], cwd=tmp_path, env=machine(tmp_path), capture_output=True, text=True)
    assert done.returncode
    assert "error: no Python 3.11, 3.12 or 3.13 that can make environments found" in done.stdout
    assert "uv python install 3.13" in done.stdout
    assert not (tmp_path / ".venv").exists()


def test_the_package_asks_for_what_the_pins_give_and_names_each_direct_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [
        Requirement(text) for text in (*project["dependencies"], *(text for each in extras.values() for text in each))
    ]
    have = normal(pins("requirements"))
    for requirement in asked:
        assert requirement.specifier.contains(have[canonicalize_name(requirement.name)]), requirement
    names = {canonicalize_name(requirement.name) for requirement in asked}
    assert set(wanted("requirements.in")) <= names
    core = {canonicalize_name(Requirement(text).name): text for text in project["dependencies"]}
    assert set(core) == {"numpy", "torch", "scipy", "pydantic", "pyyaml", "safetensors"}
    assert all(">=" in text for text in core.values())


@pytest.mark.parametrize(
    "path", ["Makefile", "envs/artune.post-deploy.sh", "envs/official.post-deploy.sh", "docs/cluster.md"]
)
def test_nothing_is_installed_without_a_digest_or_built_by_something_unpinned(path):
    text = (ROOT / path).read_text()
    options = re.search(r"^PINNED := (.*)$", text, re.M)
    text = text.replace("$(PINNED)", options[1] if options else "")
    installs = re.findall(r"^[^#\n]*(?:pip|\$pip)\b.*? (-r envs/\S+|-e \.).*$", text, re.M)
    lines = [
        line
        for line in text.splitlines()
        if re.search(r"pip install .*-|\$pip ", line) and line[:4] not in ("pip=", "# St")
    ]
    assert len(installs) >= 3
    for line in lines:
        if "-e ." in line:
            assert "--no-deps" in line
            assert "--no-build-isolation" in line
        else:
            assert "--require-hashes" in line, line
            assert "envs/build.txt" in line or "--no-build-isolation" in line, line
