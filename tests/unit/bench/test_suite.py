"""The suite for a GPU's first minutes: it runs here at small sizes with no package but those of such a machine."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from imagenet_world import shrink
from project import ROOT, copy_project

from artune.bench.random_weights import random_policy
from artune.bench.suite import kernels
from artune.bench.suite.decoder import compare
from artune.bench.suite.parts import PARTS, Suite
from artune.bench.suite.report import main_number, tables
from artune.bench.suite.supervise import LIMIT, chosen, write
from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.sampling.decoders import BucketedDecoder

THERE = (
    "torch",
    "numpy",
    "safetensors",
    "timm",
    "scipy",
    "transformers",
)  # installed on the machine, with what they need
# The finder of installed modules, which finds nothing but what that machine has.
ONLY = """
import sys
from importlib.machinery import PathFinder

ALLOWED = {allowed}


class Only(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.split(".")[0]
        known = top in ALLOWED or top in sys.stdlib_module_names or top.startswith("_sysconfigdata")
        return super().find_spec(name, path, target) if known else None


sys.meta_path[:] = [Only if finder is PathFinder else finder for finder in sys.meta_path]
"""


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def packages():
    """That machine's packages: those of THERE, all that they require, and the carried wheels."""
    text = (ROOT / "benchmarks/carried_wheels.py").read_text()
    carried = re.findall(r'"([\w-]+)"', re.search(r"^PACKAGES = \((.*?)\)", text, re.M | re.S)[1])
    assert len(carried) >= 9
    found, waiting = set(map(plain, carried)), list(THERE)
    while waiting:
        name = plain(waiting.pop())
        if name in found:
            continue
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
        waiting += [re.match(r"[\w.-]+", line)[0] for line in lines if "extra ==" not in line]
    return found


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """Environment of a process that imports only what that machine has."""
    folder, have = tmp_path_factory.mktemp("machine"), packages()
    allowed = [
        module
        for module, names in importlib.metadata.packages_distributions().items()
        if any(plain(name) in have for name in names)
    ]
    assert not {"mlflow", "pandas", "matplotlib", "snakemake", "hpsv2", "pyarrow"} & {*allowed}
    (folder / "sitecustomize.py").write_text(ONLY.format(allowed={*allowed, "artune"}))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PYTHONPATH": str(folder), "PATH": path, "OMP_NUM_THREADS": "1"}


def project(folder):
    """A copy of the project whose imagenet scale has miniature sizes."""
    folder.mkdir()
    copy_project(folder)
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks")
    shrink(folder)
    return folder


def run(folder, machine, *options):
    return subprocess.run(
        [folder / "benchmarks/gpu_suite.sh", "out", "--device", "cpu", "--scale", "imagenet", *options],
        env=machine,
        capture_output=True,
        text=True,
        check=False,
    )


def results(folder):
    return {part["name"]: part for part in json.loads((folder / "out/suite.json").read_text())["parts"]}


def test_every_part_runs_with_the_packages_of_a_machine_that_has_torch(tmp_path, machine):
    folder = project(tmp_path / "project")
    file = folder / "src/artune/bench/suite/parts.py"  # its limits are a GPU's: longer ones for two busy cores
    text, count = re.subn(
        r'Part\("(\w+)", (\d+),', lambda part: f'Part("{part[1]}", {5 * int(part[2])},', file.read_text()
    )
    assert count == len(PARTS) - 1
    file.write_text(text)
    done = run(folder, machine)
    assert done.returncode == 0, done.stderr
    found = results(folder)
    assert {name: part["status"] for name, part in found.items()} == {part.name: "ok" for part in PARTS}, done.stderr
    assert all(part["rows"] and part["seconds"] > 0 for part in found.values())
    assert re.search(r"8 of 8 parts ok, llamagen_l: \d+\.\d\d s per iteration of 4 images \(", done.stderr)
    page = (folder / "out/suite.md").read_text()
    assert all(f"## {part.name}\n| case |" in page for part in PARTS)
    assert "== decoder: ok," in done.stdout
    assert re.search(r"^iteration,s,[\d.]+,57.17,", done.stdout, re.M)  # of costs.csv
    decoded = [
        (row["arithmetic"], row["layout"]) for row in found["layouts"]["rows"] if row["case"].startswith("decode")
    ]
    assert len(decoded) == len({*decoded}) == 4  # two number formats, two layouts of memory
    forced = {(row["kernel"], row["mask"]) for row in found["kernels"]["rows"] if row["case"] == "forced"}
    assert forced == {(kernel, mask) for kernel in ("memory-efficient", "cuDNN", "flash") for mask in (True, False)}
    for row in found["decoder"]["rows"]:
        assert {"largest difference / largest logit", "rms of difference / spread"} <= row.keys()
    about = json.loads((folder / "out/suite.json").read_text())["about"]
    assert about["torch"] == torch.__version__.split("+")[0]
    assert about["device"]
    # The second run keeps the results of the parts that it leaves out, and a missing package is a failure of its part.
    layouts = folder / "src/artune/bench/suite/layouts.py"
    before = found["samples"]
    layouts.write_text(layouts.read_text().replace("import torch\n", "import pandas\nimport torch\n", 1))
    done = run(folder, machine, "--parts", "layouts", "kernels")
    assert done.returncode == 2
    assert "layouts failed (ModuleNotFoundError: No module named 'pandas')" in done.stderr
    assert results(folder)["kernels"]["status"] == "ok"
    assert results(folder).get("samples") in (None, before)  # another code: the old results are not kept


PLANTED = {
    "kernels": "import os\n\ndef run(suite):\n    suite.note({'pid': os.getpid()})\n    os.kill(os.getpid(), 9)\n",
    "decoder": "import os\n\ndef run(suite):\n    suite.note({'pid': os.getpid()})\n    while True:\n        pass\n",
    "generation": "import os, signal, time\n\ndef run(suite):\n    suite.note({'pid': os.getpid()})\n"
    "    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])\n    time.sleep(600)\n",
    "iteration": "import os\n\ndef run(suite):\n    suite.note({'pid': os.getpid(), 'x': float('nan')})\n",
}


def test_a_part_that_crashes_or_hangs_costs_its_own_result_only(tmp_path, machine):
    folder = project(tmp_path / "project")
    suite = folder / "src/artune/bench/suite"
    for name, code in PLANTED.items():
        (suite / f"{name}.py").write_text(code)
    text = (suite / "parts.py").read_text()
    for name, limit in (("decoder", 60), ("generation", 40)):
        assert f'Part("{name}", {limit},' in text
        text = text.replace(f'Part("{name}", {limit},', f'Part("{name}", 1,')
    (suite / "parts.py").write_text(text)
    text = (suite / "supervise.py").read_text()
    assert "GRACE = 20.0" in text
    (suite / "supervise.py").write_text(text.replace("GRACE = 20.0", "GRACE = 4.0"))
    done = run(folder, machine, "--parts", *PLANTED)
    assert done.returncode == 2
    found = results(folder)
    reasons = {name: re.sub(r"killed after \d+ s", "killed", part["reason"]) for name, part in found.items()}
    assert {name: (part["status"], reasons[name]) for name, part in found.items()} == {
        "kernels": ("failed", "its process ended with status -9"),
        "decoder": ("over its limit", "stopped after 1 s"),
        "generation": ("over its limit", "killed"),
        "iteration": ("ok", ""),
    }
    pids = {name: part["rows"][0]["pid"] for name, part in found.items()}  # each row was kept
    assert pids["decoder"] == pids["generation"]  # a part that stops by itself does not cost the process
    assert len({*pids.values()}) == 3
    assert found["iteration"]["rows"][0]["x"] == "nan"
    assert re.search(r"; generation over its limit \(killed after \d+ s\)", done.stderr)


def test_parts_for_which_no_time_is_left_are_left_out(tmp_path, machine):
    folder = project(tmp_path / "project")
    done = run(folder, machine, "--limit", "4")
    assert done.returncode == 0
    assert {part["reason"] for part in results(folder).values()} == {"4 s are over"}
    assert "0 of 8 parts ok (" in done.stderr


def test_a_device_that_is_not_there_is_one_line(tmp_path, machine):
    done = subprocess.run(
        [ROOT / "benchmarks/gpu_suite.sh", tmp_path / "out"],
        env=machine | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "error: bench suite: device: cuda was asked for, but torch sees no GPU; use --device cpu" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_limits_of_the_parts_leave_time_for_the_last_within_15_minutes():
    limits = [part.limit for part in PARTS]
    assert limits == [40, 60, 40, 150, 40, 90, 40, None]
    assert sum(limit or 60 for limit in limits) < LIMIT < 900


def test_decoding_steps_are_looked_at_with_the_kernels_that_the_code_names(tmp_path, monkeypatch):
    uses = []
    monkeypatch.setattr(kernels, "kernels", lambda use, device: uses.append(use) or nullcontext())
    suite = Suite(Registry("smoke", root=ROOT / "config"), torch.device("cpu"), tmp_path, lambda row: None)
    calls = dict(kernels.steps(suite, 4))
    for case in ("decoding step with a mask", "plain decoding step"):
        calls[f"{case}, PyTorch's own choice"]()
        calls[case]()
    assert uses == ["masked step", "plain step"]


def test_an_unknown_part_is_named():
    assert [part.name for part in chosen(["memory", "kernels"])] == ["kernels", "memory"]
    with pytest.raises(ArtuneError, match=r"--parts: unknown part 'memry'; did you mean memory\?"):
        chosen(["memry"])


def test_results_of_another_device_are_not_kept(tmp_path):
    about, part = {"device": "A", "code": "1", "torch": "2"}, {"name": "samples", "rows": [], "status": "ok",
                   "summary": "", "reason": "", "seconds": 1.0}  # fmt: skip
    for device, kept in (("A", ["samples"]), ("B", [])):
        write(tmp_path / "suite.json", about | {"device": device}, [], {"about": about, "parts": [part]}, 1.0)
        assert [part["name"] for part in json.loads((tmp_path / "suite.json").read_text())["parts"]] == kept


def test_tables_leave_out_empty_columns_and_the_main_number_is_that_of_all_images():
    rows = [{"case": "a", "s": 1.23456, "none": None}, {"case": "b|c", "s": None, "none": None}, {"other": True}]
    assert tables(rows) == (
        "| case | s |\n| --- | --- |\n| a | 1.23 |\n| b/c | - |\n\n| other |\n| --- |\n| True |"
    )  # fmt: skip
    lines = [{"case": "llamagen_l iteration", "images": n, "median s": s} for n, s in ((144, 3.21), (36, 1.0))]
    text = main_number([{"name": "kernels", "rows": []}, {"name": "iteration", "rows": lines}])
    assert text == ", llamagen_l: 3.21 s per iteration of 144 images"


@pytest.mark.parametrize("mistake", [None, "mask left open", "stale token"])
def test_the_difference_from_the_plain_path_shows_a_mistake(mistake, monkeypatch):
    policy = random_policy(Registry("smoke", root=ROOT / "config").backbones["llamagen_l"], torch.device("cpu"))
    decoder = BucketedDecoder(policy, 4)
    if mistake == "mask left open":
        monkeypatch.setattr(decoder.cache, "restart", lambda: decoder.cache.position.zero_())
        decoder.cache.additive.zero_()
    if mistake == "stale token":
        monkeypatch.setattr(decoder.token, "copy_", lambda token: None, raising=False)
    found, seconds = compare(decoder, torch.arange(4), policy.tokens)
    assert len(seconds) == policy.tokens
    assert (found.typical < 1e-4) == (found.largest < 1e-4) == (mistake is None)
