"""README.md, config/README.md and docs/: every path, symbol and link exists, every command is one."""

import importlib
import re

import pytest
from pages import FENCE, PAGES, commands, headings, links
from project import ROOT

from artune.errors import no_such_file

FOLDERS = "src|config|workflow|tests|envs|docs|benchmarks|examples"
# Files below results/ that no rule's output names: records, stores, what a training keeps, what people vote.
KEPT = re.compile(
    r"results/(?:\.\w|records|mlflow|[^/]+/study/votes|[^/]+/study/\w+$|[^/]+/(?:runs/[^/]+/|assets/)?(?:training|\.\w|\w+\.log)|[^/]+/runs/[^/]+/?$)"
)


def code_of(page):
    """Every piece of code within the sentences of a page."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", (ROOT / page).read_text(encoding="utf-8")))


def alternatives(path):
    """``scales/{mnist,smoke}.yaml`` -> the two paths."""
    found = re.search(r"\{([^{}]*,[^{}]*)\}", path)
    if found is None:
        return [path]
    return [one for part in found[1].split(",") for one in alternatives(path.replace(found[0], part, 1))]


@pytest.mark.parametrize("page", PAGES)
def test_every_path_in_the_repository_exists(page):
    new = re.findall(r"A new file\s+`([^`]+)`", (ROOT / page).read_text(encoding="utf-8"))  # the reader makes it
    for code in code_of(page):
        path = code.split(":")[0].rstrip("/")
        if re.fullmatch(rf"(?:{FOLDERS})/[\w/.,{{}}*-]+", path) and path not in new:
            for one in alternatives(path):
                assert list(ROOT.glob(re.sub(r"\{\w+\}", "*", one))), f"{page} names {one}, which does not exist"


@pytest.mark.parametrize("page", PAGES)
def test_every_result_that_is_named_is_made_by_a_rule(page):
    for code in code_of(page):
        if not re.fullmatch(r"results/[\w/.,{}*-]+\.\w+", code) or KEPT.match(code):
            continue
        for one in alternatives(code):
            path = one.replace("{scale}-{preset}", "mnist-release").replace("{scale}", "mnist").replace("*", "4")
            path = re.sub(r"\{\w+\}", "some", path).replace("tableN", "table4")
            assert "makes it" in str(no_such_file(path)), f"{page}: no rule makes {one}"


@pytest.mark.parametrize("page", PAGES)
def test_every_symbol_exists(page):
    text = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    for module, names in re.findall(r"`src/artune/([\w/]+)\.py`:\s+((?:`[\w.]+`(?:,\s+)?)+)", text):
        loaded = importlib.import_module(f"artune.{module.replace('/', '.')}")
        for name in re.findall(r"`([\w.]+)`", names):
            value = loaded
            for part in name.split("."):
                fields = getattr(value, "model_fields", {})
                value = fields[part] if part in fields else getattr(value, part)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for link in links(page):
        path, _, heading = link.partition("#")
        if path.startswith(("http://", "https://")):
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        assert not heading or heading in headings(target), f"{page}: {link}: no such heading"


def test_commands_are_found_in_blocks_and_in_sentences():
    found = [one.text for one in commands("docs/human-study.md")]
    assert "artune study tally" in found  # a line of a code block
    assert "artune study tally --flagged include" in found  # within a sentence
    assert all(not one.text.endswith("votes are kept") for one in commands("docs/human-study.md"))  # a comment
