"""Scores of image files: equal to the pipeline's, whatever the layout; traps, the cache, a second set, MLflow."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from project import ROOT
from scorer import REGISTRY, N, as_folder, as_npz, as_tar, pixels

from artune.errors import ArtuneError
from artune.evaluation.features import sample_features
from artune.evaluation.scores import score
from artune.metrics.fid import feature_moments
from artune.models.encoders.build import load_network
from artune.runtime.files import load_npz, save_npz
from artune.scoring import cache
from artune.scoring.checks import check_labels, check_resize
from artune.scoring.statistics import Source

JUDGE = REGISTRY.evaluation.features
LABELS = np.arange(N) % 10


@pytest.fixture
def reference(tmp_path):
    return as_npz(tmp_path / "real.npz", pixels(2))


def taken(networks, images, tmp_path):
    """The pipeline's features of some images with their labels."""
    loaded = {
        name: load_network(networks / f"{name}.safetensors", REGISTRY.networks[name], REGISTRY.data)
        for name in set(REGISTRY.evaluation.networks.values())
    }
    protocol = REGISTRY.evaluation.model_copy(update={"samples": len(images)})
    samples = as_npz(tmp_path / "of-pipeline.npz", images, labels=LABELS)
    return protocol, sample_features(samples, protocol, REGISTRY.data, loaded, torch.device("cpu"))


def test_the_numbers_are_the_pipelines(scored, networks, tmp_path):
    protocol, ours = taken(networks, pixels(1), tmp_path)
    _, theirs = taken(networks, pixels(2), tmp_path)
    mu, sigma = (value.numpy() for value in feature_moments(torch.from_numpy(theirs["features"])))
    own = f"heldout/{protocol.reward_features}"
    real = {f"heldout/{JUDGE}/features": theirs["features"], f"heldout/{JUDGE}/mu": mu, f"heldout/{JUDGE}/sigma": sigma}
    save_npz(tmp_path / "reference.npz", real)
    moments = feature_moments(torch.from_numpy(ours.get("reward_features", theirs["features"])))
    expected = score(ours, real | {f"{own}/mu": moments[0].numpy(), f"{own}/sigma": moments[1].numpy()}, protocol, 10)
    samples = as_npz(tmp_path / "a.npz", pixels(1), labels=LABELS)
    by_file = scored(samples, tmp_path / "reference.npz").scores
    assert {"fid", "kid", "precision", "recall", "inception_score", "clip_score", "accuracy"} <= by_file.keys()
    assert {name: value for name, value in by_file.items() if name not in ("density", "coverage")} == {
        name: value for name, value in expected.items() if name in by_file
    }
    by_images = scored(samples, as_npz(tmp_path / "real.npz", pixels(2))).scores
    assert by_images == pytest.approx(by_file, rel=1e-9)


@pytest.mark.parametrize("layout", ["folder", "nested", "tar", "features"])
def test_every_layout_of_the_samples_gives_the_same_scores(scored, networks, reference, tmp_path, layout):
    expected = scored(as_npz(tmp_path / "a.npz", pixels(1)), reference).scores
    if layout == "features":
        arrays = {
            k: v for k, v in taken(networks, pixels(1), tmp_path)[1].items() if k in ("features", "probabilities")
        }
        save_npz(samples := tmp_path / "b.npz", arrays)
    elif layout == "tar":
        samples = as_tar(tmp_path / "b.tar", pixels(1))
    else:
        samples = as_folder(tmp_path / "b", pixels(1), name="{:03d}" if layout == "folder" else "x/{:03d}")
    assert scored(samples, reference).scores == expected


def statistics(networks, tmp_path):
    theirs = taken(networks, pixels(2), tmp_path)[1]["features"]
    return theirs, *(value.numpy() for value in feature_moments(torch.from_numpy(theirs)))


