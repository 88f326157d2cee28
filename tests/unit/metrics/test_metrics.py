import math

import pytest
import torch

from artune.errors import ArtuneError
from artune.metrics.fid import feature_moments, frechet_distance, jackknife_fid
from artune.metrics.inception_score import inception_score, inception_score_left_out
from artune.metrics.jackknife import standard_error
from artune.metrics.kid import Blocks, blocks_of, kid
from artune.metrics.precision_recall import covered, neighbour_radii, precision_recall
from artune.metrics.trace_sqrt import covariance_root, downdate_trace_sqrt, numerical_rank


def draw(seed, n, width, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=generator, dtype=torch.float64) + shift


def trace_sqrt(matrix):
    return torch.linalg.eigvalsh(matrix).clamp_min(0).sqrt().sum()


# --- traces of roots


@pytest.mark.parametrize("spread", [0.0, 2.0, 5.0])  # orders of magnitude between the eigenvalues
def test_downdated_trace_equals_brute_force(spread):
    values = 10 ** torch.linspace(-spread, 0.5, 7, dtype=torch.float64)
    z = draw(0, 20, 7) * values.sqrt()
    z *= (torch.linspace(0, 1, 20, dtype=torch.float64) / (z.square() / values).sum(1)).sqrt()[:, None]
    expected = torch.stack([trace_sqrt(values.diag() - torch.outer(row, row)) for row in z]) - values.sqrt().sum()
    # The last row removes a whole direction, where brute force itself is exact only to sqrt(machine epsilon).
    torch.testing.assert_close(downdate_trace_sqrt(values, z)[:-1], expected[:-1], rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(downdate_trace_sqrt(values, z)[-1], expected[-1], rtol=1e-6, atol=1e-7)


def test_downdated_trace_is_exact_in_one_dimension():
    values = torch.tensor([4.0], dtype=torch.float64)
    z = torch.tensor([[0.0], [1.0], [1.9999], [2.0]], dtype=torch.float64)
    expected = (4 - z[:, 0].square()).clamp_min(0).sqrt() - 2
    torch.testing.assert_close(downdate_trace_sqrt(values, z), expected, rtol=1e-9, atol=1e-9)


def test_root_of_a_covariance_gives_it_back_and_rank_counts_its_directions():
    x = draw(1, 5, 30)
    covariance = torch.cov(x.T)
    root = covariance_root(covariance)
    torch.testing.assert_close(root @ root.T, covariance)
    assert numerical_rank(torch.linalg.eigvalsh(covariance)) == 4
    assert numerical_rank(torch.zeros(3, dtype=torch.float64)) == 0


# --- FID


def test_fid_of_commuting_gaussians_has_its_closed_form():
    mu1, mu2 = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.0, 5.0])
    sd1, sd2 = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([3.0, 0.5, 1.0])
    expected = float((mu1 - mu2).square().sum() + (sd1 - sd2).square().sum())
    assert frechet_distance(mu1, sd1.square().diag(), mu2, sd2.square().diag()) == pytest.approx(expected, rel=1e-12)


def test_fid_is_symmetric_and_zero_for_equal_moments():
    one, two = feature_moments(draw(0, 50, 8)), feature_moments(draw(1, 40, 8, 0.3))
    assert frechet_distance(*one, *two) == pytest.approx(frechet_distance(*two, *one), rel=1e-12)
    assert frechet_distance(*one, *one) == pytest.approx(0, abs=1e-12)


def test_moments_follow_the_official_rule():
    features = draw(2, 100, 5, 7.0).float()
    mean, covariance = feature_moments(features)
    assert torch.equal(mean, torch.from_numpy(features.numpy().mean(0)).double())
    assert mean.dtype == covariance.dtype == torch.float64
    torch.testing.assert_close(covariance, torch.cov(features.double().T))


@pytest.mark.parametrize(("n", "width"), [(40, 6), (7, 12), (3, 2)])
def test_jackknife_equals_brute_force_on_small_n(n, width):
    features, real = draw(3, n, width, 0.2), draw(4, 60, width)
    mu, cov = feature_moments(real)

    def fid(x):
        # Directions that the samples do not span are left out of the root: they would add only rounding errors.
        root = covariance_root(cov)
        values = torch.linalg.eigvalsh(root.T @ torch.cov(x.T) @ root)
        cross = values[values > 1e-12 * values.max()].sqrt().sum()
        return (x.mean(0) - mu).square().sum() + torch.cov(x.T).trace() + cov.trace() - 2 * cross

    without = torch.stack([fid(torch.cat([features[:i], features[i + 1 :]])) for i in range(n)])
    error = ((n - 1) / n * (without - without.mean()).square().sum()).sqrt()
    got = jackknife_fid(features, mu, cov, chunk=16)
    assert got.value == pytest.approx(float(fid(features)), rel=1e-6)
    assert got.standard_error == pytest.approx(float(error), rel=1e-6)
    assert got.bias_corrected == pytest.approx(float(n * fid(features) - (n - 1) * without.mean()), rel=1e-6)


