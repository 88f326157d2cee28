"""The pages for readers, and the commands, paths, symbols and links in them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from project import ROOT

# docs/reliability.md is written by `make faults`, which runs every command in it.
GENERATED = ("docs/reliability.md",)
PAGES = [
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", ROOT / "config/README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if not (path.parent.name.startswith("results-") and path.name != "README.md")  # tables that are results
]
PAGES = [page for page in PAGES if page not in GENERATED]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.S | re.M)
CODE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
PROGRAM = re.compile(
    r"(?:\w+=\S+ )*(?:\.venv/bin/)?(snakemake|artune|python(?:3\.\d+)? -m \w+|make|pip|uv|bash|git|mlflow|srun|scancel|rsync|tail)(?=\s|$)"  # `artune.NAME` is a name of the library
)
# What a command that cannot run in a test says in its comment.
MARKER = re.compile(r"\b(?:needs (?:a|the) (?:GPU|cluster|network)|minutes|hours)\b")
PLACEHOLDER = re.compile(r"\.\.\.|…|\{\w+\}|\b(?:TARGET|FILE|NAME|JOB|PARTITION|RUN|DIR)\b| \| ")


class Command(NamedTuple):
    """A command of a page."""

    page: str
    program: str  # snakemake, artune, make, ...
    words: tuple[str, ...]  # after the program
    remark: str  # its comment
    in_block: bool  # a line of a code block, which a reader copies; otherwise words within a sentence

    @property
    def text(self) -> str:
        """The command without its comment."""
        return " ".join((self.program, *self.words))


def commands(page: str) -> list[Command]:
    """The commands of a page: lines of its code blocks, and code within its sentences."""
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = [
        (line.strip(), True)
        for kind, block in FENCE.findall(text)
        if kind in ("", "bash")
        for line in block.split("\n")
    ]
    lines += [(" ".join(code.split()), False) for code in CODE.findall(FENCE.sub("", text))]
    return [command(page, line, in_block) for line, in_block in lines if PROGRAM.match(line)]


def command(page: str, line: str, in_block: bool) -> Command:
    code, _, remark = line.partition(" #")
    found = PROGRAM.match(code)
    assert found is not None
    program = re.sub(r"python\S* -m ", "", found[1])
    words = (
        tuple(shlex.split(code[found.end() :])) if not PLACEHOLDER.search(code) else tuple(code[found.end() :].split())
    )
    return Command(page, program, words, remark.strip(), in_block)


def every_command() -> list[Command]:
    """The distinct commands of all pages."""
    return list({one.text: one for page in PAGES for one in commands(page)}.values())


def links(page: str) -> list[str]:
    """The targets of a page's links and pictures."""
    text = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    return re.findall(r"\]\(([^)\s]+)\)", text)


def headings(page: Path) -> set[str]:
    """The names by which a link reaches a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}
