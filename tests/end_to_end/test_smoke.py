"""Table 4 and Figure 2 of the smoke scale, and the consequences of later changes and damage."""

import json
import shutil
import sqlite3

import numpy as np
import pandas as pd
import pytest
from project import RUN, SMOKE, TARGETS, artune, digest, planned, snakemake

from artune.results.study.pairs import PairFile
from artune.results.study.store import VoteStore

TABLE4 = "results/table4.csv"

pytestmark = pytest.mark.usefixtures("warm_calls")


def replanned(folder, *targets, config=("scale=smoke",)):
    output = snakemake(folder, "-n", "--quiet", "rules", "--config", *config, "--", *(targets or TARGETS))
    return planned(output)


@pytest.fixture
def changed(smoke):
    """The finished project; its configuration is restored after the test."""
    shutil.copytree(smoke / "config", smoke / "config.kept")
    yield smoke
    shutil.rmtree(smoke / "config")
    shutil.move(smoke / "config.kept", smoke / "config")


def test_table4_holds_ours_beside_the_paper(smoke):
    table = pd.read_csv(smoke / "results/table4.csv")
    assert table["run"].tolist() == [
        "llamagen_l-argrpo",
        "llamagen_l-ours",
        "llamagen_l-argrpo-maniqa",
        "llamagen_l-ours-maniqa",
    ]
    assert table["fid_paper"].tolist() == [6.37, 3.83, 9.34, 6.43]
    assert (table["fid"] > 0).all()
    assert (table["fid_se"] > 0).all()
    np.testing.assert_allclose(table["fid_difference"], table["fid"] - table["fid_paper"], atol=1e-4)
    assert (table["scale"] == "smoke").all()
    assert table["note"].str.contains("smoke scale").all()
    assert "FID" in (smoke / "results/table4.md").read_text()


def test_the_page_of_what_is_there_needs_no_further_training(smoke):
    output = snakemake(smoke, *SMOKE, "report_so_far")
    assert planned(output) == {"report_so_far": 1}
    page = (smoke / "results/report.html").read_text(encoding="utf-8")
    assert '<article id="table4">' in page
    assert '<article id="figure2">' in page
    assert "snakemake -c2 --config scale=smoke -- results/smoke/tables/table1.csv" in page
    assert replanned(smoke) == {}  # it outdates nothing


def test_scores_say_everything_that_makes_them_comparable(smoke):
    scores = json.loads((smoke / RUN / "scores.json").read_text())
    for key in ("n", "labels", "cfg", "top_k", "reference", "networks", "seed", "precision_recall", "versions"):
        assert key in scores
    assert scores["networks"]["features"] != scores["networks"]["reward_features"]
    assert scores["scores"]["fid"] != scores["scores"]["fid_reward"]


def test_figure_2_and_the_grid_are_pictures(smoke):
    assert (smoke / "results/figure2.pdf").read_bytes().startswith(b"%PDF")
    assert (smoke / RUN / "grid.png").read_bytes().startswith(b"\x89PNG")
    assert not (smoke / RUN / "samples.npz").exists()  # a temporary file; the features stay


def test_nothing_is_done_twice(smoke):
    assert "Nothing to be done" in snakemake(smoke, "-n", *SMOKE, *TARGETS)


def test_a_comment_replans_nothing(changed):
    path = changed / "config/grpo.yaml"
    path.write_text("# a remark\n" + path.read_text())
    assert replanned(changed) == {}


def test_editing_one_ablation_replans_that_run_only(changed):
    path = changed / "config/experiments.yaml"
    path.write_text(
        path.read_text().replace("rewards: [clip, hps, maniqa]}", "rewards: [clip, hps, maniqa], grpo.beta: 2.0}")
    )
    counts = replanned(changed)
    assert counts["train"] == counts["run_config"] == counts["sample"] == counts["evaluate"] == 1
    assert "network" not in counts


def test_the_evaluation_protocol_does_not_retrain(changed):
    path = changed / "config/scales/smoke.yaml"
    text = path.read_text()
    assert "evaluation:" in text
    path.write_text(text.replace("evaluation:", "evaluation:\n  neighbours: 2", 1))
    counts = replanned(changed)
    assert counts["evaluate"] == 4
    assert "train" not in counts