def test_bias_corrected_fid_is_far_closer_to_the_truth_than_the_plain_one():
    mu, cov = torch.zeros(16), torch.eye(16)
    runs = [jackknife_fid(draw(100 + seed, 200, 16), mu, cov) for seed in range(20)]  # the true FID is 0
    plain = sum(run.value for run in runs) / len(runs)
    corrected = sum(run.bias_corrected for run in runs) / len(runs)
    assert plain > 0.3
    assert abs(corrected) < 0.05 * plain


def spectrum(width, power):
    """Variances that fall as a power of their rank, with trace 100; those of Inception's features fall with about 1."""
    values = torch.arange(1, width + 1, dtype=torch.float64) ** -power
    return 100 * values / values.sum()


def corrected_fids(width, n, power, repeats=6):
    """Jackknives of draws whose variances scatter by a tenth around the reference's, and the true FID."""
    theirs = spectrum(width, power)
    scatter = torch.exp(0.1 * torch.randn(width, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    ours = theirs * scatter
    true = float((theirs.sqrt() - ours.sqrt()).square().sum())
    reference = torch.zeros(width), theirs.diag()
    draws = [
        torch.randn(n, width, generator=torch.Generator().manual_seed(2 + r), dtype=torch.float64) * ours.sqrt()
        for r in range(repeats)
    ]
    return [jackknife_fid(x, *reference) for x in draws], true


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("width", "n"), [(64, 64), (64, 128), (128, 128), (128, 640), (256, 300), (256, 1000)])
def test_a_bias_corrected_fid_that_is_off_is_not_shown(width, n, power):
    runs, true = corrected_fids(width, n, power, repeats=3)
    if n <= 2 * width:
        assert abs(sum(run.bias_corrected - true for run in runs) / 3) > 0.7 * runs[0].standard_error
    assert not any(run.correction_holds for run in runs)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("width", "n"), [(8, 100), (64, 640), (64, 2000), (128, 2048), (256, 5000)])
def test_a_bias_corrected_fid_that_is_shown_is_within_its_own_error(width, n, power):
    runs, true = corrected_fids(width, n, power)
    shown = [run for run in runs if run.correction_holds]
    assert len(shown) == len(runs) or n < width**2 / 8
    if shown:
        bias = sum(run.bias_corrected - true for run in shown) / len(shown)
        noise = shown[0].standard_error / len(shown) ** 0.5
        assert abs(bias) < shown[0].standard_error + noise


def test_the_bias_that_is_left_is_estimated():
    """256 features and 2,560 samples: the correction is too low, by about what the halves say."""
    runs, true = corrected_fids(256, 2560, 0.0, repeats=3)
    error = sum(run.bias_corrected - true for run in runs) / 3
    left = sum(run.bias_left for run in runs) / 3
    assert error < 0
    assert 0.4 < left / error < 2.5
    assert not any(run.correction_holds for run in runs)


def sparse_fids(width, n, cut, repeats):
    """Jackknives of features that are 0 in nearly all images, ``relu(z - cut)``, whose true FID is 0."""
    density = math.exp(-(cut**2) / 2) / math.sqrt(2 * math.pi)
    above = math.erfc(cut / math.sqrt(2)) / 2
    mean = density - cut * above
    variance = (1 + cut**2) * above - cut * density - mean**2
    reference = torch.full((width,), mean, dtype=torch.float64), variance * torch.eye(width, dtype=torch.float64)
    draws = (torch.randn(n, width, generator=torch.Generator().manual_seed(r)).double() for r in range(repeats))
    return [jackknife_fid((z - cut).clamp_min(0), *reference) for z in draws]


@pytest.mark.parametrize(
    ("width", "n", "cut", "off"),
    [(8, 80, 2.5, 1.0), (8, 240, 2.5, 0.4), (16, 160, 2.5, 1.0), (64, 640, 2.5, 0.0), (8, 240, 3.0, 1.0)],
)
def test_a_bias_corrected_fid_of_sparse_features_that_is_off_is_not_shown(width, n, cut, off):
    runs = sparse_fids(width, n, cut, repeats=40 if width < 64 else 10)
    errors = sum(run.standard_error for run in runs)
    assert sum(run.bias_corrected for run in runs) > off * errors
    assert not any(run.correction_holds for run in runs)


