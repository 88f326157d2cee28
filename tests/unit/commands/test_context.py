"""The device of a command, and how PyTorch's allocator is set for it."""

import argparse
import os
import subprocess
import sys

import pytest
import torch

from artune.commands.context import ALLOCATOR, GROWING, Context


def device(wanted, monkeypatch, gpu=True):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    names = ("scale", "preset", "seeds", "threads")
    return Context(argparse.Namespace(device=wanted, **dict.fromkeys(names))).device.type


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in ALLOCATOR:
        monkeypatch.setenv(name, "to be put back at the end")
        monkeypatch.delenv(name)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_segments_grow_in_every_command_on_cuda(monkeypatch):
    assert device("auto", monkeypatch) == "cuda"
    assert {name: os.environ.get(name) for name in ALLOCATOR} == {ALLOCATOR[0]: GROWING, ALLOCATOR[1]: None}


@pytest.mark.parametrize("name", ALLOCATOR)
def test_what_the_user_sets_by_either_name_stays(name, monkeypatch):
    monkeypatch.setenv(name, "max_split_size_mb:512")
    assert device("cuda", monkeypatch) == "cuda"
    assert {other: os.environ.get(other) for other in ALLOCATOR} == dict.fromkeys(ALLOCATOR) | {
        name: "max_split_size_mb:512"
    }


@pytest.mark.parametrize(("wanted", "gpu"), [("cpu", True), ("auto", False)])
def test_a_command_on_the_cpu_sets_nothing(wanted, gpu, monkeypatch):
    assert device(wanted, monkeypatch, gpu) == "cpu"
    assert not any(name in os.environ for name in ALLOCATOR)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here, and PyTorch has read its settings")
def test_this_pytorch_reads_the_setting_after_it_was_imported():
    """The device is chosen when torch is imported already; its allocator looks at the environment at its first use."""
    code = (
        "import os, torch; os.environ.update({%r: %r}); torch.cuda.memory_snapshot(); "
        "print(torch._C._cuda_memorySnapshot((0, 0, False))['allocator_settings']['expandable_segments'])"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ALLOCATOR}
    command = [sys.executable, "-c", code % (ALLOCATOR[0], GROWING)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "True"
