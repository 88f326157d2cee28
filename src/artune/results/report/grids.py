"""Tables for a page: the Markdown form of a table, cell by cell, with what its rows are sorted by and link to."""

import csv
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artune.config.registry import Registry
from artune.config.tables import Table as Layout
from artune.errors import no_such_file
from artune.results.table_text import name_of

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

NUMBER = re.compile(r"[-+\u2212]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Cell:
    """A cell as HTML, and the number that it begins with as text ("" without one)."""

    html: str
    number: str


@dataclass(frozen=True)
class Row:
    """A row: its cells, the run behind it (None: of none), and whether a block of compared rows begins with it."""

    cells: tuple[Cell, ...]
    run: str | None = None
    first: bool = False


@dataclass(frozen=True)
class Grid:
    """A grid: title ("" for the main one) and headings in HTML, and rows, whose first ``labels`` cells are texts."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    labels: int = 1


@dataclass(frozen=True)
class Table:
    """A table of one scale: caption in HTML, the paper's columns, further grids, and the run and seeds of every row."""

    caption: str
    main: Grid
    further: tuple[Grid, ...]
    seeds: dict[str, int]  # run -> number of seeds behind its row
    scores: dict[str, dict[str, str]]  # run -> its line of the CSV
    file: str  # the CSV as text, "" without one


def read_table(registry: Registry, key: str, folder: Path) -> Table:
    """Read a table from its Markdown and its CSV.

    Args:
        registry: registry of the table's scale.
        key: key of the table.
        folder: folder with ``{key}.md`` and, for links from its rows, ``{key}.csv``; ``{key}.seeds.md`` is added to it.

    Raises:
        ArtuneError: there is no ``{key}.md``.
    """
    layout = registry.tables[key]
    caption, grids = read_grids(folder / f"{key}.md", len(layout.labels))
    if (beside := folder / f"{key}.seeds.md").exists():
        grids += [Grid(f"Seed by seed: {grid.title}", grid.headings, grid.rows) for grid in read_grids(beside, 1)[1]]
    path = folder / f"{key}.csv"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [line for line in csv.DictReader(text.splitlines()) if line.get("run")]
    runs = [row.run for row in layout.rows if row.run and not registry.unavailable(row.run)]
    grids = [_linked(grid, grids[0], layout) for grid in grids]
    return Table(
        caption.removeprefix(f"{name_of(key)}. "),
        grids[0],
        tuple(grids[1:]),
        dict.fromkeys(runs, 1) | {line["run"]: int(line.get("seeds") or 1) for line in lines if line["run"] in runs},
        {line["run"]: line for line in lines},
        text,
    )


def _linked(grid: Grid, main: Grid, layout: Layout) -> Grid:
    """The grid with the run of every row that is one of the main grid's, and its blocks if it has all of these rows.

    A grid with fewer rows, such as that of differences, is matched by the leading cells where they tell the rows apart.
    """
    count = len(layout.labels)
    if len(main.rows) != len(layout.rows) or grid.headings[:count] != main.headings[:count]:
        return grid
    whole, starts = len(grid.rows) == len(main.rows), {span.start for span in layout.spans[1:]}
    runs = {_texts(row, count): line.run for row, line in zip(main.rows, layout.rows, strict=True)}
    runs = runs if len(runs) == len(main.rows) else {}
    rows = [
        Row(row.cells, layout.rows[at].run if whole else runs.get(_texts(row, count)), whole and at in starts)
        for at, row in enumerate(grid.rows)
    ]
    return Grid(grid.title, grid.headings, tuple(rows), count)


def _texts(row: Row, count: int) -> tuple[str, ...]:
    return tuple(found.html for found in row.cells[:count])


def read_grids(path: Path, labels: int) -> tuple[str, list[Grid]]:
    """The first paragraph of a Markdown file without its bold beginning, and every grid with the paragraph before it.

    Raises:
        ArtuneError: no such file.
    """
    from markdown_it import MarkdownIt

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise no_such_file(path) from error
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens, texts, grids = parser.parse(text), [], []
    for at, token in enumerate(tokens):
        if token.type == "paragraph_open":
            texts.append(_inline(parser, tokens[at + 1]))
        elif token.type == "table_open":
            end = next(number for number in range(at, len(tokens)) if tokens[number].type == "table_close")
            title = texts[-1].removesuffix(":") if len(texts) > 1 else ""
            grids.append(_grid(parser, tokens[at:end], title, labels))
    caption = texts[0] if texts else ""
    return caption.partition("</strong>")[2].strip() if caption.startswith("<strong>") else caption, grids


def _grid(parser: "MarkdownIt", tokens: Sequence[Any], title: str, labels: int) -> Grid:
    headings: list[str] = []
    rows: list[list[Cell]] = []
    for at, token in enumerate(tokens):
        if token.type == "th_open":
            headings.append(_inline(parser, tokens[at + 1]))
        elif token.type == "tr_open":
            rows.append([])
        elif token.type == "td_open":
            rows[-1].append(cell(_inline(parser, tokens[at + 1])))
    return Grid(title, tuple(headings), tuple(Row(tuple(row)) for row in rows if row), labels)


def _inline(parser: "MarkdownIt", token: Any) -> str:
    return bound(parser.renderer.render([token], parser.options, {}).strip())


def cell(text: str) -> Cell:
    """A cell with these contents (HTML)."""
    found = NUMBER.match(html.unescape(re.sub(r"<[^>]+>", "", text)).lstrip("~<> "))
    return Cell(text, found[0].replace(",", "").replace("\u2212", "-") if found else "")


def bound(text: str) -> str:
    """Join a number and its error by no-break spaces, so that they stay on one line."""
    return text.replace(" ± ", "\u00a0±\u00a0")
