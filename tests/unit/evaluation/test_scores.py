"""Scores of a run: those that each protocol adds, and their independence of the order of the samples."""

import json

import numpy as np
import pytest
import torch
from project import ROOT
from scored import APART, OFFICIAL, Network, Spatial, draws, draws_apart, reference, reference_apart
from tiny import tiny_run

from artune.config.registry import Registry
from artune.config.run import parse_run
from artune.errors import ArtuneError
from artune.evaluation.evaluate import ScoreFiles, evaluate
from artune.evaluation.features import sample_features, write_features
from artune.evaluation.scores import score
from artune.metrics.cmmd import cmmd
from artune.metrics.density_coverage import density_coverage
from artune.metrics.fid import feature_moments, frechet_distance
from artune.metrics.kid import kid
from artune.metrics.precision_recall import neighbour_radii, precision_recall
from artune.results.tables import build_table
from artune.runtime.files import load_npz, save_npz
from artune.tracking.run_page import describe_run

MNIST = Registry("smoke", root=ROOT / "config").evaluation.model_copy(update={"inception_split": 30})
ADDED = {
    "sfid", "density", "coverage", "cmmd", "cmmd_se", "fd_dinov2", "fd_dinov2_se", "precision_dinov2",
    "precision_dinov2_se", "recall_dinov2",
}  # fmt: skip


def test_the_official_protocol_adds_its_judges_and_changes_nothing_else():
    official = score(draws(0), reference(1, OFFICIAL), OFFICIAL, 3)
    plain_protocol = OFFICIAL.model_copy(update={"density_neighbours": None, "cmmd": None, "dinov2": None})
    arrays = draws(0)
    del arrays["spatial"], arrays["cmmd"], arrays["dinov2"]
    plain = score(arrays, reference(1, OFFICIAL), plain_protocol, 3)
    assert set(official) - set(plain) == ADDED
    assert plain == {key: official[key] for key in plain}


def test_the_judges_are_the_metrics_of_their_names():
    arrays, real = draws(0), reference(1, OFFICIAL)
    found = score(arrays, real, OFFICIAL, 3)
    judged = f"heldout/{OFFICIAL.features}"
    tensors = {key: torch.from_numpy(value) for key, value in (arrays | real).items()}
    moments = feature_moments(tensors["spatial"])
    assert found["sfid"] == frechet_distance(*moments, tensors[f"{judged}/mu_s"], tensors[f"{judged}/sigma_s"])
    spread = density_coverage(tensors[f"{judged}/features"], tensors["features"], k=5)
    assert (found["density"], found["coverage"]) == (spread.density, spread.coverage)
    judge = cmmd(tensors[f"heldout/{OFFICIAL.cmmd}/embeddings"], tensors["cmmd"])
    assert (found["cmmd"], found["cmmd_se"]) == (judge.value, judge.standard_error)
    moments = feature_moments(tensors[f"heldout/{OFFICIAL.dinov2}/embeddings"])
    assert found["fd_dinov2"] == pytest.approx(frechet_distance(*feature_moments(tensors["dinov2"]), *moments))
    assert found["fd_dinov2_se"] > 0
    spread = precision_recall(tensors[f"heldout/{OFFICIAL.dinov2}/embeddings"], tensors["dinov2"])
    assert (found["precision_dinov2"], found["recall_dinov2"]) == (spread.precision, spread.recall)


def test_the_rewards_own_network_gives_the_same_scores_from_its_own_features():
    arrays, real, missing = draws_apart(0), reference_apart(1), {}
    found = score(arrays, real, APART, 3, missing)
    assert missing == {}
    own = {"features": arrays["reward_features"], "probabilities": arrays["reward_probabilities"]}
    inside = {f"heldout/{APART.features}/{key}": real[f"heldout/stand_in/{key}"] for key in ("mu", "sigma", "features")}
    same = score(draws(0) | own, reference(1, OFFICIAL) | inside, OFFICIAL, 3)
    for name in ("fid", "kid", "inception_score", "precision"):
        assert found[f"{name}_reward"] == same[name] != found[name], name
        assert found[f"{name}_reward_se"] == same[f"{name}_se"], name
    for name in ("recall", "accuracy"):
        assert found[f"{name}_reward"] == same[name], name
    assert found["accuracy_reward"] != found["accuracy"]
    assert {key: value for key, value in found.items() if "reward" not in key and "efficient" not in key} == {
        key: value for key, value in score(draws(0), reference(1, OFFICIAL), OFFICIAL, 3).items() if "reward" not in key
    }


