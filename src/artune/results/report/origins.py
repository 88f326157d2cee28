"""Provenance of the report's numbers: commit, versions, seed, hardware, seconds."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from artune.config.registry import Registry
from artune.runtime.files import read_json

STAGES = ("train", "sample", "evaluate")
OF_A_RUN = ("commit", "uncommitted_changes", "device", "threads", "slurm_job")  # shown per run; the rest once


def run_rows(registry: Registry, results: Path, runs: Sequence[str]) -> list[dict[str, Any]]:
    """One row per run: name, method, seed, commit, device, threads, seconds of its stages, largest memory.

    Seconds are wall-clock times: the training's from its manifest, those of the other stages from Snakemake's benchmark
    files.
    """
    rows = []
    for run in runs:
        folder = results / "runs" / run
        seed = registry.split_seed(run)[1]
        made = read_json(folder / "scores.json")["versions"]
        bench = {stage: benchmark(folder / f"{stage}.benchmark.tsv") for stage in STAGES}
        seconds = {stage: found.get("s") for stage, found in bench.items()}
        manifest = folder / "manifest.json"
        if manifest.exists():
            trained = read_json(manifest)
            seconds["train"] = trained["seconds"]
            made = trained["provenance"]
        row = {"run": run, "method": registry.spec(run)["method"], "seed": seed, "seconds": seconds}
        row |= {"memory": max((found["max_rss"] for found in bench.values() if "max_rss" in found), default=None)}
        rows.append(row | {key: made.get(key) for key in OF_A_RUN})
    return rows


def input_rows(results: Path, scale: str) -> list[tuple[str, float]]:
    """Names and seconds of the jobs whose outputs the runs share: tokenizers, priors, frozen networks.

    They are in ``results``, the folder of a scale and preset, or in the scale's folder beside it.
    """
    found: dict[str, Path] = {}
    for folder in dict.fromkeys((results.parent / scale, results)):
        for pattern in ("pretrained/*/*.benchmark.tsv", "inputs/networks/*.benchmark.tsv"):
            found |= {str(path.relative_to(folder)): path for path in folder.glob(pattern)}
    named = ((name.removesuffix(".benchmark.tsv"), benchmark(path)) for name, path in sorted(found.items()))
    return [(name, found["s"]) for name, found in named if "s" in found]


def versions(results: Path, runs: Sequence[str]) -> dict[str, str]:
    """Versions of the libraries, ``a / b`` where runs differ in one."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for key, value in read_json(results / "runs" / run / "scores.json")["versions"].items():
            if key not in OF_A_RUN:
                found.setdefault(key, {})[str(value)] = None
    return {key: " / ".join(values) for key, values in found.items()}


def benchmark(path: Path) -> dict[str, float]:
    """Seconds (``s``) and largest memory in MiB (``max_rss``) of a job; {} if Snakemake did not measure them."""
    if not path.exists():
        return {}
    lines = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t"))
    found = {}
    for key in ("s", "max_rss"):
        try:
            found[key] = float(lines[-1][key])
        except (IndexError, KeyError, ValueError):  # Snakemake writes "-" or "NA" for a job of under a second
            continue
    return found
