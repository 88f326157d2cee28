"""Full-size networks are loaded in place: the memory of one network is enough."""

import json
import subprocess
import sys

import pytest
import torch

from artune.config.run import Network
from artune.models.encoders.build import build_network, load_network
from artune.models.weights.checkpoints import save_module

LARGE = {
    "embed_dim": 256,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 1024, "head_width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 2},
}
MEASURE = """
import sys
import torch
from artune.config.run import Network
from artune.models.encoders.build import build_network, load_network

def line(name):
    with open("/proc/self/status") as status:
        return next(int(text.split()[1]) for text in status if text.startswith(name)) * 1024

network = Network(kind="hpsv2", architecture=sys.argv[1])
build_network(network, None, empty=True)  # imports what a network needs
torch.zeros(3).isfinite().all()
before = line("VmRSS")
with open("/proc/self/clear_refs", "w") as handle:
    handle.write("5")  # the peak counts from here on
module = load_network(sys.argv[2], network, None)
size = sum(tensor.nbytes for tensor in module.state_dict().values())
print((line("VmHWM") - before) / size, size)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A CLIP of 300 MB as a released torch file and as this project's safetensors, and its architecture."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "large.json").write_text(json.dumps(LARGE))
    module = build_network(Network(kind="hpsv2", architecture=str(folder / "large.json")), None)
    torch.save({"epoch": 1, "state_dict": module.state_dict()}, folder / "large.pt")
    save_module(folder / "large.safetensors", module)
    return folder, module


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.parametrize("name", ["large.pt", "large.safetensors"])
def test_loading_a_network_takes_little_more_memory_than_the_network(files, name):
    folder, _ = files
    command = [sys.executable, "-c", MEASURE, str(folder / "large.json"), str(folder / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    times, size = map(float, done.stdout.split())
    assert size > 2.5e8
    assert times < 1.4


@pytest.mark.parametrize("name", ["large.pt", "large.safetensors"])
def test_a_network_loaded_in_place_is_the_saved_one_and_is_not_trained(files, name):
    folder, module = files
    loaded = load_network(folder / name, Network(kind="hpsv2", architecture=str(folder / "large.json")), None)
    expected = module.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.state_dict().items())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert not loaded.training
    images = torch.randint(256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    torch.testing.assert_close(loaded.embed_images(images), module.eval().embed_images(images))


def test_a_file_in_half_precision_keeps_the_networks_own(files, tmp_path):
    folder, module = files
    torch.save({name: tensor.half() for name, tensor in module.state_dict().items()}, tmp_path / "half.pt")
    loaded = load_network(tmp_path / "half.pt", Network(kind="hpsv2", architecture=str(folder / "large.json")), None)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}
