"""``artune bench``: every stage is timed at small sizes."""

import pytest
import torch
from flops import count_flops
from project import ROOT

from artune.bench.measure import Request, Timing, row
from artune.bench.run import TARGETS, format_table, run_benchmark
from artune.config.registry import Registry
from artune.planning.floors import Ceiling, Work

SMOKE, IMAGENET = (Registry(scale, root=ROOT / "config") for scale in ("smoke", "imagenet"))
CPU = torch.device("cpu")
COLUMNS = {"case", "device", "images", "tokens", "median s", "spread s", "GB/s", "GFLOP/s", "ceiling GB/s",
           "ceiling GFLOP/s", "of peak", "floor s", "paper s", "paper / ours", "peak GB"}  # fmt: skip


def timed(target, **sizes):
    rows = run_benchmark(target, Request(SMOKE, CPU, **{"images": 4, "tokens": 4, "repeats": 2} | sizes))
    assert all(set(found) >= COLUMNS for found in rows)
    assert all(found["median s"] > 0 for found in rows)
    return {found["case"]: found for found in rows}


def test_rewards_are_timed_one_by_one_beside_their_counted_flops():
    rows = timed("rewards")
    assert list(rows) == ["decode", "clip", "hps", "LOO-FID features", "LOO-FID"]
    for case in ("decode", "clip", "hps", "LOO-FID features"):
        assert rows[case]["floor s"] > 0
        assert rows[case]["of peak"] == pytest.approx(rows[case]["GFLOP/s"] / rows[case]["ceiling GFLOP/s"])
    assert rows["LOO-FID"]["GFLOP/s"] is None  # its FLOPs are not counted


def test_the_update_is_timed_with_its_reference_and_says_its_slices():
    rows = timed("update")
    assert list(rows) == ["reference", "optimizer", "update", "reference and update"]
    assert rows["optimizer"]["median s"] < rows["update"]["median s"] < rows["reference and update"]["median s"]
    assert rows["reference and update"]["of peak"] > 0
    assert rows["update"]["split"] == "slices 1"


def test_the_copy_of_the_state_before_a_second_epoch_is_a_part_of_the_update():
    request = Request(SMOKE, CPU, images=4, tokens=4, repeats=2)
    run = request.run
    request.__dict__["run"] = run.model_copy(update={"grpo": run.grpo.model_copy(update={"epochs": 2})})
    rows = {found["case"]: found for found in run_benchmark("update", request)}
    assert list(rows) == ["reference", "keep", "optimizer", "update", "reference and update"]
    assert 0 < rows["keep"]["median s"] < rows["update"]["median s"]


def test_a_rollout_is_timed_with_the_decoder_of_its_first_turn():
    rows = timed("rollout", tokens=9)
    assert [case.split(", ", 1)[1] for case in rows] == [
        "plain, cache concatenated",
        "this code",
        "this code, bfloat16",
    ]
    assert all(row["first s"] > 0 and row["CPU s"] > 0 for row in rows.values())


def test_all_samples_are_extrapolated_from_batches_and_say_so():
    batch, whole = timed("sample", repeats=3).values()
    assert whole["case"] == "64 samples, extrapolated"
    assert whole["median s"] == pytest.approx(batch["median s"] * 64 / 4)
    assert (batch["images"], batch["batches timed"]) == (4, 3)


def test_all_is_every_benchmark_in_turn(monkeypatch):
    monkeypatch.setattr(
        "artune.bench.run.TARGETS",
        {name: lambda _, name=name: [{"case": name}] for name in TARGETS} | {"all": TARGETS["all"]},
    )
    found = [line["case"] for line in run_benchmark("all", Request(SMOKE, CPU))]
    assert found == ["rollout", "rewards", "loo-fid", "update", "sample", "iteration"]


def test_a_row_stands_beside_the_ceilings_and_at_the_papers_sizes_beside_the_paper():
    timing = Timing([2.0, 1.0, 4.0], 3.5)
    whole = Request(IMAGENET, torch.device("cuda"))  # nothing runs on it
    found = row("HPS", whole, timing, Work(4e9, 6e12), Ceiling(8e9, 3e12), ("hps",), more=1)
    assert set(found) == COLUMNS | {"more"}
    assert (found["median s"], found["spread s"], found["floor s"], found["peak GB"]) == (2.0, 3.0, 2.0, 3.5)
    assert (found["GB/s"], found["GFLOP/s"], found["of peak"]) == (2.0, 3000.0, 1.0)
    assert (found["paper s"], found["paper / ours"], found["images"]) == (11.2, 5.6, 144)
    for smaller in (Request(IMAGENET, torch.device("cuda"), images=24), Request(IMAGENET, CPU), Request(SMOKE, CPU)):
        assert row("HPS", smaller, timing, paper=("hps",))["paper s"] is None


def test_rows_of_different_columns_are_different_tables():
    text = format_table([{"case": "one", "s": 1.0}, {"case": "two", "s": None}, {"case": "three", "ms": 0.12345}])
    assert text == "case  s\none   1\ntwo   -\n\ncase   ms\nthree  0.123"


def test_flops_are_counted_on_the_way(tmp_path):
    network = torch.nn.Linear(3, 5)
    assert count_flops(lambda: network(torch.zeros(2, 3))) == 2 * 2 * 3 * 5