def test_smoothing_redraws_figure_2_without_training(changed):
    before = digest(changed / "results/figure2.pdf")
    path = changed / "config/config.yaml"
    text = path.read_text()
    path.write_text(text.replace("smoothing: 15", "smoothing: 2"))
    assert set(replanned(changed, "results/figure2.pdf")) == {"figure", "publish_figure"}
    snakemake(changed, *SMOKE, "results/figure2.pdf")
    assert digest(changed / "results/figure2.pdf") != before
    path.write_text(text)
    snakemake(changed, *SMOKE, "results/figure2.pdf")
    assert digest(changed / "results/figure2.pdf") == before


def test_other_runs_can_be_drawn_into_figure_2(changed):
    path = changed / "config/config.yaml"
    path.write_text(path.read_text().replace("compare: []", "compare: [llamagen_l-argrpo]"))
    assert set(replanned(changed, "results/figure2.pdf")) == {"figure", "publish_figure"}


def test_the_published_table_of_another_scale_is_made_in_its_place(smoke):
    counts = replanned(smoke, TABLE4, config=("scale=mnist",))
    assert (counts["train"], counts["compare"], counts["table"], counts["publish_table"]) == (4, 1, 1, 1)
    assert "mlflow_store" not in counts


def test_the_table_is_the_same_bytes_when_made_again_from_the_same_features(smoke):
    published = [smoke / f"results/table4.{kind}" for kind in ("csv", "md", "tex")]
    before = [digest(path) for path in published]
    output = snakemake(smoke, "--forcerun", "evaluate", "table", *SMOKE, "results/table4.csv")
    assert "rule evaluate" in output
    assert [digest(path) for path in published] == before


def test_another_tokenizer_and_another_set_of_networks_train_and_evaluate_runs_of_their_own(smoke):
    """Nothing of the plain run is made again, and what only one of the seeds decides is the plain run's."""
    runs = {end: f"results/smoke/runs/llamagen_l-ours{end}/scores.json" for end in ("-t1", "-n1")}
    before = digest(smoke / RUN / "scores.json")
    output = snakemake(smoke, *SMOKE, *runs.values(), "results/table4.csv")
    assert digest(smoke / RUN / "scores.json") == before
    assert "rule table:" not in output
    plain = json.loads((smoke / RUN / "scores.json").read_text())
    other, judged = (json.loads((smoke / path).read_text()) for path in runs.values())
    assert (other["run"], other["tokenizer_seed"], other["seed"]) == ("llamagen_l-ours-t1", 1, 0)
    assert (judged["run"], judged["networks_seed"], judged["seed"]) == ("llamagen_l-ours-n1", 1, 0)
    assert not {"tokenizer_seed", "networks_seed"} & plain.keys()
    assert other["networks"] == plain["networks"]
    assert judged["networks"] == {role: f"{name}-n1" for role, name in plain["networks"].items()}
    assert len({scores["scores"]["fid"] for scores in (plain, other, judged)}) == 3

    def differ(*files):
        return digest(smoke / "results/smoke" / files[0]) != digest(smoke / "results/smoke" / files[1])

    for kind in ("pretrained/vq{}/tokenizer.safetensors", "pretrained/llamagen_l{}/policy.safetensors"):
        assert differ(kind.format(""), kind.format("-t1")), kind
    for name in ("clip", "clip_judge", "hps", "inception", "judge"):
        assert differ(*(f"inputs/networks/{name}{end}.safetensors" for end in ("", "-n1"))), name
    assert not (smoke / "results/smoke/pretrained/vq-n1").exists()
    with np.load(smoke / "results/smoke/reference-n1.npz") as arrays:
        assert {name.split("/")[1] for name in arrays} == {"inception-n1", "judge-n1"}
    assert differ(*(f"runs/llamagen_l-ours{end}/policy.safetensors" for end in ("", "-n1")))


