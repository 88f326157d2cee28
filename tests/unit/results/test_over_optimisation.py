"""The curves of over-optimisation, from made-up scores and logs."""

import json
import shutil

import matplotlib.image
import numpy as np
import pytest
import yaml
from project import ROOT

from artune.config.paper import available_figures, curve_shares
from artune.config.registry import Registry
from artune.config.yaml_layers import read_yaml
from artune.errors import ArtuneError
from artune.planning.plan import Plan
from artune.results.figures.draw import draw_figure
from artune.results.figures.over_optimisation import reward_at

KEY = "extra_curve"
REGISTRY = Registry("fashion", root=ROOT / "config")
CURVES = REGISTRY.figures[KEY].curves
FINAL = {"llamagen_l-argrpo": 3.0, "llamagen_l-ours": 1.6, "llamagen_l-kl0": 2.7, "llamagen_l-entropy0": 2.0}


def write_log(path, gain=0.1, iterations=200):
    draw = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        {
            "iteration": at,
            "reward/clip": 0.75 + gain * at / iterations + 0.01 * draw.normal(),
            "reward/hps": 0.5 + gain * at / iterations + 0.01 * draw.normal(),
        }
        for at in range(iterations)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_scores(folder, run, share, final, seed=0, **changes):
    far = share**0.7
    scores = {
        "fid": 0.8 + far * (final - 0.8) + 0.1 * seed, "fid_se": 0.1,
        "fid_reward": 3.2 + far * (1.5 * final - 4.2), "fid_reward_se": 0.12,
        "recall": 0.85 - far * 0.055 * final, "inception_score": 7.1 + far * 0.2 * final, "inception_score_se": 0.04,
    }  # fmt: skip
    name = run if seed == 0 else f"{run}-s{seed}"
    path = folder / "runs" / name / "scores.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"run": name, "n": 5000, "seed": seed, "scores": scores} | changes))


def results(folder, seeds=1):
    """Scores and logs of every run of the figure."""
    for runs in CURVES.values():
        for seed in range(seeds):
            for run, share in zip(runs, curve_shares(REGISTRY, KEY, runs), strict=True):
                write_scores(folder, run, share, FINAL[runs[-1]], seed)
            name = runs[-1] if seed == 0 else f"{runs[-1]}-s{seed}"
            write_log(folder / "runs" / name / "metrics.jsonl", 0.03 + 0.02 * FINAL[runs[-1]])
    return folder


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_figure_is_drawn_from_scores_and_logs_and_is_the_same_every_time(tmp_path, seeds):
    folder = results(tmp_path / "results", seeds)
    for name in ("a", "b"):
        draw_figure(REGISTRY, KEY, folder, tmp_path / f"{name}.pdf", seeds=seeds)
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    picture = matplotlib.image.imread(tmp_path / "a.png")
    assert picture.shape[1] == 660  # a column of 3.3 inches
    write_scores(folder, "llamagen_l-ours-at50", 0.5, 4.0)
    draw_figure(REGISTRY, KEY, folder, tmp_path / "c.pdf", seeds=seeds)
    assert (matplotlib.image.imread(tmp_path / "c.png") != picture).any()


def test_a_curve_begins_at_the_pretrained_policy_and_ends_with_its_training():
    assert [curve_shares(REGISTRY, KEY, runs) for runs in CURVES.values()] == [[0.0, 0.25, 0.5, 1.0]] * 4
    ours = CURVES["ours"]
    for wrong in (ours[::-1], ours[:-1], (*ours[:2], ours[1], ours[3]), (*ours[:3], "llamagen_l-argrpo")):
        with pytest.raises(ArtuneError, match=r"figures\.yaml: extra_curve: curves: .*name the runs of one training"):
            curve_shares(REGISTRY, KEY, wrong)


def test_the_reward_at_a_share_is_the_mean_around_it_and_at_the_ends_of_the_first_and_last(tmp_path):
    path = write_log(tmp_path / "metrics.jsonl")
    values = [sum(json.loads(line)[key] for key in ("reward/clip", "reward/hps")) for line in path.open()]
    for share, part in ((0.0, values[:10]), (0.25, values[45:55]), (0.5, values[95:105]), (1.0, values[-10:])):
        mean, error = reward_at(path, share)
        assert mean == pytest.approx(np.mean(part))
        assert error == pytest.approx(np.std(part, ddof=1) / 10**0.5)


def test_a_missing_score_and_other_settings_are_named(tmp_path):
    folder = results(tmp_path / "results")
    write_scores(folder, "llamagen_l-ours-at25", 0.25, 1.6, n=200)
    with pytest.raises(ArtuneError, match=r"extra_curve: .*llamagen_l-ours-at25"):
        draw_figure(REGISTRY, KEY, folder, tmp_path / "a.pdf")
    write_scores(folder, "llamagen_l-ours-at25", 0.25, 1.6, scores={"fid": 1.0})
    with pytest.raises(ArtuneError, match=r"llamagen_l-ours-at25/scores\.json: has no fid_reward; score the run again"):
        draw_figure(REGISTRY, KEY, folder, tmp_path / "a.pdf")
    assert not (tmp_path / "a.pdf").exists()


def plan(scale, root=ROOT / "config", **changes):
    return Plan(read_yaml(root / "config.yaml") | {"scale": scale, **changes}, root)


def test_the_figure_is_part_of_the_target_where_snapshots_are_kept_and_elsewhere_says_why_not(tmp_path):
    chosen = plan("fashion", seeds=2)
    assert KEY in chosen.figures
    files = chosen.figure(KEY)
    assert len(files) == len(set(files)) == 13 + 4  # scores of 13 runs, logs of 4 trainings
    assert chosen.figure_options(KEY) == "--seeds 1"  # the runs on the way have one seed (about.seeds)
    root = shutil.copytree(ROOT / "config", tmp_path / "config")
    scale = root / "scales/fashion.yaml"
    scale.write_text(scale.read_text().replace("    others: 1\n", "    others: 2\n"))
    chosen = plan("fashion", root, seeds=2)
    files = chosen.figure(KEY)
    assert len(files) == len(set(files)) == 2 * (13 + 4)
    assert "results/fashion/runs/llamagen_l-kl0-at25-s1/scores.json" in files
    assert chosen.figure_options(KEY) == "--seeds 2"
    for scale in ("mnist", "imagenet", "smoke"):
        assert KEY not in plan(scale).figures
        assert plan(scale).figures == [f"figure{number}" for number in range(1, 27 if scale == "imagenet" else 6)]
        with pytest.raises(ArtuneError, match=rf"extra_curve: .*{scale}.*needs about\.snapshots"):
            plan(scale).figure(KEY)


def test_one_line_turns_the_snapshots_of_another_scale_on(tmp_path):
    root = tmp_path / "config"
    shutil.copytree(ROOT / "config", root)
    scale = yaml.safe_load((root / "scales/mnist.yaml").read_text())
    scale["about"]["snapshots"] = True
    (root / "scales/mnist.yaml").write_text(yaml.safe_dump(scale))
    assert KEY in available_figures(Registry("mnist", root=root))
    assert plan("mnist", root).shares == [0.25, 0.5]


def test_a_figure_without_curves_is_dumped_as_before_there_were_any():
    assert "curves" not in REGISTRY.figures["figure2"].model_dump()