def test_with_one_set_of_networks_no_score_is_computed_twice():
    found = score(draws(0), reference(1, OFFICIAL), OFFICIAL, 3)
    assert [key for key in found if "reward" in key] == [
        "fid_reward", "fid_reward_se", "clip_score_reward", "clip_score_reward_se",
    ]  # fmt: skip


def test_features_and_references_without_the_rewards_arrays_leave_its_scores_out_with_a_reason():
    arrays, real, missing = draws_apart(0), reference_apart(1), {}
    del arrays["reward_probabilities"], real["heldout/stand_in/features"]
    found = score(arrays, real, APART, 3, missing)
    assert not {"inception_score_reward", "accuracy_reward", "precision_reward", "kid_reward"} & set(found)
    assert "fid_reward" in found
    assert list(missing) == ["inception_score_reward", "precision_reward"]
    assert "delete features.npz" in missing["inception_score_reward"]


def test_the_judge_of_a_package_is_scored_from_its_own_features_or_left_out_with_one_line(tmp_path):
    arrays, real = draws_apart(0), reference_apart(1)
    found = score(arrays, real, APART, 3)
    ours, theirs = (
        torch.from_numpy(array).float()
        for array in (arrays["efficientnet"], real["heldout/efficientnet_lite0/embeddings"])
    )
    assert found["fd_efficientnet"] == pytest.approx(
        frechet_distance(*feature_moments(ours), *feature_moments(theirs)), rel=1e-6
    )
    assert found["kid_efficientnet"] == kid(theirs, ours).value
    assert found["recall_efficientnet"] == precision_recall(theirs, ours).recall
    for left_out in ("ours", "theirs"):
        own = {key: value for key, value in arrays.items() if left_out == "theirs" or key != "efficientnet"}
        their = {key: value for key, value in real.items() if left_out == "ours" or "efficient" not in key}
        missing = {}
        assert not [key for key in score(own, their, APART, 3, missing) if "efficient" in key]
        assert list(missing) == ["fd_efficientnet"]
        assert ("samples" in missing["fd_efficientnet"]) == (left_out == "ours")
    save_npz(tmp_path / "features.npz", {key: value for key, value in arrays.items() if key != "efficientnet"})
    save_npz(tmp_path / "reference.npz", reference_apart(1))
    save_npz(tmp_path / "efficientnet_lite0.npz", {})
    names = ("features.npz", "reference.npz", "scores.json")
    files = ScoreFiles(*(tmp_path / name for name in names), third=tmp_path / "efficientnet_lite0.npz")
    line = evaluate(tiny_run(), APART, files, {})
    assert "no scores of EfficientNet: its package was not installed" in line
    assert "\n" not in line
    assert "fd_efficientnet" in json.loads((tmp_path / "scores.json").read_text())["missing"]


@pytest.mark.parametrize("kind", ["exact", "adm_half"])
def test_radii_that_the_reference_has_are_used_where_precision_is_exact_and_change_nothing(kind):
    protocol, real, places = APART.model_copy(update={"precision_recall": kind}), reference_apart(1), {}
    for name, key in ((APART.features, "features"), ("stand_in", "features"), ("efficientnet_lite0", "embeddings")):
        features = torch.from_numpy(real[f"heldout/{name}/{key}"]).float()
        places[f"heldout/{name}/radii3"] = neighbour_radii(features.double(), 3).numpy()
    plain = score(draws_apart(0), real, protocol, 3)
    assert score(draws_apart(0), real | places, protocol, 3, None, {}) == plain
    none = {place: np.zeros_like(radii) for place, radii in places.items()}  # balls without an inside
    for left_out in (None, {}):
        found = score(draws_apart(0), real | none, protocol, 3, None, left_out)
        changed = {name for name, value in plain.items() if found[name] != value}
        exact = {"precision_exact", "precision_efficientnet", "precision_efficientnet_se"}
        chosen = {"precision", "precision_se", "precision_reward", "precision_reward_se"}
        assert changed == (exact | chosen if kind == "exact" else exact)
    other = score(draws_apart(0), real | none, protocol.model_copy(update={"neighbours": 4}), 3)
    assert other == score(draws_apart(0), real, protocol.model_copy(update={"neighbours": 4}), 3)


def test_a_file_sorted_by_class_keeps_its_inception_score_under_the_official_protocol_only():
    arrays, real = draws(0), reference(1, OFFICIAL)
    whole = score(arrays, real, OFFICIAL.model_copy(update={"inception_split": 90}), 3)["inception_score"]
    shuffled = score(arrays, real, OFFICIAL, 3)["inception_score"]
    assert shuffled == score(arrays, real, OFFICIAL, 3)["inception_score"]
    in_order = score(arrays, real, OFFICIAL.model_copy(update={"inception_shuffle": False}), 3)["inception_score"]
    assert in_order == pytest.approx(1.0)  # every chunk holds one class
    assert whole > 1.9
    assert shuffled == pytest.approx(whole, rel=0.05)
    assert not MNIST.inception_shuffle


