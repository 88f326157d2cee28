"""The report in a real browser: four screens, filter, sort, zoom, links, paper, and without its script."""

import csv
import re
import shutil
from pathlib import Path

import pytest
from measured import GRAPH, write_scored_table
from playwright.sync_api import expect
from screens import faults_of, four_screens, opened, too_wide

from artune.config.registry import Registry
from artune.results.report.page import write_report
from artune.results.report.part import read_part
from artune.runtime.files import write_text

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A small page with something in every section: made runs at mnist, committed tables of two scales."""
    folder = tmp_path_factory.mktemp("report")
    mnist, fashion = folder / "mnist", folder / "fashion"
    write_scored_table(Registry("mnist"), mnist, "table4", seeds=2)
    for scale, tables in (("mnist", ("table1", "table9")), ("fashion", ("table4",))):
        (folder / scale / "tables").mkdir(parents=True, exist_ok=True)
        for path in (path for key in tables for path in (DOCS / f"results-{scale}").glob(f"{key}.*")):
            shutil.copy(path, folder / scale / "tables")
    (mnist / "figures").mkdir()
    for figure in ("figure2", "figure3"):
        shutil.copy(DOCS / f"results-mnist/{figure}.png", mnist / "figures")
    shutil.copy(DOCS / "results-mnist/costs.csv", mnist)
    write_text(mnist / "rulegraph.mmd", GRAPH)
    parts = [read_part(Registry("mnist"), mnist), read_part(Registry("fashion"), fashion)]
    write_report(parts, folder / "report.html", "https://example.org/us/artune/commit/")
    return folder / "report.html"


@pytest.fixture
def screen(chromium, report):
    with opened(chromium, report.as_uri()) as screen:
        yield screen
        assert screen.troubles == []


def test_four_screens_have_no_fault_and_no_table_is_cut(chromium, report):
    for screen in four_screens(chromium, report.as_uri(), "report"):
        unfolded = "document.querySelectorAll('main details').forEach((one) => { one.open = true; })"
        # The keyboard is the same in both schemes, and everything folded is reached by what unfolds it.
        assert faults_of(screen, keyboard=screen.scheme == "light") == []
        screen.page.evaluate(unfolded)
        assert faults_of(screen, keyboard=False) == []
        cut = """() => [...document.querySelectorAll("main article > .of-scale > .scroll")]
            .filter((box) => box.scrollWidth > box.clientWidth + 1).length"""
        if screen.size == "desktop":
            assert screen.page.evaluate(cut) == 0
            assert (
                screen.page.evaluate(
                    "() => { const nav = document.querySelector('nav'); return nav.scrollWidth - nav.clientWidth; }"
                )
                == 0
            )


def test_on_a_phone_the_names_of_the_rows_stay_while_a_table_scrolls(chromium, report):
    with opened(chromium, report.as_uri(), "phone") as screen:
        box = screen.page.locator("#table4-fashion .scroll").first
        name = box.locator("tbody th").first
        before = name.bounding_box()["x"]
        box.evaluate("(element) => { element.scrollLeft = 150; }")
        assert name.bounding_box()["x"] == before
        assert box.evaluate("(element) => element.scrollLeft") == 150
        contents = screen.page.locator("nav .contents")
        expect(contents).not_to_have_attribute("open", "")
        contents.locator("summary").click()
        contents.get_by_role("link", name="Costs").click()
        expect(contents).not_to_have_attribute("open", "")
        expect(screen.page.locator("#costs h2")).to_be_in_viewport()


def test_claims_are_filtered_by_their_verdict(screen):
    page, shown = screen.page, screen.page.locator(".claim:visible")
    expect(shown).to_have_count(43)
    page.get_by_label("Verdict", exact=True).select_option("mnist, as the paper measures")
    button = page.locator("#filter").get_by_role("button", name=re.compile(r"^holds \d"))
    button.click()
    number = int(button.locator("b").inner_text())
    expect(shown).to_have_count(number)
    assert 0 < number < 43
    expect(page.get_by_role("status")).to_have_text(f"{number} of 43 claims shown")
    expect(button).to_have_attribute("aria-pressed", "true")
    column = page.locator("nav a[data-column='mnist by_judges'][data-verdict='within error']")
    column.click()  # from the contents
    expect(shown).to_have_count(int(column.inner_text()))
    expect(page.get_by_label("Verdict", exact=True)).to_have_value("mnist by_judges")
    hidden = page.locator(".claim:not(:visible):has(.numbers)").first.get_attribute("id")
    page.evaluate("(id) => { location.hash = id; }", hidden)  # as a link to a claim that is filtered away
    expect(page.locator(f"#{hidden} .numbers").first).to_be_attached()
    expect(page.locator(f"#{hidden}")).to_be_visible()
    page.get_by_role("button", name="all 43").click()
    expect(shown).to_have_count(43)


def test_a_heading_sorts_its_table_up_down_and_back(screen):
    table = screen.page.locator("#table1-mnist table").first
    heading = table.get_by_role("columnheader", name="FID ↓")
    cells = table.locator("tbody td:nth-child(2)")

    def values():
        return [float(text.split()[0]) for text in cells.all_inner_texts()]

    before = values()
    heading.get_by_role("button").click()
    expect(heading).to_have_attribute("aria-sort", "ascending")
    assert values() == sorted(before) != before
    heading.get_by_role("button").press("Enter")
    assert values() == sorted(before, reverse=True)
    heading.get_by_role("button").click()
    assert values() == before
    assert heading.get_attribute("aria-sort") is None


def test_a_figure_is_enlarged_and_escape_leads_back(screen):
    page = screen.page
    button = page.locator("#figure3").get_by_role("button")
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    assert dialog.locator("img").bounding_box()["width"] > button.bounding_box()["width"]
    expect(dialog.get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(button).to_be_focused()


def test_one_scale_is_shown_alone_and_an_address_in_the_other_brings_both_back(screen, report):
    page = screen.page
    page.get_by_role("button", name="mnist", exact=True).click()
    expect(page.locator("#table4-fashion")).to_be_hidden()
    expect(page.locator("#table4-mnist")).to_be_visible()
    assert page.locator("[data-scale=fashion]:visible").count() == 0
    page.goto(f"{report.as_uri()}#run-fashion-llamagen_l-ours")
    expect(page.locator("#run-fashion-llamagen_l-ours")).to_be_in_viewport()


def test_a_row_leads_to_its_run_and_its_csv(screen, report, tmp_path):
    page = screen.page
    page.locator("#table4-mnist tbody th a").nth(1).click()
    run = page.locator("#run-mnist-llamagen_l-ours")
    expect(run).to_be_in_viewport()
    expect(run).to_contain_text("snakemake -c2 --config scale=mnist -- results/mnist/runs/llamagen_l-ours/scores.json")
    expect(run.get_by_role("link", name="abcdef012345").first).to_have_attribute(
        "href", "https://example.org/us/artune/commit/abcdef0123456789"
    )
    with page.expect_download() as download:
        run.get_by_role("link", name="CSV").nth(1).click()  # Table 1, Table 4, Table 9
    download.value.save_as(tmp_path / "table.csv")
    assert download.value.suggested_filename == "mnist-table4.csv"
    assert (tmp_path / "table.csv").read_bytes() == (report.parent / "mnist/tables/table4.csv").read_bytes()
    assert next(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))["scale"] == "mnist"
    page.goto(f"{report.as_uri()}#claim-argrpo-fid")
    expect(page.locator("#claim-argrpo-fid .comparisons").first).to_be_visible()


def test_without_its_script_everything_can_be_read(chromium, report):
    asked = []
    with opened(chromium, "about:blank", java_script_enabled=False) as screen:
        page = screen.page
        page.on("request", lambda request: asked.append(request.url.partition(":")[0]))
        page.goto(report.as_uri())
        expect(page.locator(".claim:visible")).to_have_count(43)
        expect(page.locator("figure img")).to_have_count(2)
        assert page.locator("button, select, input").count() == 0  # nothing that would do nothing
        claim = page.locator("#claim-argrpo-fid")
        claim.locator("summary").click()
        expect(claim.locator(".comparisons").first).to_be_visible()
        page.locator("#run-mnist-llamagen_l-ours summary").click()
        expect(page.locator("#run-mnist-llamagen_l-ours pre")).to_contain_text("base: llamagen_l-ours")
        expect(page.locator("nav").get_by_role("link", name="Your own ablation")).to_be_visible()
    assert set(asked) <= {"file", "data"}  # the page needs no network


def test_on_paper_there_are_no_controls_and_nothing_sticks_out(screen):
    page = screen.page
    page.emulate_media(media="print", color_scheme="dark")
    for hidden in ("nav", "#filter", "dialog"):
        expect(page.locator(hidden)).to_be_hidden()
    assert too_wide(page) == []
    ink, paper = page.evaluate(
        "() => [getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (ink, paper) == ("rgb(0, 0, 0)", "rgb(255, 255, 255)")
    assert page.pdf(format="A4").startswith(b"%PDF")
