"""Free memory of a GPU, from snapshots of the form that PyTorch's allocator returns; no GPU is needed."""

import copy

import pytest
import torch

from artune.sampling import cached_decoding, device_memory
from artune.sampling.cached_decoding import images_at_once
from artune.sampling.device_memory import free_bytes, reusable_bytes
from artune.tuning import policy_update

MB = 2**20


def segment(total, allocated, pool=(0, 0), device=0, **more):
    """A segment with the keys that torch 2.14's ``memory_snapshot`` writes (torch/csrc/cuda/Module.cpp)."""
    about = {"device": device, "address": 0x7F0000000000, "total_size": total, "allocated_size": allocated,
             "active_size": allocated, "requested_size": allocated, "stream": 0, "segment_type": "large",
             "segment_pool_id": pool, "is_expandable": False, "frames": [], "blocks": []}  # fmt: skip
    return about | more


# Weights, a half-used cache, two graphs' pools (one segment of each in use, one not), and another GPU
SNAPSHOT = [
    segment(1300 * MB, 1290 * MB),
    segment(20 * MB, 4 * MB, segment_type="small"),
    segment(512 * MB, 0, is_expandable=True),
    segment(64 * MB, 60 * MB, pool=(1, 0)),
    segment(600 * MB, 0, pool=(1, 0)),
    segment(600 * MB, 10 * MB, pool=(0, 3), is_expandable=True),
    segment(700 * MB, 100 * MB, device=1),
]


def test_what_private_pools_hold_unused_is_not_counted():
    assert reusable_bytes(SNAPSHOT, 0) == (10 + 16 + 512) * MB
    assert reusable_bytes(SNAPSHOT, 1) == 600 * MB
    assert reusable_bytes([], 0) == 0


def test_pools_are_told_apart_in_lists_as_well():
    """A snapshot that was kept as JSON has lists in place of tuples."""
    kept = copy.deepcopy(SNAPSHOT)
    for one in kept:
        one["segment_pool_id"] = list(one["segment_pool_id"])
    assert reusable_bytes(kept, 0) == reusable_bytes(SNAPSHOT, 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here, whose memory may be in use")
def test_the_snapshot_of_this_pytorch_can_be_asked_for():
    assert reusable_bytes(torch.cuda.memory_snapshot(), 0) == 0


@pytest.fixture
def card(monkeypatch):
    """A GPU with 1,000 MB of 8,000 MB free beside what SNAPSHOT holds."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000 * MB, 8000 * MB))
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda: SNAPSHOT)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)


def test_free_is_what_the_driver_and_the_shared_pool_have(card):
    assert free_bytes(torch.device("cuda", 0)) == 1538 * MB
    assert free_bytes(torch.device("cuda")) == 1600 * MB  # without a number: the present device, here 1


def test_images_and_slices_are_planned_from_the_same_free_memory(card):
    """1,538 MB are free; with the pools of the graphs, which nobody else can use, 2,732 MB would be counted."""
    assert images_at_once(10**6, MB, torch.device("cuda", 0)) == 1538
    assert images_at_once(10**6, 100 * MB, torch.device("cuda", 0)) == 15
    assert policy_update.free_bytes is cached_decoding.free_bytes is device_memory.free_bytes


def test_images_take_no_more_than_their_share_of_the_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7000 * MB, 8000 * MB))
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda: [])
    assert images_at_once(10**6, MB, torch.device("cuda", 0)) == 2800  # 35% of 8,000
