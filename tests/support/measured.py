"""A scale's results folder with made-up numbers, for code that only reads results: claims and the report."""

import json
from pathlib import Path

from artune.config.registry import Registry
from artune.results.claims import write_claims
from artune.results.seed_differences import seed_differences, write_differences
from artune.results.study.table import build_study_table
from artune.results.table_text import write_markdown
from artune.results.tables import build_table, write_csv
from artune.runtime.files import write_text

VERSIONS = {"artune": "0.1.0", "commit": "abcdef0123456789", "uncommitted_changes": False, "torch": "2.14.1",
            "device": "a processor, 2 cores", "threads": 1, "slurm_job": None}  # fmt: skip
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000"
    "907753de0000000c49444154789c63606060000000040001f617385500"
    "00000049454e44ae426082"
)
GRAPH = "flowchart TB\n\tid0[data]\n\tid1[train]\n\tid2[table]\n\tid0 --> id1\n\tid1 --> id2\n\tid0 --> id2\n"


def scores(registry: Registry, run: str, **changes: float) -> dict:
    """Contents of a scores.json: the same numbers for every run, except ``changes``."""
    base, seed = registry.split_seed(run)
    values = {"fid": 2.0, "fid_se": 0.1, "kid": 0.1, "kid_se": 0.01, "inception_score": 8.0, "inception_score_se": 0.1,
              "clip_score": 0.8, "clip_score_se": 0.004, "precision": 0.8, "precision_se": 0.009, "recall": 0.85,
              "accuracy": 0.9, "loo_fid_ms": 3.0, "fid_reward": 2.0, "fid_reward_se": 0.1,
              "clip_score_reward": 0.7, "clip_score_reward_se": 0.004, "kid_reward": 0.1, "kid_reward_se": 0.01,
              "inception_score_reward": 8.0, "inception_score_reward_se": 0.1, "precision_reward": 0.8,
              "precision_reward_se": 0.009, "recall_reward": 0.85, "accuracy_reward": 0.9} | changes  # fmt: skip
    shared = {"n": 2000, "labels": "balanced", "cfg": 1.5, "reference": "heldout", "networks": {"features": "judge"}}
    return shared | {"run": run, "base": base, "scale": registry.scale, "seed": seed, "versions": VERSIONS,
                     "scores": values}  # fmt: skip


def write_run(registry: Registry, results: Path, run: str, **changes: float) -> None:
    """Write a run's scores and, for a tuned run, its curves, seconds and manifest."""
    folder = results / "runs" / run
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.json").write_text(json.dumps(scores(registry, run, **changes)))
    if registry.resolve(registry.split_seed(run)[0]).method not in ("grpo", "mle"):
        return
    wave = [0.01 * (at % 3) for at in range(50)]
    curves = [
        {"iteration": at, "reward/clip": 0.5 + 0.01 * at + wave[at], "reward/hps": 0.2, "fid/ema": 9 - 0.1 * at,
         "policy/entropy": 0.5 + wave[at]}
        for at in range(50)
    ]  # fmt: skip
    seconds = [
        {"iteration": at, "time/generate": 1.0 + wave[at], "time/reward_clip": 0.1, "time/reward_hps": 0.2,
         "time/reward_loo_fid": 0.1, "time/loo_fid": 0.001, "time/iteration": 2.0}
        for at in range(50)
    ]  # fmt: skip
    for name, lines in (("metrics.jsonl", curves), ("timings.jsonl", seconds)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "manifest.json").write_text(json.dumps({"seconds": 65.0, "provenance": VERSIONS}))


def write_votes(registry: Registry, results: Path, tally: dict | None = None) -> None:
    """Write the human study's table, without votes unless a ``tally`` is given."""
    (results / "tables").mkdir(parents=True, exist_ok=True)
    write_csv(build_study_table(registry, "table3", tally), results / "tables/table3.csv")


def write_scored_table(registry: Registry, results: Path, key: str, seeds: int = 1) -> Path:
    """Write one table and the runs behind it, as a call of Snakemake for this table leaves them.

    The FID of a further seed is 0.1 higher, and that of the runs of AR-GRPO 1 higher.
    """
    found: dict[str, list[dict]] = {}
    for run in (row.run for row in registry.tables[key].rows if row.run and not registry.unavailable(row.run)):
        for at, name in enumerate(registry.seed_names(run, seeds)):
            fid = 2.0 + 0.1 * at + ("argrpo" in run)
            write_run(registry, results, name, fid=fid)
            found.setdefault(run, []).append(scores(registry, name, fid=fid))
    (results / "tables").mkdir(parents=True, exist_ok=True)
    frame = build_table(registry, key, found)
    write_markdown(frame, registry, key, results / "tables" / f"{key}.md")
    write_csv(frame, results / "tables" / f"{key}.csv")
    if seeds > 1:
        write_differences(seed_differences(registry, key, found), registry, key, results / "tables" / f"{key}.seeds.md")
    return results


def write_results(registry: Registry, results: Path, seeds: int = 1) -> Path:
    """Write everything that the report of a scale reads."""
    runs = {row.run for table in registry.tables.values() for row in table.rows if row.run}
    names = [name for run in sorted(runs) if not registry.unavailable(run) for name in registry.seed_names(run, seeds)]
    for name in names:
        write_run(registry, results, name)
    write_votes(registry, results)
    for key, table in registry.tables.items():
        if table.kind == "study":
            frame = build_study_table(registry, key, None)
        else:
            wanted = [row.run for row in table.rows if row.run and not registry.unavailable(row.run)]
            found = {run: [scores(registry, name) for name in registry.seed_names(run, seeds)] for run in wanted}
            frame = build_table(registry, key, found)
        write_markdown(frame, registry, key, results / "tables" / f"{key}.md")
        write_csv(frame, results / "tables" / f"{key}.csv")
    for figure in registry.figures:
        (results / "figures").mkdir(exist_ok=True)
        (results / "figures" / f"{figure}.png").write_bytes(PIXEL)
    write_text(results / "costs.csv", "stage,unit,ours,paper,ratio,device,note\ngenerate,s,1.0,43.4,0.023,cpu,mine\n")
    write_text(results / "rulegraph.mmd", GRAPH)
    write_claims(registry, results, seeds, results / "claims.csv")
    return results
