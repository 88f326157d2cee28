"""Text and picture of the tracking page of a run."""

import shutil

import pytest
from PIL import Image
from project import ROOT

from artune.config.glossary import METRICS
from artune.config.registry import Registry
from artune.tracking.mlflow_store import run_tags
from artune.tracking.run_page import describe_experiment, describe_run, draw_page_picture

REGISTRY = Registry("mnist")


def page(run: str, scores: dict | None = None, registry: Registry = REGISTRY) -> str:
    return describe_run(registry, registry.spec(run), scores)


def differences(text: str) -> list[str]:
    return [line for line in text.split("### How it differs")[1].split("###")[0].splitlines() if line.startswith("| `")]


def test_a_page_says_what_was_tuned_how_and_that_the_scale_is_not_the_papers():
    text = page("llamagen_l-argrpo-nocfg-s1")
    assert "tuned by GRPO with the rewards CLIP + HPS, KL weight 3, without the adaptive entropy bonus" in text
    assert "100 iterations of 10 x 12 images, tuned and sampled without guidance, seed 1" in text
    assert "not comparable with the paper's numbers" in text
    assert "snakemake -c2 --config scale=mnist -- results/mnist/runs/llamagen_l-argrpo-nocfg-s1/scores.json" in text


def test_a_page_names_the_rows_that_show_the_run_and_its_figures():
    text = page("llamagen_l-ours")
    assert "| `table4` | Ours against AR-GRPO on LlamaGen-L (CFG scale 1.5) | Ours (CLIPScore + HPSv2) |" in text
    assert "Figures 2, 3, 7, 8," in text


def test_a_page_of_other_inputs_says_their_seeds_and_the_rows_of_these_inputs():
    text = page("llamagen_l-ours-t1-n2-s1")
    assert "seed 1, tokenizer of seed 1, frozen networks of set 2." in text
    assert "In no table and no figure." in text
    text = page("llamagen_l-ours-t1")
    assert "| `extra_seeds` |" in text
    assert "| `table4` |" not in text
    tags = run_tags(REGISTRY, REGISTRY.spec("llamagen_l-ours-n1-s1"))
    assert (tags["seed"], tags["networks_seed"], "tokenizer_seed" in tags) == ("1", "1", False)
    assert ("extra_seeds" in tags, "table4" in tags) == (True, False)


def test_a_page_lists_what_differs_from_the_base_and_nothing_else():
    assert "### How it differs from `llamagen_l-ours`" in page("llamagen_l-kl2")
    assert differences(page("llamagen_l-kl2")) == ["| `grpo.beta` | 3.0 | 2.0 |"]


def test_what_a_switch_turns_off_or_on_is_not_listed_beside_the_switch():
    assert differences(page("llamagen_l-argrpo")) == [
        "| `entropy.enabled` | True | False |",
        "| `rewards.terms` | clip, hps, loo_fid | clip, hps |",
    ]
    assert differences(page("llamagen_l-argrpo-maniqa")) == ["| `rewards.terms` | clip, hps | clip, hps, maniqa |"]


def test_what_a_line_sets_itself_is_listed_with_the_switch(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    with open(tmp_path / "config/experiments.yaml", "a") as lines:
        lines.write("\nheavy: {base: llamagen_l-argrpo, rewards: [clip, hps, maniqa], rewards.weights.maniqa: 0.5}\n")
    assert "| `rewards.weights.maniqa` | – | 0.5 |" in differences(
        page("heavy", registry=Registry("mnist", root=tmp_path / "config"))
    )


def test_a_page_of_another_preset_names_its_folder_and_its_commands():
    registry = Registry("mnist", "release")
    text = page("llamagen_l-ours", registry=registry)
    command = (
        "snakemake -c2 --config scale=mnist preset=release -- results/mnist-release/runs/llamagen_l-ours/scores.json"
    )
    assert command in text
    assert "artune show llamagen_l-ours --scale mnist --preset release`" in text
    assert "All runs of the **mnist** scale with the preset **release**." in describe_experiment(registry)
    assert "All runs of the **mnist** scale." in describe_experiment(REGISTRY)


def test_results_stand_beside_the_papers_with_their_errors():
    scores = {"n": 2000, "scores": {"fid": 0.8612, "fid_se": 0.13, "recall": 0.8661}}
    text = page("llamagen_l-ours", scores)
    assert "| FID ↓ | 0.86 ± 0.13 | 3.83 |" in text
    assert "| Recall ↑ | 0.866 | 0.63 |" in text
    assert "Not scored yet" in page("llamagen_l-ours")


def test_the_pages_picture_shows_the_grids_of_a_training_in_order_or_the_only_grid(tmp_path):
    (tmp_path / "grids").mkdir()
    Image.new("RGB", (1000, 500), "blue").save(tmp_path / "grid.png")
    draw_page_picture(tmp_path, tmp_path / "page.png")
    assert Image.open(tmp_path / "page.png").size == (800, 400)
    for iteration, colour in ((0, "red"), (25, "lime")):
        Image.new("RGB", (1000, 500), colour).save(tmp_path / f"grids/iteration-{iteration:06d}.png")
    draw_page_picture(tmp_path, tmp_path / "page.png")
    page = Image.open(tmp_path / "page.png")
    assert page.size == (800, 200)
    assert [page.getpixel((x, 100)) for x in (200, 600)] == [(255, 0, 0), (0, 255, 0)]


@pytest.mark.parametrize("run", REGISTRY.run_names)
def test_every_page_fits_a_tag(run):
    assert len(page(run)) < 7000


def test_the_experiment_explains_every_metric_and_every_tables_filter():
    text = describe_experiment(REGISTRY)
    assert all(f"| `{key}` |" in text for key in METRICS)
    assert "`tags.table4 IS NOT NULL`" in text
    assert len(text) < 20_000
