"""The 8-bit resize of CLIP and DINOv2 against PIL itself."""

import numpy as np
import pytest
import torch
from PIL import Image

from artune.data.pixels import resize_8_bit


def by_pil(image, size):
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))


def by_us(image, size):
    images = torch.from_numpy(image.copy()).movedim(-1, 0)[None]
    return resize_8_bit(images, size)[0].movedim(0, -1).numpy()


def random(draw, height, width):
    return draw.integers(0, 256, (height, width, 3), dtype=np.uint8)


def black_and_white(draw, height, width):
    return 255 * draw.integers(0, 2, (height, width, 3), dtype=np.uint8)


def checkerboard(draw, height, width):
    board = 255 * (np.add.outer(np.arange(height), np.arange(width)) % 2)
    return np.repeat(board[..., None], 3, axis=2).astype(np.uint8)


def edge(draw, height, width):
    """Two neighbouring levels: every weight that is a half decides a pixel."""
    low = int(draw.integers(0, 255))
    row = np.where(np.arange(width) < (width + 1) // 2, low, low + 1)
    return np.broadcast_to(row[None, :, None], (height, width, 3)).astype(np.uint8)


def ramp(draw, height, width):
    row = np.linspace(0, 255, width).round()
    return np.broadcast_to(row[None, :, None], (height, width, 3)).astype(np.uint8)


def constant(draw, height, width):
    return np.full((height, width, 3), draw.integers(0, 256), np.uint8)


@pytest.mark.parametrize("kind", [random, black_and_white, checkerboard, edge, ramp, constant])
def test_the_8_bit_resize_equals_pil_bit_for_bit(kind):
    draw = np.random.default_rng(0)
    sizes = [(256, 256, 224, 224), (32, 32, 224, 224), (384, 384, 224, 224), (300, 200, 336, 224), (500, 375, 298, 224)]
    sizes += [tuple(draw.integers(1, 70, 4)) for _ in range(60)]
    sizes += [(2, 900, 30, 7), (900, 2, 7, 30), (1, 1, 5, 9), (700, 3, 699, 2)]
    for height, width, *size in sizes:
        image = kind(draw, height, width)
        size = tuple(map(int, size))
        assert np.array_equal(by_us(image, size), by_pil(image, size)), (height, width, size)


def test_a_tie_is_rounded_up_as_in_pil():
    row = torch.tensor([0.0, 0, 0, 0, 1, 1, 1, 1]).expand(1, 3, 1, 8)
    assert resize_8_bit(row, (1, 7))[0, 0, 0].tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_images_of_a_batch_do_not_depend_on_each_other():
    images = torch.randint(256, (5, 3, 40, 31), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    whole = resize_8_bit(images, (24, 24))
    assert whole.dtype == torch.float32
    assert torch.equal(torch.cat([resize_8_bit(image[None].float(), (24, 24)) for image in images]), whole)
