"""The report: one complete and well-formed file, with the same bytes for the same inputs."""

import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from measured import GRAPH, write_results, write_run

from artune.commands.arguments import parse_words
from artune.config.paper import available_figures
from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.results.claims import judge_claims, write_claims
from artune.results.report.origins import benchmark, run_rows
from artune.results.report.page import EXAMPLE, LARGE, QUESTIONS, duration, picture, write_report
from artune.results.report.part import read_part
from artune.results.report.rulegraph import WIDTH, lay_out, read_rules
from artune.results.report.verdicts import count_words
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


def written(*folders, commits=""):
    """The page of scales whose results lie in these folders, at the mnist scale."""
    output = folders[0] / "report.html"
    write_report([read_part(MNIST, folder) for folder in folders], output, commits)
    return output.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return write_results(MNIST, tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def html(results):
    return written(results, commits="https://example.org/us/artune/commit/")


def test_the_page_is_well_formed_and_ids_are_given_once(html):
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert len(page.ids) == len(set(page.ids))
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)


def test_the_page_needs_no_other_file_and_no_network(html):
    page = Page(html)
    local = ("#", "data:image/", "data:text/", "https://example.org/us/artune/commit/abcdef0123456789")
    assert all(address.startswith(local) for address in page.addresses)
    assert not page.tags & {"link", "iframe", "object", "embed"}
    style = re.search(r"<style>(.*?)</style>", html, re.S)[1]
    assert "url(" not in style
    assert "@import" not in style
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", html, re.S)
    assert [settings for settings, _ in scripts] == [""]
    for word in ("http", "fetch(", "XMLHttpRequest", "import(", "new Image", "localStorage"):
        assert word not in scripts[0][1], word


def test_every_table_figure_and_claim_is_on_the_page(html):
    page = Page(html)
    paper = [key for key in MNIST.tables if key.startswith("table")]
    assert {*paper, *available_figures(MNIST), "claims", "costs", "workflow", "runs", "own"} <= set(page.ids)
    for key, table in MNIST.tables.items():
        assert key not in paper or table.title.replace("'", "&#39;") in html.replace("'", "&#39;"), key
    for claim in MNIST.claims.values():
        assert claim.claim.replace("'", "&#39;") in html
    assert "Scale mnist: not comparable with the paper&#39;s numbers." in html
    assert "<strong>" in html  # the best value of a block is bold
    assert "has been made yet" not in html


def test_both_verdicts_are_counted_in_the_contents_and_claims_on_which_they_part_are_marked(results, html, tmp_path):
    contents = html[: html.index("<main")]
    judged = judge_claims(MNIST, results)
    for side in ("as_paper", "by_judges"):
        held = sum(one.verdict(side) == HOLDS for one in judged)
        first = re.search(rf'data-column="\w+ {side}" data-verdict="holds"[^>]*>(\d+)<', contents)
        assert int(first[1]) == held > 0
    assert '<td rowspan="2">0 of 43</td>' in html
    assert "which no reward uses" in html
    copy = shutil.copytree(results, tmp_path / "parted")
    write_run(MNIST, copy, "llamagen_l-ours", fid=1.0, fid_reward=3.0)
    write_claims(MNIST, copy, 1, copy / "claims.csv")
    parted = written(copy)
    Page(parted)
    number = sum(one.parts for one in judge_claims(MNIST, copy))
    assert f'<td rowspan="2">{number} of 43</td>' in parted
    assert parted.count("≠ they differ") == 1 + number > 1  # the legend, and the claims
    assert "FID (reward&#39;s network) of llamagen_l-ours below that of llamagen_l-entropy0" in parted
    assert "reward&#39;s network (inception)" in parted
    assert "judge (judge)" in parted


def test_a_row_leads_to_its_settings_command_csv_commit_and_seconds(html):
    assert re.search(r'<th scope="row"><a href="#run-mnist-llamagen_l-argrpo">AR-GRPO \(CLIPScore \+ HPSv2\)</a>', html)
    card = re.search(r'id="run-mnist-llamagen_l-argrpo">(.*?)</article>', html, re.S)[1]
    for text in (
        "tuned by GRPO with the rewards CLIP + HPS, KL weight",
        "snakemake -c2 --config scale=mnist -- results/mnist/runs/llamagen_l-argrpo/scores.json",
        'href="https://example.org/us/artune/commit/abcdef0123456789"><code>abcdef012345</code>',
        "How it differs from <code>llamagen_l-ours</code>",
        "<td><code>entropy.enabled</code></td>",
        "base: llamagen_l-argrpo",  # all settings
        'href="#table4-mnist"',
        "a processor, 2 cores",
        "<td>1:05</td>",
    ):
        assert text in card, text
    assert "torch 2.14.1" in html