@pytest.mark.parametrize(
    ("width", "n", "cut", "share"),
    [(8, 80, 0.0, 0.9), (8, 100, 1.0, 0.3), (8, 800, 2.0, 0.7), (8, 2400, 2.5, 0.3), (64, 2000, 1.0, 1.0), (64, 2000, 2.0, 1.0)],
)  # fmt: skip
def test_a_bias_corrected_fid_of_sparse_features_that_is_shown_is_within_its_own_error(width, n, cut, share):
    runs = sparse_fids(width, n, cut, repeats=40 if width < 64 else 8)
    shown = [run for run in runs if run.correction_holds]
    assert len(shown) >= share * len(runs)
    error = sum(run.standard_error for run in shown) / len(shown)
    noise = 1.5 / len(shown) ** 0.5
    assert abs(sum(run.bias_corrected for run in shown) / len(shown)) < (0.5 + noise) * error


@pytest.mark.parametrize("shift", [0.0, 0.05])
@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_2000_samples_of_64_features_always_have_a_bias_corrected_fid(power, shift):
    """The mnist scale."""
    theirs = spectrum(64, power)
    for seed in range(6):
        draws = torch.Generator().manual_seed(seed)
        samples = (torch.randn(2000, 64, generator=draws, dtype=torch.float64) + shift) * theirs.sqrt()
        assert jackknife_fid(samples, torch.zeros(64), theirs.diag()).correction_holds


def test_the_bias_that_is_left_is_measured_only_where_it_is_asked_for():
    found = jackknife_fid(draw(0, 300, 8), torch.zeros(8), torch.eye(8))
    assert "bias_left" not in vars(found)
    assert found.bias_left == found.bias_left
    assert "bias_left" in vars(found)


def test_samples_sorted_by_class_leave_no_more_bias_than_shuffled_ones():
    x = torch.cat([draw(seed, 200, 8, shift=float(seed)) for seed in range(5)])
    cyclic = x.view(5, 200, 8).transpose(0, 1).reshape(1000, 8)
    for samples in (x, cyclic):
        assert jackknife_fid(samples, torch.full((8,), 2.0), 3 * torch.eye(8)).correction_holds


def test_jackknife_standard_error_matches_the_spread_over_repeated_draws():
    mu, cov = torch.zeros(4), torch.eye(4)
    runs = [jackknife_fid(draw(200 + seed, 300, 4, 0.5), mu, cov) for seed in range(200)]
    spread = torch.tensor([run.value for run in runs]).std()
    mean_error = sum(run.standard_error for run in runs) / len(runs)
    assert mean_error == pytest.approx(float(spread), rel=0.2)


def test_fid_refuses_what_it_cannot_compare():
    mu, cov = torch.zeros(3), torch.eye(3)
    with pytest.raises(ArtuneError, match="do not match"):
        frechet_distance(mu, cov, torch.zeros(4), torch.eye(4))
    with pytest.raises(ArtuneError, match="NaN or infinity"):
        frechet_distance(mu, cov, mu, cov * torch.nan)
    with pytest.raises(ArtuneError, match="NaN or infinity"):
        feature_moments(torch.full((5, 3), torch.inf))
    with pytest.raises(ArtuneError, match="n >= 2"):
        feature_moments(torch.zeros(1, 3))
    with pytest.raises(ArtuneError, match="n >= 3"):
        jackknife_fid(torch.zeros(2, 3), mu, cov)


# --- inception score


def test_inception_score_of_certain_and_balanced_classes_is_their_number():
    mean, deviation = inception_score(torch.eye(10).repeat(5, 1))
    assert mean == pytest.approx(10)
    assert deviation == 0


def test_inception_score_counts_a_short_last_chunk_fully():
    probs = torch.softmax(draw(5, 25, 4), dim=1)
    scores = []
    for part in (probs[:10], probs[10:20], probs[20:]):
        scores.append(math.exp(float((part * (part / part.mean(0)).log()).sum(1).mean())))
    mean, deviation = inception_score(probs, 10)
    assert mean == pytest.approx(sum(scores) / 3)
    assert deviation == pytest.approx(float(torch.tensor(scores, dtype=torch.float64).std(correction=0)))


@pytest.mark.parametrize(("n", "split"), [(25, 10), (21, 10), (7, 10)])
def test_inception_scores_without_a_sample_are_those_of_its_chunk_without_it(n, split):
    probs = torch.softmax(draw(5, n, 4), dim=1)
    chunks = probs.split(split)
    for at, without in enumerate(inception_score_left_out(probs, split)):
        own, place = divmod(at, split)
        parts = [torch.cat([c[:place], c[place + 1 :]]) if number == own else c for number, c in enumerate(chunks)]
        scores = [inception_score(part, split)[0] for part in parts if len(part)]
        assert float(without) == pytest.approx(sum(scores) / len(scores), rel=1e-9)


