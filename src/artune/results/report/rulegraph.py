"""A picture of the workflow: Snakemake's own graph of rules, arranged in layers, as an inline SVG."""

import re
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from artune.errors import ArtuneError, no_such_file
from artune.runtime.files import write_text

WIDTH, HEIGHT, GAP, STEP = 132, 24, 14, 52  # width and height of a box, gap between boxes, step between layers
SWEEPS = 8


class Box(NamedTuple):
    """A rule's place: centre x, top y."""

    name: str
    x: float
    y: float


class Layout(NamedTuple):
    """Boxes, and the paths (SVG) of the arrows between them."""

    width: float
    height: float
    boxes: list[Box]
    paths: list[str]


def write_rulegraph(scale: str, preset: str, targets: tuple[str, ...], output: Path) -> str:
    """Ask Snakemake for the graph of the rules behind ``targets`` and write it in Mermaid's language.

    Raises:
        ArtuneError: Snakemake cannot plan the targets.
    """
    config = ["--config", f"scale={scale}", f"preset={preset}", "--"]
    command = [sys.executable, "-m", "snakemake", "--rulegraph", "mermaid-js", *config, *targets]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode or "flowchart" not in done.stdout:
        said = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise ArtuneError(f"snakemake --rulegraph: {said}")
    write_text(output, done.stdout[done.stdout.index("flowchart") :])
    return f"{output}: {len(read_rules(output)[0])} rules"


def read_rules(path: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Rules and edges (needed, needing) of a Mermaid flowchart."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise no_such_file(path) from error
    names = dict(re.findall(r"^\s*(id\d+)\[(\w+)\]", text, re.M))
    edges = {(names[a], names[b]) for a, b in re.findall(r"^\s*(id\d+) --> (id\d+)", text, re.M)}
    return sorted(set(names.values())), sorted(edge for edge in edges if edge[0] != edge[1])


def lay_out(rules: list[str], edges: list[tuple[str, str]]) -> Layout:
    """Place the rules in layers, from the first to the last, each ordered so that few arrows cross.

    An arrow that others imply is left out: data -> train if there is data -> codes -> train.
    """
    import networkx as nx

    graph: Any = nx.DiGraph(edges)
    graph.add_nodes_from(rules)
    graph = nx.transitive_reduction(graph)
    layers = [sorted(layer) for layer in nx.topological_generations(graph)]
    level = {name: at for at, layer in enumerate(layers) for name in layer}
    for name in sorted(rules, key=level.__getitem__, reverse=True):  # moves a rule next to the first that needs it
        after = [level[other] for other in graph.successors(name)]
        level[name] = min(after) - 1 if after else level[name]
    rows: list[list[str]] = [sorted(n for n in rules if level[n] == at) for at in range(len(layers))]
    chains = []
    for start, end in sorted(graph.edges):  # a long arrow takes a place in every layer that it crosses
        chain = [start, *(f"{start}>{end}>{at}" for at in range(level[start] + 1, level[end])), end]
        for at, name in enumerate(chain[1:-1], start=level[start] + 1):
            rows[at].append(name)
        chains.append(chain)
    place = _order(rows, chains)
    widest = max(sum(_width(name) + GAP for name in row) for row in rows)
    points = {name: (x, at * STEP) for at, row in enumerate(rows) for name, x in _spread(row, place, widest)}
    boxes = [Box(name, *points[name]) for name in rules]
    return Layout(widest + GAP, len(rows) * STEP - STEP + HEIGHT + 2, boxes, [_path(chain, points) for chain in chains])


def _order(rows: list[list[str]], chains: list[list[str]]) -> dict[str, float]:
    """Place of every name in its row, in (0, 1): repeatedly the mean of its neighbours' places, above, then below."""
    near: dict[str, list[tuple[str, int]]] = {name: [] for row in rows for name in row}
    for chain in chains:
        for above, below in pairwise(chain):
            near[below].append((above, -1))
            near[above].append((below, 1))
    place = {name: (at + 0.5) / len(row) for row in rows for at, name in enumerate(row)}
    for sweep in range(2 * SWEEPS):
        side = -1 if sweep % 2 == 0 else 1
        for row in rows if side < 0 else rows[::-1]:
            wish = {}
            for name in row:
                places = [place[other] for other, where in near[name] if where == side]
                wish[name] = sum(places) / len(places) if places else place[name]
            row.sort(key=lambda name: (wish[name], name))
            place |= {name: (at + 0.5) / len(row) for at, name in enumerate(row)}
    return place


def _width(name: str) -> float:
    return 8 if ">" in name else WIDTH


def _spread(row: list[str], place: dict[str, float], widest: float) -> list[tuple[str, float]]:
    """Centres (x) of a row's places; the row is centred in the picture."""
    used = sum(_width(name) + GAP for name in row)
    x, found = (widest - used) / 2 + GAP, []
    for name in row:
        found.append((name, x + _width(name) / 2))
        x += _width(name) + GAP
    return found


def _path(chain: list[str], points: Mapping[str, tuple[float, float]]) -> str:
    x, y = points[chain[0]]
    y += HEIGHT
    parts = [f"M{x:.1f},{y:.1f}"]
    for at, name in enumerate(chain[1:], start=1):
        end_x, end_y = points[name]
        end_y += 0 if at == len(chain) - 1 else HEIGHT / 2
        middle = (y + end_y) / 2
        parts.append(f"C{x:.1f},{middle:.1f} {end_x:.1f},{middle:.1f} {end_x:.1f},{end_y:.1f}")
        x, y = end_x, end_y
    return " ".join(parts)
