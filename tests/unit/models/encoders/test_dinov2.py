"""DINOv2, the judge behind FD-DINOv2: its preprocessing, its position embeddings, its class token."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torchvision.transforms import Compose, InterpolationMode, Normalize, Resize, ToTensor

from artune.config.run import Data, Network
from artune.data.pixels import IMAGENET_MEAN, IMAGENET_STD
from artune.errors import ArtuneError
from artune.models.encoders.build import build_network, load_network
from artune.models.encoders.dinov2 import DINOv2

IMAGENET = Data(source="imagenet", image_size=256, classes=1000)
TINY = {"side": 28, "patch": 7, "width": 16, "depth": 2, "heads": 2, "grid": 9}


def tiny(folder, **changes):
    """A small DINOv2 whose weights all affect its output, and its settings."""
    path = folder / "dinov2.json"
    path.write_text(json.dumps(TINY | changes))
    network = Network(kind="dinov2", architecture=str(path))
    torch.manual_seed(0)
    module = build_network(network, IMAGENET).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return module, network


def draw(*shape):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.mark.parametrize("shape", [(256, 256), (28, 28), (17, 17)], ids=str)
def test_class_tokens_are_those_of_timm_on_images_resized_by_pil(tmp_path, shape):
    module, _ = tiny(tmp_path, grid=4)  # position embeddings need no resizing
    images = draw(3, 3, *shape)
    transform = Compose(
        [Resize((28, 28), InterpolationMode.BICUBIC), ToTensor(), Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    )
    pixels = torch.stack([transform(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
    seen = []
    hook = module.patch_embed.proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    found = module.embed_images(images)
    hook.remove()
    assert torch.equal(seen[0], pixels)
    with torch.no_grad():
        expected = VisionTransformer.forward_features(module, seen[0])[:, 0]
    torch.testing.assert_close(found, expected)
    assert found.std() > 0.1
    assert found.dtype == torch.float32


def test_positions_are_resized_without_antialias_by_dinov2s_own_ratio(tmp_path):
    """The expected values are a bicubic interpolation (a = -0.75) of one channel in a loop."""
    module, _ = tiny(tmp_path)
    side, grid, channel = 4, 9, 5
    plane = module.pos_embed.detach()[0, 1:, channel].reshape(grid, grid).double().numpy()

    def weight(x, a=-0.75):
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0

    def at(row, column):
        places = [(index + 0.5) * grid / (side + 0.1) - 0.5 for index in (row, column)]
        total = 0.0
        for i in range(math.floor(places[0]) - 1, math.floor(places[0]) + 3):
            for j in range(math.floor(places[1]) - 1, math.floor(places[1]) + 3):
                value = plane[min(max(i, 0), grid - 1), min(max(j, 0), grid - 1)]
                total += weight(places[0] - i) * weight(places[1] - j) * value
        return total

    found = module.positions().detach()
    assert found.shape == (1, 1 + side**2, 16)
    assert torch.equal(found[:, 0], module.pos_embed[:, 0])
    expected = [[at(row, column) for column in range(side)] for row in range(side)]
    np.testing.assert_allclose(found[0, 1:, channel].reshape(side, side), expected, atol=1e-6)


def test_the_released_file_loads_with_its_mask_token(tmp_path):
    module, network = tiny(tmp_path)
    torch.save(module.state_dict() | {"mask_token": torch.zeros(1, 16)}, tmp_path / "dinov2_vitl14_pretrain.pth")
    again = load_network(tmp_path / "dinov2_vitl14_pretrain.pth", network, IMAGENET)
    images = draw(2, 3, 30, 30)
    assert torch.equal(again.embed_images(images), module.embed_images(images))


def test_an_unknown_architecture_is_one_line(tmp_path):
    with pytest.raises(ArtuneError, match="known: vit_large_patch14_dinov2"):
        DINOv2("vit_giant")
    (tmp_path / "a.json").write_text('{"widht": 3}')
    with pytest.raises(ArtuneError, match="must hold a mapping of side, patch, width"):
        DINOv2(str(tmp_path / "a.json"))
