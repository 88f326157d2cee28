"""Damaged or hostile files and settings from others: a one-line error, no code run, no file written outside the folder.

`make faults` draws 10,000 cases per test, CI a few hundred in all.
"""

import copy
import io
import json
import os
import pickle
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from fuzzing import cases, row, trees
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from project import ROOT
from tiny import tiny_policy, tiny_run

from artune.config.registry import Registry
from artune.config.run import parse_run
from artune.config.yaml_layers import read_yaml
from artune.errors import ArtuneError
from artune.models.weights.checkpoints import load_into
from artune.models.weights.tensor_files import read_metadata
from artune.planning.plan import Plan
from artune.runtime.files import load_npz, read_json, read_jsonl
from artune.runtime.lease import describe_holder, parse_holder
from artune.runtime.resume import load_state, save_state
from artune.tracking.mlflow_store import init_store
from artune.tracking.run_logger import read_lines

MARKER = "code-was-run"
DEAD = ("http://127.0.0.1:9", "https://127.0.0.1:9/x")


def refusal(call, value):
    """The message of the ArtuneError that ``call(value)`` raises, empty if none; any other exception fails the test."""
    try:
        call(value)
    except ArtuneError as error:
        return str(error)
    return ""


def fuzz(request, strategy, case):
    """Draw cases from a strategy; for each, ``case`` must return or raise an ArtuneError of one line."""
    folder = Path.cwd()

    @settings(max_examples=cases(request), deadline=None, database=None, derandomize=True,
              phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck), print_blob=False)  # fmt: skip
    @given(strategy)
    def run(value):
        assert "\n" not in refusal(case, value)
        assert not (folder / MARKER).exists(), "code was run"

    run()


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    """Run each test in a folder of its own; nothing beside that folder may change."""
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside").mkdir()
    monkeypatch.chdir(inside)
    yield
    assert list((tmp_path / "outside").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"inside", "outside"}


class Bomb:
    """An object that runs code where it is unpickled without care."""

    def __reduce__(self):
        return os.system, (f"touch {MARKER} ../outside/{MARKER}",)


def damaged(data: bytes):
    """A strategy: the bytes cut, with flipped bits, lengthened in the middle, or replaced."""
    size = len(data)
    cut = st.integers(0, size).map(lambda at: data[:at])
    flips = st.lists(st.tuples(st.integers(0, size - 1), st.integers(1, 255)), min_size=1, max_size=8).map(
        lambda spots: bytes(flip(bytearray(data), spots))
    )
    blocks = st.tuples(st.integers(0, size), st.binary(max_size=64)).map(lambda t: data[: t[0]] + t[1] + data[t[0] :])
    return st.one_of(cut, flips, blocks, st.binary(max_size=200))


def flip(data, spots):
    for at, mask in spots:
        data[at] ^= mask
    return data


FILES = ["config.yaml", "grpo.yaml", "rewards.yaml", "tables.yaml", "figures.yaml", "experiments.yaml", "assets.yaml",
         "backbones.yaml", "scales/smoke.yaml", "costs.yaml", "evaluation.yaml", "networks.yaml", "mle.yaml",
         "tokenizers.yaml"]  # fmt: skip


@pytest.fixture(scope="module")
def loaded():
    """The configuration, parsed once."""
    return {
        path.relative_to(ROOT / "config").as_posix(): yaml.safe_load(path.read_text())
        for path in (ROOT / "config").rglob("*.yaml")
    }


def places(tree, path=()):
    """Every place in a tree of mappings and lists."""
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def put(tree, path, value):
    """A copy of ``tree`` with ``value`` at ``path``."""
    if not path:
        return value
    copied = dict(tree) if isinstance(tree, dict) else list(tree)
    copied[path[0]] = put(tree[path[0]], path[1:], value)
    return copied


def test_config(request, loaded, monkeypatch, fault):
    """Values of the configuration are replaced by other values"""
    monkeypatch.setattr(
        "artune.config.registry.read_yaml", lambda path: dict(chosen[Path(path).relative_to("config").as_posix()])
    )
    spots = [(name, place) for name in FILES if name in loaded for place in places(loaded[name])]
    chosen = {}

    def case(drawn):
        (name, place), value = drawn
        chosen.clear()
        chosen.update(loaded)
        chosen[name] = put(loaded[name], place, value)
        if not isinstance(chosen[name], dict):
            raise ArtuneError("read_yaml refuses what is not a mapping")
        Plan(chosen["config.yaml"] | {"scale": "smoke"}, Path("config"))

    before = copy.deepcopy(loaded)
    fuzz(request, st.tuples(st.sampled_from(spots), trees), case)
    assert loaded == before  # no case alters the loaded trees, so none has seen the changes of another
    row(
        fault,
        request,
        "any value of any file in config/ replaced by another value, list or mapping",
        "accepted where it is valid, otherwise a one-line error",
    )


