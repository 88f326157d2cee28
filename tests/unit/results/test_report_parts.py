"""The parts of the report: tables cell by cell, costs with sane digits, partial results, several scales, commits' links."""

import csv
import re
import shutil

import pytest
from measured import PIXEL, write_scored_table

from artune.commands.cli import main
from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.results.report.costs import read_costs, seconds
from artune.results.report.grids import cell, read_grids, read_table
from artune.results.report.page import score, write_report
from artune.results.report.part import folders_of, read_part
from artune.results.report.verdicts import judge_so_far
from artune.results.verdicts import HOLDS

MNIST = Registry("mnist")
ROWS = [row.run for row in MNIST.tables["table4"].rows]


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    return write_scored_table(MNIST, tmp_path_factory.mktemp("reproduced") / "mnist", "table4", seeds=2)


def test_rows_of_a_table_know_their_run_and_where_a_block_begins(reproduced):
    table = read_table(MNIST, "table4", reproduced / "tables")
    assert [row.run for row in table.main.rows] == ROWS
    assert [row.first for row in table.main.rows] == [False, False, True, False]
    assert table.main.headings[:3] == ("Model", "FID ↓", "paper")
    assert table.main.rows[1].cells[1].number == "2.05"
    assert table.caption.startswith("Scale mnist")
    assert table.seeds == dict.fromkeys(ROWS, 2)
    further = {grid.title: grid for grid in table.further}
    assert [row.run for row in further["Beyond the paper's columns"].rows] == ROWS
    assert [title.startswith("Seed by seed: ") for title in further][-3:] == [False, True, True]
    assert table.further[-1].rows[0].run is None
    assert next(csv.DictReader(table.file.splitlines()))["run"] == ROWS[0]


def test_a_cell_is_sorted_by_the_number_that_it_begins_with(tmp_path):
    texts = (
        "<strong>0.72</strong> ± 0.12",
        "6.37 (-49.7)",
        "-1.5e-3",
        "\u22120.3",
        "1,234",
        "&lt; 0.1",
        "(external)",
        "–",
    )
    assert [cell(text).number for text in texts] == ["0.72", "6.37", "-1.5e-3", "-0.3", "1234", "0.1", "", ""]
    (tmp_path / "a.md").write_text(
        "**T.** Text *a* < b.\n\n| A | B |\n| - | - |\n| x \\| y | 1 ± 2 |\n", encoding="utf-8"
    )
    caption, (grid,) = read_grids(tmp_path / "a.md", 1)
    assert caption == "Text <em>a</em> &lt; b."
    assert [found.html for found in grid.rows[0].cells] == ["x | y", "1\u00a0±\u00a02"]


def test_after_make_reproduce_the_page_judges_what_it_can_and_names_the_rest(reproduced):
    found = judge_so_far(MNIST, reproduced, 2)
    assert "argrpo-fid" in found
    assert "table1-quality" not in found
    assert found["same-settings"].sides["by_judges"].verdict == HOLDS  # settings alone decide it
    part = read_part(MNIST, reproduced)
    assert not part.whole
    assert score(part, "llamagen_l-ours", "fid") == "2.05\u00a0±\u00a00.07"
    assert score(part, "llamagen_l-kl0", "fid") == ""
    assert [made.name for made in part.runs["llamagen_l-ours"].made] == ["llamagen_l-ours", "llamagen_l-ours-s1"]
    write_report([part], reproduced / "report.html")
    page = (reproduced / "report.html").read_text(encoding="utf-8")
    assert "No figure has been made yet." in page
    assert "snakemake -c2 --config scale=mnist -- report</code>" in page
    assert "Table 1: Reward-based tuning" in page
    assert page.count("<small>not judged yet</small>") == len(MNIST.claims) - len(found)


