"""The additions of docs/extending.md, made in a copy of the finished smoke project as the page says, and run."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
import yaml
from project import ROOT, SMOKE, TARGETS, copy_project, planned, snakemake

PAGE = ROOT / "docs/extending.md"
BLOCK = re.compile(
    r"(?:^|\s)(A new file|At the end of|In)\s+`([^`]+)`(?:,\s+after\s+`([^`]+)`)?:\n```(?:python|yaml)\n(.*?)```", re.S
)
TARGET = "results/smoke/tables/extra_contrast.csv"


def additions():
    """Every block of the page that is code: (what is said, path, text that it stands behind, the block)."""
    return BLOCK.findall(PAGE.read_text())


def add(folder, kind, path, anchor, block):
    """Do to a copy of the project what a block of the page says."""
    file = folder / path
    if kind == "A new file":
        assert not file.exists(), path
        file.write_text(block)
        return
    text = file.read_text()
    if kind == "At the end of":
        file.write_text(f"{text.rstrip()}\n\n{block}")
        return
    assert text.count(anchor) == 1, f"{path}: {anchor!r} occurs {text.count(anchor)} times"
    whole_line = f"{anchor}\n" in text
    file.write_text(text.replace(anchor, f"{anchor}\n{block.rstrip()}" if whole_line else f"{anchor}{block.strip()} "))


@pytest.fixture(scope="module")
def extended(smoke, warm, tmp_path_factory):
    """The finished smoke project with everything that the page adds, and its table."""
    folder = tmp_path_factory.mktemp("extended") / "project"
    folder.mkdir()
    copy_project(folder)
    shutil.copytree(smoke / "results", folder / "results", symlinks=True)  # with the times, which Snakemake compares
    for piece in additions():
        add(folder, *piece)
    scale = yaml.safe_load((folder / "config/scales/smoke.yaml").read_text())
    scale["backbones"]["llamagen_s"] = {"train": {"steps": 20}}  # as the scale has it for the others
    (folder / "config/scales/smoke.yaml").write_text(yaml.safe_dump(scale, sort_keys=False))
    outdated = planned(snakemake(folder, "-n", "--quiet", "rules", *SMOKE, *TARGETS, warm=warm))
    return folder, outdated, snakemake(folder, *SMOKE, TARGET, warm=warm)


def test_every_block_of_the_page_is_an_addition_or_a_command():
    blocks = PAGE.read_text().count("\n```") // 2
    commands = len(re.findall(r"\n```\n(?:snakemake .*\n)+```", PAGE.read_text()))
    assert len(additions()) + commands == blocks
    assert commands == 2


def test_the_additions_outdate_nothing_that_is_finished(extended):
    _, outdated, _ = extended
    assert outdated == {}


@pytest.mark.usefixtures("warm_calls")
@pytest.mark.parametrize("scale", ["mnist", "fashion", "imagenet"])
def test_every_other_scale_can_still_be_planned(extended, scale):
    folder, _, _ = extended
    assert planned(
        snakemake(folder, "-n", "--quiet", "rules", "--config", f"scale={scale}", "--", "results/table4.csv")
    )


def test_the_reward_saw_uint8_images_and_is_logged(extended):
    folder, _, _ = extended
    lines = (folder / "results/smoke/runs/llamagen_l-contrast/metrics.jsonl").read_text().splitlines()
    means = [json.loads(line)["reward/contrast"] for line in lines]
    assert len(means) == 3
    assert all(0 < mean < 0.6 for mean in means)  # of grey levels in [0, 1]


def test_the_score_and_the_backbone_are_in_the_table(extended):
    folder, _, _ = extended
    with open(folder / TARGET, newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["run"] for row in rows] == ["llamagen_l-contrast", "llamagen_s-pretrained"]
    for row in rows:
        with np.load(folder / f"results/smoke/runs/{row['run']}/features.npz") as features:
            mean = features["probabilities"].astype(float).mean(0)
        assert float(row["effective_classes"]) == pytest.approx(np.exp(-(mean * np.log(mean)).sum()), rel=1e-4)
    assert "Classes" in (folder / TARGET).with_suffix(".md").read_text()
