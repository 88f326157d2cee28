"""Paired comparison of two runs, against a literal jackknife: each sample left out of both, all scores computed again."""

import shutil

import numpy as np
import pytest
import torch
from project import ROOT

from artune.commands.cli import main
from artune.config.glossary import COMPARED
from artune.config.paper import pairs_of
from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.evaluation.compare import compare, holm, two_sided
from artune.evaluation.left_out import scores_left_out
from artune.metrics.fid import feature_moments, frechet_distance
from artune.metrics.inception_score import inception_score
from artune.metrics.kid import kid
from artune.metrics.precision_recall import precision_recall, precision_recall_left_out
from artune.runtime.files import load_npz, save_npz

REGISTRY = Registry("smoke", root=ROOT / "config")
PROTOCOL = REGISTRY.evaluation.model_copy(update={"inception_split": 12})
JUDGE = f"heldout/{PROTOCOL.features}"
N, CLASSES = 36, 10


def run_arrays(seed, shift=0.0, labels=None):
    """Features of a run; runs of different seeds share two thirds of their draws, as runs on the same noise do."""
    common, own = np.random.default_rng(0), np.random.default_rng(seed)
    logits = common.normal(size=(N, CLASSES)) + 0.5 * own.normal(size=(N, CLASSES))
    return {
        "labels": np.arange(N) % CLASSES if labels is None else labels,
        "features": common.normal(size=(N, 4)) + 0.5 * own.normal(size=(N, 4)) + shift,
        "probabilities": np.exp(logits) / np.exp(logits).sum(1, keepdims=True),
        "clip": common.normal(size=N) + 0.2 * own.normal(size=N) + shift,
    }


@pytest.fixture
def world(tmp_path):
    real = np.random.default_rng(9).normal(size=(50, 4))
    mu, sigma = feature_moments(torch.from_numpy(real))
    save_npz(
        tmp_path / "reference.npz",
        {f"{JUDGE}/mu": mu.numpy(), f"{JUDGE}/sigma": sigma.numpy(), f"{JUDGE}/features": real},
    )
    for name, seed, shift in (("argrpo", 1, 0.3), ("ours", 2, 0.0), ("argrpo-maniqa", 3, 0.1), ("ours-maniqa", 4, 0.0)):
        for suffix, further in (("", 0), ("-s1", 10), ("-s2", 20)):
            save_npz(tmp_path / f"llamagen_l-{name}{suffix}/features.npz", run_arrays(seed + further, shift))
    registry = Registry("smoke", root=ROOT / "config")
    registry.evaluation = PROTOCOL
    return tmp_path, registry


def literal_scores(arrays, real, left_out=None):
    """All metrics without the sample ``left_out``; the chunks of the Inception score keep their bounds."""
    keep = np.arange(N) != left_out
    chunks = [np.arange(N)[at : at + 12] for at in range(0, N, 12)]
    kept = {key: torch.from_numpy(value[keep]) for key, value in arrays.items()}
    moments = [torch.from_numpy(real[f"{JUDGE}/{key}"]) for key in ("mu", "sigma", "features")]
    manifold = precision_recall(
        moments[2], kept["features"], k=PROTOCOL.neighbours, precision=PROTOCOL.precision_recall
    )
    parts = [torch.from_numpy(arrays["probabilities"][chunk[chunk != left_out]]) for chunk in chunks]
    return {
        "fid": frechet_distance(*feature_moments(kept["features"]), *moments[:2]),
        "kid": kid(moments[2], kept["features"]).value,
        "inception_score": np.mean([inception_score(part, 12)[0] for part in parts]),
        "precision": manifold.precision,
        "recall": manifold.recall,
        "clip_score": float(kept["clip"].mean()),
        "accuracy": float((kept["probabilities"].argmax(1) == kept["labels"]).double().mean()),
    }


def test_a_difference_and_its_error_are_those_of_the_literal_jackknife(world):
    folder, registry = world
    frame = compare(registry, [("llamagen_l-argrpo", "llamagen_l-ours")], folder, folder / "reference.npz")
    assert list(frame["metric"]) == list(COMPARED)
    real = dict(np.load(folder / "reference.npz"))
    first, second = run_arrays(1, 0.3), run_arrays(2)
    whole = {m: literal_scores(second, real)[m] - literal_scores(first, real)[m] for m in COMPARED}
    without = [(literal_scores(first, real, i), literal_scores(second, real, i)) for i in range(N)]
    for row in frame.to_dict("records"):
        values = np.array([b[row["metric"]] - a[row["metric"]] for a, b in without])
        assert row["difference"] == pytest.approx(whole[row["metric"]], rel=1e-9), row["metric"]
        literal = np.sqrt((N - 1) / N * ((values - values.mean()) ** 2).sum())
        assert row["se"] == pytest.approx(literal, rel=1e-6), row["metric"]
    assert (frame["se"] > 0).all()