def test_table_4_is_a_filter_in_mlflow(smoke):
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{smoke}/results/mlflow.db")
    experiment = client.get_experiment_by_name("smoke")
    runs = client.search_runs([experiment.experiment_id], "tags.table4 IS NOT NULL")
    assert {run.data.tags["mlflow.runName"] for run in runs} == {
        "llamagen_l-argrpo",
        "llamagen_l-ours",
        "llamagen_l-argrpo-maniqa",
        "llamagen_l-ours-maniqa",
    }
    ours = next(run for run in runs if run.data.tags["mlflow.runName"] == "llamagen_l-ours")
    scores = json.loads((smoke / RUN / "scores.json").read_text())["scores"]
    assert ours.data.metrics["eval/fid"] == pytest.approx(scores["fid"])
    assert ours.data.metrics["paper/fid"] == 3.83
    lines = (smoke / RUN / "metrics.jsonl").read_text().splitlines()
    assert len(client.get_metric_history(ours.info.run_id, "reward/clip")) == len(lines)


def test_the_store_that_is_gone_is_rebuilt_from_files(smoke):
    (smoke / "results/mlflow.db").rename(smoke / "results/mlflow.db.kept")
    try:
        snakemake(smoke, *SMOKE, "mlflow")  # the command of the README
        with sqlite3.connect(smoke / "results/mlflow.db") as store:
            assert store.execute("SELECT COUNT(*) FROM runs").fetchone()[0] >= 4
    finally:
        (smoke / "results/mlflow.db.kept").replace(smoke / "results/mlflow.db")


def test_table_3_goes_from_policies_to_pairs_and_from_votes_to_counts(changed):
    # Only one of the two settings: the other has the same rules and would train another policy.
    path, target = changed / "config/study.yaml", "results/smoke/tables/table3.csv"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "No CFG" not in line))
    path = changed / "config/scales/smoke.yaml"
    path.write_text(path.read_text().replace(", No CFG: {pairs: 8}", ""))
    snakemake(changed, *SMOKE, target)
    table = pd.read_csv(changed / target)
    assert set(table["ours"]) == {"no votes yet"}
    assert table["judge_ours"][:2].notna().all()
    assert table[["judge_ours", "judge_tie", "judge_pretrained"]].sum(axis=1).tolist() == [6, 6, 0, 0]
    study = PairFile(changed / "results/smoke/study/pairs.zip").pairs
    assert study.totals() == {"CFG": {"Realism": 6, "Ref. Match": 6}}
    store = VoteStore(changed / "results/smoke/study/votes.sqlite", study)  # as `artune study serve` does
    session = store.session(store.rater(store.register()))
    while session.waiting:
        shown = session.waiting[0]
        good = "left" if shown.left in ("ours", "real") else "right"
        session = store.vote(session.rater, shown.position, good, 1.0)
    store.close()
    assert set(replanned(changed, target)) == {"study_tally", "study_table"}
    snakemake(changed, *SMOKE, target)
    table = pd.read_csv(changed / target)
    assert table["ours"].tolist() == ["6", "6", "no votes yet", "no votes yet"]
    assert (table["status"][:2] == "ok").all()
    assert table["judge_ours"][:2].notna().all()  # the judge's counts for the same pairs are kept


def refused(done, *words):
    """Check for one clear line with all ``words``, no traceback, and status 2."""
    assert done.returncode == 2, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in line


def test_a_truncated_npz_is_named_and_nothing_is_overwritten(smoke, tmp_path):
    features = smoke / RUN / "features.npz"
    broken = tmp_path / "features.npz"
    broken.write_bytes(features.read_bytes()[:-1000])
    before = digest(smoke / RUN / "scores.json")
    refused(
        artune(smoke, "evaluate", "--config", f"{RUN}/config.yaml", "--features", broken,
               "--reference", "results/smoke/reference.npz", "--output", f"{RUN}/scores.json"),
        "features.npz", "truncated",
    )  # fmt: skip
    assert digest(smoke / RUN / "scores.json") == before


def test_a_corrupt_checkpoint_is_named(smoke, tmp_path):
    broken = tmp_path / "policy.safetensors"
    broken.write_bytes((smoke / RUN / "policy.safetensors").read_bytes()[:5000])
    refused(
        artune(smoke, "sample", "--config", f"{RUN}/config.yaml", "--policy", broken,
               "--tokenizer", "results/smoke/pretrained/vq/tokenizer.safetensors",
               "--output", tmp_path / "samples.npz", "--grid", tmp_path / "grid.png"),
        "policy.safetensors",
    )  # fmt: skip
    assert not (tmp_path / "samples.npz").exists()


