"""Which variables of the environment make a process one of several."""

import os
import subprocess
import sys

import pytest
from processes import as_torchrun

from artune.errors import ArtuneError
from artune.runtime import distributed
from artune.runtime.processes import ALONE, RANKS, TORCHRUN, Launch, foreign, launch


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch):
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


def given(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_torchruns_own_variables_count(monkeypatch):
    given(monkeypatch, as_torchrun(rank=1, size=4))
    assert launch() == Launch(1, 4, 1, 4)
    assert foreign() is None


def test_nothing_set_is_one_process_without_a_word():
    assert launch() == ALONE
    assert foreign() is None


@pytest.mark.parametrize("missing", TORCHRUN)
@pytest.mark.parametrize("left", ["absent", "", " "])
def test_an_incomplete_set_is_one_process_and_the_reason_names_what_is_missing(monkeypatch, missing, left):
    given(monkeypatch, as_torchrun(rank=1, size=2))
    monkeypatch.delenv(missing)
    if left != "absent":
        monkeypatch.setenv(missing, left)
    assert launch() == ALONE
    assert missing in foreign().partition("also sets")[2]
    assert "\n" not in foreign()


@pytest.mark.parametrize("name", [*RANKS, "MASTER_PORT"])
@pytest.mark.parametrize("value", ["x", "-1", "1.0", "1e3", "9" * 400, "٢", "0x1"])
def test_no_whole_number_is_one_process(monkeypatch, name, value):
    given(monkeypatch, as_torchrun(rank=0, size=2) | {name: value})
    assert launch() == ALONE
    assert len(foreign()) < 250


@pytest.mark.parametrize(
    "changes", [{"RANK": "2"}, {"LOCAL_RANK": "2"}, {"LOCAL_WORLD_SIZE": "3"}, {"RANK": "0"}, {"MASTER_PORT": "65536"}]
)
def test_numbers_that_do_not_fit_together_are_one_process(monkeypatch, changes):
    given(monkeypatch, as_torchrun(rank=1, size=2) | changes)
    assert launch() == ALONE
    assert "contradict each other" in foreign()


@pytest.mark.parametrize("variables", [{"WORLD_SIZE": "1", "RANK": "0"}, {"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}])
def test_what_says_one_process_needs_no_word(monkeypatch, variables):
    given(monkeypatch, variables)
    assert launch() == ALONE
    assert foreign() is None


@pytest.mark.parametrize("value", ["soon", "nan", "inf", "0", "-5", "1e9"])
def test_a_wrong_timeout_is_one_line(monkeypatch, value):
    monkeypatch.setenv("ARTUNE_TIMEOUT", value)
    with pytest.raises(ArtuneError, match="ARTUNE_TIMEOUT"):
        distributed._timeout()
    monkeypatch.setenv("ARTUNE_TIMEOUT", "")
    assert distributed._timeout() == distributed.SECONDS


FAULTS = """
import resource
import numpy as np
from artune.runtime.processes import keep_memory
kept = keep_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(10_000_000)  # 80 MB
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc hands memory back in this way")
def test_memory_of_arrays_is_kept_for_the_next_ones_unless_the_user_has_own_settings():
    def faults(**given):
        own = ("MALLOC_", "GLIBC_TUNABLES")
        plain = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        found = subprocess.run(
            [sys.executable, "-c", FAULTS], env=plain | given, check=True, capture_output=True, text=True
        )
        kept, number = found.stdout.split()
        return kept == "True", int(number)

    kept, few = faults()
    left, many = faults(MALLOC_TOP_PAD_="131072")
    assert (kept, left) == (True, False)
    assert many > 5 * few
    assert faults(GLIBC_TUNABLES="glibc.malloc.top_pad=131072")[0] is False


def test_a_command_keeps_its_memory():
    told = "import artune.__main__ as it; it.keep_memory = lambda: print('kept'); it.main = lambda: print('main') or 0; it.run()"
    found = subprocess.run([sys.executable, "-c", told], check=True, capture_output=True, text=True)
    assert found.stdout.split() == ["kept", "main"]