@pytest.mark.parametrize("layout", ["pytorch-fid", "clean-fid", "torch-fidelity", "ours", "adm", "feats"])
def test_every_layout_of_statistics_gives_the_same_fid(scored, networks, reference, tmp_path, layout):
    samples = as_npz(tmp_path / "a.npz", pixels(1))
    expected = scored(samples, reference).scores
    features, mu, sigma = statistics(networks, tmp_path)
    path = tmp_path / f"stats.{'pt' if layout == 'torch-fidelity' else 'npz'}"
    if layout == "clean-fid":
        path = tmp_path / "mine_legacy_tensorflow_custom_na.npz"
    if layout in ("pytorch-fid", "clean-fid"):
        np.savez_compressed(path, mu=mu, sigma=sigma)
    elif layout == "torch-fidelity":
        torch.save({"mu": mu, "sigma": sigma}, path)
    elif layout == "ours":
        save_npz(path, {f"heldout/{JUDGE}/mu": mu, f"heldout/{JUDGE}/sigma": sigma})
    elif layout == "adm":
        as_npz(path, pixels(2), mu=mu, sigma=sigma)
    else:
        save_npz(path, {"feats": features})
    done = scored(samples, path)
    names = ["fid", "fid_se"] + (["kid", "kid_se", "precision", "density"] if layout in ("adm", "feats") else [])
    assert {name: done.scores[name] for name in names} == pytest.approx({name: expected[name] for name in names})
    if layout not in ("adm", "feats"):
        assert "kid" not in done.scores
        assert done.json["missing"]["kid"].startswith("the reference holds moments alone")
    assert ("does not say how its images were resized" in done.out) == (
        layout in ("pytorch-fid", "torch-fidelity", "feats")
    )


def test_a_second_call_reads_no_image_and_a_changed_file_is_scored_anew(scored, reference, tmp_path, monkeypatch):
    samples = as_folder(tmp_path / "a", pixels(1))
    first = scored(samples, reference)
    with monkeypatch.context() as patch:
        for name in ("load_images", "open_image", "image_rows", "npz_rows"):
            patch.setattr(f"artune.scoring.image_sets.{name}", lambda *rest: pytest.fail("an image was read"))
        patch.setattr("artune.scoring.cache.measure", lambda path: pytest.fail("a digest was made"))
        patch.setattr("artune.scoring.score.load_network", lambda *rest: pytest.fail("a network was loaded"))
        assert scored(samples, reference).scores == first.scores
    as_folder(samples, pixels(3)[:1])
    changed = scored(samples, reference)
    assert changed.scores["fid"] != first.scores["fid"]
    assert changed.json["files"]["samples"]["sha256"] != first.json["files"]["samples"]["sha256"]
    assert len(list(tmp_path.glob("a.artune-*.npz"))) == 1  # those of the former images are gone


def test_a_second_call_computes_no_score_and_other_questions_are_answered_anew(
    scored, reference, tmp_path, monkeypatch
):
    samples, other = (as_npz(tmp_path / f"{name}.npz", pixels(seed)) for name, seed in (("a", 1), ("b", 3)))
    first = scored(samples, reference, "--against", other)
    with monkeypatch.context() as patch:
        patch.setattr("artune.scoring.few.score", lambda *rest: pytest.fail("scores were computed"))
        again = scored(samples, reference, "--against", other)
        assert again.out == first.out
        assert {name: again.json[name] for name in ("scores", "missing", "notes", "differences", "files")} == {
            name: first.json[name] for name in ("scores", "missing", "notes", "differences", "files")
        }
    alone = scored(samples, reference)
    assert alone.scores == first.scores
    assert not alone.json["differences"]
    as_npz(other, pixels(4))
    assert scored(samples, reference, "--against", other).json["differences"] != first.json["differences"]
    as_npz(reference, pixels(4))
    assert scored(samples, reference).scores["fid"] != first.scores["fid"]


def test_a_copy_of_known_images_is_not_computed_again(scored, reference, tmp_path, monkeypatch):
    samples = as_npz(tmp_path / "a.npz", pixels(1))
    first = scored(samples, reference)
    os.utime(samples)  # other times, the same bytes
    monkeypatch.setattr("artune.scoring.score.load_network", lambda *rest: pytest.fail("a network was loaded"))
    assert scored(samples, reference).scores == first.scores


def test_other_weights_other_batches_and_captions_have_features_of_their_own(scored, networks, reference, tmp_path):
    samples = as_npz(tmp_path / "a.npz", pixels(1))
    first = scored(samples, reference)
    captions = tmp_path / "captions.txt"
    captions.write_text("".join(f"the digit {('zero', 'one')[at % 2]}\n" for at in range(N)))
    with_captions = scored(samples, reference, "--captions", captions)
    assert "clip_score" not in first.scores
    assert with_captions.json["missing"]["accuracy"] == "no labels (--labels)"
    assert with_captions.scores["clip_score_se"] > 0
    assert with_captions.scores["fid"] == first.scores["fid"]
    scored(samples, reference, "--batch", "7")
    assert len(list(tmp_path.glob("a.npz.artune-*.npz"))) == 3


