import math

import pytest
import torch
import torch.nn.functional as F

from artune.errors import ArtuneError
from artune.metrics.cmmd import cmmd
from artune.metrics.density_coverage import density_coverage


def draw(seed, n, width, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=generator, dtype=torch.float64) + shift


def unit(seed, n, width, shift=0.0):
    return F.normalize(draw(seed, n, width, shift), dim=1)


def naive_cmmd(x, y):
    def mean_kernel(a, b):
        return sum(math.exp(-((u - v) ** 2).sum().item() / 200) for u in a for v in b) / (len(a) * len(b))

    return 1000 * (mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y))


def test_cmmd_equals_a_double_loop_whatever_the_block():
    x, y = unit(0, 13, 6), unit(1, 9, 6, shift=0.5)
    for block in (4, 100):
        assert cmmd(x, y, block=block).value == pytest.approx(naive_cmmd(x, y), rel=1e-9)


def test_standard_error_of_cmmd_equals_the_jackknife_by_leaving_out():
    x, y = unit(2, 8, 5), unit(3, 10, 5, shift=0.3)
    values = torch.tensor([naive_cmmd(x, torch.cat([y[:i], y[i + 1 :]])) for i in range(10)])
    expected = ((values - values.mean()).square().sum() * 9 / 10).sqrt()
    assert cmmd(x, y).standard_error == pytest.approx(expected.item(), rel=1e-5)


def test_cmmd_of_equal_sets_is_zero_and_grows_with_their_distance():
    x = unit(4, 50, 8)
    assert cmmd(x, x).value == pytest.approx(0.0, abs=1e-9)
    assert cmmd(x, unit(5, 50, 8)).value < cmmd(x, unit(5, 50, 8, shift=0.5)).value < cmmd(x, unit(5, 50, 8, 2)).value


def test_cmmd_in_float32_keeps_small_values():
    x, y = unit(6, 40, 16), unit(7, 40, 16, shift=0.01)
    assert cmmd(x.float(), y.float()).value == pytest.approx(cmmd(x, y).value, rel=1e-4)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (draw(0, 5, 4), unit(0, 5, 4), "reference embeddings are not of unit length"),
        (unit(0, 5, 4), unit(0, 5, 4) * math.nan, "sample embeddings are not of unit length"),
        (unit(0, 5, 4), unit(0, 1, 4), "at least 1 and 2"),
        (unit(0, 5, 4), unit(0, 5, 3), "of shapes"),
    ],
)
def test_cmmd_refuses_what_it_cannot_measure(x, y, message):
    with pytest.raises(ArtuneError, match=message):
        cmmd(x, y)


def naive_density_coverage(real, fake, k):
    radii = [sorted(torch.dist(u, v).item() for v in real)[k] for u in real]
    held = [[torch.dist(u, v).item() < radius for v in fake] for u, radius in zip(real, radii, strict=True)]
    return sum(map(sum, held)) / (k * len(fake)), sum(map(any, held)) / len(real)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_density_and_coverage_equal_a_double_loop_whatever_the_block(k):
    real, fake = draw(8, 25, 4), draw(9, 31, 4, shift=0.3)
    for block in (7, 100):
        got = density_coverage(real, fake, k=k, block=block)
        assert (got.density, got.coverage) == pytest.approx(naive_density_coverage(real, fake, k), rel=1e-12)


def test_density_and_coverage_of_equal_grids_are_one():
    real = torch.tensor([[0.0], [1.0], [3.0], [6.0], [10.0], [15.0]])  # distances are exact and have no ties
    got = density_coverage(real, real, k=2)
    assert (got.density, got.coverage) == (1.0, 1.0)


def test_coverage_sees_a_dropped_mode_and_density_does_not():
    real = torch.cat([draw(10, 50, 3), draw(11, 50, 3, shift=100.0)])
    got = density_coverage(real, draw(12, 100, 3))
    assert got.coverage < 0.55
    assert got.density > 0.7


def test_one_stray_reference_image_hardly_moves_density():
    real, fake = draw(13, 60, 3), draw(14, 60, 3, shift=3.0)
    stray = torch.cat([real, torch.full((1, 3), 30.0, dtype=torch.float64)])
    assert density_coverage(stray, fake).density - density_coverage(real, fake).density <= 0.2 + 1e-9


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (draw(0, 5, 2), draw(0, 9, 2), "more than k reference features"),
        (draw(0, 9, 2), draw(0, 9, 3), "of shapes"),
        (draw(0, 9, 2), draw(0, 9, 2) / 0, "NaN or infinity"),
    ],
)
def test_density_and_coverage_refuse_what_they_cannot_measure(real, fake, message):
    with pytest.raises(ArtuneError, match=message):
        density_coverage(real, fake)