@pytest.mark.parametrize("precision", ["exact", "adm_half"])
def test_precision_and_recall_without_a_sample_are_exact_where_distances_tie_as_well(precision):
    draw = torch.Generator().manual_seed(0)
    real, ours = (torch.randint(4, (30, 2), generator=draw).double() for _ in range(2))  # many points are equal
    found = precision_recall_left_out(real, ours, 3, precision, pairs=100)
    whole = precision_recall(real, ours, 3, precision)
    assert (found.precision, found.recall) == (whole.precision, whole.recall)
    for i in range(30):
        literal = precision_recall(real, torch.cat([ours[:i], ours[i + 1 :]]), 3, precision)
        assert (found.precisions[i], found.recalls[i]) == pytest.approx((literal.precision, literal.recall))


def test_pairing_takes_out_what_two_runs_share(world):
    folder, _ = world
    real = dict(np.load(folder / "reference.npz"))
    first, second = (scores_left_out(run_arrays(seed), real, PROTOCOL, CLASSES)["clip_score"] for seed in (1, 2))
    apart = (first.left_out.var() + second.left_out.var()) ** 0.5
    together = (second.left_out - first.left_out).std()
    assert together < 0.4 * apart


def test_a_shuffled_inception_score_is_paired_by_sample_and_not_by_place():
    shuffled = PROTOCOL.model_copy(update={"inception_shuffle": True})
    real = {
        f"{JUDGE}/mu": np.zeros(4),
        f"{JUDGE}/sigma": np.eye(4),
        f"{JUDGE}/features": np.random.default_rng(9).normal(size=(50, 4)),
    }
    arrays = run_arrays(1)
    arrays["probabilities"][7] = np.eye(CLASSES)[0]  # an outlier, wherever the shuffle puts it
    left_out = scores_left_out(arrays, real, shuffled, CLASSES)["inception_score"].left_out
    assert int((left_out - left_out.mean()).abs().argmax()) == 7


def test_holm_multiplies_by_the_hypotheses_that_are_left():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def test_p_values_are_normal_and_with_seeds_students():
    assert two_sided(1.959964, 1.0, 1) == pytest.approx(0.05, abs=1e-6)
    assert two_sided(4.302653, 1.0, 3) == pytest.approx(0.05, abs=1e-6)  # Student's t with 2 degrees of freedom
    assert (two_sided(0.0, 0.0, 1), two_sided(0.1, 0.0, 1)) == (1.0, 0.0)


def test_a_table_compares_every_row_with_the_first_of_its_block(world, capsys):
    folder, registry = world
    pairs = pairs_of(registry, "table4")
    assert pairs == [("llamagen_l-argrpo", "llamagen_l-ours"), ("llamagen_l-argrpo-maniqa", "llamagen_l-ours-maniqa")]
    arguments = ["compare", "--table", "table4", "--runs", str(folder), "--reference", str(folder / "reference.npz")]
    assert main([*arguments, "--scale", "smoke", "--output", str(folder / "out.csv")]) == 0
    assert "of 14 differences at p < 0.05 after Holm's correction" in capsys.readouterr().err
    first = (folder / "out.csv").read_bytes()
    assert main([*arguments, "--scale", "smoke", "--output", str(folder / "out.csv")]) == 0
    assert (folder / "out.csv").read_bytes() == first


def test_several_seeds_are_compared_seed_by_seed(world):
    folder, registry = world
    names = ("llamagen_l-argrpo", "llamagen_l-ours")
    single = [
        compare(registry, [tuple(f"{name}{suffix}" for name in names)], folder, folder / "reference.npz")
        for suffix in ("", "-s1", "-s2")
    ]
    frame = compare(registry, [names], folder, folder / "reference.npz", seeds=3)
    apart = np.array([one["difference"] for one in single])
    np.testing.assert_allclose(frame["difference"], apart.mean(0))
    np.testing.assert_allclose(frame["se"], apart.std(0, ddof=1) / 3**0.5)
    errors = np.array([one["se"] for one in single])
    np.testing.assert_allclose(frame["evaluation_se"], (errors**2).sum(0) ** 0.5 / 3)
    assert (frame["p_holm"] >= frame["p"]).all()


