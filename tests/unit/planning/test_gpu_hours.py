"""GPU hours from floors and from measured costs, compared with values multiplied out by hand."""

import csv

import pytest
import torch
from flops import count_flops
from project import ROOT

from artune.config.yaml_layers import read_yaml
from artune.errors import ArtuneError
from artune.models.encoders.build import build_network
from artune.models.tokenizers.build import build_tokenizer
from artune.planning import floors
from artune.planning.budget import budget
from artune.planning.costs import STAGES, read_costs
from artune.planning.gpu_hours import evaluation_hours, floor_machine, iteration_floor, measured_machine, training_hours
from artune.planning.plan import Plan

PLAN = Plan(read_yaml(ROOT / "config/config.yaml") | {"scale": "imagenet"}, ROOT / "config")
REGISTRY = PLAN.registry
OURS = REGISTRY.resolve("llamagen_l-ours")


@pytest.mark.parametrize("name", ["clip", "hps", "clip_judge", "dinov2", "maniqa"])
def test_flops_of_the_networks_are_those_that_pytorch_counts(name):
    settings = REGISTRY.networks[name]
    with torch.device("meta"):
        network, images = build_network(settings, REGISTRY.data), torch.zeros(1, 3, 256, 256, dtype=torch.uint8)
        call = network.score if hasattr(network, "score") else network.embed_images
    assert count_flops(lambda: call(images)) == pytest.approx(floors.NETWORK_FLOPS[settings.architecture], rel=1e-3)


def test_flops_of_inception_are_those_that_pytorch_counts():
    settings = REGISTRY.networks["inception"]
    network, images = build_network(settings, REGISTRY.data, empty=True), torch.zeros(1, 3, 256, 256, dtype=torch.uint8)
    counted = count_flops(lambda: network.features(images))
    assert counted == pytest.approx(floors.NETWORK_FLOPS[settings.architecture], rel=1e-3)


@pytest.mark.parametrize(("name", "tokens"), [("vq", 256), ("vqgan", 256), ("vq", 576)])
def test_flops_of_a_decoded_token_are_those_that_pytorch_counts(name, tokens):
    with torch.device("meta"):
        tokenizer = build_tokenizer(REGISTRY.tokenizers[name], 16 * round(tokens**0.5))
        ids = torch.zeros(1, tokens, dtype=torch.long)
    assert count_flops(lambda: tokenizer.decode(ids)) == pytest.approx(tokens * floors.DECODER_FLOPS, rel=5e-3)


@pytest.mark.parametrize(("name", "side"), [("vq", 256), ("vqgan", 256), ("vq", 384)])
def test_flops_of_an_encoded_token_are_those_that_pytorch_counts(name, side):
    with torch.device("meta"):
        tokenizer, image = build_tokenizer(REGISTRY.tokenizers[name], side), torch.zeros(1, 3, side, side)
    tokens = (side // REGISTRY.tokenizers[name].downsampling) ** 2
    assert count_flops(lambda: tokenizer.encode(image)) == pytest.approx(tokens * floors.ENCODER_FLOPS, rel=1e-2)


def test_an_iteration_is_the_sum_of_its_stages_at_the_arithmetic_they_run_in():
    found = iteration_floor(OURS, "H100")
    assert found["generate"] == floors.rollout(OURS.backbone, 144, guided=True).seconds(floors.PUBLISHED["H100"])
    assert found["decode"] == pytest.approx(144 * 256 * 9.9e8 / 989e12)
    assert found["hps"] == pytest.approx(144 * 3.346e11 / 989e12)
    assert found["loo_fid"] == pytest.approx(144 * 1.143e10 / 67e12)  # Inception runs in float32
    assert training_hours(OURS, floor_machine()) == pytest.approx(600 * sum(found.values()) / 3600)
    plain = OURS.model_copy(update={"grpo": OURS.grpo.model_copy(update={"decode_dtype": "float32"})})
    assert iteration_floor(plain, "H100")["decode"] == pytest.approx(144 * 256 * 9.9e8 / 67e12)


def test_an_evaluation_draws_decodes_and_looks_in_float32():
    judges = 1.622e11 + 3.822e11 + 1.143e10 + 1.622e11  # FLOPs of CLIP, CMMD's network, Inception (once) and DINOv2
    drawn = floors.rollout(OURS.backbone, 256, guided=True).seconds(floors.PUBLISHED["H100"]) * 50_000 / 256
    expected = drawn + 50_000 * (256 * 9.9e8 + judges) / 67e12
    arguments = (REGISTRY.evaluation, REGISTRY.networks, floor_machine())
    assert evaluation_hours(OURS, *arguments) == pytest.approx(expected / 3600)
    real = REGISTRY.resolve("real")
    assert evaluation_hours(real, *arguments) == pytest.approx(50_000 * judges / 67e12 / 3600)


def test_the_whole_paper_fits_into_a_day_of_an_h100_by_floors():
    lines = budget(PLAN, read_costs(ROOT / "config").paper, "paper")
    assert len(lines) == 25 + 35 + 1  # and the token codes of Table 12
    assert all(line.ours > 0 for line in lines)
    assert sum(line.ours for line in lines) < 24


def costs(path, device="NVIDIA H100 80GB HBM3", seconds=2.0, **change):
    about = {"device": device, "images": "144", "tokens": "256", "backbone": "llamagen_l", "scale": "imagenet"} | change
    with open(path, "w", newline="") as handle:
        writer = csv.DictWriter(handle, ["stage", "ours", *about])
        writer.writeheader()
        writer.writerows({"stage": stage, "ours": seconds} | about for stage in STAGES)
    return path


def test_measured_costs_stretch_every_floor_by_what_was_measured(tmp_path):
    machine = measured_machine(REGISTRY, costs(tmp_path / "costs.csv"))
    floor = iteration_floor(OURS, "H100")
    assert machine.times["generate"] == pytest.approx(2.0 / floor["generate"])
    assert machine.times["update"] == pytest.approx(4.0 / floor["update"])  # update and reference policy
    assert training_hours(OURS, machine) == pytest.approx(600 * (2 + 2 + 2 + 2 + 4 + 4) / 3600)
    small = REGISTRY.resolve("llamagen_b-ours")
    ratio = iteration_floor(small, "H100")["update"] / floor["update"]
    nothing = measured_machine(REGISTRY, costs(tmp_path / "none.csv", seconds=0.0))
    only = nothing._replace(times=nothing.times | {"update": machine.times["update"]})
    assert training_hours(small, only) == pytest.approx(600 * 4 * ratio / 3600)
    assert "as measured" in machine.name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "cpu"}, "measured on 'cpu'; the peaks of A100 and H100 are known"),
        ({"scale": "mnist"}, "is not a costs.csv of the imagenet scale"),
        ({"images": "24"}, "is not of 144 images of 256 tokens"),
        ({"seconds": ""}, "lacks the seconds of a stage"),
    ],
    ids=str,
)
def test_costs_of_something_else_are_one_line(tmp_path, change, message):
    with pytest.raises(ArtuneError, match=message):
        measured_machine(REGISTRY, costs(tmp_path / "costs.csv", **change))
    with pytest.raises(ArtuneError, match=r"none\.csv: cannot be read"):
        measured_machine(REGISTRY, tmp_path / "none.csv")
