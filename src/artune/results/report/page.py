"""The command ``report``: one HTML file that needs no other file, no script and no network."""

import base64
import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from artune.config.paper import available_figures, report_tables, runs_of_tables
from artune.config.registry import Registry
from artune.errors import ArtuneError, no_such_file
from artune.results.claims import SIDE_NAMES, SIDES
from artune.results.report import origins
from artune.results.report.rulegraph import HEIGHT, WIDTH, lay_out, read_rules
from artune.results.table_text import who_measured
from artune.results.verdicts import (
    BOTH,
    CONTRARY,
    FURTHER,
    HOLDS,
    JUDGES,
    PARTLY,
    REWARD,
    UNTESTED,
    VERDICTS,
    WITHIN,
)
from artune.runtime.files import read_json, write_text

HERE = Path(__file__).parent
MARKS = {HOLDS: "✓", PARTLY: "◐", WITHIN: "≈", CONTRARY: "✗", UNTESTED: "–"}
LARGE = 600_000  # bytes of a PNG; a larger one (photographs) is embedded as JPEG
BROAD = 1600  # greatest width of an embedded JPEG in pixels


def write_report(registry: Registry, results: Path, seeds: int, output: Path) -> str:
    """Write the report of a scale from the files of its folder.

    Args:
        registry: registry of the scale.
        results: ``results/{scale}`` with claims.json, tables, figures, costs.csv and rulegraph.mmd.
        seeds: number of seeds of every run.
        output: the HTML file.

    Raises:
        ArtuneError: a file is missing or damaged.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    tables, figures = report_tables(registry, results / "tables"), available_figures(registry)
    runs = runs_of_tables(registry, tables, seeds)
    rows = origins.run_rows(registry, results, runs)
    claims = read_json(results / "claims.json")
    for claim in claims:
        claim["sides"] = [claim_side(claim, side) for side in SIDES]
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "key": _key,
        "duration": duration,
        "bound": _bound,
    }
    text = environment.get_template("page.html.j2").render(
        registry=registry,
        seeds=seeds,
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        marks=MARKS,
        claims=claims,
        sides=SIDE_NAMES,
        measured_by={REWARD: "reward's network", JUDGES: "judge", BOTH: "", FURTHER: "further judge, decides nothing"},
        who=who_measured(registry),
        totals={
            side: {name: sum(claim[f"verdict_{side}"] == name for claim in claims) for name in VERDICTS}
            for side in SIDES
        },
        tables={key: table_html(results / "tables" / f"{key}.md") for key in tables},
        figures=[(key, registry.figures[key], picture(results / "figures" / f"{key}.png")) for key in figures],
        costs=cost_table(results / "costs.csv"),
        graph=lay_out(*read_rules(results / "rulegraph.mmd")),
        box=(WIDTH, HEIGHT),
        runs=rows,
        inputs=origins.input_rows(results, registry.scale),
        versions=origins.versions(results, runs),
        commits=list(dict.fromkeys(_commit(row) for row in rows)),
        stages=origins.STAGES,
        command=f"snakemake -c2 --config scale={registry.scale} preset={registry.preset} seeds={seeds} -- report",
    )
    write_text(output, text)
    holds = [f"{len(tables)} tables", f"{len(figures)} figures", f"{len(claims)} claims"]
    return f"{output}: {', '.join(holds)}, {len(text) / 1e6:.1f} MB"


def claim_side(claim: dict[str, Any], side: str) -> dict[str, Any]:
    """Verdict, numbers in words and reason of a claim of claims.json on a side, a key of ``claims.SIDES``."""
    comparisons = [found for found in claim["comparisons"] if found["by"] in SIDES[side]]
    told = {"verdict": claim[f"verdict_{side}"], "reason": claim[f"reason_{side}"]}
    return told | {"name": SIDE_NAMES[side], "counts": count_words(comparisons), "tested": bool(comparisons)}


def table_html(path: Path) -> str:
    """A table's Markdown file as HTML, each grid in a frame that scrolls on a narrow screen."""
    from markdown_it import MarkdownIt

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise no_such_file(path) from error
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    html = html.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
    return re.sub(r"<th>(.*?)</th>", r'<th scope="col">\1</th>', html)


def picture(path: Path) -> str:
    """A picture as a data URI."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise no_such_file(path) from error
    kind = "png"
    if len(data) > LARGE:
        from PIL import Image

        with Image.open(io.BytesIO(data)) as image:
            image.thumbnail((BROAD, 4 * BROAD))
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "JPEG", quality=88)
        data, kind = buffer.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def count_words(comparisons: Sequence[dict[str, Any]]) -> str:
    """Text such as ``9 of 12 hold, 3 within error``; for a single comparison its numbers; "" if none was tested."""
    tested = [comparison for comparison in comparisons if comparison["verdict"] != UNTESTED]
    if len(tested) == 1 == len(comparisons):
        return str(tested[0]["measured"])
    counts = {name: sum(comparison["verdict"] == name for comparison in comparisons) for name in VERDICTS}
    words = {WITHIN: "within error", CONTRARY: "to the contrary", UNTESTED: "not tested"}
    parts = [f"{counts[HOLDS]} of {len(comparisons)} hold"]
    parts += [f"{counts[name]} {text}" for name, text in words.items() if counts[name]]
    return ", ".join(parts) if tested else ""


def duration(seconds: float | None) -> str:
    """``1:02:03`` or ``4:05``; a dash for None."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _key(verdict: str) -> str:
    """A verdict as the name of a CSS class."""
    return verdict.replace(" ", "-")


def _bound(text: str) -> str:
    """Join a number and its error by no-break spaces, so that they stay on one line."""
    return text.replace(" ± ", "\u00a0±\u00a0")


def _commit(row: dict[str, Any]) -> str:
    return str(row["commit"])[:12] + (" + uncommitted changes" if row["uncommitted_changes"] else "")


def cost_table(path: Path) -> dict[str, Any]:
    """The lines of costs.csv; a column with the same value in every line (the device, the note) is shown only once."""
    try:
        names, *lines = csv.reader(path.read_text(encoding="utf-8").splitlines())
    except FileNotFoundError as error:
        raise no_such_file(path) from error
    except ValueError as error:
        raise ArtuneError(f"{path}: is empty; delete it and make it again") from error
    said = [{line[at] for line in lines} - {""} for at in range(len(names))]
    own = [at for at in range(len(names)) if len(said[at]) > 1 or at < 5]  # stage, unit, ours, paper, ratio
    return {
        "columns": [names[at] for at in own],
        "rows": [[line[at] for at in own] for line in lines],
        "shared": {name: next(iter(said[at]), "") for at, name in enumerate(names) if at not in own},
    }