def test_unknown_names_are_refused(smoke, tmp_path):
    refused(
        artune(smoke, "table", "table13", "--runs", "results/smoke/runs", "--output", tmp_path / "t.csv"), "table13"
    )
    refused(artune(smoke, "run_config", "nobody", "--output", tmp_path / "c.yaml"), "unknown run 'nobody'")
    refused(artune(smoke, "network", "nobody", "--output", tmp_path / "n"), "unknown 'nobody'")
    refused(artune(smoke, "bench", "nothing"), "nothing")
    assert not list(tmp_path.iterdir())


def test_settings_out_of_range_are_refused_by_train(smoke, tmp_path):
    text = (smoke / RUN / "config.yaml").read_text()
    for old, new, word in (
        ("group_size: 4", "group_size: 1", "grpo.group_size"),
        ("top_p: 1.0", "top_p: 0.0", "sampling.top_p"),
        ("hps: 1.0", "hps: -1.0", "rewards.weights.hps"),
    ):
        assert old in text
        config = tmp_path / "config.yaml"
        config.write_text(text.replace(old, new, 1))
        refused(
            artune(smoke, "train", "--config", config, "--policy", "x", "--tokenizer", "x", "--networks", "x",
                   "--output", tmp_path / "out/policy.safetensors"),
            "config.yaml", word,
        )  # fmt: skip


def test_an_unwritable_tracking_store_does_not_stop_the_work(smoke, tmp_path):
    path = smoke / "config/config.yaml"
    kept = path.read_text()
    path.write_text(kept.replace("sqlite:///results/mlflow.db", "http://127.0.0.1:9"))
    try:
        done = artune(smoke, "mlflow_log", "table4", "--runs", "results/smoke/runs", "--output", tmp_path / "t.json")
    finally:
        path.write_text(kept)
    assert done.returncode == 0, done.stderr
    assert "warning" in done.stderr
    assert json.loads((tmp_path / "t.json").read_text())["logged"] is False


@pytest.mark.parametrize(
    "setting", ["device=cpu", "threads=2", "tracking_uri=sqlite:///elsewhere.db", "assets=elsewhere"]
)
def test_a_setting_of_the_machine_replans_nothing(smoke, setting):
    assert replanned(smoke, TABLE4, config=("scale=smoke", setting)) == {}


def test_a_new_reward_that_no_run_uses_replans_nothing(changed):
    for path, old, new in (
        (changed / "config/rewards.yaml", "maniqa: maniqa}", "maniqa: maniqa, brightness: null}"),
        (
            changed / "src/artune/config/methods.py",
            "REWARDS = {\n",
            'REWARDS = {\n    "brightness": "mean grey level",\n',
        ),
    ):
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))
    try:
        assert replanned(changed, TABLE4) == {}
    finally:
        path.write_text(text)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("rewards.yaml", "maniqa: 1.0}", "maniqa: 0.5}"),  # a weight of a reward that only two of the four runs use
        (
            "scales/smoke.yaml",
            "warmup: 1, micro_batch: 12, save_every: 1}",
            "warmup: 1, micro_batch: 12, save_every: 2}",
        ),
        ("data.yaml", "source: imagenet", "source: imagenet\n  moment_images: 5000"),
    ],
)
def test_a_setting_that_decides_nothing_replans_nothing(changed, file, old, new):
    path = changed / "config" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    counts = replanned(changed, TABLE4)
    if file == "rewards.yaml":
        assert counts["train"] == 2
        assert counts["run_config"] == 2
    else:
        assert counts == {}


def test_the_release_preset_has_its_own_folder_and_shares_what_it_does_not_change(smoke):
    counts = replanned(smoke, TABLE4, config=("scale=smoke", "preset=release"))
    assert counts["train"] == counts["sample"] == counts["evaluate"] == 4
    assert counts["network"] == 3  # clip, clip_judge and hps read the prompts, which the preset changes
    assert not {"data", "tokenizer", "codes", "pretrained_policy", "reference"} & set(counts)
    assert replanned(smoke, TABLE4) == {}