def test_other_weights_give_scores_of_their_own(scored, networks, reference, tmp_path):
    from safetensors.torch import load_file, save_file

    samples, others = as_npz(tmp_path / "a.npz", pixels(1)), shutil.copytree(networks, tmp_path / "others")
    first = scored(samples, reference)
    weights = load_file(others / f"{JUDGE}.safetensors")
    save_file({k: v * 1.5 if v.is_floating_point() else v for k, v in weights.items()}, others / f"{JUDGE}.safetensors")
    second = scored(samples, reference, networks=others)
    assert second.scores["fid"] != first.scores["fid"]
    assert second.json["networks"][JUDGE]["sha256"] != first.json["networks"][JUDGE]["sha256"]


def test_one_file_as_labels_and_as_captions_are_two_questions(scored, reference, tmp_path):
    samples, lines = as_npz(tmp_path / "a.npz", pixels(1)), tmp_path / "lines.txt"
    lines.write_text("\n".join(map(str, LABELS)))
    assert "accuracy" in scored(samples, reference, "--labels", lines).scores
    assert "prompt '0'" in scored(samples, reference, "--captions", lines, refused=True).last


def test_a_killed_computation_continues(scored, reference, tmp_path, monkeypatch):
    samples = as_folder(tmp_path / "a", pixels(1))
    expected = scored(samples, reference, "--batch", "8", "--cache", tmp_path / "other").scores
    scored(samples, reference, "--batch", "8")  # the reference is known
    forget(tmp_path, "a")
    before, calls = cache.as_rows, []

    def killed(arrays):
        calls.append(1)
        if len(calls) == 4:
            raise ArtuneError("killed")
        return before(arrays)

    monkeypatch.setattr(cache, "as_rows", killed)
    assert "killed" in scored(samples, reference, "--batch", "8", refused=True).last
    assert len(list((tmp_path / "a.artune-part").rglob("chunk-*.npy"))) == 3
    assert scored(samples, reference, "--batch", "8").scores == expected
    assert len(calls) == 4 + 2  # the five batches, the fourth of them twice
    assert not (tmp_path / "a.artune-part").exists()


def test_batches_of_other_images_are_never_continued(scored, reference, tmp_path):
    samples = as_folder(tmp_path / "a", pixels(1))
    expected = scored(samples, reference, "--batch", "8", "--cache", tmp_path / "other").scores
    (samples / "030.png").write_bytes(b"")  # the fourth batch cannot be read
    assert "030.png" in scored(samples, reference, "--batch", "8", refused=True).last
    assert list((tmp_path / "a.artune-part").rglob("chunk-*.npy"))
    as_folder(samples, pixels(1))
    assert scored(samples, reference, "--batch", "8").scores == expected


def test_labels_come_from_the_npz_a_file_or_the_folders(scored, reference, tmp_path):
    expected = scored(as_npz(tmp_path / "a.npz", pixels(1), arr_1=LABELS), reference).scores
    assert "accuracy" in expected
    (tmp_path / "labels.txt").write_text("\n".join(map(str, LABELS)))
    plain = as_npz(tmp_path / "b.npz", pixels(1))
    assert scored(plain, reference, "--labels", tmp_path / "labels.txt").scores == expected
    for at, image in enumerate(pixels(1)):
        as_folder(tmp_path / "c" / str(at % 10), [image], name=f"{at:03d}-{{}}")
    assert scored(tmp_path / "c", reference).scores["accuracy"] == pytest.approx(expected["accuracy"])
    (tmp_path / "labels.txt").write_text("\n".join(map(str, LABELS + 5)))
    assert "has the label 14" in scored(plain, reference, "--labels", tmp_path / "labels.txt", refused=True).last


