"""Wide features: the results of float64, and as many decisions in float64 as that takes."""

import pytest
import torch

from artune.metrics import distances, fid, kid, precision_recall
from artune.metrics.density_coverage import density_coverage
from artune.metrics.fid import feature_moments, jackknife_fid
from artune.metrics.kid import kid as kernel_distance
from artune.metrics.precision_recall import PrecisionRecall, neighbour_radii
from artune.metrics.precision_recall import precision_recall as both

WIDTH = 600


def draw(seed, n, spread=1.0, width=WIDTH):
    generator = torch.Generator().manual_seed(seed)
    scale = spread * torch.arange(1, width + 1).rsqrt()
    return torch.randn(n, width, generator=generator) * scale + 5.0  # far from the origin, as features behind a ReLU


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(distances, "BLOCK", 37)
    monkeypatch.setattr(distances, "ROWS", 5)


def in_float64(monkeypatch, call):
    with monkeypatch.context() as patch:
        for module in (kid, precision_recall.wide):
            patch.setattr(module, "may_round", lambda features: False)
        return call()


def close_pairs(seed, n):
    """Points of which many are equal and many differ by less than a float32 distance can tell."""
    x = draw(seed, n)
    x[1::3] = x[::3][: len(x[1::3])] + 1e-5 * draw(seed + 1, len(x[1::3]))
    x[2::3] = x[::3][: len(x[2::3])]
    return x


