"""Moments of the training images under LOO-FID's own network (open choices 24, 25)."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from imagenet_world import shrink, write_images
from PIL import Image
from project import ROOT

from artune.commands.cli import main
from artune.config.registry import Registry
from artune.config.yaml_layers import read_yaml
from artune.data.crops import centre_crop, load_images
from artune.data.embedded import write_data
from artune.data.imagenet import open_split, spread
from artune.errors import ArtuneError
from artune.inputs.references import write_reference
from artune.inputs.training_moments import write_train_moments
from artune.metrics.fid import RunningMoments, feature_moments
from artune.metrics.precision_recall import neighbour_radii
from artune.models.encoders.build import build_network
from artune.models.weights.checkpoints import save_module
from artune.planning.plan import Plan
from artune.runtime.files import load_npz

CPU = torch.device("cpu")
OWN = "results/imagenet/references/train-inception_torchvision.npz"


class Means(torch.nn.Module):
    """A network with six features per image."""

    def features(self, pixels):
        """Mean colours of the upper and the lower half."""
        halves = pixels.float().unflatten(2, (2, -1))
        return halves.mean(dim=(3, 4)).flatten(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("imagenet") / "train"
    write_images(path, each=4)
    return path


def pixels_of(pictures):
    crops = np.stack([np.asarray(centre_crop(image, 32)) for image, _ in pictures])
    return torch.from_numpy(crops).permute(0, 3, 1, 2)


def test_moments_in_batches_equal_those_of_all_features_at_once():
    features = torch.randn(70, 5, generator=torch.Generator().manual_seed(0)) + 100.0
    moments = RunningMoments()
    for part in features.split([1, 30, 9, 30]):
        moments.add(part)
    mu, sigma = moments.result()
    expected_mu, expected_sigma = feature_moments(features.double())
    torch.testing.assert_close(mu, expected_mu, rtol=1e-12, atol=0)
    torch.testing.assert_close(sigma, expected_sigma, rtol=1e-10, atol=1e-12)


def test_a_single_feature_and_a_broken_one_are_refused():
    moments = RunningMoments()
    moments.add(torch.ones(1, 3))
    with pytest.raises(ArtuneError, match="1 samples; moments need at least 2"):
        moments.result()
    with pytest.raises(ArtuneError, match="NaN"):
        moments.add(torch.full((2, 3), torch.nan))


@pytest.mark.parametrize("batch", [3, 20])
def test_the_moments_of_a_folder_are_those_of_its_centre_crops(folder, tmp_path, batch):
    line = write_train_moments(folder, "means", Means(), tmp_path / "m.npz", CPU, side=32, classes=5, batch=batch)
    assert line.endswith("moments of 20 training images under means")
    found = load_npz(tmp_path / "m.npz")
    pictures = load_images(open_split(folder), lambda image: image)
    mu, sigma = feature_moments(Means().features(pixels_of(pictures)).double())
    assert found.keys() == {"train/means/mu", "train/means/sigma"}
    np.testing.assert_allclose(found["train/means/mu"], mu, rtol=1e-10)
    np.testing.assert_allclose(found["train/means/sigma"], sigma, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("number", [5, 7, 20])
def test_a_bounded_number_of_images_is_spread_over_the_classes(folder, number):
    split = open_split(folder)
    chosen = list(spread(split, number).records())
    assert len(chosen) == number
    counts = np.bincount([record.label for record in chosen], minlength=5)
    assert counts.max() - counts.min() <= 1
    unknown = type(split)(None, split.classes, split.records)  # as for a tar of tars before it is read
    assert [record.name for record in spread(unknown, number).records()] == [record.name for record in chosen]
    assert spread(split, None) is split


def test_more_images_than_there_are_is_an_error(folder):
    with pytest.raises(ArtuneError, match=r"data\.moment_images: 21, but the split has 20"):
        spread(open_split(folder), 21)


def plan(scale, preset, **changes):
    config = read_yaml(ROOT / "config/config.yaml") | {"scale": scale, "preset": preset, **changes}
    return Plan(config, ROOT / "config")


def test_only_a_reward_with_a_network_of_its_own_needs_the_training_images():
    assert plan("imagenet", "paper").train("llamagen_l-ours")["reference"] == "results/imagenet/reference.npz"
    assert "moments" not in plan("imagenet", "paper").reference()
    release = plan("imagenet", "release")
    assert release.train("llamagen_l-ours")["reference"] == release.reference()["moments"] == OWN
    assert any(
        path.endswith("inception_torchvision.safetensors") for path in release.train("llamagen_l-ours")["networks"]
    )


@pytest.mark.parametrize("scale", ["mnist", "smoke"])
def test_scales_with_one_inception_keep_it_under_either_preset(scale):
    paper, release = plan(scale, "paper"), plan(scale, "release")
    assert paper.train("llamagen_l-ours")["reference"] == release.train("llamagen_l-ours")["reference"]
    assert paper.reference() == release.reference()
    assert release.spec("llamagen_l-ours")["rewards"]["loo_fid"]["network"] == "inception"


def test_the_command_takes_the_moments_of_torchvisions_inception(folder, tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shrink(tmp_path)
    sizes = tmp_path / "config/scales/imagenet.yaml"
    sizes.write_text(sizes.read_text().replace("image_size: 32", "image_size: 32\n  moment_images: 3"))
    monkeypatch.chdir(tmp_path)
    registry = Registry("imagenet", "release")
    torch.manual_seed(0)
    network = build_network(registry.networks["inception_torchvision"], registry.data).eval()
    save_module("networks/inception_torchvision.safetensors", network)
    arguments = ["train_moments", "inception_torchvision", "--data", str(folder), "--networks", "networks"]
    assert main([*arguments, "--output", "moments.npz", "--scale", "imagenet", "--device", "cpu"]) == 0
    assert "moments of 3 training images under inception_torchvision" in capsys.readouterr().err
    chosen = [record.name for record in spread(open_split(folder), 3).records()]
    pixels = pixels_of((Image.open(name).convert("RGB"), None) for name in chosen)
    mu, _ = feature_moments(network.features(pixels).double())
    found = load_npz("moments.npz")
    np.testing.assert_allclose(found["train/inception_torchvision/mu"], mu, rtol=1e-4, atol=1e-6)


def test_an_embedded_source_has_its_moments_from_its_own_file(tmp_path, monkeypatch, capsys):
    """They are those that reference.npz would hold, were the network one of the evaluation's."""
    monkeypatch.chdir(tmp_path)
    registry = Registry("smoke", root=ROOT / "config")
    monkeypatch.setenv("ARTUNE_CONFIG", str(ROOT / "config"))
    write_data(registry.data, Path("data.npz"), [])
    torch.manual_seed(0)
    network = build_network(registry.networks["inception_residual"], registry.data).eval()
    save_module("networks/inception_residual.safetensors", network)
    arguments = ["train_moments", "inception_residual", "--data", "data.npz", "--networks", "networks"]
    assert main([*arguments, "--output", "moments.npz", "--scale", "smoke", "--device", "cpu"]) == 0
    assert "moments of 600 training images under inception_residual" in capsys.readouterr().err
    write_reference(Path("data.npz"), {"inception_residual": network}, 100, Path("reference.npz"), CPU)
    found, expected = load_npz("moments.npz"), load_npz("reference.npz")
    assert found.keys() == {"train/inception_residual/mu", "train/inception_residual/sigma"}
    for key, value in found.items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-4, atol=1e-5)
    save_module("networks/inception_residual-n1.safetensors", network)  # as a network of a further set
    arguments[1] = "inception_residual-n1"
    assert main([*arguments, "--output", "further.npz", "--scale", "smoke", "--device", "cpu"]) == 0
    assert load_npz("further.npz").keys() == {"train/inception_residual-n1/mu", "train/inception_residual-n1/sigma"}