def test_a_second_set_has_paired_differences(scored, reference, tmp_path):
    first, second = (
        as_npz(tmp_path / f"{name}.npz", pixels(seed), labels=LABELS) for name, seed in (("a", 1), ("b", 3))
    )
    done = scored(first, reference, "--against", second)
    alone = scored(second, reference)
    for name in ("fid", "kid", "inception_score", "precision", "recall", "clip_score", "accuracy"):
        line = done.json["differences"][name]
        assert line["second_value"] == pytest.approx(alone.scores[name])
        assert line["difference"] == pytest.approx(alone.scores[name] - done.scores[name])
        assert line["p_holm"] >= line["p"]
    same = scored(first, reference, "--against", shutil.copy(first, tmp_path / "copy.npz")).json["differences"]["fid"]
    assert (same["difference"], same["se"], same["p"]) == (0.0, 0.0, 1.0)
    with open(tmp_path / "out.csv") as handle:
        rows = {row["score"]: row for row in csv.DictReader(handle)}
    assert rows["fid"]["difference"] == "0"
    assert rows["sfid"]["note"]
    fewer = as_npz(tmp_path / "c.npz", pixels(3)[:-1])
    assert "39 images, but" in scored(first, reference, "--against", fewer, refused=True).last
    other = as_npz(tmp_path / "d.npz", pixels(3), labels=LABELS[::-1])
    assert "no image has a partner" in scored(first, reference, "--against", other, refused=True).last


def test_scores_go_to_a_store_of_mlflow(scored, reference, tmp_path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    samples = as_npz(tmp_path / "a.npz", pixels(1))
    for _ in range(2):
        done = scored(samples, reference, "--mlflow", uri, "--experiment", "theirs")
    assert "logged to the experiment theirs" in done.err
    client = MlflowClient(uri)
    [run] = client.search_runs([client.get_experiment_by_name("theirs").experiment_id])
    assert run.data.metrics["eval/fid"] == pytest.approx(done.scores["fid"])
    assert run.data.tags["protocol"] == done.json["protocol"]
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"out.json", "out.csv"}
    down = scored(samples, reference, "--mlflow", f"sqlite:///{samples}/no-folder/x.db")
    assert "warning: MLflow store" in down.err
    assert down.scores == done.scores


def test_the_table_and_the_last_line_name_the_main_number_and_what_was_written(scored, reference, tmp_path):
    done = scored(as_npz(tmp_path / "a.npz", pixels(1)), reference)
    fid, error = done.scores["fid"], done.scores["fid_se"]
    assert done.last.startswith(f"score: {tmp_path}/out.json, out.csv: FID {fid:.4f} +- {error:.4f} (")
    assert f"{fid:.4f}" in done.out
    assert "CLIPScore ↑: not computed: no labels and no captions" in done.out
    assert done.json["networks"][JUDGE]["sha256"]
    assert done.json["versions"]["torch"]


def forget(folder, name):
    """Remove what is kept of images, but for their digest."""
    for file in folder.glob(f"{name}.artune-*.*"):
        file.unlink()


# --- traps


def test_jpeg_samples_are_refused_against_a_reference_without_loss(scored, reference, tmp_path):
    samples = as_folder(tmp_path / "a", pixels(1), "JPEG")
    assert "holds 40 JPEG" in (line := scored(samples, reference, refused=True).last)
    assert "--accept jpeg" in line
    assert "(accepted)" in scored(samples, reference, "--accept", "jpeg").out
    real = as_tar(tmp_path / "real.tar", pixels(2), "JPEG")
    assert "the reference is 40 JPEG" in scored(as_npz(tmp_path / "b.npz", pixels(1)), real).out
    as_folder(samples, pixels(1)[:1], name="extra")
    assert "of several formats (40 JPEG, 1 PNG)" in scored(samples, real).out


def test_other_sizes_are_refused(scored, reference, tmp_path):
    larger = as_npz(tmp_path / "a.npz", pixels(1, side=32))
    line = scored(larger, reference, refused=True).last
    assert "has 32 x 32 pixels" in line
    assert "--accept size" in line
    mixed = as_folder(tmp_path / "b", pixels(1))
    as_folder(mixed, pixels(1, side=32)[:1], name="last")
    assert "last.png has 32 x 32 pixels, 000.png has 28 x 28" in scored(mixed, reference, refused=True).last


@pytest.mark.parametrize(("scale", "how"), [(1, "x * 255"), (2, "(x + 1) * 127.5")])
def test_float_images_are_refused_with_the_way_to_convert_them(scored, reference, tmp_path, scale, how):
    images = (pixels(1) / 255 * scale - (scale - 1)).astype(np.float32)
    line = scored(as_npz(tmp_path / "a.npz", images), reference, refused=True).last
    assert "holds float32 from" in line
    assert how in line


