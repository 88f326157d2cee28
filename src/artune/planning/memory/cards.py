"""Which card a backbone's tuning needs, for the commands ``doctor`` and ``plan``. Never imports torch."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from artune.config.registry import Registry
from artune.config.run import GrpoRun, Run
from artune.config.sizes import GB
from artune.planning.memory.standing import Memory, on_card
from artune.planning.slurm import run_tool

CARDS = {40: 39.4 * GB, 80: 79.1 * GB}  # size by name -> bytes that PyTorch sees on an A100 (H100) of this size
SEEN = 0.985  # least share of the memory that nvidia-smi lists which PyTorch sees; the driver keeps the rest
NARROW = 4 * GB  # a tuning with less to spare is named: NCCL, workspaces and gaps between allocations come out of it
PROCESSES = (1, 4)


class Worst(NamedTuple):
    """The tuning of a backbone that leaves the least, and whether all of the backbone's tunings fit."""

    memory: Memory
    fits: bool


def worst(runs: Iterable[GrpoRun], processes: int, total: float) -> dict[str, Worst]:
    """The worst tuning of each backbone on cards of ``total`` bytes, one per process."""
    found: dict[str, Worst] = {}
    for run in runs:
        memory = on_card(run, processes, total)
        other = found.get(run.backbone_name, Worst(memory, True))
        least = min(memory, other.memory, key=lambda one: one.free)
        found[run.backbone_name] = Worst(least, other.fits and memory.slices > 0)
    return found


def needed_card(runs: list[GrpoRun], processes: int) -> tuple[int | None, Memory]:
    """The smallest of :data:`CARDS` on which the tunings of one backbone fit (None: none of them), and the worst."""
    for size, total in CARDS.items():
        (last,) = worst(runs, processes, total).values()
        if last.fits:
            return size, last.memory
    return None, last.memory


def card_lines(runs: Iterable[Run]) -> list[str]:
    """One line per backbone that ``runs`` tune: the card needed by one process, and by each of four."""
    tuned = _by_backbone(runs)
    if not tuned:
        return []
    rows = [
        [
            "tuning needs a card of",
            "on one GPU: slices x sequences per update",
            "on each of four GPUs; left: memory free then",
        ]
    ]
    for name, own in tuned.items():
        rows.append([name, *(_described(*needed_card(own, processes)) for processes in PROCESSES)])
    return [f"{name:30} {one:42} {four}" for name, one, four in rows]


def _by_backbone(runs: Iterable[Run]) -> dict[str, list[GrpoRun]]:
    found: dict[str, list[GrpoRun]] = {}
    for run in runs:
        if isinstance(run, GrpoRun):
            found.setdefault(run.backbone_name, []).append(run)
    return found


def _described(size: int | None, memory: Memory) -> str:
    if size is None:
        return f"a card of more than {max(CARDS)} GB"
    how = ", checkpointed" if memory.checkpointing else ""
    return f"{size} GB: {memory.slices} x {memory.largest}{how}, {memory.left / GB:.1f} GB left"


def check_cards(registry: Registry) -> tuple[bool | None, str]:
    """Whether the scale's tunings fit into this machine's GPUs, and one line that names those that do not.

    The first is None where there is nothing to check, or where some backbones fit and others do not.
    """
    if registry.data.embedded:
        return None, f"the policies of the {registry.scale} scale are small: not counted"
    names = [name for name in registry.run_names if not registry.unavailable(name)]
    runs = [run for run in map(registry.resolve, names) if isinstance(run, GrpoRun) and run.policy is None]
    listed = run_tool("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits") or ""
    cards = [int(line) for line in listed.split("\n") if re.fullmatch(r"\d+", line.strip())]
    if not cards:
        needed = {name: _largest(own) for name, own in _by_backbone(runs).items()}
        each = (f"{size} GB for {', '.join(own)}" for size, own in _grouped(needed).items())
        return None, f"no memory of a GPU can be read here; a tuning needs a card of {'; '.join(each)}"
    found = worst(runs, len(cards), SEEN * min(cards) * 2**20)
    here = f"{len(cards)} x {min(cards) / 1024:.0f} GB"
    fit = [f"{name}{_spare(one.memory)}" for name, one in found.items() if one.fits]
    not_fit = {name: _largest(own) for name, own in _by_backbone(runs).items() if not found[name].fits}
    if not not_fit:
        return True, f"{here}: the updates of {', '.join(fit)} fit"
    needs = "; ".join(f"{', '.join(own)}: a card of {size} GB is needed" for size, own in _grouped(not_fit).items())
    return None if fit else False, f"{here}: {needs}" + (f"; {', '.join(fit)} fit" if fit else "")


def _largest(runs: list[GrpoRun]) -> str:
    """The card that the tunings of a backbone need in one process and in four, as text."""
    sizes = [needed_card(runs, processes)[0] for processes in PROCESSES]
    return f"more than {max(CARDS)}" if None in sizes else str(max(size for size in sizes if size))


def _grouped(needed: dict[str, str]) -> dict[str, list[str]]:
    """Card -> the backbones that need it."""
    return {size: [name for name, own in needed.items() if own == size] for size in dict.fromkeys(needed.values())}


def _spare(memory: Memory) -> str:
    return f" (with {memory.left / GB:.1f} GB to spare)" if memory.left < NARROW else ""