@pytest.mark.parametrize("points", [draw, close_pairs])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_radii_are_those_of_float64(monkeypatch, small_blocks, points, k):
    x = points(0, 120)
    assert distances.may_round(x)
    apart = (x.double()[:, None] - x.double()).square().sum(2)
    torch.testing.assert_close(neighbour_radii(x, k), apart.sort(dim=1).values[:, k], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("points", [draw, close_pairs])
def test_precision_and_recall_are_those_of_float64(monkeypatch, small_blocks, points):
    real, ours = points(0, 110), points(2, 90)
    ours[:20] = real[:20] + 0.3 * points(4, 20)
    assert both(real, ours) == in_float64(monkeypatch, lambda: both(real, ours))


@pytest.mark.parametrize("width", [512, 2048])
def test_repeated_images_lie_in_their_own_balls(monkeypatch, width):
    """Of four equal images the third neighbour is at distance 0, and so is the equal image of the other set."""
    once, others = draw(0, 60, width=width), draw(1, 200, 3.0, width=width)
    ours, real = once.repeat(4, 1), torch.cat([once, others])
    found = both(real, ours)
    assert found.recall == pytest.approx(60 / 260)
    assert found == in_float64(monkeypatch, lambda: both(real, ours))
    swapped = both(ours, real)
    assert swapped.precision == pytest.approx(60 / 260)


@pytest.mark.parametrize("width", [3, 512, 2048])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_a_repeated_image_left_out_is_decided_as_all_of_them_together(width, scale):
    """Equal images, images at equal distances, and balls that end at a point: no two roundings may meet."""
    once, others = scale * draw(0, 12, width=width), scale * draw(1, 20, 3.0, width=width)
    ours, real = torch.cat([once.repeat(4, 1), others[:6]]), torch.cat([once, others, once[:3]])
    found = precision_recall.precision_recall_left_out(real, ours, 3)
    known = precision_recall.precision_recall_left_out(real, ours, 3, radii=neighbour_radii(real, 3))
    assert torch.equal(found.precisions, known.precisions)
    assert torch.equal(found.recalls, known.recalls)
    assert both(real, ours) == PrecisionRecall(found.precision, found.recall, both(real, ours).precision_standard_error)
    for i in range(len(ours)):
        literal = both(real, torch.cat([ours[:i], ours[i + 1 :]]), 3)
        assert (float(found.precisions[i]), float(found.recalls[i])) == pytest.approx(
            (literal.precision, literal.recall), abs=1e-12
        )


@pytest.mark.parametrize("width", [3, 512])
def test_density_and_coverage_of_repeated_images_are_those_of_differences(width):
    once, others = draw(0, 15, width=width), draw(1, 25, 3.0, width=width)
    real, ours = torch.cat([once.repeat(3, 1), others]), torch.cat([once, others, once[:5]])
    apart = (real.double()[:, None] - ours.double()).square().sum(2)
    radii = (real.double()[:, None] - real.double()).square().sum(2).sort(dim=1).values[:, 5]
    held = (apart < radii[:, None]).double().sum(dim=1)
    found = density_coverage(real, ours, k=5)
    assert found.density == pytest.approx(float(held.sum() / (5 * len(ours))), abs=1e-12)
    assert found.coverage == pytest.approx(float((held > 0).double().mean()), abs=1e-12)


def test_thousands_of_equal_images_take_no_time(monkeypatch):
    """Their pairs all lie on the boundary, and each different pair is computed once."""
    computed = []
    plain = distances._apart
    monkeypatch.setattr(distances, "_apart", lambda u, v: computed.append(len(u)) or plain(u, v))
    ours = torch.cat([draw(0, 2, width=512).repeat(500, 1), draw(1, 30, width=512)])
    assert density_coverage(ours, ours).coverage == pytest.approx(30 / 1030)
    assert precision_recall.precision_recall_left_out(ours, ours, 3).recalls.min() > 0.99
    assert sum(computed) < 50_000


def test_equal_points_share_a_fingerprint_and_no_others():
    x = torch.cat([draw(0, 200), draw(0, 200)])
    x[200:, 0] *= torch.tensor([1.0, -1.0, 2.0, 1 + 2**-20]).repeat(50)
    x[:, 1] = torch.tensor([0.0, -0.0]).repeat(200)
    found = distances._fingerprints(x)
    assert torch.equal(found[:200:4], found[200::4])
    assert len(found.unique()) == 200 + 150


def test_many_equal_images_have_radius_0(monkeypatch, small_blocks):
    """More equal images than candidates are kept, so that all distances are looked at again."""
    x = torch.cat([draw(0, 3).repeat(30, 1), draw(1, 10)])
    radii = neighbour_radii(x, 3)
    assert (radii[:90] == 0).all()
    assert (radii[90:] > 0).all()


def test_without_the_second_look_they_would_not_be(monkeypatch, small_blocks):
    """Balls whose boundaries run through points, within the rounding of float32."""
    real = draw(0, 60)
    ours = real + 0.1 * (draw(1, 60) - 5.0)  # sample i is near the centre of ball i alone
    apart = (real.double()[:, None] - ours.double()).square().sum(2)
    margin = torch.where(torch.arange(60) < 30, 1e-8, -1e-8).double()  # just inside, just outside
    reach = apart.diagonal() * (1 + margin)
    expected = torch.arange(60) < 30, torch.zeros(60, dtype=torch.bool)
    found = distances.covered(real, reach, ours, torch.zeros(60, dtype=torch.float64))
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    monkeypatch.setattr(distances, "tolerance", lambda width, norms, others: torch.zeros(len(norms)))
    careless = distances.covered(real, reach, ours, torch.zeros(60, dtype=torch.float64))
    assert not torch.equal(careless[0], expected[0])


def test_distances_stay_far_within_their_tolerance():
    x, y = draw(0, 300, width=2048), draw(1, 200, width=2048)
    centre = x.double().mean(dim=0)
    near, other = distances.centred(x, centre), distances.centred(y, centre)
    norms, own = distances.squared_norms(near), distances.squared_norms(other)
    rounded = (norms[:, None] - 2 * near @ other.T + own).double()
    exact = (x.double()[:, None] - y.double()).square().sum(2)
    assert ((rounded - exact).abs().amax(dim=1) < distances.tolerance(2048, norms, own) / 4).all()


@pytest.mark.parametrize("block", [50, 2048])
def test_kid_keeps_far_more_digits_than_its_error_has(monkeypatch, small_blocks, block):
    real, ours = draw(0, 150) - 4.5, draw(1, 130, 1.1) - 4.5
    found = kernel_distance(real, ours, block)
    exact = in_float64(monkeypatch, lambda: kernel_distance(real, ours, block))
    assert found.value == pytest.approx(exact.value, abs=1e-4 * exact.standard_error)
    assert found.standard_error == pytest.approx(exact.standard_error, rel=1e-6)


@pytest.mark.parametrize("n", [1300, 400])  # more and fewer samples than features
@pytest.mark.parametrize("known", [1500, 500])  # a reference with a Cholesky factor, and one without
def test_the_jackknife_of_fid_keeps_seven_digits(monkeypatch, n, known):
    real, ours = draw(0, known), draw(1, n, 1.1)
    mu, sigma = feature_moments(real)
    found = jackknife_fid(ours, mu, sigma, chunk=300)
    with monkeypatch.context() as patch:
        patch.setattr(fid, "may_round", lambda features: False)
        exact = jackknife_fid(ours, mu, sigma, chunk=300)
        halved = exact.halved(0)
    assert found.value == pytest.approx(exact.value, rel=1e-7)
    assert found.standard_error == pytest.approx(exact.standard_error, rel=1e-6)
    assert found.bias_corrected == pytest.approx(exact.bias_corrected, rel=1e-6)
    assert found.share == pytest.approx(exact.share, rel=1e-6)
    assert found.halved(0) == pytest.approx(halved, rel=1e-7)


def test_features_that_require_grad_give_the_same_numbers():
    real, ours = draw(0, 40), draw(1, 50)
    mu, sigma = feature_moments(real)
    leaf, known = ours.clone().requires_grad_(), real.clone().requires_grad_()
    assert jackknife_fid(leaf, mu, sigma).value == jackknife_fid(ours, mu, sigma).value
    assert both(known, leaf) == both(real, ours)
    assert kernel_distance(known, leaf).value == kernel_distance(real, ours).value
    assert torch.equal(neighbour_radii(leaf, 3), neighbour_radii(ours, 3))
    with_grad, without = (precision_recall.precision_recall_left_out(*x) for x in ((known, leaf), (real, ours)))
    assert torch.equal(with_grad.precisions, without.precisions)
    assert torch.equal(with_grad.recalls, without.recalls)


def test_narrow_features_and_loose_products_stay_in_float64():
    assert not distances.may_round(draw(0, 9, width=511))
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert not distances.may_round(draw(0, 9))
    finally:
        torch.set_float32_matmul_precision(before)