@pytest.mark.parametrize("probs", [torch.zeros(0, 3), torch.zeros(3), torch.full((2, 2), torch.nan), -torch.ones(2, 2)])
def test_inception_score_refuses_bad_probabilities(probs):
    with pytest.raises(ArtuneError, match="inception score"):
        inception_score(probs)


# --- precision and recall


def test_precision_and_recall_equal_a_naive_loop_at_every_block_size():
    reference, samples = draw(6, 60, 3), draw(7, 45, 3, 0.8)

    def share(points, centres, k=3):
        distances = torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist")
        radii = [sorted(row.tolist())[k] for row in distances]
        hits = [any(float((p - c).norm()) <= r for c, r in zip(centres, radii, strict=True)) for p in points]
        return sum(hits) / len(hits)

    precision = share(samples, reference)
    for block in (1, 7, 10_000):
        got = precision_recall(reference, samples, block=block)
        assert got.precision == precision
        assert got.recall == share(reference, samples)
        assert got.precision_standard_error == pytest.approx(math.sqrt(precision * (1 - precision) / 45))
    assert 0.1 < precision < 0.9


def test_ball_holds_its_boundary():
    centres = torch.tensor([[0.0], [1.0], [2.0], [3.0]], dtype=torch.float64)
    radii = neighbour_radii(centres, k=1)
    assert radii.tolist() == [1, 1, 1, 1]
    points, none = torch.tensor([[-1.0], [-1.001], [4.0]], dtype=torch.float64), torch.zeros(3)
    inside, reached = covered(centres, radii, points, none)
    assert inside.tolist() == [True, False, True]
    assert not reached.any()
    assert covered(points, none, centres, radii)[1].tolist() == [True, False, True]


def test_half_precision_that_overflows_is_done_again_in_float32():
    features = 300 * draw(8, 30, 16).float()  # squared distances near 3e6, above half precision's 65504
    half = neighbour_radii(features, 3, precision="adm_half")
    torch.testing.assert_close(half, neighbour_radii(features, 3).float(), rtol=1e-4, atol=0)


def test_precision_recall_refuses_bad_input():
    good = draw(9, 10, 3)
    for reference, samples, arguments, message in (
        (good, good[:3], {}, "k=3 with 10 and 3"),
        (good, good[:, :2], {}, "shapes"),
        (good, good * torch.nan, {}, "NaN"),
        (good, good, {"precision": "double"}, "exact, adm_half"),
    ):
        with pytest.raises(ArtuneError, match=message):
            precision_recall(reference, samples, **arguments)


# --- KID


def naive_kid(reference, samples):
    width = samples.shape[1]

    def mean_of_pairs(x):
        kernel = (x @ x.T / width + 1) ** 3
        return (kernel.sum() - kernel.diagonal().sum()) / (len(x) * (len(x) - 1))

    across = ((samples @ reference.T / width + 1) ** 3).mean()
    return float(mean_of_pairs(samples) + mean_of_pairs(reference) - 2 * across)


def test_kid_and_its_jackknife_equal_brute_force_at_every_block_size(monkeypatch):
    reference, samples = draw(10, 30, 5), draw(11, 20, 5, 0.4)
    without = torch.tensor(
        [naive_kid(reference, torch.cat([samples[:i], samples[i + 1 :]])) for i in range(20)],
        dtype=torch.float64,
    )
    error = float((19 / 20 * (without - without.mean()).square().sum()).sqrt())
    for block, small in ((1, 256), (7, 256), (4096, 256), (7, 3), (4096, 3)):  # the last two with tiles within tiles
        monkeypatch.setattr("artune.metrics.kid.SMALL", small)
        got = kid(reference, samples, block=block)
        assert got.value == pytest.approx(naive_kid(reference, samples), rel=1e-9)
        assert got.standard_error == pytest.approx(error, rel=1e-9)


def test_kid_is_unbiased_for_equal_distributions():
    values = [kid(draw(300 + 2 * seed, 40, 4), draw(301 + 2 * seed, 20, 4)).value for seed in range(200)]
    values = torch.tensor(values, dtype=torch.float64)
    assert abs(float(values.mean())) < 3 * float(values.std()) / math.sqrt(200)
    assert values.min() < 0 < values.max()


