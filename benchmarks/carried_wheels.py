"""Wheels for a machine that has torch but cannot install packages; needs nothing but Python's standard library.

python carried_wheels.py fetch --python 3.12 --platform x86_64 wheels     where there is a package index: download them
python carried_wheels.py unpack wheels FOLDER                             on that machine: unpack those it lacks
"""

import argparse
import importlib.metadata
import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

PINS = Path(__file__).parents[1] / "envs/requirements.txt"
# What the suite needs beside torch, numpy, safetensors, timm, scipy, transformers and what these require themselves.
# typing-extensions comes with torch, but perhaps in an older version than pydantic asks for.
PACKAGES = ("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions", "open-clip-torch",
            "ftfy", "wcwidth", "torch-fidelity", "pyyaml")  # fmt: skip
GLIBC = (39, 35, 34, 31, 28, 27, 26, 24, 17, 12, 5)  # minor versions in the platform tags of wheels


class WheelError(Exception):
    """A message for the user."""


def plain(name: str) -> str:
    """A package's name as all its spellings are compared: ``open_clip_torch`` is ``open-clip-torch``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(text: str) -> str:
    """The lines of a requirements file that pin :data:`PACKAGES`, with the digests of their files.

    Raises:
        WheelError: the file does not pin one of them.
    """
    found = {plain(pin.split("==")[0]): pin for pin in re.findall(r"^\S+==\S+(?: \\\n +--hash=\S+)+", text, re.M)}
    if missing := [name for name in PACKAGES if name not in found]:
        raise WheelError(f"{PINS}: does not pin {', '.join(missing)}; run make pins")
    return "".join(f"{found[name]}\n" for name in PACKAGES)


def fetch(folder: Path, python: str, processor: str) -> str:
    """Download the pinned wheels for another machine, checked by their digests; returns a line that says what came.

    Args:
        folder: where the wheels are put; wheels that are there already are removed.
        python: version of the target's Python, such as 3.12.
        processor: the target's processor under Linux, such as x86_64.

    Raises:
        WheelError: ``python`` is no version, or pip cannot get a wheel.
    """
    if not re.fullmatch(r"3\.\d+", python):
        raise WheelError(f"PYTHON={python}: give the target's version, as in PYTHON=3.12")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    tags = [f"manylinux_2_{minor}_{processor}" for minor in GLIBC] + [f"manylinux2014_{processor}"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
        pins.write(pinned(PINS.read_text(encoding="utf-8")))
        pins.flush()
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--require-hashes", "--only-binary=:all:", "--python-version", python, "--implementation", "cp",
                   *(word for tag in tags for word in ("--platform", tag)),
                   "-d", str(folder), "-r", pins.name]  # fmt: skip
        if subprocess.run(command, check=False).returncode:
            raise WheelError(f"pip found no such wheels for Python {python} on {processor}; its message is above")
    wheels = sorted(folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels) / 1e6
    return f"{folder}: {len(wheels)} wheels for Python {python} on {processor}, {size:.1f} MB"


def unpack(folder: Path, target: Path) -> str:
    """Unpack the wheels that this Python lacks into ``target``; returns a line that says which.

    A wheel is also taken if one that is taken requires another version than the installed one.

    Raises:
        WheelError: the wheels of compiled packages are for another Python or processor.
    """
    wheels = {plain(wheel.name.split("-")[0]): wheel for wheel in sorted(folder.glob("*.whl"))}
    needed = [name for name in wheels if installed(name) is None]
    for name in needed:  # the list grows while it is read
        for other, specifier in required(wheels[name]):
            if other in wheels and other not in needed and not satisfies(installed(other) or "", specifier):
                needed.append(other)
    target.mkdir(parents=True, exist_ok=True)
    for name in needed:
        check_tag(wheels[name])
        with zipfile.ZipFile(wheels[name]) as archive:
            archive.extractall(target)
    return f"{target}: {', '.join(sorted(needed)) or 'nothing'} from {folder}, the other packages are installed"


def installed(name: str) -> str | None:
    """The installed version of a package; None if it is missing."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def required(wheel: Path) -> list[tuple[str, str]]:
    """Packages that a wheel requires without extras, each with the versions that will do."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
        lines = HeaderParser().parsestr(archive.read(name).decode("utf-8")).get_all("Requires-Dist") or []
    found = [re.match(r"([\w.-]+)\s*\(?([^;)]*)", line) for line in lines if ";" not in line]
    return [(plain(match[1]), match[2].strip()) for match in found if match]


def satisfies(version: str, specifier: str) -> bool:
    """Whether a version meets ``>=`` and ``==`` of a specifier; other comparisons are not looked at."""
    have = numbers(version)
    for comparison, bound in re.findall(r"(>=|==)\s*([\d.]+)", specifier):
        if have < numbers(bound) or (comparison == "==" and have != numbers(bound)):
            return False
    return True


def numbers(version: str) -> list[int]:
    """The leading numbers of a version, without zeros at the end."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    found = [int(part) for part in match[0].split(".")] if match else []
    while found and not found[-1]:
        found.pop()
    return found


def check_tag(wheel: Path) -> None:
    """Raise a WheelError if a wheel holds a compiled module for another version of Python or another processor."""
    python, abi, systems = wheel.stem.split("-")[-3:]
    version, machine = f"{sys.version_info.major}.{sys.version_info.minor}", platform.machine()
    fits = abi in ("none", "abi3") or f"cp{version.replace('.', '')}" in python.split(".")
    if not fits or not (systems == "any" or machine in systems):
        remedy = f"prepare the wheels with make gpu-wheels PYTHON={version} PLATFORM={machine}"
        raise WheelError(f"{wheel.name}: is not for this Python; {remedy}")


def main() -> None:
    """Run one of the two commands; the result or the error is one line on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    fetching, unpacking = commands.add_parser("fetch"), commands.add_parser("unpack")
    fetching.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}")
    fetching.add_argument("--platform", default="x86_64")
    fetching.add_argument("folder", type=Path)
    unpacking.add_argument("folder", type=Path)
    unpacking.add_argument("target", type=Path)
    given = parser.parse_args()
    try:
        if given.command == "fetch":
            line = fetch(given.folder, given.python.removeprefix("python"), given.platform)
        else:
            line = unpack(given.folder, given.target)
    except (WheelError, OSError, zipfile.BadZipFile) as error:
        sys.exit(f"error: {error}")
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
