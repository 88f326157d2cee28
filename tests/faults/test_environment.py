"""What a machine, its users and the network put around a run: variables, addresses with passwords, replaced packages."""

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from project import ROOT, environment
from trainings import Command

GOES_ON = "nothing: the training ended like the undisturbed run, bit for bit"
# Launchers, pods and job scripts; the last is torchrun's, left over without the address of the first process.
FOREIGN = [
    {"WORLD_SIZE": "2", "RANK": "0"},
    {"WORLD_SIZE": ""},
    {"LOCAL_RANK": "0"},
    {"WORLD_SIZE": "4", "RANK": "seven", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1",
     "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "none"},
    {"WORLD_SIZE": "2", "RANK": "5", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
     "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "none"},
    {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"},
]  # fmt: skip


@pytest.mark.parametrize("variables", FOREIGN, ids=lambda one: "-".join(map("=".join, one.items()))[:40])
def test_variables_of_other_launchers(training, undisturbed, variables, fault):
    """Another launcher has set variables of torchrun"""
    done = training.start(**variables).wait()
    assert done.status == 0, done.text
    notes = [line for line in done.text.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1, done.text
    assert "not from torchrun" in notes[0]
    assert training.result() == undisturbed
    given = " ".join(map("=".join, variables.items()))
    fault.fault = f"{fault.fault}: `{given}`"
    fault.done = "a training in such an environment, without torchrun"
    fault.happened = "it ran as one process and said so in one line"
    fault.lost = GOES_ON


def test_variables_of_other_libraries(training, undisturbed, fault):
    """Variables that libraries read have impossible values"""
    odd = {"OMP_NUM_THREADS": "many", "CUDA_VISIBLE_DEVICES": "none at all", "MPLBACKEND": "no-such-backend",
           "MLFLOW_HTTP_REQUEST_TIMEOUT": "soon", "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "XDG_CACHE_HOME": "/proc/1/x",
           "TZ": "Nowhere/Land"}  # fmt: skip
    done = training.start(**odd).wait()
    assert done.status == 0, done.text
    assert "Traceback" not in done.text
    assert training.result() == undisturbed
    fault.done = "`OMP_NUM_THREADS=many`, `CUDA_VISIBLE_DEVICES`, `MPLBACKEND`, `XDG_CACHE_HOME` and others likewise"
    fault.happened = "the training ran as one process on the CPU"
    fault.lost = GOES_ON


SECRET = "hunter2-is-secret"
ADDRESSES = ["http://alice:{}@127.0.0.1:9", "http://127.0.0.1:9/x?token={}", "postgresql://alice:{}@127.0.0.1:9/mlflow"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_password_in_the_address_of_the_store(training, undisturbed, address, tmp_path, fault):
    """The address of the tracking store holds a password"""
    uri, log = address.format(SECRET), tmp_path / "train.log"
    done = training.start("--log", log, MLFLOW_TRACKING_URI=uri).wait()
    assert done.status == 0, done.text
    assert training.result() == undisturbed
    doctor = Command(training.project, "doctor", MLFLOW_TRACKING_URI=uri).wait()
    written = [log, *(path for path in training.folder.rglob("*") if path.is_file())]
    told = [done.text, doctor.text, *(path.read_bytes().decode(errors="replace") for path in written)]
    assert "***" in done.text
    assert not [text for text in told if SECRET in text]
    fault.fault = f"{fault.fault}: `{address.format('...')}`"
    fault.done = "a training with `--log` and `doctor`, while the store did not answer"
    fault.happened = "one warning, in which the address has three stars in place of the password"
    fault.lost = "nothing: no log, no message and no file of the run has the password"


def test_a_password_in_snakemakes_config(smoke, fault):
    """A password is given to Snakemake on its command line"""
    given = f"tracking_uri=http://alice:{SECRET}@127.0.0.1:9"
    command = [sys.executable, "-m", "snakemake", "-n", "-p", "--forceall", "--config", "scale=smoke", given]
    target = "results/smoke/runs/llamagen_l-ours/policy.safetensors"
    environ = environment(smoke) | {"MLFLOW_TRACKING_URI": f"http://bob:{SECRET}@127.0.0.1:9"}
    done = subprocess.run([*command, "--", target], cwd=smoke, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "artune train" in done.stdout + done.stderr
    assert "alice:***@127.0.0.1" in done.stdout + done.stderr  # Snakemake shows its own command
    assert SECRET not in done.stdout + done.stderr
    fault.done = "`snakemake -n -p --config tracking_uri=http://alice:...@host`"
    fault.happened = "neither Snakemake's own command in its log nor a command of a job has the password"
    fault.lost = "nothing"


def wheel(path, text):
    """A wheel of one module, whose contents are ``text``."""
    about = {"METADATA": "Metadata-Version: 2.1\nName: pinned\nVersion: 1.0\n",
             "WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}  # fmt: skip
    members = {"pinned.py": text, **{f"pinned-1.0.dist-info/{name}": body for name, body in about.items()}}
    members["pinned-1.0.dist-info/RECORD"] = "".join(f"{name},,\n" for name in members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_replaced_package(tmp_path, fault):
    """A package is replaced where it is downloaded from"""
    options = re.search(r"^PINNED := (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    shelf, target, pins = tmp_path / "shelf", tmp_path / "target", tmp_path / "pins.txt"
    shelf.mkdir()
    file = shelf / "pinned-1.0-py3-none-any.whl"
    pins.write_text(f"pinned==1.0 --hash=sha256:{wheel(file, 'GOOD = True')}\n")
    uv = Path(sys.executable).with_name("uv")
    command = [
        uv,
        "pip",
        "install",
        *options,
        "--no-index",
        "--no-cache",
        "--target",
        target,
        "-r",
        pins,
    ]

    def install(*words):
        found = os.environ | {"UV_FIND_LINKS": str(shelf)}
        return subprocess.run([*command, *words], capture_output=True, text=True, check=False, env=found)

    done = install()
    assert done.returncode == 0, done.stderr
    assert (target / "pinned.py").read_text() == "GOOD = True"
    (target / "pinned.py").unlink()
    wheel(file, "import os; os.system('touch /tmp/owned')")
    done = install("--reinstall")
    assert done.returncode != 0
    assert "hash" in done.stderr.lower()
    assert not (target / "pinned.py").exists()
    pins.write_text("pinned==1.0\n")  # a pin without a digest is refused as well
    assert install("--reinstall").returncode != 0
    fault.done = "a wheel of the pinned name and version with other contents, installed with the Makefile's options"
    fault.happened = "uv refused it, because its digest is not the one in the file of pins"
    fault.lost = "nothing: it was not installed"
