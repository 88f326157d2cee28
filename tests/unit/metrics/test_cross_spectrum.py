"""The two forms of the spectrum that samples and a reference have in common are one."""

import pytest
import torch

from artune.metrics.cross_spectrum import _of_few, _of_many, cross_spectrum
from artune.metrics.fid import feature_moments, frechet_distance, frechet_distance_of, jackknife_fid

D = 24


@pytest.fixture(params=[D + 6, D, 7])
def reference(request):
    """Moments of so many images; of D or fewer their covariance has no Cholesky factor."""
    torch.manual_seed(3)
    return feature_moments(torch.randn(request.param, D, dtype=torch.float64) @ torch.randn(D, D, dtype=torch.float64))


def samples(n):
    torch.manual_seed(n)
    return torch.randn(n, D, dtype=torch.float64) * torch.linspace(0.1, 3, D) + 1


@pytest.mark.parametrize("n", [4, 9, D - 1, D, D + 1, 3 * D])
def test_both_forms_agree(reference, n):
    mu, cov = (moment.double() for moment in reference)
    many, few = _of_many(samples(n), mu, cov, chunk=5), _of_few(samples(n), mu, cov)
    scale = float(cov.trace())
    for name in ("mean", "trace", "trace_sqrt"):
        torch.testing.assert_close(getattr(few, name), getattr(many, name), rtol=1e-7, atol=0)
    assert float(few.lacking) == pytest.approx(float(many.lacking), abs=1e-9 * scale)
    torch.testing.assert_close(few.values, many.values, rtol=1e-6, atol=1e-10 * scale)
    centred = samples(n) - few.mean
    spread = (centred @ few.project).T @ (centred @ few.project) / (n - 1)
    torch.testing.assert_close(spread, few.values.diag(), rtol=1e-6, atol=1e-9 * scale)
    assert [few.halved(split) for split in (0, 1)] == pytest.approx([many.halved(split) for split in (0, 1)], rel=1e-7)


@pytest.mark.parametrize("n", [4, 9, D])
def test_few_samples_leave_out_as_the_literal_jackknife(reference, n):
    found, features = jackknife_fid(samples(n), *reference), samples(n)
    literal = []
    for left_out in range(n):
        rest = torch.cat([features[:left_out], features[left_out + 1 :]])
        literal.append(frechet_distance(rest.mean(dim=0), rest.T.cov(), *reference) - found.value)
    # The root of an eigenvalue at the limit of rounding is 1e-8 of the largest root, here 1e-5.
    torch.testing.assert_close(found.changes, torch.tensor(literal, dtype=torch.float64), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("n", [2, D, D + 1])
def test_the_distance_of_features_is_that_of_their_moments(reference, n):
    features = samples(n).float()
    expected = frechet_distance(*feature_moments(features), *reference)
    assert frechet_distance_of(features, *reference) == pytest.approx(expected, rel=1e-7)


def test_the_smaller_form_is_taken_up_to_one_sample_per_feature(monkeypatch):
    import artune.metrics.cross_spectrum as module

    monkeypatch.setattr(module, "_of_few", lambda *_: "few")
    monkeypatch.setattr(module, "_of_many", lambda *_: "many")
    taken = [cross_spectrum(samples(n), torch.zeros(D), torch.eye(D), 4) for n in (2, D, D + 1)]
    assert taken == ["few", "few", "many"]