@pytest.mark.parametrize("judge", [Network, Spatial])
def test_spatial_features_are_kept_where_the_network_has_them(tmp_path, judge):
    images = np.random.default_rng(0).integers(0, 256, (90, 4, 4, 3), dtype=np.uint8)
    save_npz(tmp_path / "samples.npz", {"arr_0": images, "labels": np.arange(90) % 4})
    networks = dict.fromkeys(OFFICIAL.networks.values(), Network()) | {OFFICIAL.features: judge()}
    data = tiny_run().data
    found = sample_features(tmp_path / "samples.npz", OFFICIAL.model_copy(update={"batch": 40}), data, networks, "cpu")
    assert set(found) == {"labels", "features", "probabilities", "clip", "cmmd", "dinov2"} | (
        {"spatial"} if judge is Spatial else set()
    )
    assert np.allclose(found["features"], images.mean((1, 2)), atol=1e-4)
    if judge is Spatial:
        assert np.array_equal(found["spatial"], images[:, :2, 0, 0])


def written(tmp_path, further, features=None, first=None):
    save_npz(tmp_path / "features.npz", features or draws(0))
    paths = {"reference": first or reference(1, OFFICIAL), "imagenet_val": further}
    for name, arrays in paths.items():
        save_npz(tmp_path / f"{name}.npz", arrays)
    files = ScoreFiles(
        tmp_path / "features.npz",
        tmp_path / "reference.npz",
        tmp_path / "scores.json",
        references={"imagenet_val": tmp_path / "imagenet_val.npz"},
    )
    evaluate(tiny_run(), OFFICIAL, files, {}, {"adm_virtual": {"file": "v.npz", "sha256": "0" * 64}})
    return json.loads((tmp_path / "scores.json").read_text())


def test_every_reference_is_named_with_its_scores(tmp_path):
    found = written(tmp_path, reference(2, OFFICIAL))
    assert found["reference"] == "adm_virtual"
    assert list(found["references"]) == ["imagenet_val"]
    for key in ("fid", "fid_se", "sfid", "kid", "precision", "recall", "density", "cmmd", "fd_dinov2"):
        assert found["references"]["imagenet_val"][key] != found["scores"][key], key
    assert "inception_score" not in found["references"]["imagenet_val"]  # IS uses no reference
    assert found["files"] == {"adm_virtual": {"file": "v.npz", "sha256": "0" * 64}}


def test_a_bias_corrected_fid_outside_its_own_error_is_missing_and_the_file_says_why(tmp_path):
    assert "fid_bias_corrected" in score(draws(0), reference(1, OFFICIAL), OFFICIAL, 3)
    few = {key: value[::2] for key, value in draws(0).items()}  # 45 samples of 6 features
    scores = score(few, reference(1, OFFICIAL), OFFICIAL, 3)
    assert "fid_bias_corrected" not in scores
    assert {"fid", "fid_se"} <= set(scores)
    found = written(tmp_path, reference(2, OFFICIAL))
    assert found["missing"] == {}
    found = written(tmp_path, reference(2, OFFICIAL), few)
    assert list(found["missing"]) == ["fid_bias_corrected"]
    assert "too few samples" in found["missing"]["fid_bias_corrected"]
    assert found["missing_against"] == {"imagenet_val": found["missing"]}


def test_a_reason_is_given_for_each_reference_and_says_what_was_measured(tmp_path):
    arrays, real = draws(0, 1050), reference(1, OFFICIAL)
    arrays["features"] = np.random.default_rng(1).normal(size=(1050, 105))  # ten per feature, which leaves a bias
    judged = f"heldout/{OFFICIAL.features}"
    near = real | {
        f"{judged}/features": arrays["features"][:60],
        f"{judged}/mu": arrays["features"].mean(0),
        f"{judged}/sigma": np.cov(arrays["features"].T),
    }
    far = near | {f"{judged}/mu": np.full(105, 100.0)}  # the error of a large distance is far above its bias
    found = written(tmp_path, far, arrays, near)
    assert found["missing_against"] == {"imagenet_val": {}}
    assert "fid_bias_corrected" in found["references"]["imagenet_val"]
    assert "measured on halves of the samples" in found["missing"]["fid_bias_corrected"]
    assert "too few" not in found["missing"]["fid_bias_corrected"]


