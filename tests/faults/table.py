"""Write docs/reliability.md from the rows of the faults that passed: `python tests/faults/table.py ROWS.json PAGE.md`."""

import json
import sys
from pathlib import Path

HEAD = """# Faults

What was done to a real run, what happened, and what was lost. Written by `make faults` from what its tests saw ({count} faults);
a fault whose test fails is not in here. CI does the quick ones at every change. "Undisturbed" is the same training to which
nothing was done: where bits are compared, they are the bytes of the weights and of metrics.jsonl. A training that is disturbed by hand
is one by likelihood (a second long); under Snakemake and SLURM it is GRPO. All at the smoke scale. What is killed outright does again
the iterations after its last saved state, `save_every` at most; what is asked to stop does nothing again.

"""
SECTIONS = {
    "test_training": "A training is ended or damaged",
    "test_storage": "Disks",
    "test_files": "Files between two stages",
    "test_tracking_faults": "Tracking",
    "test_snakemake": "Snakemake on one machine",
    "test_slurm_faults": "A cluster: a real SLURM on one machine, four pretended A100s a node, the profile that ships",
    "test_fuzz": "Files and settings from others",
    "test_study_fuzz": "The page of the human study",
}


def table(rows: list[dict[str, str]]) -> str:
    """The page."""
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
    source, page = map(Path, sys.argv[1:])
    rows = json.loads(source.read_text())
    page.write_text(table(rows), encoding="utf-8")
    sys.stdout.write(f"{page}: {len(rows)} faults\n")