def test_an_embedded_source_keeps_the_radii_of_its_held_out_images(tmp_path):
    registry = Registry("smoke", root=ROOT / "config")
    write_data(registry.data, tmp_path / "data.npz", [])
    write_reference(tmp_path / "data.npz", {"judge": Means()}, 100, tmp_path / "reference.npz", CPU, neighbours=4)
    found = load_npz(tmp_path / "reference.npz")
    features = torch.from_numpy(found["heldout/judge/features"])
    assert np.array_equal(found["heldout/judge/radii4"], neighbour_radii(features, 4))
    assert (found["heldout/judge/radii4"] > 0).all()


def test_a_judge_of_an_embedded_source_sees_no_training_images(tmp_path):
    registry = Registry("smoke", root=ROOT / "config")
    write_data(registry.data, tmp_path / "data.npz", [])
    networks = {"inception": Means(), "judge": Means()}
    write_reference(tmp_path / "data.npz", networks, 100, tmp_path / "reference.npz", CPU, {"judge"})
    moments = {"mu", "sigma"}
    expected = {"train/inception": moments, "heldout/inception": moments | {"features"}}
    expected["heldout/judge"] = expected["heldout/inception"]
    names = {f"{place}/{key}" for place, keys in expected.items() for key in keys}
    assert load_npz(tmp_path / "reference.npz").keys() == names
