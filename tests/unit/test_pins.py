"""The pinned packages: every one with the digests of its files, installed by their digests, from no named index."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("build", "requirements", "official")
PIN = re.compile(r"([A-Za-z0-9][\w.-]*)==([^\s;]+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)")


def pins(name):
    return {pin: version for pin, version, _ in PIN.findall((ROOT / f"envs/{name}.txt").read_text())}


@pytest.mark.parametrize("name", NAMES)
def test_every_line_is_a_pin_with_digests_and_none_names_a_place(name):
    text = (ROOT / f"envs/{name}.txt").read_text()
    first, _, rest = text.partition("\n")
    assert PIN.sub("", rest).strip() == ""
    assert pins(name)
    assert not re.search(r"://|--(?:extra-)?index|--find-links|--trusted|^-|/", rest, re.M)
    assert first.startswith("# Install ")
    assert f"--require-hashes{'' if name == 'build' else ' --no-deps --no-build-isolation'} -r envs/{name}.txt" in first


def test_the_tools_of_the_build_are_pinned_and_agree():
    build = pins("build")
    assert set(build) == {"setuptools", "uv"}
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert required == [f"setuptools=={build['setuptools']}"]
    assert pins("requirements")["setuptools"] == pins("official")["setuptools"] == build["setuptools"]


def test_every_direct_dependency_has_its_pin():
    for name in NAMES:
        have = {re.sub(r"[-_.]+", "-", pin).lower(): version for pin, version in pins(name).items()}
        for line in (ROOT / f"envs/{name}.in").read_text().splitlines():
            pin, _, version = line.split("#")[0].strip().partition("==")
            if pin:
                found = have[re.sub(r"[-_.]+", "-", pin).lower()]
                assert version in ("", found), line


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
