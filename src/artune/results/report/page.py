"""The command ``report``: one HTML file that needs no other file and no network, and no script to be read."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from artune.config.glossary import COLUMNS
from artune.config.paper import paper_values
from artune.errors import ArtuneError, no_such_file
from artune.results.claims import SIDE_NAMES
from artune.results.report import origins
from artune.results.report.grids import bound
from artune.results.report.part import Part, figure_name
from artune.results.report.rulegraph import HEIGHT, WIDTH
from artune.results.report.verdicts import MARKS, MEASURED_BY, count_verdicts
from artune.results.table_text import name_of, who_measured
from artune.results.verdicts import VERDICTS
from artune.runtime.files import write_text

HERE = Path(__file__).parent
LARGE = 600_000  # bytes of a PNG; a larger one (photographs) is embedded as JPEG
BROAD = 1600  # greatest width of an embedded JPEG in pixels
EXAMPLE = "llamagen_l-kl5: {base: llamagen_l-ours, grpo.beta: 5.0}"  # a line for config/experiments.yaml


@dataclass(frozen=True)
class Question:
    """A question that readers bring, answered by the FID of two runs, the second of them ours, and by claims."""

    text: str
    without: tuple[str, str]  # the run's words and name
    ours: tuple[str, str]
    claims: tuple[str, ...]


class Picture(NamedTuple):
    """A picture inside the page: its address and its size in pixels."""

    address: str
    width: int
    height: int


QUESTIONS = (
    Question(
        "Is ours better than AR-GRPO?",
        ("AR-GRPO", "llamagen_l-argrpo"),
        ("ours", "llamagen_l-ours"),
        ("argrpo-fid",),
    ),
    Question(
        "Does the LOO-FID reward help?",
        ("without it: CLIP + HPS", "llamagen_l-clip_hps"),
        ("with it: ours", "llamagen_l-ours"),
        ("rewards-fid-suffers", "fid-only-improves"),
    ),
    Question(
        "Does the entropy bonus help?",
        ("without it", "llamagen_l-entropy0"),
        ("with it: ours", "llamagen_l-ours"),
        ("entropy-helps",),
    ),
    Question(
        "Can tuning replace guidance?",
        ("pretrained, guided", "llamagen_l-pretrained"),
        ("ours, not guided", "llamagen_l-ours-nocfg"),
        ("nocfg-competitive",),
    ),
)


def write_report(parts: Sequence[Part], output: Path, commits: str = "") -> str:
    """Write one page of one or several scales.

    Args:
        parts: the scales, in any order; those that are comparable with the paper come first.
        output: the HTML file.
        commits: address of the page of a commit without its digest, "" if unknown.

    Raises:
        ArtuneError: a picture is missing.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    parts = sorted(parts, key=lambda part: (bool(part.note), -part.registry.evaluation.samples, part.name))
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"key": _key, "duration": duration, "bound": bound, "file": file_address}
    environment.globals |= {
        "figure_name": figure_name,
        "name_of": name_of,
        "count_verdicts": count_verdicts,
        "picture": picture,
        "score": score,
        "paper_score": paper_score,
        "who_measured": who_measured,
    }
    first = parts[0].registry
    text = environment.get_template("page.html.j2").render(
        parts=parts,
        first=first,
        several=len(parts) > 1,
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        script=(HERE / "page.js").read_text(encoding="utf-8"),
        marks=MARKS,
        verdicts=VERDICTS,
        sides=SIDE_NAMES,
        measured_by=MEASURED_BY,
        questions=QUESTIONS,
        tables=_in_order(first.tables, [part.tables for part in parts]),
        figures=_in_order(first.figures, [part.figures for part in parts]),
        claims=first.claims,
        stages=origins.STAGES,
        commits=commits,
        box=(WIDTH, HEIGHT),
        example=EXAMPLE,
        example_name=EXAMPLE.partition(":")[0],
    )
    write_text(output, text)
    told = [f"{part.name}: {said(part)}" for part in parts]
    return f"{output}: {'; '.join(told)}; {len(text) / 1e6:.1f} MB"


def said(part: Part) -> str:
    """What a part of the page holds, in one phrase."""
    judged = f"{len(part.claims)} of {len(part.registry.claims)} claims"
    counts = (("table", len(part.tables)), ("figure", len(part.figures)))
    told = ", ".join(f"{number} {what}{'' if number == 1 else 's'}" for what, number in counts)
    return f"{told}, {judged}" + (f", not made yet: {len(part.missing)}" if part.missing else "")


def _in_order(known: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that any part has, in the order of the configuration, then those that only another scale knows."""
    there = {key: None for part in found for key in part}
    return [*(key for key in known if key in there), *(key for key in there if key not in known)]


def score(part: Part, run: str, metric: str) -> str:
    """A run's score with its error, as the first table that has it says; "" if none does."""
    for table in part.tables.values():
        line = table.scores.get(run, {})
        if line.get(metric):
            decimals = COLUMNS[metric].decimals
            error = next((line[key] for kind in ("std", "se") if line.get(key := f"{metric}_{kind}")), None)
            value = f"{float(line[metric]):.{decimals}f}"
            return value if error is None else f"{value}\u00a0±\u00a0{float(error):.{decimals}f}"
    return ""


def paper_score(part: Part, run: str, metric: str) -> str:
    """The paper's score of a run; "" if it prints none."""
    value = paper_values(part.registry, run).get(metric)
    return "" if value is None else f"{value:.{COLUMNS[metric].paper_decimals}f}"


def file_address(text: str, kind: str = "plain") -> str:
    """A text as the address of a file to download, inside the page."""
    return f"data:text/{kind};charset=utf-8;base64,{base64.b64encode(text.encode('utf-8')).decode('ascii')}"


def picture(path: Path) -> Picture:
    """A picture as a data URI, with its width and height in pixels.

    Raises:
        ArtuneError: no such file, or no picture.
    """
    from PIL import Image

    try:
        data, kind = path.read_bytes(), "png"
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            if len(data) > LARGE:
                image.thumbnail((BROAD, 4 * BROAD))
                buffer = io.BytesIO()
                image.convert("RGB").save(buffer, "JPEG", quality=88)
                data, kind = buffer.getvalue(), "jpeg"
            width, height = image.size
    except FileNotFoundError as error:
        raise no_such_file(path) from error
    except (OSError, SyntaxError) as error:  # PIL's errors for a file that is no picture, or ends too early
        raise ArtuneError(f"{path}: is no whole picture; delete it and make it again") from error
    return Picture(f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}", width, height)


def duration(seconds: float | None) -> str:
    """``1:02:03`` or ``4:05``; a dash for None."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _key(text: str) -> str:
    """A verdict or a name as a CSS class or an id."""
    return text.replace(" ", "-")
