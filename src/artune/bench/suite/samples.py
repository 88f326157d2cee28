"""Chunks of samples of the evaluation's size with their features, as the command ``sample`` draws them."""

from artune.bench.stages import bench_sample
from artune.bench.suite.parts import Suite


def run(suite: Suite) -> None:
    """Note the seconds of two chunks after a first one, and of all samples by extrapolation."""
    for found in bench_sample(suite.request(repeats=2)):
        suite.note(found)