@pytest.fixture
def few_pairs(monkeypatch):
    """All pairs up to 40 features, and blocks of 4 or more, instead of 10,000 and 100."""
    monkeypatch.setattr("artune.metrics.kid.WHOLE", 40)
    monkeypatch.setattr("artune.metrics.kid.LEAST", 4)


def test_up_to_ten_thousand_features_all_pairs_are_taken_and_then_no_more(few_pairs):
    assert blocks_of(40, 40) == Blocks(1, 1, 1)
    assert blocks_of(40, 41) == Blocks(3, 1, 3)
    assert blocks_of(80, 160) == Blocks(32, 8, 16)
    assert blocks_of(9, 4000) == Blocks(1000, 1, 2)  # no block has fewer than four
    for m, n in ((40, 41), (160, 80), (2, 90), (160, 160)):
        blocks = blocks_of(m, n)
        assert n**2 / blocks.among <= 40**2
        assert m**2 / blocks.within <= 40**2
        assert n * m / blocks.across <= 40**2
    assert blocks_of(80, 160).described(80, 160) == (
        "pairs within random blocks: 32 of 5 samples, 8 of 10 reference images, 16 of 10 samples and 5 reference images"
    )


def test_kid_in_blocks_and_its_jackknife_equal_brute_force(few_pairs):
    reference, samples = draw(20, 55, 5), draw(21, 90, 5, 0.4)
    found, width = kid(reference, samples), samples.shape[1]
    assert found.blocks == Blocks(11, 4, 7)

    def cut(size, count, seed):
        return torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tensor_split(count)

    def own(x):
        kernel = (x @ x.T / width + 1) ** 3
        return (kernel.sum() - kernel.trace()) / (len(x) * (len(x) - 1))

    def value(left_out=-1):
        among = [own(samples[rows[rows != left_out]]) for rows in cut(90, 11, 0)]
        within = [own(reference[rows]) for rows in cut(55, 4, 1)]
        pairs = zip(cut(90, 7, 0), cut(55, 7, 1), strict=True)
        across = [((samples[i[i != left_out]] @ reference[j].T / width + 1) ** 3).mean() for i, j in pairs]
        return float(sum(among) / 11 + sum(within) / 4 - 2 * sum(across) / 7)

    assert found.value == pytest.approx(value(), rel=1e-9)
    changes = torch.tensor([value(at) - value() for at in range(90)], dtype=torch.float64)
    torch.testing.assert_close(found.changes - found.changes.mean(), changes - changes.mean(), rtol=1e-7, atol=1e-12)
    assert found.standard_error == pytest.approx(float((89 / 90 * (changes - changes.mean()).square().sum()).sqrt()))


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_kid_in_blocks_is_unbiased_and_its_error_holds_even_if_the_files_are_sorted(few_pairs, monkeypatch, shift):
    """Over draws of the samples and of all blocks, beside the mean over all pairs of the same reference."""
    monkeypatch.setattr("artune.metrics.kid.WHOLE", 57)
    reference = draw(30, 160, 4)
    reference = reference[reference[:, 0].argsort()]
    found, whole = [], []
    for seed in range(200):
        monkeypatch.setattr("artune.metrics.kid.SAMPLES", 2 * seed)
        monkeypatch.setattr("artune.metrics.kid.REFERENCE", 2 * seed + 1)
        samples = draw(1000 + seed, 160, 4, shift)
        samples = samples[samples[:, 0].argsort()]
        found.append(kid(reference, samples))
        whole.append(naive_kid(reference, samples))
    assert found[0].blocks == Blocks(16, 16, 16)
    values = torch.tensor([each.value for each in found], dtype=torch.float64)
    apart = values - torch.tensor(whole, dtype=torch.float64)
    assert abs(float(apart.mean())) < 3 * float(apart.std()) / math.sqrt(200)
    ratio = sum(each.standard_error**2 for each in found) / 200 / float(values.var())
    assert 0.75 < ratio < 1.35


def test_the_difference_of_two_sets_in_blocks_is_paired(few_pairs):
    reference, noise = draw(31, 90, 4), 0.05 * draw(32, 120, 4)
    first, second = kid(reference, draw(33, 120, 4, 0.3)), kid(reference, draw(33, 120, 4, 0.3) + noise)
    assert standard_error(second.changes - first.changes) < first.standard_error / 3


def test_kid_refuses_bad_input():
    good = draw(12, 10, 3)
    for reference, samples, message in (
        (good, good[:2], "at least 2 and 3"),
        (good, good[:, :2], "shapes"),
        (good, good * torch.inf, "NaN"),
    ):
        with pytest.raises(ArtuneError, match=message):
            kid(reference, samples)
