"""The command ``artune bench TARGET``: the timings quoted in the documentation."""

import itertools
from collections.abc import Callable
from typing import Any

import torch

from artune.bench.iteration import bench_iteration
from artune.bench.loo_fid import bench_loo_fid
from artune.bench.measure import BenchRow, Request
from artune.bench.rollout import bench_rollout
from artune.bench.stages import bench_rewards, bench_sample, bench_update
from artune.errors import ArtuneError, unknown


def run_benchmark(target: str, request: Request) -> list[BenchRow]:
    """Run the benchmark ``target`` and return one row per case.

    Raises:
        ArtuneError: there is no such benchmark, or the device is not available.
    """
    if target not in TARGETS:
        raise ArtuneError(f"bench: {unknown(target, TARGETS, 'benchmark')}")
    try:
        torch.empty(0, dtype=torch.float64, device=request.device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ArtuneError(f"bench: device {request.device} cannot be used ({reason}); try --device cpu") from error
    return TARGETS[target](request)


def format_table(rows: list[BenchRow]) -> str:
    """Rows as aligned text tables, one table per sequence of rows with the same keys."""
    tables = []
    for keys, part in itertools.groupby(rows, key=_keys):
        lines = [list(map(str, keys)), *([_cell(value) for value in row.values()] for row in part)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        cells = (zip(line, widths, strict=True) for line in lines)
        tables.append("\n".join("  ".join(cell.ljust(width) for cell, width in line).rstrip() for line in cells))
    return "\n\n".join(tables)


def _keys(row: BenchRow) -> tuple[str, ...]:
    return tuple(row)


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _every(request: Request) -> list[BenchRow]:
    """Run all benchmarks one after the other."""
    return [found for name, bench in TARGETS.items() if name != "all" for found in bench(request)]


TARGETS: dict[str, Callable[[Request], list[BenchRow]]] = {
    "rollout": bench_rollout,
    "rewards": bench_rewards,
    "loo-fid": lambda request: bench_loo_fid(request.device.type),
    "update": bench_update,
    "sample": bench_sample,
    "iteration": bench_iteration,
    "all": _every,
}