def test_a_further_reference_that_is_broken_is_one_line(tmp_path):
    broken = reference(2, OFFICIAL)
    broken[f"heldout/{OFFICIAL.features}/mu"] = np.full(6, np.nan)
    with pytest.raises(ArtuneError, match=r"imagenet_val\.npz: fid.* is not finite"):
        written(tmp_path, broken)


# -- samples from others ------------------------------------------------------------------------------------------

LABEL_BASED = {"accuracy", "clip_score", "clip_score_se", "clip_score_reward", "clip_score_reward_se"}


class Prompted(Network):
    """A network with one text per class, so that the cosine depends on the label."""

    def embed_texts(self, texts):
        return torch.nn.functional.normalize(torch.eye(len(texts), 3) + 0.1, dim=1)


def features_of(folder, arrays):
    """Features of samples that hold these arrays beside 90 images."""
    images = np.random.default_rng(0).integers(0, 256, (90, 4, 4, 3), dtype=np.uint8)
    save_npz(folder / "foreign.npz", {"arr_0": images} | arrays)
    line = write_features(
        folder / "foreign.npz",
        OFFICIAL.model_copy(update={"batch": 40}),
        tiny_run().data,
        dict.fromkeys(OFFICIAL.networks.values(), Prompted()),
        folder / "features.npz",
        "cpu",
    )
    return load_npz(folder / "features.npz"), line


@pytest.mark.parametrize(
    "stored",
    [
        {"labels": (np.arange(90) % 4).astype(np.uint8)},
        {"labels": (np.arange(90) % 4).astype(np.float32)},
        {"labels": (np.arange(90) % 4)[:, None]},
        {"labels": np.eye(4)[np.arange(90) % 4]},
        {"arr_1": np.arange(90) % 4},
    ],
    ids=["uint8", "float", "column", "one-hot", "arr_1"],
)
def test_labels_of_another_form_give_the_same_features(tmp_path, stored):
    ours, _ = features_of(tmp_path, {"labels": np.arange(90) % 4})
    theirs, _ = features_of(tmp_path, stored)
    assert set(ours) == set(theirs)
    assert theirs["labels"].dtype == np.int64
    assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


def test_labels_that_count_from_1_are_refused_before_anything_is_computed(tmp_path):
    with pytest.raises(ArtuneError, match=r"foreign\.npz: labels: 1 to 4 count from 1"):
        features_of(tmp_path, {"labels": np.arange(90) % 4 + 1})
    assert not (tmp_path / "features.npz").exists()


def test_possible_labels_that_the_classifier_sees_one_lower_are_refused(tmp_path):
    class Sees(Prompted):
        def probabilities(self, images):
            return torch.eye(4)[images[:, 0, 0, 0].long()]

    true = np.arange(90) % 3
    images = np.zeros((90, 4, 4, 3), np.uint8) + true[:, None, None, None].astype(np.uint8)
    networks = dict.fromkeys(OFFICIAL.networks.values(), Prompted()) | {OFFICIAL.classifier: Sees()}
    for shift in (0, 1):
        save_npz(tmp_path / "s.npz", {"arr_0": images, "labels": true + shift})
        arguments = (tmp_path / "s.npz", OFFICIAL, tiny_run().data, networks, tmp_path / "features.npz", "cpu")
        if shift:
            with pytest.raises(ArtuneError, match=r"s\.npz: labels: count from 1, as the classifier"):
                write_features(*arguments)
        else:
            write_features(*arguments)


@pytest.mark.parametrize("sees", [True, False])
def test_possible_labels_that_clip_sees_one_lower_are_refused_without_a_classifier_of_the_classes(tmp_path, sees):
    """As at the imagenet scale, whose classifier has 1008 columns."""

    class Clip(Network):
        def probabilities(self, images):
            return torch.ones(len(images), 9) / 9

        def embed_images(self, images):
            seen = images[:, 0, 0, 0].long() if sees else torch.arange(len(images)) % 4
            return torch.eye(4)[seen]

        def embed_texts(self, texts):
            return torch.eye(4)[: len(texts)]

    true = np.arange(90) % 3  # class 3 of four does not occur
    images = np.zeros((90, 4, 4, 3), np.uint8) + true[:, None, None, None].astype(np.uint8)
    plain = OFFICIAL.model_copy(update={"density_neighbours": None, "cmmd": None, "dinov2": None})
    arguments = (plain, tiny_run().data, dict.fromkeys(OFFICIAL.networks.values(), Clip()), tmp_path / "f.npz", "cpu")
    save_npz(tmp_path / "s.npz", {"arr_0": images, "labels": true})
    write_features(tmp_path / "s.npz", *arguments)
    kept = set(load_npz(tmp_path / "f.npz"))
    save_npz(tmp_path / "s.npz", {"arr_0": images, "labels": true + 1})
    if sees:
        with pytest.raises(ArtuneError, match=r"s\.npz: labels: count from 1, .* the prompt of the class before"):
            write_features(tmp_path / "s.npz", *arguments)
    else:
        assert write_features(tmp_path / "s.npz", *arguments).endswith("make sure that they count from 0")
        assert set(load_npz(tmp_path / "f.npz")) == kept