def test_yaml(request, fault):
    """A YAML file has arbitrary contents"""
    text = (ROOT / "config/experiments.yaml").read_bytes()
    path = Path("x.yaml")

    def case(data):
        path.write_bytes(data)
        read_yaml(path)

    hostile = st.sampled_from([
        b"!!python/object/apply:os.system ['touch code-was-run']", b"a: &a [*a]", b"\xff\xfe", b"{" * 300, b"? {}\n: 1", b"- 1",
        b"a: 2026-99-99", b"a: !!binary x", b"a: !!int x", b"a: !!timestamp x", b"<<: 1", b"\x00", b"a: !!set [1]", b"&a x: *a",
        b"a: &a {b: *a}", b"a: 1\na: 2", b"a: 0x" + b"f" * 10**6, b"a: 1" + b":59" * 10**5, b"a: " + b"9" * 10**5, b"a: .inf",
    ])  # fmt: skip
    fuzz(request, st.one_of(damaged(text), hostile), case)
    row(
        fault,
        request,
        "YAML that is cut, has flipped bits, or is hostile (`!!python/object/apply`)",
        "a one-line error, or a mapping of plain values",
    )


def test_yaml_aliases(request, fault):
    """A YAML file has aliases of aliases, merge keys and long texts"""
    path = Path("x.yaml")
    lines = st.lists(
        st.tuples(
            st.sampled_from(["[{}]", "{{<<: [{}]}}", "{{k: [{}], l: 1}}", "[{}, [[1]]]"]),
            st.integers(0, 40),
            st.integers(0, 3),
        ),
        max_size=40,
    )
    first = st.sampled_from(["{x: 1}", "x", "[1, 2]", "x" * 5000, "*a0", "{y: *a0}"])

    def case(drawn):
        start, rest, key = drawn
        names = [f"a{number}" for number in range(len(rest) + 1)]
        text = f"a0: &a0 {start}\n"
        for number, (form, times, back) in enumerate(rest, start=1):
            used = ", ".join([f"*{names[max(0, number - 1 - back)]}"] * times)
            text += f"a{number}: &a{number} {form.format(used)}\n"
        path.write_text(f"{text}{key}: *{names[-1]}\n")
        began = time.process_time()
        tree = read_yaml(path)
        parse_run(tiny_run().model_dump(mode="json") | {key: tree[key]}, "config.yaml")
        assert time.process_time() - began < 2

    def in_time(drawn):
        began = time.process_time()
        message = refusal(case, drawn)
        assert time.process_time() - began < 2
        assert len(message) < 1000
        if message:
            raise ArtuneError(message)

    fuzz(request, st.tuples(first, lines, st.sampled_from(["seed", "name", "rewards", "a0"])), in_time)
    row(
        fault,
        request,
        "up to forty lines, each with up to forty aliases of lines above, as a setting of a run",
        "refused in less than two seconds with a short line where they stand for too much, otherwise read",
    )


def test_run_settings(request, fault):
    """The config.yaml of a run has other values"""
    tree = tiny_run().model_dump(mode="json")
    spots = list(places(tree))
    strategy = st.tuples(st.sampled_from(spots), trees)
    fuzz(request, strategy, lambda drawn: parse_run(put(tree, *drawn), "config.yaml"))
    row(
        fault,
        request,
        "any value of a run's settings replaced",
        "accepted where it is valid, otherwise a one-line error that names the key",
    )


def test_run_names(request, fault):
    """A run, a table or a target has an arbitrary name"""
    registry = Registry("smoke", root=ROOT / "config")
    names = st.one_of(
        st.text(max_size=30),
        st.sampled_from(
            ["../x", "/etc/passwd", "llamagen_l-ours/../../x", "llamagen_l-ours-s0", "llamagen_l-ours-s1\n", "a\x00b"]
        ),
        st.integers().map(lambda seed: f"llamagen_l-ours-s{seed}"),
    )

    def case(name):
        base, seed = registry.split_seed(name)
        assert base in registry.run_names
        assert seed >= 0
        assert Path(f"results/{name}").resolve().parent == Path("results").resolve()

    fuzz(request, names, case)
    row(
        fault,
        request,
        "`../x`, `/etc/passwd`, control characters, any text",
        "only names in the registry are accepted, with or without a seed",
    )


