"""The report: one complete and well-formed file, with the same bytes for the same inputs."""

import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from measured import GRAPH, write_results, write_run

from artune.config.paper import available_figures
from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.results.claims import judge_claims, write_claims
from artune.results.report.origins import benchmark, run_rows
from artune.results.report.page import LARGE, count_words, duration, picture, write_report
from artune.results.report.rulegraph import WIDTH, lay_out, read_rules
from artune.results.verdicts import HOLDS, UNTESTED, WITHIN
from artune.runtime.files import write_text

MNIST = Registry("mnist")
VOID = {"meta", "img", "br", "hr", "link", "input", "path", "rect"}


class Page(HTMLParser):
    """A parser that keeps ids, addresses and tags, and fails if tags are not closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.addresses += [value for name, value in attrs if name in ("href", "src", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return write_results(MNIST, tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def html(results):
    write_report(MNIST, results, 1, results / "report.html")
    return (results / "report.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_ids_are_given_once(html):
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert len(page.ids) == len(set(page.ids))
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)


def test_the_page_needs_no_other_file_no_network_and_no_script(html):
    page = Page(html)
    assert all(address.startswith(("#", "data:image/")) for address in page.addresses)
    assert not page.tags & {"script", "link", "iframe", "object", "embed"}
    style = re.search(r"<style>(.*?)</style>", html, re.S)[1]
    assert "url(" not in style
    assert "@import" not in style
    assert "http" not in re.sub(r"data:image/png;base64,[\w+/=]+", "", html)


def test_every_table_figure_and_claim_is_on_the_page(html):
    page = Page(html)
    paper = [key for key in MNIST.tables if key.startswith("table")]
    assert {*paper, *available_figures(MNIST), "claims", "costs", "workflow", "provenance"} <= set(page.ids)
    for key, table in MNIST.tables.items():
        assert key not in paper or table.title.replace("'", "&#39;") in html.replace("'", "&#39;"), key
    for claim in MNIST.claims.values():
        assert claim.claim.replace("'", "&#39;") in html
    assert "mnist scale: not comparable with the paper" in html
    assert "<strong>" in html  # the best value of a block is bold


def test_both_verdicts_are_counted_at_the_top_and_claims_on_which_they_part_are_marked(results, html, tmp_path):
    top = html[: html.index('<nav aria-label="Contents">')]
    assert top.index("Claims, as the paper measures") < top.index("Claims, by judges that no reward saw")
    judged = judge_claims(MNIST, results)
    for side, start in (("as_paper", "Claims, as the"), ("by_judges", "Claims, by judges")):
        held = sum(one.verdict(side) == HOLDS for one in judged)
        first = re.search(r"<b>(\d+)</b>", top[top.index(start) :])
        assert int(first[1]) == held > 0
    assert "on <b>0</b> of" in top
    assert "which no reward uses" in html
    copy = shutil.copytree(results, tmp_path / "parted")
    write_run(MNIST, copy, "llamagen_l-ours", fid=1.0, fid_reward=3.0)
    write_claims(MNIST, copy, 1, copy / "claims.csv")
    write_report(MNIST, copy, 1, copy / "report.html")
    parted = (copy / "report.html").read_text(encoding="utf-8")
    Page(parted)
    number = sum(one.parts for one in judge_claims(MNIST, copy))
    assert f"on <b>{number}</b> of" in parted
    assert parted.count("≠ they part") == 1 + 2 * number  # the legend, the table and the numbers
    assert "FID (reward&#39;s network) of llamagen_l-ours below that of llamagen_l-entropy0" in parted
    assert "reward&#39;s network (inception)" in parted
    assert "judge (judge)" in parted


def test_commit_versions_seed_hardware_and_seconds_are_on_the_page(html):
    for text in ("abcdef012345", "torch 2.14.1", "a processor, 2 cores", "<td>llamagen_l-ours</td>", "<td>1:05</td>"):
        assert text in html, text


def test_the_same_inputs_give_the_same_bytes(results, html, tmp_path):
    write_report(MNIST, results, 1, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == html


@pytest.mark.parametrize(
    "file", ["claims.json", "tables/table4.md", "figures/figure4.png", "costs.csv", "rulegraph.mmd"]
)
def test_a_missing_input_is_named_and_nothing_is_written(results, file, tmp_path):
    partial = shutil.copytree(results, tmp_path / "partial", ignore=shutil.ignore_patterns("report.html"))
    (partial / file).unlink()
    with pytest.raises(ArtuneError, match=rf"{file}: no such file"):
        write_report(MNIST, partial, 1, partial / "report.html")
    assert not (partial / "report.html").exists()


def test_a_table_beyond_the_papers_is_shown_once_it_is_made(results, html, tmp_path):
    assert 'id="extra_cfg"' in html
    partial = shutil.copytree(results, tmp_path / "partial")
    (partial / "tables/extra_cfg.md").unlink()
    write_report(MNIST, partial, 1, partial / "report.html")
    assert 'id="extra_cfg"' not in (partial / "report.html").read_text(encoding="utf-8")


def test_a_large_picture_is_set_smaller_and_a_small_one_as_it_is(tmp_path):
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (600, 1800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    Image.fromarray(noise[:20, :20]).save(tmp_path / "small.png")
    assert (tmp_path / "large.png").stat().st_size > LARGE
    assert picture(tmp_path / "large.png").startswith("data:image/jpeg;base64,")
    assert picture(tmp_path / "small.png").startswith("data:image/png;base64,")


def test_counts_are_told_in_words():
    rows = [{"verdict": verdict, "measured": "1 against 2"} for verdict in (HOLDS, WITHIN, UNTESTED)]
    assert count_words(rows) == "1 of 3 hold, 1 within error, 1 not tested"
    assert count_words(rows[:1]) == "1 against 2"
    assert count_words(rows[2:]) == ""
    assert [duration(seconds) for seconds in (None, 5.4, 65, 3723)] == ["–", "0:05", "1:05", "1:02:03"]


def test_seconds_come_from_manifests_and_benchmarks(results, tmp_path):
    copy = shutil.copytree(results, tmp_path / "timed")
    text = "s\th:m:s\tmax_rss\tcpu_time\n12.5\t0:00:12\t700.1\t9.0\n"
    (copy / "runs/llamagen_l-ours/sample.benchmark.tsv").write_text(text)
    (copy / "runs/llamagen_l-ours/evaluate.benchmark.tsv").write_text("s\tmax_rss\n0.4\t-\n")
    (row,) = run_rows(MNIST, copy, ["llamagen_l-ours"])
    assert row["seconds"] == {"train": 65.0, "sample": 12.5, "evaluate": 0.4}
    assert row["memory"] == 700.1
    assert benchmark(copy / "nothing.tsv") == {}


def test_rules_are_set_in_layers_without_overlap_and_implied_arrows_are_left_out(tmp_path):
    write_text(tmp_path / "graph.mmd", GRAPH)
    rules, edges = read_rules(tmp_path / "graph.mmd")
    assert rules == ["data", "table", "train"]
    picture = lay_out(rules, edges)
    assert len(picture.paths) == 2  # data -> table is implied by the path through train
    wide = [f"rule{number}" for number in range(9)]
    edges = [(wide[0], name) for name in wide[1:8]] + [(name, wide[8]) for name in wide[1:8]] + [(wide[0], wide[8])]
    boxes = lay_out(wide, edges).boxes
    for layer in {box.y for box in boxes}:
        row = sorted(box.x for box in boxes if box.y == layer)
        assert all(right - left >= WIDTH for left, right in pairwise(row))
    assert lay_out(wide, edges) == lay_out(wide, edges)


def test_a_long_arrow_goes_by_way_of_every_layer_between():
    chain = [("a", "b"), ("b", "c"), ("c", "d"), ("a", "e"), ("e", "x"), ("d", "x")]
    picture = lay_out(["a", "b", "c", "d", "e", "x"], chain)
    assert max(path.count("C") for path in picture.paths) == 3
    # e stands as late as possible.
    assert {box.name: box.y for box in picture.boxes}["e"] > {box.name: box.y for box in picture.boxes}["b"]