def test_a_figure_has_the_caption_that_lies_beside_it(tmp_path):
    (tmp_path / "figures").mkdir()
    for key in ("figure2", "figure5"):
        (tmp_path / f"figures/{key}.png").write_bytes(PIXEL)
    (tmp_path / "figures/figure2.txt").write_text("Training dynamics. Light: every <iteration>.\n", encoding="utf-8")
    part = read_part(MNIST, tmp_path)
    assert {key: figure.caption for key, figure in part.figures.items()} == {
        "figure2": "Light: every <iteration>.",
        "figure5": "",
    }
    write_report([part], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<figcaption>Light: every &lt;iteration&gt;. Runs: llamagen_l-ours.</figcaption>" in page
    assert "<figcaption>Not comparable with the paper&#39;s numbers.</figcaption>" in page
    assert "No table has been made yet." in page


def test_several_scales_share_a_page_and_the_comparable_one_comes_first(reproduced, tmp_path):
    other = write_scored_table(Registry("fashion"), tmp_path / "fashion", "table4")
    parts = [read_part(MNIST, reproduced), read_part(Registry("fashion"), other)]
    line = write_report(parts, tmp_path / "report.html")
    assert re.search(r"report\.html: fashion: 1 table, .*; mnist: 1 table, ", line)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.index('id="table4-fashion"') < page.index('id="table4-mnist"')
    assert page.count('<article id="table4">') == 1
    assert 'href="#run-fashion-llamagen_l-ours"' in page
    assert {"fashion", "mnist"} == set(re.findall(r'data-scale="(\w+)"', page))
    write_report(parts[::-1], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_scales_with_results_are_found_and_the_smoke_scale_only_where_it_is_asked_for(reproduced, tmp_path):
    for name in ("mnist", "mnist-release", "smoke"):
        shutil.copytree(reproduced / "tables", tmp_path / name / "tables")
    (tmp_path / "imagenet/figures").mkdir(parents=True)  # Figure 5 alone, which no scale changes
    scales = MNIST.scales
    assert [found[:2] for found in folders_of(tmp_path, scales, ("mnist", "paper"))] == [
        ("mnist", "paper"),
        ("mnist", "release"),
    ]
    assert ("smoke", "paper") in [found[:2] for found in folders_of(tmp_path, scales, ("smoke", "paper"))]


def test_the_command_writes_one_scale_or_all_and_names_a_missing_folder(reproduced, tmp_path, capsys):
    for results in (reproduced, reproduced.parent):
        words = ["report", "--results", str(results), "--output", str(tmp_path / "page.html"), "--scale", "mnist"]
        assert main(words) == 0
        assert "page.html: mnist: 1 table, 0 figures" in capsys.readouterr().err
    assert main(["report", "--results", str(tmp_path / "none"), "--output", str(tmp_path / "x.html")]) == 2
    assert "none: no such file; give the folder of a scale, or that of all results" in capsys.readouterr().err


COSTS = """stage,unit,ours,paper,ratio,device,threads,images,tokens,backbone,weights,scale,note,paper_device,paper_images
generate,s,0.183,,,"A processor, 2 cores",1,120,36,llamagen_l,pretrained,mnist,n,,
generate and decode,s,0.2463,43.4,0.005676,"A processor, 2 cores",1,120,36,llamagen_l,pretrained,mnist,n,NVIDIA A100,144
training,GPU h,0.01427,40-56,,"A processor, 2 cores",1,120,36,llamagen_l,pretrained,mnist,n,NVIDIA A100,144
"""


def test_costs_have_three_digits_and_gpu_hours_are_those_of_gpus(tmp_path):
    (tmp_path / "costs.csv").write_text(COSTS)
    found = read_costs(tmp_path / "costs.csv")
    assert (found.here, found.paper) == ("A processor, 2 cores, 1 thread, 120 images", "NVIDIA A100, 144 images")
    assert [(stage.name, stage.part, stage.here, stage.paper) for stage in found.stages] == [
        ("generate", True, "183\u00a0ms", ""),
        ("generate and decode", False, "246\u00a0ms", "43.4\u00a0s"),
        ("whole training", False, "51.4\u00a0s", "40–56 GPU hours"),
    ]
    (tmp_path / "costs.csv").write_text(
        COSTS.replace("A processor, 2 cores", "NVIDIA H100").replace("0.01427", "17.25")
    )
    assert read_costs(tmp_path / "costs.csv").stages[-1].here == "17.2 GPU hours"
    times = ("0.0005406", "0.99999", "57.17", "119", "3600", "9000", "")
    assert [seconds(text).replace("\u00a0", " ") for text in times] == [
        "0.54 ms", "1000 ms", "57.2 s", "119 s", "60 min", "2.5 h", "",
    ]  # fmt: skip
    (tmp_path / "costs.csv").write_text(COSTS.splitlines()[0])
    with pytest.raises(ArtuneError, match="holds no line; delete it and make it again"):
        read_costs(tmp_path / "costs.csv")


def test_a_scale_of_which_only_runs_are_scored_is_shown_with_what_is_missing(reproduced, tmp_path, capsys):
    """As after `scores.json` of one's own run, or while another scale is under way."""
    shutil.copytree(reproduced, tmp_path / "mnist")
    run = tmp_path / "fashion/runs/llamagen_l-ours"
    run.mkdir(parents=True)
    shutil.copy(next((tmp_path / "mnist/runs").glob("*/scores.json")), run / "scores.json")
    words = ["report", "--results", str(tmp_path), "--output", str(tmp_path / "page.html"), "--scale", "mnist"]
    assert main(words) == 0
    assert "fashion: 0 tables, 0 figures" in capsys.readouterr().err


def test_a_damaged_file_of_another_scale_is_a_warning(reproduced, tmp_path, capsys):
    shutil.copytree(reproduced, tmp_path / "mnist")
    shutil.copytree(reproduced, tmp_path / "fashion")
    (tmp_path / "fashion/claims.json").write_text("{")
    words = ["report", "--results", str(tmp_path), "--output", str(tmp_path / "page.html"), "--scale"]
    assert main([*words, "mnist"]) == 0
    assert "the page is made without the scale fashion" in capsys.readouterr().err
    assert main([*words, "fashion"]) == 2
    (tmp_path / "mnist/figures").mkdir(exist_ok=True)
    (tmp_path / "mnist/figures/figure2.png").write_bytes(PIXEL[: len(PIXEL) // 2])
    assert main([*words, "mnist"]) == 2
    assert "figure2.png: is no whole picture" in capsys.readouterr().err
