"""The error of a mean over few seeds, against scipy."""

import numpy as np
import pytest
from scipy import stats

from artune.metrics import student


@pytest.mark.parametrize("seeds", [2, 3, 5, 30])
def test_error_interval_and_p_are_scipys(seeds):
    values = np.random.default_rng(seeds).normal(0.3, size=seeds)
    mean, error = values.mean(), student.standard_error(list(values))
    assert error == pytest.approx(stats.sem(values))
    low, high = stats.t.interval(0.95, seeds - 1, loc=mean, scale=stats.sem(values))
    assert student.half_width(list(values)) == pytest.approx((high - low) / 2)
    assert student.quantile(seeds) == pytest.approx(stats.t.ppf(0.975, seeds - 1))
    assert student.two_sided(mean, error, seeds) == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue)


def test_equal_values_leave_no_doubt():
    assert student.half_width([0.2, 0.2, 0.2]) == 0.0
    assert (student.two_sided(0.0, 0.0, 3), student.two_sided(0.2, 0.0, 3)) == (1.0, 0.0)
