"""Costs of an iteration beside the paper's, measured in a training or on random weights."""

import csv
import json

import pytest
import torch
from project import ROOT

from artune.bench.measure import Request
from artune.bench.run import run_benchmark
from artune.config.registry import Registry
from artune.config.yaml_layers import read_yaml
from artune.errors import ArtuneError
from artune.planning.costs import REWARDS, read_costs, write_costs
from artune.planning.plan import Plan

SMOKE, MNIST = (Registry(scale, root=ROOT / "config") for scale in ("smoke", "mnist"))
CONFIG = read_yaml(ROOT / "config/config.yaml")
STAGES = {"generate": 20.0, "decode": 1.7, "reward_clip": 0.07, "reward_hps": 5.6, "reward_loo_fid": 0.5, "loo_fid": 0.015,
          "reference": 0.3, "update": 1.2, "optimizer": 0.2, "iteration": 30.0}  # fmt: skip


def rows_of(path):
    return {row["stage"]: row for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())}


def trained(folder, stages, device="a device"):
    """Rows of the costs of a LlamaGen-L training of three iterations, the median of which takes ``stages``."""
    lines = [{"iteration": at} | {f"time/{k}": v * at for k, v in stages.items()} for at in range(3)]
    (folder / "timings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    manifest = {"config": MNIST.spec("llamagen_l-ours"), "provenance": {"device": device, "threads": 1}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    write_costs(MNIST, folder / "timings.jsonl", folder / "costs.csv")
    return rows_of(folder / "costs.csv")


def test_the_papers_costs_are_those_of_its_appendix():
    paper = read_costs(ROOT / "config").paper
    assert paper.stages == {"generate": 43.4, "clip": 0.14, "hps": 11.20, "loo_fid": 0.03, "update": 2.4}
    assert sum(paper.stages[name] for name in REWARDS) == pytest.approx(11.37)  # the paper: "adds ~11.37 s in total"
    # The paper: "four NVIDIA A100 GPUs, taking 10-14 train hours".
    assert (paper.images, paper.training) == (144, (4 * 10, 4 * 14))


def test_every_stage_stands_beside_the_papers_seconds(tmp_path):
    rows = trained(tmp_path, STAGES)
    found = {stage: (row["ours"], row["paper"], row["ratio"]) for stage, row in rows.items()}
    assert found == {
        "generate": ("20", "", ""), "decode": ("1.7", "", ""), "generate and decode": ("21.7", "43.4", "0.5"),
        "CLIP": ("0.07", "0.14", "0.5"), "HPS": ("5.6", "11.2", "0.5"), "LOO-FID features": ("0.5", "", ""),
        "LOO-FID": ("0.015", "0.03", "0.5"), "rewards": ("6.185", "11.37", "0.544"), "reference policy": ("0.3", "", ""),
        "backward": ("1", "", ""), "update": ("0.2", "", ""), "backward and update": ("1.2", "2.4", "0.5"),
        "iteration": ("30", "57.17", "0.5248"), "training": ("0.8333", "40-56", ""),
    }  # fmt: skip
    assert {(r["device"], r["images"], r["tokens"], r["weights"]) for r in rows.values()} == {
        ("a device", "120", "36", "pretrained")
    }
    assert {row["note"] for row in rows.values()} == {MNIST.about.note}
    assert (rows["HPS"]["paper_device"], rows["HPS"]["paper_images"]) == ("NVIDIA A100", "144")


def test_only_a_gpu_has_gpu_hours(tmp_path):
    units = [
        trained(tmp_path, STAGES, device)["training"]["unit"] for device in ("NVIDIA A100", "A processor, 2 cores")
    ]
    assert units == ["GPU h", "h"]


def test_a_stage_that_a_run_does_not_have_is_an_empty_cell(tmp_path):
    stages = {name: seconds for name, seconds in STAGES.items() if name != "loo_fid"}
    rows = trained(tmp_path, stages)
    assert [rows[stage]["ours"] for stage in ("LOO-FID", "rewards", "HPS")] == ["", "", "5.6"]
    assert rows["LOO-FID"]["ratio"] == ""


def test_an_iteration_on_random_weights_says_what_it_was(tmp_path):
    output = tmp_path / "timings.jsonl"
    rows = run_benchmark("iteration", Request(SMOKE, torch.device("cpu"), images=4, tokens=4, repeats=2, output=output))
    seconds = {row["case"]: row["median s"] for row in rows}
    assert set(seconds) == set(STAGES)
    assert 0 < seconds["optimizer"] < seconds["update"] < seconds["iteration"]
    assert len(output.read_text().splitlines()) == 2
    write_costs(SMOKE, output, tmp_path / "costs.csv")
    row = rows_of(tmp_path / "costs.csv")["iteration"]
    assert (row["images"], row["tokens"], row["weights"], row["backbone"]) == ("4", "4", "random", "llamagen_l")
    assert row["note"].endswith("4 images of 4 tokens only")
    assert rows_of(tmp_path / "costs.csv")["training"]["ours"] == ""  # too small to estimate a whole training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 1}, "--images 1; a group needs at least 2"),
        ({"tokens": 5}, "5 is not a square"),
        ({"repeats": 0}, "--repeats 0"),
        ({"backbone": "gpt"}, "unknown run 'gpt-ours'"),
    ],
)
def test_a_size_that_cannot_be_timed_is_one_line(change, message):
    with pytest.raises(ArtuneError, match=message):
        run_benchmark("iteration", Request(SMOKE, torch.device("cpu"), **change))


def test_costs_at_the_papers_scale_are_of_random_weights_until_the_checkpoint_is_there(tmp_path):
    def folder(**config):
        return Plan(CONFIG | {"assets": str(tmp_path)} | config, ROOT / "config").timed()

    assert folder(scale="imagenet") == "results/imagenet/bench/iteration"
    (tmp_path / "c2i_L_256.pt").write_bytes(b"weights")
    assert folder(scale="imagenet") == "results/imagenet/runs/llamagen_l-ours"
    assert folder(scale="mnist") == "results/mnist/runs/llamagen_l-ours"