def test_runs_of_a_further_set_of_networks_are_compared_with_its_own_reference(world):
    folder, registry = world
    pair = ("llamagen_l-argrpo", "llamagen_l-ours")
    for name in pair:
        shutil.copytree(folder / name, folder / f"{name}-n1")
    arrays = load_npz(folder / "reference.npz")
    save_npz(folder / "reference-n1.npz", {key.replace("judge/", "judge-n1/"): value for key, value in arrays.items()})
    further = [tuple(f"{name}-n1" for name in pair)]
    frame = compare(registry, further, folder, {1: folder / "reference-n1.npz"})
    plain = compare(registry, [pair], folder, folder / "reference.npz")
    assert np.array_equal(frame["difference"], plain["difference"])
    with pytest.raises(ArtuneError, match=r"reference\.npz"):  # it holds no moments under judge-n1
        compare(registry, further, folder, {1: folder / "reference.npz"})
    with pytest.raises(ArtuneError, match="llamagen_l-argrpo and llamagen_l-ours-n1 are scored by different sets"):
        compare(registry, [(pair[0], f"{pair[1]}-n1")], folder, folder / "reference.npz")


def test_runs_on_other_labels_are_not_compared(world):
    folder, registry = world
    save_npz(folder / "llamagen_l-kl2/features.npz", run_arrays(5, labels=np.arange(N)[::-1] % CLASSES))
    with pytest.raises(ArtuneError, match="llamagen_l-ours and llamagen_l-kl2 were drawn on different labels"):
        compare(registry, [("llamagen_l-ours", "llamagen_l-kl2")], folder, folder / "reference.npz")


def test_runs_without_labels_are_compared_in_the_scores_that_need_none(world):
    folder, registry = world
    without = {key: value for key, value in run_arrays(5).items() if key not in ("labels", "clip")}
    save_npz(folder / "llamagen_l-kl2/features.npz", run_arrays(5))
    pair, real = [("llamagen_l-ours", "llamagen_l-kl2")], folder / "reference.npz"
    whole = compare(registry, pair, folder, real)
    save_npz(folder / "llamagen_l-kl2/features.npz", without)
    frame = compare(registry, pair, folder, real)
    assert set(whole["metric"]) - set(frame["metric"]) == {"clip_score", "accuracy"}
    assert list(frame.columns) == list(whole.columns)
    assert set(frame["n"]) == {N}
    kept = whole[whole["metric"].isin(frame["metric"])]
    assert np.array_equal(frame["difference"], kept["difference"])
    shorter = {key: value[:-1] for key, value in without.items()}
    save_npz(folder / "llamagen_l-kl2/features.npz", shorter)
    with pytest.raises(ArtuneError, match="different numbers of samples"):
        compare(registry, pair, folder, real)


@pytest.mark.parametrize("change", [1, -1])
def test_features_with_labels_that_are_no_class_ids_are_not_compared(world, change):
    folder, registry = world
    save_npz(folder / "llamagen_l-kl2/features.npz", run_arrays(5, labels=np.arange(N) % CLASSES + change))
    with pytest.raises(ArtuneError, match=r"features\.npz: labels: "):
        compare(registry, [("llamagen_l-ours", "llamagen_l-kl2")], folder, folder / "reference.npz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["llamagen_l-ours"], "name two runs, or a table"),
        (["llamagen_l-ours", "llamagen_l-kl2", "--table", "table4"], "name two runs, or a table"),
        (["llamagen_l-ours", "nobody"], "unknown run 'nobody'"),
        (["--table", "table3"], "table3 holds votes"),
        (["--table", "table13"], "unknown table 'table13'"),
        (["llamagen_l-ours", "llamagen_l-kl2", "--reference", "nowhere.npz"], "nowhere.npz: no such file"),
    ],
)
def test_what_cannot_be_compared_is_one_line(arguments, message, capsys):
    assert main(["compare", *arguments, "--scale", "smoke"]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_run_that_is_not_there_comes_with_the_target_that_makes_it(world, tmp_path, monkeypatch, capsys):
    folder, _ = world
    monkeypatch.setenv("ARTUNE_CONFIG", str(ROOT / "config"))
    monkeypatch.chdir(tmp_path)
    pair = ["compare", "llamagen_l-ours", "llamagen_l-kl1", "--scale", "smoke"]
    assert main([*pair, "--reference", str(folder / "reference.npz")]) == 2
    missing = "results/smoke/runs/llamagen_l-ours/features.npz"
    told = f"error: {missing}: no such file; `snakemake -c2 --config scale=smoke -- {missing}` makes it"
    assert capsys.readouterr().err.splitlines()[-1] == told
