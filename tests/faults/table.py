"""Write docs/reliability.md from the rows of the faults that passed: `python tests/faults/table.py ROWS.json ... PAGE.md`."""

import json
import sys
from pathlib import Path

HEAD = """# Faults

Each row names a fault, what was done to a real run to cause it, what happened, and what was lost. `make faults` writes this page from
what its tests saw ({count} faults); a fault whose test fails has no row. CI repeats the quick faults at every change. The undisturbed run is
the same training without the fault; "bit for bit" means that the bytes of the weights and of metrics.jsonl were compared. Under Snakemake
and SLURM a training is a GRPO training; elsewhere it is a training by maximum likelihood, which takes a second. All runs are at the smoke
scale, on a CPU; on a GPU a resumed training is expected to equal the undisturbed one to rounding only, because some of its kernels add in
no fixed order. A state is written while the next iterations run. A training that is killed outright repeats the iterations after its last
saved state: at most `save_every` of them, and those that ran while the next state was being written; a training that is asked to stop
repeats none.

"""
SECTIONS = {
    "test_training": "A training is ended or damaged",
    "test_storage": "Disks",
    "test_assets_faults": "Files from outside: weights, images, references",
    "test_surroundings": "Terminals, logs, outputs, clocks, file systems and paths",
    "test_damaged_files": "Files between two stages",
    "test_tracking_faults": "Tracking",
    "test_snakemake": "Snakemake on one machine",
    "test_settings_faults": "Settings and code that change while jobs run",
    "test_moved": "Results that were moved or copied",
    "test_slurm_faults": "A cluster: a real SLURM on one machine, four simulated A100s per node, the profile slurm_a100 as released",
    "test_environment": "Variables, addresses and packages",
    "test_slurm_waits": "A cluster: what Snakemake waits for",
    "test_fuzz": "Files and settings from others",
    "test_hostile_files": "Images and archives from others, read in bounded time and memory",
    "test_foreign_data": "Samples and data sets from others",
    "test_study_fuzz": "The page of the human study",
    "test_study_server": "The server of the human study",
}


def table(rows: list[dict[str, str]]) -> str:
    """The page's text: a section per test module, a row per fault, in the order of the tests."""
    parts = [HEAD.format(count=len(rows))]
    for section, title in SECTIONS.items():
        own = sorted((row for row in rows if row["section"] == section), key=lambda row: row["place"])
        cells = [
            "| "
            + " | ".join(" ".join(row[key].split()).replace("|", "/") for key in ("fault", "done", "happened", "lost"))
            + " |"
            for row in own
        ]
        parts += [f"## {title}\n\n| fault | what was done | what happened | lost |\n| --- | --- | --- | --- |\n"]
        parts += ["\n".join(cells), "\n\n"]
    return "".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    *sources, page = map(Path, sys.argv[1:])
    found = [row for source in sources if source.exists() for row in json.loads(source.read_text())]
    rows = list(
        {(row["section"], row["fault"], row["done"]): row for row in found}.values()
    )  # the last run of a fault counts
    page.write_text(table(rows), encoding="utf-8")
    sys.stdout.write(f"{page}: {len(rows)} faults\n")
