"""The wheels that the suite carries: pinned by digests, and unpacked only where their package is missing."""

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import zipfile

import pytest
from project import ROOT

SCRIPT = ROOT / "benchmarks/carried_wheels.py"
SPEC = importlib.util.spec_from_file_location("carried_wheels", SCRIPT)
carried = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(carried)


def wheel(folder, name, version="1.0", tag="py3-none-any", requires=()):
    """A wheel with one module, called as the package."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    lines = "".join(f"Requires-Dist: {line}\n" for line in requires)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{name}-{version}.dist-info/METADATA", f"Name: {name}\nVersion: {version}\n{lines}\n")
    return path


def test_every_package_is_pinned_with_the_digests_of_its_files():
    text = carried.pinned(carried.PINS.read_text())
    pins = dict(re.findall(r"^(\S+)==(\S+)", text, re.M))
    assert tuple(pins) == carried.PACKAGES
    whole = carried.PINS.read_text()
    assert all(f"\n{name}=={version} \\\n" in whole for name, version in pins.items())
    core = text[text.index("pydantic-core==") :].split("==")[1]
    assert core.count("--hash=sha256:") > 50  # those of every Python and platform, not of one
    with pytest.raises(carried.WheelError, match="does not pin wcwidth; run make pins"):
        carried.pinned(whole.replace("\nwcwidth==", "\nwcwidths=="))


def test_the_carried_packages_are_what_they_require_of_each_other():
    """Nothing that a carried package requires is forgotten."""
    there = {"torch", "torchvision", "numpy", "pillow", "tqdm", "regex", "huggingface-hub", "safetensors", "timm"}
    for name in carried.PACKAGES:
        for line in importlib.metadata.requires(name) or []:
            if ";" not in line:
                assert carried.plain(re.match(r"[\w.-]+", line)[0]) in {*carried.PACKAGES, *there}, (name, line)


def test_only_what_is_missing_is_unpacked_and_what_it_needs_in_another_version(tmp_path):
    wheel(tmp_path / "wheels", "torch", "99.0")  # installed: stays
    wheel(tmp_path / "wheels", "numpy", "99.0")  # installed, but the missing one needs a newer one
    wheel(tmp_path / "wheels", "absent_one", requires=("numpy>=99", "torch>=1.0", "extra_one; extra == 'more'"))
    line = carried.unpack(tmp_path / "wheels", tmp_path / "site")
    assert sorted(path.name for path in (tmp_path / "site").glob("*.py")) == ["absent_one.py", "numpy.py"]
    assert "site: absent-one, numpy from " in line


def test_a_machine_that_has_everything_unpacks_nothing(tmp_path):
    wheel(tmp_path / "wheels", "numpy", "99.0")
    assert "nothing from" in carried.unpack(tmp_path / "wheels", tmp_path / "site")
    assert list((tmp_path / "site").iterdir()) == []


@pytest.mark.parametrize("tag", ["cp39-cp39-manylinux2014_x86_64", "cp310-abi3-manylinux2014_s390x"])
def test_a_wheel_for_another_machine_is_refused_by_name(tmp_path, tag):
    path = wheel(tmp_path / "wheels", "absent_one", tag=tag)
    done = subprocess.run(
        [sys.executable, SCRIPT, "unpack", tmp_path / "wheels", tmp_path / "site"],
        capture_output=True,
        text=True,
        check=False,
    )
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    remedy = f"is not for this Python; prepare the wheels with make gpu-wheels PYTHON={version} PLATFORM="
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {path.name}: {remedy}")


@pytest.mark.parametrize(
    ("version", "specifier", "good"),
    [("4.16.0", ">=4.16", True), ("4.9", ">=4.16.0", False), ("2.50.4", "==2.50.4", True), ("2.51", "==2.50.4", False),
     ("2.15.0.post1", ">=2.0,<3.0", True), ("", ">=1", False), ("1.0", "", True)],
)  # fmt: skip
def test_versions_are_compared_by_their_numbers(version, specifier, good):
    assert carried.satisfies(version, specifier) == good


def test_a_python_that_is_no_version_is_refused_before_anything_is_fetched(tmp_path):
    with pytest.raises(carried.WheelError, match=r"PYTHON=py: give the target's version, as in PYTHON=3\.12"):
        carried.fetch(tmp_path, "py", "x86_64")