def test_too_few_samples_for_a_covariance_are_said(scored, reference, tmp_path):
    few = scored(as_npz(tmp_path / "a.npz", pixels(1)), reference)
    width = len(load_npz(next(tmp_path.glob("a.npz.artune-*.npz")))["features"][0])
    assert width >= N
    assert f"40 samples of {width} features" in few.out
    assert few.json["missing"]["fid_bias_corrected"]
    enough = scored(as_npz(tmp_path / "b.npz", pixels(1, n=width + 1)), reference)
    assert "their covariance" not in enough.out


def test_images_sorted_by_class_are_said(scored, reference, tmp_path):
    shuffled = scored(as_npz(tmp_path / "a.npz", pixels(1), labels=LABELS), reference)
    assert "sorted by class" not in shuffled.out
    done = scored(as_npz(tmp_path / "b.npz", pixels(1), labels=np.sort(LABELS)), reference)
    assert "the images are sorted by class; for the Inception Score" in done.out


def test_labels_that_may_be_of_another_data_set_are_said(scored, reference, tmp_path):
    all_of_them = scored(as_npz(tmp_path / "a.npz", pixels(1), labels=LABELS), reference)
    assert "labels: only" not in all_of_them.out
    few = scored(as_npz(tmp_path / "b.npz", pixels(1), labels=LABELS % 4), reference)
    assert "note: labels: only 4 of 10 classes occur (between 0 and 3); Accuracy and CLIPScore take them" in few.out
    assert check_labels(None, 1000, "imagenet") == []
    assert check_labels(np.arange(20) % 1000, 1000, "imagenet") == []  # twenty images have no more classes
    [said] = check_labels(np.arange(50_000) % 10, 1000, "imagenet")  # CIFAR-10's
    assert said.startswith("labels: only 10 of 1,000 classes occur (between 0 and 9)")
    assert "the scale imagenet" in said
    assert "(7)" in check_labels(np.full(50, 7), 1000, "imagenet")[0]


def test_the_pairs_of_kid_are_in_the_json(scored, reference, tmp_path, monkeypatch):
    samples = as_npz(tmp_path / "a.npz", pixels(1))
    whole = scored(samples, reference)
    assert whole.json["kid_pairs"] == "all pairs"
    monkeypatch.setattr("artune.metrics.kid.WHOLE", 20)
    monkeypatch.setattr("artune.metrics.kid.LEAST", 4)
    monkeypatch.setattr("artune.scoring.score.code_digest", lambda: "other code")
    parts = scored(samples, reference)
    assert parts.json["kid_pairs"].startswith("pairs within random blocks: 8 of 5 samples, 8 of 5 reference images")
    assert parts.scores["kid"] != whole.scores["kid"]
    assert parts.scores["kid"] == pytest.approx(whole.scores["kid"], abs=5 * parts.scores["kid_se"])


def test_mlflow_is_asked_for_before_any_image_is_read(scored, tmp_path, monkeypatch):
    monkeypatch.setattr("artune.commands.scoring.find_spec", lambda name: None)
    done = scored(tmp_path / "nothing", tmp_path / "nothing", "--mlflow", refused=True)
    assert done.last == "error: --mlflow needs mlflow: pip install 'artune[workflow]'"


def test_statistics_of_another_resize_are_refused_by_their_name(scored, networks, tmp_path):
    _, mu, sigma = statistics(networks, tmp_path)
    np.savez(stats := tmp_path / "mine_clean_custom_na.npz", mu=mu, sigma=sigma)
    samples = as_npz(tmp_path / "a.npz", pixels(1))
    line = scored(samples, stats, refused=True).last
    assert "clean-fid's bicubic with antialias" in line
    assert "--accept resize" in line
    assert scored(samples, stats, "--accept", "resize").scores["fid"] > 0


def test_features_of_another_program_are_asked_for_their_resize_too(scored, networks, tmp_path):
    features, _, _ = statistics(networks, tmp_path)
    np.savez(stats := tmp_path / "mine_clean_custom_na_kid.npz", feats=features)
    samples = as_npz(tmp_path / "a.npz", pixels(1))
    assert "--accept resize" in scored(samples, stats, refused=True).last
    assert scored(samples, stats, "--accept", "resize").scores["kid"] > 0