def test_samples_without_labels_have_no_score_that_needs_them_and_every_other_score(tmp_path):
    labelled, _ = features_of(tmp_path, {"labels": np.arange(90) % 4})
    arrays, line = features_of(tmp_path, {})
    assert line.endswith("foreign.npz has no labels, so there will be no accuracy and no CLIPScore")
    assert set(labelled) - set(arrays) == {"labels", "clip"}
    real = reference(1, OFFICIAL.model_copy(update={"density_neighbours": None, "cmmd": None, "dinov2": None}))
    plain = OFFICIAL.model_copy(update={"density_neighbours": None, "cmmd": None, "dinov2": None})
    for arrays_of in (labelled, arrays):
        for key in ("features", "clip"):
            arrays_of.update({key: arrays_of[key].astype(np.float64)} if key in arrays_of else {})
        arrays_of["features"] = draws(0)["features"]
    both = score(labelled, real, plain, 3), score(arrays, real, plain, 3)
    assert set(both[0]) - set(both[1]) == LABEL_BASED
    assert both[1] == {key: both[0][key] for key in both[1]}


def test_scores_without_labels_say_so_and_the_table_and_the_page_of_the_run_cope(tmp_path):
    arrays = draws(0)
    del arrays["labels"], arrays["clip"]
    save_npz(tmp_path / "features.npz", arrays)
    save_npz(tmp_path / "reference.npz", reference(1, OFFICIAL))
    registry = Registry("smoke", root=ROOT / "config")
    run = parse_run(registry.spec("llamagen_l-ours"), "settings")
    files = ScoreFiles(tmp_path / "features.npz", tmp_path / "reference.npz", tmp_path / "scores.json")
    line = evaluate(run, OFFICIAL, files, {})
    assert line.endswith("the samples have no labels, so there is no accuracy and no CLIPScore")
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["labels"] == "none"
    assert found["n"] == 90
    assert not LABEL_BASED & set(found["scores"])
    frame = build_table(registry, "table4", {"llamagen_l-ours": [found]})
    row = frame[frame["run"] == "llamagen_l-ours"].iloc[0]
    assert row["fid"] == pytest.approx(found["scores"]["fid"], rel=1e-5)
    page = describe_run(registry, registry.spec("llamagen_l-ours"), found)
    assert "The samples have no labels" in page
    assert "CLIPScore ↑" not in page
    assert "FID ↓" in page


@pytest.mark.parametrize("change", [1, -1, 0.5])
def test_features_with_labels_that_are_no_class_ids_are_refused(tmp_path, change):
    save_npz(tmp_path / "features.npz", draws(0) | {"labels": np.arange(90) % 4 + change})
    save_npz(tmp_path / "reference.npz", reference(1, OFFICIAL))
    files = ScoreFiles(tmp_path / "features.npz", tmp_path / "reference.npz", tmp_path / "scores.json")
    with pytest.raises(ArtuneError, match=r"features\.npz: labels: "):
        evaluate(tiny_run(), OFFICIAL, files, {})


def test_features_of_the_rewards_classifier_and_of_the_packages_judge_are_kept(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (90, 4, 4, 3), dtype=np.uint8)
    save_npz(tmp_path / "samples.npz", {"arr_0": images, "labels": np.arange(90) % 4})
    protocol, data = APART.model_copy(update={"batch": 40}), tiny_run().data
    networks = dict.fromkeys(protocol.networks.values(), Network())
    found = sample_features(tmp_path / "samples.npz", protocol, data, networks, "cpu")
    assert np.array_equal(found["reward_probabilities"], found["probabilities"])  # one stand-in plays both
    embedded = Network().embed_images(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert found["efficientnet"].dtype == np.float16
    assert np.array_equal(found["efficientnet"], embedded.half().numpy())
    del networks[protocol.efficientnet]  # as where the package is not installed
    without = sample_features(tmp_path / "samples.npz", protocol, data, networks, "cpu")
    assert set(found) - set(without) == {"efficientnet"}
    assert all(np.array_equal(found[key], without[key]) for key in without)
