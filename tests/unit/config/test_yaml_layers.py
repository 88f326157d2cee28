"""YAML from others: whatever it holds, it is read or refused in one line, in bounded time and memory."""

import importlib.metadata
import time
from pathlib import Path

import pytest

from artune.config.registry import Registry
from artune.config.run import parse_run
from artune.config.settings import Settings
from artune.config.yaml_layers import INSTALLED, config_folder, parse, read_yaml
from artune.errors import ArtuneError
from artune.models.policies.checkpoint import _heads_beside

LAUGHS = "a0: &a0 [lol]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 11))
DOUBLED = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{p: *a{n - 1}, q: *a{n - 1}}}\n" for n in range(1, 40))
MERGED = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], k{n}: 1}}\n" for n in range(1, 12)
)
HOSTILE = {
    "aliases": (LAUGHS + "seed: *a10\n", "aliases stand for"),
    "doubled mappings": (DOUBLED, "aliases stand for"),
    "merge keys": (MERGED, "aliases stand for"),
    "a long text, many times": ("a: &a " + 100_000 * "x " + "y\nb: [" + 2000 * "*a, " + "*a]", "aliases stand for"),
    "an alias of itself": ("a: &a [*a]", "stands for itself"),
    "an alias of itself, deeper": ("a: &a {b: {c: [1, *a]}}", "stands for itself"),
    "a key twice": ("beta: 1\ngrpo:\n  x: 1\nbeta: 5\n", "line 4: 'beta' is there twice, first in line 1"),
    "a key twice in one line": ("{a: 1, b: 2, 'a': 3}", "'a' is there twice"),
    "a merge key twice": ("a: &a {x: 1}\nb: {<<: *a, <<: *a}", "'<<' is there twice"),
    "a number of many digits": ("seed: " + 100_000 * "9", "a number of 100,000 characters"),
    "a number in base 16": ("seed: 0x" + 1_000_000 * "f", "a number of 1,000,002 characters"),
    "a number in base 60": ("seed: 1" + 300_000 * ":59", "a number of 900,001 characters"),
    "a text as a number": (f"seed: !!int '{100_000 * '1'}'", "a number of 100,000 characters"),
    "a file of ten megabytes": ("a: 1\n" * 2_000_000, "bytes; settings have at most"),
    "many values": (f"x: [{'1, ' * 300_000}1]", "more than 200,000 values"),
    "an unknown alias": ("a: *b", "undefined alias"),
    "a long tag": ("a: !" + 100_000 * "x" + " 1", "could not determine a constructor"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_yaml_is_one_short_line_at_once(tmp_path, text, reason):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    began = time.process_time()
    with pytest.raises(ArtuneError) as refused:
        read_yaml(path)
    assert time.process_time() - began < 2
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 320


def test_ordinary_yaml_is_read_as_before(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(
        "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: [*a, *a]\n1: one\n'1': one\nd: 0x1f\ne: 2026-11-29 10:00:00\n"
    )
    value = read_yaml(path)
    assert value["b"] == {"x": 3, "y": 2}
    assert value["c"] == [{"x": 1, "y": 2}] * 2
    assert (value[1], value["1"], value["d"]) == ("one", "one", 31)
    assert len(read_yaml(Path("config/claims.yaml"))) > 1


def test_only_a_regular_file_is_read(tmp_path):
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(ArtuneError, match="not a regular file"):
            read_yaml(path)


def nested(depth):
    value = ["lol"]
    for _ in range(depth):
        value = [value] * 10
    return value


@pytest.mark.parametrize(
    "value", [nested(30), 1 << 3900, "x" * 10**6, {"k" * 10**5: 1}], ids=["aliases", "number", "text", "key"]
)
@pytest.mark.parametrize("key", ["device", "figure2"])
def test_a_value_of_any_size_is_refused_in_one_line(key, value):
    began = time.process_time()
    with pytest.raises(ArtuneError, match=rf"config/config\.yaml: {key}") as refused:
        parse(Settings, {"scale": "smoke", key: value}, "config/config.yaml")
    assert len(str(refused.value)) < 400
    assert time.process_time() - began < 2


def test_a_number_too_large_for_a_validators_sums_is_one_line():
    spec = Registry("smoke").spec("llamagen_l-ours")
    with pytest.raises(ArtuneError, match="out of range"):
        parse_run(spec | {"backbone": spec["backbone"] | {"tokens": 1 << 3900}}, "config.yaml")


def test_the_settings_beside_a_foreign_checkpoint_are_read_with_the_same_care(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/x-project.yaml").write_text(LAUGHS + "model: *a10\n")
    with pytest.raises(ArtuneError, match=r"x-project\.yaml: .*aliases stand for"):
        _heads_beside(tmp_path / "last.ckpt")
    (tmp_path / "configs/x-project.yaml").write_text("- no mapping")
    assert _heads_beside(tmp_path / "last.ckpt") is None


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """An empty folder, no ARTUNE_CONFIG, and no wheel."""
    monkeypatch.delenv("ARTUNE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.metadata, "files", lambda name: [])
    return tmp_path


def settings_in(folder):
    (folder / "scales").mkdir(parents=True)
    (folder / "config.yaml").write_text("scale: smoke\n")
    return folder


def test_the_settings_are_those_of_the_folder_or_the_wheels(nowhere, monkeypatch):
    assert config_folder() == Path("config")  # for a message that names it
    brought = settings_in(nowhere / "environment" / INSTALLED.parent)
    files = [importlib.metadata.PackagePath("../../..") / INSTALLED]
    files[0].dist = importlib.metadata.PathDistribution(nowhere / "environment/lib/python3.11/site-packages")
    files[0].dist.locate_file = lambda path: nowhere / "environment/lib/python3.11/site-packages" / path
    monkeypatch.setattr(importlib.metadata, "files", lambda name: files)
    assert config_folder() == brought.resolve()
    Path("config").mkdir()
    Path("config/config.yaml").write_text("model: of another program\n")
    assert config_folder() == brought.resolve()
    Path("config/scales").mkdir()
    assert config_folder() == Path("config")
    other = settings_in(nowhere / "other")
    monkeypatch.setenv("ARTUNE_CONFIG", str(other))
    assert config_folder() == other
    monkeypatch.setenv("ARTUNE_CONFIG", "nothing")
    with pytest.raises(ArtuneError, match="no such folder; unset the variable"):
        config_folder()