def test_the_short_answers_name_runs_and_claims_that_there_are(html):
    for question in QUESTIONS:
        assert set(question.claims) <= set(MNIST.claims)
        assert {question.without[1], question.ours[1]} <= set(MNIST.run_names)
    short = re.search(r'<section id="short">(.*?)</section>', html, re.S)[1]
    assert short.count("<b>2.00\u00a0±\u00a00.10</b>") == 2 * len(QUESTIONS)
    assert "not made yet" not in short


def test_the_example_of_an_ablation_is_a_line_of_the_registry_and_its_commands_are_known(html, tmp_path):
    copy = shutil.copytree(MNIST.root, tmp_path / "config")
    with open(copy / "experiments.yaml", "a", encoding="utf-8") as file:
        file.write(f"{EXAMPLE}\n")
    name = EXAMPLE.partition(":")[0]
    assert Registry("mnist", root=copy).resolve(name).grpo.beta == 5.0
    own = re.search(r'<section id="own">(.*?)</section>', html, re.S)[1]
    commands = re.findall(r"<code>python -m artune (.*?)</code>", own)
    assert [parse_words(words.split()).command for words in commands] == ["show", "compare"]
    assert f"-- results/mnist/runs/{name}/scores.json</code>" in own


def test_the_same_inputs_give_the_same_bytes(results, html):
    assert written(results, commits="https://example.org/us/artune/commit/") == html


def test_a_table_beyond_the_papers_is_shown_once_it_is_made(results, html, tmp_path):
    assert 'id="extra_cfg"' in html
    partial = shutil.copytree(results, tmp_path / "partial")
    (partial / "tables/extra_cfg.md").unlink()
    assert 'id="extra_cfg"' not in written(partial)


def test_what_is_missing_is_named_with_the_command_that_makes_it(results, html, tmp_path):
    assert 'id="missing"' not in html
    partial = shutil.copytree(results, tmp_path / "partial")
    made = {
        "tables/table4.md": "tables/table4.csv",
        "figures/figure4.png": "figures/figure4.pdf",
        "claims.json": "claims.csv",
        "costs.csv": "costs.csv",
        "rulegraph.mmd": "rulegraph.mmd",
    }
    for file in made:
        (partial / file).unlink()
    page = written(partial)
    Page(page)
    missing = re.search(r'<section id="missing">(.*?)</section>', page, re.S)[1]
    commands = [f"snakemake -c2 --config scale=mnist -- results/mnist/{file}" for file in made.values()]
    assert re.findall(r"<dd><code>(.*?)</code></dd>", missing) == commands
    assert "Not everything has been made yet" in page


def test_a_folder_with_nothing_to_show_is_refused_with_the_command_that_makes_tables(tmp_path):
    with pytest.raises(
        ArtuneError, match=r"has no table, figure or claim to show; `snakemake .*scale=mnist -- tables`"
    ):
        read_part(MNIST, tmp_path)


def test_a_damaged_file_is_named_and_nothing_is_written(results, tmp_path):
    partial = shutil.copytree(results, tmp_path / "partial", ignore=shutil.ignore_patterns("report.html"))
    (partial / "claims.json").write_text("{")
    with pytest.raises(ArtuneError, match=r"claims\.json"):
        written(partial)
    (partial / "claims.json").unlink()
    (partial / "figures/figure3.png").write_bytes(b"no picture")
    with pytest.raises(ArtuneError, match=r"figure3\.png: is no whole picture; delete it and make it again"):
        written(partial)
    assert not (partial / "report.html").exists()


def test_a_large_picture_is_set_smaller_and_a_small_one_as_it_is(tmp_path):
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (600, 1800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    Image.fromarray(noise[:20, :20]).save(tmp_path / "small.png")
    assert (tmp_path / "large.png").stat().st_size > LARGE
    large = picture(tmp_path / "large.png")
    assert large.address.startswith("data:image/jpeg;base64,")
    assert (large.width, large.height) == (1600, 533)
    assert picture(tmp_path / "small.png").address.startswith("data:image/png;base64,")


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
