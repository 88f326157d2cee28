"""A real run of the imagenet scale on miniature official files, up to Tables 1, 5 and 6."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from imagenet_world import CODES, make_world
from project import OFFICIAL, ROOT, snakemake

from artune.config.registry import Registry
from artune.config.yaml_layers import merge, read_yaml
from artune.evaluation.scores import score
from artune.models.weights.tensor_files import read_tensors
from artune.runtime.files import load_npz

pytestmark = pytest.mark.slow
RUNS, PRETRAINED = "results/imagenet/runs", "results/imagenet/pretrained"
RELEASED = "results/imagenet-release"
MLE, MANIQA, MATCHED = "llamagen_l-mle500", "llamagen_l-ours-maniqa", "llamagen_l-half_prompts-class_matched"
ROWS = {"table1": 6, "table5": 6, "table6": 4}
TARGETS = (
    *(f"results/{table}.csv" for table in ROWS),
    f"{RUNS}/{MLE}/scores.json",  # needs the codes of the image folder
    f"{RUNS}/{MANIQA}/policy.safetensors",  # the only network that these tables do not use
    f"{RUNS}/{MATCHED}/policy.safetensors",  # needs moments of the drawn classes
    "results/imagenet/figures/figure3.pdf",
    "results/extra_real.csv",
)
BY_GRAPH = f"{RUNS}/llamagen_l-ours/official.json"  # made in the environment that has TensorFlow


@pytest.fixture(scope="module")
def world(tmp_path_factory, warm):
    """The miniature world in which everything in ``TARGETS`` is made."""
    folder = make_world(tmp_path_factory.mktemp("world"))
    targets = [*TARGETS, *([BY_GRAPH] if OFFICIAL else [])]
    snakemake(folder, "--config", "scale=imagenet", "--", *targets, warm=warm)
    return folder


def scores_of(world, run):
    return json.loads((world / RUNS / run / "scores.json").read_text())


def lines_of(world, run):
    return [json.loads(line) for line in (world / RUNS / run / "metrics.jsonl").read_text().splitlines()]


def test_the_miniature_differs_in_sizes_only(world):
    real, tiny = Registry("imagenet", root=ROOT / "config"), Registry("imagenet", root=world / "config")
    for section in ("backbones", "tokenizers"):
        for name, settings in getattr(real, section).items():
            other = getattr(tiny, section)[name]
            assert (settings.family, settings.checkpoint) == (other.family, other.checkpoint)
    for name, settings in real.networks.items():
        assert (settings.kind, settings.checkpoint) == (tiny.networks[name].kind, tiny.networks[name].checkpoint)
    sizes = {"samples", "batch", "inception_split", "grid_classes", "grid_per_class"}
    assert real.evaluation.model_dump(exclude=sizes) == tiny.evaluation.model_dump(exclude=sizes)


@pytest.mark.parametrize(("table", "rows"), ROWS.items())
def test_a_table_reaches_its_csv_with_the_papers_numbers_and_both_references(world, table, rows):
    frame = pd.read_csv(world / f"results/{table}.csv")
    assert len(frame) == rows
    assert (frame["status"] == "ok").all()
    assert (frame["scale"] == "imagenet").all()
    assert (frame["n"] == 8).all()
    assert (frame["reference"] == "adm_virtual").all()
    layout = Registry("imagenet", root=world / "config").tables[table]
    assert frame["fid_paper"].tolist() == [row.paper[0] for row in layout.rows]
    columns = ["fid", "fid_se", "inception_score", "clip_score", "sfid", "cmmd", "coverage", "fd_dinov2"]
    columns += [f"{name}_imagenet_val" for name in ("fid", "sfid", "kid", "precision", "recall", "cmmd", "fd_dinov2")]
    assert np.isfinite(frame[columns].to_numpy(float)).all()
    assert frame["fid"].nunique() == rows  # every policy samples different images
    text = (world / f"results/{table}.md").read_text()
    assert "The same against imagenet_val" in text
    assert "sFID" in text


def test_a_score_names_the_files_that_it_rests_on(world):
    pins = json.loads((world / "data/assets/pins.json").read_text())
    found = scores_of(world, "llamagen_xl-ours")
    judges = {"clip_vit_l_14", "clip_vit_l_14_336", "dinov2_vitl14"}
    assert set(found["files"]) == {"adm_virtual", "imagenet_val", "inception", *judges}
    assert all(file["sha256"] == pins[key]["sha256"] for key, file in found["files"].items())
    assert found["files"]["adm_virtual"]["file"] == "VIRTUAL_imagenet256_labeled.npz"
    assert found["protocol"] == "n 8, not 50000; image_size 32, not 256; inception_split 4, not 5000"
    assert found["resize"] == "bicubic, no antialias"
    assert pins["inception"]["published"]
    assert not pins["llamagen_xl"]["published"]
    assert (found["decoded_size"], found["image_size"], found["uint8_rule"]) == (48, 32, "llamagen")
    assert scores_of(world, "vqgan-ours")["uint8_rule"] == "taming"


def test_scores_follow_from_the_features_that_are_kept(world):
    registry = Registry("imagenet", root=world / "config")
    features = load_npz(world / RUNS / "llamagen_b-ours/features.npz")
    assert features["features"].shape == (8, 2048)
    assert features["spatial"].shape == (8, 2023)
    reference = load_npz(world / "results/imagenet/reference.npz")
    again = score(features, reference, registry.evaluation, registry.data.classes)
    assert again == pytest.approx(
        {key: value for key, value in scores_of(world, "llamagen_b-ours")["scores"].items() if key != "loo_fid_ms"}
    )


@pytest.mark.parametrize(
    ("asset", "policy"),
    [
        ("c2i_B_256.pt", "llamagen_b"),
        ("c2i_XL_384.pt", "llamagen_xl"),
        ("vapi_xl/consolidated.pth", "external/vapi_xl"),
    ],
)
def test_policies_are_the_released_ones(world, asset, policy):
    released = read_tensors(world / "data/assets" / asset)
    ours = read_tensors(world / PRETRAINED / policy / "policy.safetensors")
    assert released.keys() == ours.keys()
    assert all(torch.equal(value, ours[name]) for name, value in released.items())


def test_every_reward_of_the_paper_moves_the_policy(world):
    for run, rewards in (
        ("llamagen_l-ours", {"clip", "hps", "loo_fid"}),
        (MANIQA, {"clip", "hps", "maniqa", "loo_fid"}),
    ):
        lines = lines_of(world, run)
        assert len(lines) == 2
        logged = {key.split("/")[1] for key in lines[0] if key.startswith("reward/") and "_std_" not in key}
        assert logged == rewards | {"total"}
        assert all(line[f"reward/{name}_std_within"] > 0 for line in lines for name in rewards)
        before = read_tensors(world / PRETRAINED / "llamagen_l/policy.safetensors")
        after = read_tensors(world / RUNS / run / "policy.safetensors")
        assert any(not torch.equal(value, after[name]) for name, value in before.items())


def test_moments_of_single_classes_are_those_of_the_training_images(world):
    moments = load_npz(world / "results/imagenet/class_moments.npz")
    assert moments["number"].tolist() == [2] * 5
    assert moments["inception/mean"].shape == moments["inception/variance"].shape == (5, 2048)
    assert all(line["reward/loo_fid_std_within"] > 0 for line in lines_of(world, MATCHED))


def test_the_likelihood_baseline_learns_the_tokens_of_the_image_folder(world):
    codes = load_npz(world / PRETRAINED / "vq/codes.npz")
    assert codes["train_codes"].shape == (10 * 20, 4)  # [images x crops, tokens]
    assert codes["train_codes"].min() >= 0
    assert codes["train_codes"].max() < CODES
    assert np.bincount(codes["train_labels"]).tolist() == [40] * 5
    assert [line["iteration"] for line in lines_of(world, MLE)] == [0, 1, 2]
    assert scores_of(world, MLE)["scores"]["fid"] > 0


def test_validation_images_are_scored_as_if_they_were_samples(world):
    (row,) = pd.read_csv(world / "results/extra_real.csv").to_dict("records")
    assert (row["Images"], row["n"], row["status"], row["reference"]) == ("real: imagenet_val", 8, "ok", "adm_virtual")
    assert np.isfinite([row[name] for name in ("fid", "sfid", "inception_score", "recall", "fd_dinov2")]).all()
    assert np.isnan(row["fid_imagenet_val"])  # the same images would be compared with themselves
    assert scores_of(world, "real")["resize"] == "ADM's centre crop"


def test_the_samples_figure_is_drawn(world):
    assert (world / "results/imagenet/figures/figure3.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.skipif(OFFICIAL is None, reason="no TensorFlow; `make official` sets up .venv-official with it")
def test_tensorflows_graph_gives_the_numbers_of_the_port(world):
    found = json.loads((world / BY_GRAPH).read_text())
    assert set(found["files"]) == {"classify_image_graph_def.pb", "VIRTUAL_imagenet256_labeled.npz"}
    assert found["versions"]["tensorflow-cpu"]
    assert all(deviation < 1e-4 for deviation in found["deviation"].values())
    # The sums behind TensorFlow's own Precision and Recall depend on the platform (docs/evaluation.md).
    assert found["graph"] | found["rounding_model"] == pytest.approx(found["port"], rel=1e-4)
    assert all(0 <= found["graph"][name] <= 1 for name in ("precision", "recall"))
    scores = scores_of(world, "llamagen_l-ours")["scores"]
    for name, value in found["port"].items():
        assert value == scores[name]
        assert found["difference"][name] == value - found["graph"][name]


def test_nothing_is_left_to_do(world):
    assert "Nothing to be done" in snakemake(world, "-n", "--config", "scale=imagenet", "--", *TARGETS)


@pytest.fixture(scope="module")
def released(world, warm, tmp_path_factory):
    """The world, tuned again with the preset ``release``: eight images per batch, two in each of four shards."""
    folder = tmp_path_factory.mktemp("release")
    left_out = {"results", ".snakemake"}  # at the top only: src/artune has a package of that name
    shutil.copytree(world, folder, dirs_exist_ok=True, ignore=lambda at, _: left_out if at == str(world) else set())
    path = folder / "config/scales/imagenet.yaml"
    halves = {run: {"grpo.prompts": 4} for run in read_yaml(path)["experiments"] if "half_prompts" in run}
    path.write_text(json.dumps(merge(read_yaml(path), {"grpo": {"prompts": 4}, "experiments": halves})))
    target = f"{RELEASED}/runs/llamagen_l-ours/features.npz"
    snakemake(folder, "--config", "scale=imagenet", "preset=release", "--", target, warm=warm)
    return folder / RELEASED


def test_the_preset_release_tunes_by_torchvisions_inception_and_its_own_training_moments(released):
    run = released / "runs/llamagen_l-ours"
    settings = read_yaml(run / "config.yaml")
    assert settings["preset"] == "release"
    assert (settings["grpo"]["gradients"], settings["rewards"]["loo_fid"]["shards"]) == ("local", 4)
    # Both presets would make this file by the same recipe, so they share it.
    moments = load_npz(released.with_name("imagenet") / "references/train-inception_torchvision.npz")
    assert {array.shape for array in moments.values()} == {(2048,), (2048, 2048)}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert all(line["reward/loo_fid_std_within"] > 0 for line in lines)
    features = load_npz(run / "features.npz")
    assert features["features"].shape == features["reward_features"].shape == (8, 2048)
    # The metric and the reward use different Inceptions.
    assert not np.allclose(features["features"], features["reward_features"])
