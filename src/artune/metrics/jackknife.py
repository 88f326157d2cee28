"""What the n values of a metric without one sample each say about its error."""

from torch import Tensor


def standard_error(left_out: Tensor) -> float:
    """Jackknife standard error ``sqrt((n-1)/n sum_i (v_i - mean)^2)`` of values [n], each without one sample.

    A constant added to all of them changes nothing. Of the difference of two metrics on the same samples it is the
    paired error: give the differences of their values.
    """
    n = len(left_out)
    return float(((left_out - left_out.mean()).square().sum() * (n - 1) / n).sqrt())