def test_samples_of_299_pixels_do_not_switch_the_resize_off():
    source = Source(Path("mine_clean_custom_na.npz"), "moments")
    with pytest.raises(ArtuneError, match="bicubic with antialias"):
        check_resize(source, [])


def test_a_second_set_meets_the_same_traps(scored, networks, reference, tmp_path):
    first = as_npz(tmp_path / "a.npz", pixels(1))
    jpeg = as_folder(tmp_path / "b", pixels(3), "JPEG")
    larger = as_npz(tmp_path / "c.npz", pixels(3, side=32))
    _, mu, sigma = statistics(networks, tmp_path)
    np.savez(stats := tmp_path / "mine_legacy_tensorflow_custom_na.npz", mu=mu, sigma=sigma)
    for one, other in ((first, jpeg), (jpeg, first)):
        line = scored(one, stats, "--against", other, refused=True).last
        assert f"{jpeg} holds 40 JPEG, {first} holds 40 pixels" in line
        assert "--accept jpeg" in line
    line = scored(first, stats, "--against", larger, refused=True).last
    assert f"{first} has 28 x 28 pixels, {larger} has 32 x 32 pixels" in line
    assert "--accept size" in line
    assert f"{jpeg} holds 40 JPEG: compression alone moves every score" in scored(jpeg, stats).out
    real = as_folder(tmp_path / "real", pixels(2), "JPEG")
    done = scored(first, real, "--against", as_npz(tmp_path / "d.npz", pixels(3)))
    assert "and the samples are plain pixels" in done.out
    assert f"and the images of {tmp_path}/d.npz are plain pixels" in done.out


def test_few_images_leave_precision_out_and_fewer_are_refused_before_any_features(
    scored, reference, tmp_path, monkeypatch
):
    few, other = (as_npz(tmp_path / f"{name}.npz", pixels(seed, n=3)) for name, seed in (("a", 1), ("b", 3)))
    done = scored(few, reference, "--against", other)
    assert {"fid", "kid"} <= done.scores.keys()
    assert {"fid", "kid"} <= done.json["differences"].keys()
    assert "precision" not in done.scores
    assert done.json["missing"]["recall"] == "needs more than 3 images in both sets, which have 3 and 40"
    four = as_npz(tmp_path / "e.npz", pixels(1, n=4))
    done = scored(four, reference, "--against", as_npz(tmp_path / "f.npz", pixels(3, n=4)))
    assert "precision" in done.scores
    assert "precision" not in done.json["differences"]
    done = scored(few, as_npz(tmp_path / "real4.npz", pixels(2, n=4)))
    assert done.json["missing"]["coverage"] == "needs more than 5 images in the reference, which has 4"
    one = as_npz(tmp_path / "c.npz", pixels(1, n=1))
    monkeypatch.setattr("artune.scoring.score.load_network", lambda *rest: pytest.fail("a network was loaded"))
    assert f"{one}: 1 images; SAMPLES needs at least 3" in scored(one, reference, refused=True).last
    full = as_npz(tmp_path / "d.npz", pixels(1))
    assert f"{one}: 1 images; --reference needs at least 2" in scored(full, one, refused=True).last
    assert "(--against) needs as many" in scored(full, reference, "--against", other, refused=True).last


def test_images_of_one_name_share_a_cache_without_removing_each_other(scored, reference, tmp_path, monkeypatch):
    samples = []
    for folder, seed in (("x", 1), ("y", 3)):
        (tmp_path / folder).mkdir()
        samples.append(as_npz(tmp_path / folder / "a.npz", pixels(seed)))
    expected = [scored(each, reference, "--cache", tmp_path / "kept").scores for each in samples]
    assert len(list((tmp_path / "kept").glob("a.npz-*.artune-*.npz"))) == 2
    monkeypatch.setattr("artune.scoring.score.load_network", lambda *rest: pytest.fail("a network was loaded"))
    assert [scored(each, reference, "--cache", tmp_path / "kept").scores for each in samples] == expected


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, "mu [0] is empty"),
        ({"mu": np.zeros(2), "sigma": np.array([[1.0, 2.0], [2.0, 1.0]])}, "has the eigenvalue -1 (the largest is 3)"),
        ({"features": np.float32(1)}, "features has the shape []"),
    ],
)
def test_arrays_that_are_no_statistics_are_one_line(scored, tmp_path, arrays, message):
    np.savez(path := tmp_path / "s.npz", **arrays)
    assert message in scored(as_npz(tmp_path / "a.npz", pixels(1)), path, refused=True).last


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"weight": torch.zeros(2)}, "(it holds weight, not mu and sigma)"),
        (torch.zeros(2), "(it holds a Tensor, not mu and sigma)"),
        ({"mu": 1.0, "sigma": np.eye(1)}, "mu or sigma is no array"),
        ({"mu": Path("x"), "sigma": np.eye(1)}, "objects other than NumPy arrays"),
    ],
)
def test_torch_files_that_are_no_statistics_are_one_clear_line(scored, tmp_path, held, message):
    torch.save(held, path := tmp_path / "s.pt")
    assert message in scored(as_npz(tmp_path / "a.npz", pixels(1)), path, refused=True).last