@pytest.fixture
def policy():
    return tiny_policy(tiny_run())


def test_safetensors(request, policy, fault):
    """A safetensors file is damaged"""
    from artune.models.policies.checkpoint import save_policy

    save_policy("whole.safetensors", policy)
    data, path = Path("whole.safetensors").read_bytes(), Path("x.safetensors")
    header = (2**60).to_bytes(8, "little") + data[8:]

    def case(changed):
        path.write_bytes(changed)
        read_metadata(path)
        load_into(policy, path)

    fuzz(request, st.one_of(damaged(data), st.just(header)), case)
    row(
        fault,
        request,
        "files that are cut, lengthened, have flipped bits, or a header of 2^60 bytes",
        "a one-line error that names the file, or its tensors",
    )


def torch_bytes(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


# An archive with a number in place of a tensor's storage.
ODD_STORAGE = [("archive/data.pkl", b"\x80\x02K\x07Q."), ("archive/version", b"3")]


def archive(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for name, data in members:
            out.writestr(name, data)
    return buffer.getvalue()


def test_checkpoints(request, policy, fault):
    """A torch checkpoint from someone else is damaged or hostile"""
    state = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    whole = torch_bytes({"model": state})
    kinds = st.sampled_from([torch.float16, torch.int64, torch.bool, torch.complex64])
    other = st.tuples(st.sampled_from(sorted(state)), kinds).map(
        lambda drawn: torch_bytes({"model": state | {drawn[0]: state[drawn[0]].to(drawn[1])}})
    )
    shapes = st.tuples(st.sampled_from(sorted(state)), st.lists(st.integers(0, 3), max_size=3)).map(
        lambda drawn: torch_bytes({"model": state | {drawn[0]: torch.zeros(drawn[1])}})
    )
    hostile = st.sampled_from([
        pickle.dumps(Bomb()), pickle.dumps({"model": Bomb()}), pickle.dumps({"model": state, "x": Bomb()}, protocol=2),
        torch_bytes({"model": state, "callback": Bomb()}), torch_bytes(Bomb()), torch_bytes([1, 2]), torch_bytes(None),
        archive([("archive/data.pkl", pickle.dumps(Bomb()))]), archive([("../outside/x", b"x"), ("archive/data.pkl", b".")]),
        archive([]), archive(ODD_STORAGE), b"PK\x03\x04", b"",
    ])  # fmt: skip
    path = Path("x.pt")

    def case(changed):
        path.write_bytes(changed)
        load_into(policy, path)

    fuzz(request, st.one_of(damaged(whole), other, shapes, hostile), case)
    row(
        fault,
        request,
        "files that are cut or have flipped bits, other types and shapes, pickles that call `os.system`, `../` in "
        "archive members",
        "a one-line error that names the file, or its tensors",
    )


def test_states(request, fault):
    """A saved state of a training is damaged or hostile"""
    folder = Path("states")
    folder.mkdir()
    path = save_state(folder, 3, {"config": "c", "trainer": {"w": torch.zeros(4)}})
    data, name = path.read_bytes(), path.name
    import hashlib
    import warnings

    def case(drawn):
        changed, honest = drawn
        for old in folder.iterdir():
            old.unlink()
        digest = hashlib.sha256(changed).hexdigest()[:16] if honest else name.split("-")[2].removesuffix(".pt")
        (folder / f"state-000003-{digest}.pt").write_bytes(changed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load_state(folder, "c")

    hostile = st.sampled_from(
        [
            pickle.dumps(Bomb()),
            torch_bytes({"config": "c", "trainer": Bomb()}),
            torch_bytes([1]),
            archive(ODD_STORAGE),
            b"",
        ]
    )
    fuzz(request, st.tuples(st.one_of(damaged(data), hostile), st.booleans()), case)
    row(
        fault,
        request,
        "files that are cut or have flipped bits, pickles that call `os.system`, also under a name with the right "
        "digest",
        "skipped with a warning",
    )


def test_npz(request, fault):
    """An npz file is damaged or hostile"""
    buffer = io.BytesIO()
    np.savez(buffer, arr_0=np.zeros((2, 4, 4, 3), np.uint8), labels=np.arange(2))
    objects = io.BytesIO()
    np.savez(objects, arr_0=np.array([Bomb()], dtype=object), labels=np.arange(1))
    huge = (
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999, 9), }".ljust(128)
        + b"\n"
    )
    hostile = st.sampled_from([
        objects.getvalue(), archive([("../outside/arr_0.npy", b"x"), ("labels.npy", b"y")]), archive([("arr_0.npy", huge)]),
        archive([("arr_0.npy", b"\x93NUMPY\x01\x00v\x00" + b"{'descr': __import__('os').system('touch code-was-run')}")]),
        archive([("arr_0.npy", b""), ("labels.npy", b"")]), archive([]), pickle.dumps(Bomb()),
    ])  # fmt: skip
    path = Path("x.npz")

    def case(changed):
        path.write_bytes(changed)
        load_npz(path, "arr_0", "labels")

    fuzz(request, st.one_of(damaged(buffer.getvalue()), hostile), case)
    row(
        fault,
        request,
        "files that are cut or have flipped bits, pickled objects, `../` in members, shapes of 72 TB",
        "a one-line error, or the arrays",
    )


def test_json(request, fault):
    """A JSON file of a run is damaged"""
    path, lines = Path("x.json"), Path("x.jsonl")
    whole = json.dumps({"scores": {"fid": 1.0}, "n": 64}).encode()
    written = b'{"iteration": 0, "reward/total": 1.0}\n{"iteration": 1, "reward/total": null}\n'

    def case(drawn):
        one, many = drawn
        path.write_bytes(one)
        lines.write_bytes(many)
        for read, file in ((read_json, path), (read_jsonl, lines), (read_lines, lines)):
            assert "\n" not in refusal(read, file)
        describe_holder(parse_holder(one))

    deep = st.just((b"[" * 100_000, b"[" * 100_000 + b"\n{}"))
    fuzz(request, st.one_of(st.tuples(damaged(whole), damaged(written)), deep), case)
    row(
        fault,
        request,
        "files that are cut, have flipped bits, or are nested 100,000 deep",
        "a one-line error, or the values",
    )


def test_tracking_uris(request, fault):
    """MLFLOW_TRACKING_URI has an arbitrary value"""
    inside = Path.cwd()
    texts = st.one_of(
        st.text(st.characters(blacklist_characters="/\\"), max_size=20),
        st.sampled_from([*DEAD, "sqlite://", "sqlite:///", "file:", "databricks", "postgresql://u:p@127.0.0.1:9/x", "ftp://x",
                         "sqlite:///x.db?mode=ro", "mysql://127.0.0.1:9/x", "http://", "http://[", "uc:x", "plugin://x"]),
    )  # fmt: skip
    limit = 40 if cases(request) > 100 else 10  # each case connects to something

    @settings(
        max_examples=limit, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(texts)
    def run(uri):
        assert init_store(uri) in (True, False)
        assert {path.resolve().parent for path in inside.iterdir()} <= {inside}

    run()
    fault.done = f"{limit} cases: any text, servers that do not answer, other schemes"
    fault.happened = "one warning, or a store inside the folder; no traceback"
    fault.lost = "nothing"


def test_archives_of_images(request, fault):
    """A tar of images has hostile members"""
    from artune.data.crops import load_images
    from artune.data.imagenet import open_split

    names = st.sampled_from(
        [
            "n01440764/a.png",
            "../outside/x.png",
            "/etc/x.png",
            "n01443537/b.png",
            "n01440764",
            "n01440764/../../outside/y.png",
            "",
        ]
    )
    kinds = st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE])

    def build(members):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as out:
            for name, kind, data in members:
                info = tarfile.TarInfo(name)
                info.type, info.size, info.linkname = kind, len(data) if kind == tarfile.REGTYPE else 0, "/etc/passwd"
                out.addfile(info, io.BytesIO(data))
        return buffer.getvalue()

    members = st.lists(st.tuples(names, kinds, st.binary(max_size=40)), max_size=4).map(build)
    path = Path("images.tar")

    def case(data):
        path.write_bytes(data)
        for _ in load_images(open_split(path), lambda image: image.size, workers=1):
            continue

    fuzz(request, st.one_of(members, members.flatmap(lambda data: damaged(data or b"x"))), case)
    row(
        fault,
        request,
        "`../`, absolute names, links, devices, tars that are cut or have flipped bits",
        "a one-line error; nothing is unpacked to a path",
    )
