"""Seconds of the scores' arithmetic beside torch-fidelity's on the same features, in turns, and the peak of memory.

    python benchmarks/scores.py --samples 20000 --reference 10000 --threads 2
    python benchmarks/scores.py --samples 50000 --metrics fid --alone     # ours alone: its seconds and its memory
    python benchmarks/scores.py --samples 50000 --metrics corrected --alone   # and whether the bias-corrected FID holds

The features are drawn: 2,048 correlated ones, cut off at 0, of a spectrum that falls as Inception's does.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch

from artune.metrics.fid import JackknifeFID, feature_moments, jackknife_fid
from artune.metrics.kid import kid
from artune.metrics.precision_recall import precision_recall
from artune.runtime.progress import say

WIDTH = 2048
METRICS = ("fid", "corrected", "kid", "precision_recall")


def draw(n: int, shift: float, seed: int) -> torch.Tensor:
    """Features float32 [n, 2048]; both sets share one basis."""
    basis = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0)))[0]
    scale = 3 * torch.arange(1, WIDTH + 1, dtype=torch.float32).rsqrt()
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(len(part), WIDTH, generator=generator) for part in torch.arange(n).split(5000)]
    return torch.cat([((part * scale) @ basis + 0.45 + shift).clamp_min_(0) for part in parts])


def fid(samples: torch.Tensor, moments: tuple[torch.Tensor, torch.Tensor], corrected: bool) -> JackknifeFID:
    """FID with its error; with ``corrected`` also whether its bias-corrected value may be shown."""
    found = jackknife_fid(samples, *moments)
    if corrected:
        say(
            f"  bias-corrected {found.bias_corrected:.5f}, shown: {found.correction_holds}, left: {found.bias_left:.5f}"
        )
    return found


def ours(metric: str, samples: torch.Tensor, reference: torch.Tensor) -> Callable[[], object]:
    """The call of this project; the moments of the reference are known, as in torch-fidelity's call."""
    if metric in ("fid", "corrected"):
        moments = feature_moments(reference)
        return lambda: fid(samples, moments, corrected=metric == "corrected")
    return {"kid": lambda: kid(reference, samples), "precision_recall": lambda: precision_recall(reference, samples)}[
        metric
    ]


def theirs(metric: str, samples: torch.Tensor, reference: torch.Tensor) -> Callable[[], object]:
    """The call of torch-fidelity with its defaults (KID: 100 subsets of 1,000)."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    if metric in ("fid", "corrected"):
        known = fid_features_to_statistics(reference)
        return lambda: fid_statistics_to_metric(fid_features_to_statistics(samples), known, False)
    call = {"kid": kid_features_to_metric, "precision_recall": prc_features_to_metric}[metric]
    return lambda: call(samples, reference, verbose=False, save_cpu_ram=True)


def timed(call: Callable[[], object]) -> tuple[float, float, object]:
    """Seconds of wall-clock time and of CPU time, and what the call returns."""
    began, used = time.perf_counter(), time.process_time()
    found = call()
    return time.perf_counter() - began, time.process_time() - used, found


def main() -> None:
    """Print one line per metric: medians of both, their ratio, and the values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--reference", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--metrics", nargs="+", choices=METRICS, default=["fid", "kid", "precision_recall"])
    parser.add_argument("--alone", action="store_true", help="without torch-fidelity")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    samples, reference = draw(given.samples, 0.0, 1), draw(given.reference, 0.02, 2)
    for metric in given.metrics:
        calls = {"ours": ours(metric, samples, reference)}
        if not given.alone:
            calls["torch-fidelity"] = theirs(metric, samples, reference)
        wall: dict[str, list[float]] = {name: [] for name in calls}
        used: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(given.repeats):
            for name, call in calls.items():
                seconds, cpu, found = timed(call)
                wall[name].append(seconds)
                used[name].append(cpu)
                value = {key: found[key] for key in found if "f_score" not in key} if isinstance(found, dict) else found
                shown = (value.value, value.standard_error) if hasattr(value, "value") else value
                say(f"  {metric} {name}: {seconds:.2f} s, {cpu:.2f} CPU s, {shown}")
        medians = {name: statistics.median(values) for name, values in wall.items()}
        line = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in medians.items())
        cpu_medians = ", ".join(f"{name} {statistics.median(values):.2f}" for name, values in used.items())
        ratio = f", {medians['torch-fidelity'] / medians['ours']:.2f} times as fast" if len(medians) > 1 else ""
        sizes = f"{metric} of {given.samples:,} samples and {given.reference:,} real ones"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        say(f"{sizes}, {given.threads} threads: {line}{ratio} (CPU s: {cpu_medians}); peak so far {peak:.2f} GB")


if __name__ == "__main__":
    main()