def test_moments_of_another_network_are_refused(scored, tmp_path):
    np.savez(stats := tmp_path / "s.npz", mu=np.zeros(7), sigma=np.eye(7))
    assert (
        "of 7 features, but those of the samples are"
        in scored(as_npz(tmp_path / "a.npz", pixels(1)), stats, refused=True).last
    )


def test_a_missing_network_is_named_with_its_source_size_and_digest(scored, tmp_path, reference):
    samples, nothing = as_npz(tmp_path / "a.npz", pixels(1)), tmp_path / "nothing"
    nothing.mkdir()
    line = scored(samples, reference, networks=nothing, scale="imagenet", refused=True).last
    for part in (
        "weights-inception-2015-12-05-6726825d.pth is missing",
        "github.com/toshas",
        "96 MB",
        "sha256 6726825d0af5",
    ):
        assert part in line
    (nothing / "weights-inception-2015-12-05-6726825d.pth").write_bytes(b"other")
    assert (
        "not the published 6726825d0af5"
        in scored(samples, reference, networks=nothing, scale="imagenet", refused=True).last
    )


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.npz", b"PK\x03\x04 cut off", "truncated or not an npz"),
        ("x.npz", b"<html>", "not an uncompressed tar"),
        ("x.tar", b"\0" * 100, "not an uncompressed tar"),
        ("x.tar.gz", b"\x1f\x8b", "compressed; unpack it"),
        ("x.pt", b"\x80\x02c os\nsystem\n.", "no statistics of torch-fidelity"),
        ("empty", None, "holds no images"),
        ("nowhere", ..., "no such file"),
    ],
)
def test_what_cannot_be_read_is_one_line(scored, tmp_path, name, data, message):
    path = tmp_path / name
    path.mkdir() if data is None else path.write_bytes(data) if data is not ... else None
    done = scored(as_npz(tmp_path / "a.npz", pixels(1)), path, refused=True)
    assert message in done.last
    assert "error:" in done.last


def test_an_image_bomb_and_a_pickle_that_runs_code_are_refused(scored, reference, tmp_path):
    from hostile import png

    bomb = as_folder(tmp_path / "a", pixels(1))
    (bomb / "000.png").write_bytes(png(60_000, 60_000))
    assert "that are read; save it smaller" in scored(bomb, reference, refused=True).last

    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/code-was-run",)

    torch.save({"mu": Bomb(), "sigma": np.eye(3)}, tmp_path / "s.pt")
    samples = as_npz(tmp_path / "b.npz", pixels(1))
    assert "no statistics of torch-fidelity" in scored(samples, tmp_path / "s.pt", refused=True).last
    assert not (tmp_path / "code-was-run").exists()


def test_a_damaged_cache_is_made_again(scored, reference, tmp_path):
    samples = as_npz(tmp_path / "a.npz", pixels(1))
    first = scored(samples, reference)
    for wrong in ("[1]", "{", '{"scores": 1}'):
        for file in tmp_path.glob("a.npz.artune*"):
            file.write_text(wrong)
        assert scored(samples, reference).scores == first.scores


def test_the_page_shows_the_options_that_there_are():
    from artune.scoring.options import OPTIONS, TRAPS

    page = (ROOT / "docs/scoring.md").read_text()
    assert all(f"`{name}" in page for name in (*OPTIONS, *(f"--accept {trap}" for trap in TRAPS)))
