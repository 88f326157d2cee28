import shutil
from pathlib import Path

import pytest

from artune.config.glossary import COLUMNS
from artune.config.paper import (
    available_runs,
    paper_values,
    report_tables,
    row_labels,
    runs_of_tables,
    seeded_runs,
    tables_of,
)
from artune.config.registry import Registry
from artune.config.run import GrpoRun
from artune.config.tables import VOTES
from artune.errors import ArtuneError
from artune.models.encoders.mnist import FEATURES

IMAGENET = Registry("imagenet")
PAPER = [f"table{number}" for number in range(1, 13)]


def rows(registry: Registry = IMAGENET):
    return [(key, row) for key in PAPER for row in registry.tables[key].rows]


def edited(folder: Path, name: str, old: str, new: str) -> Path:
    """A copy of config/ in which ``old`` is replaced by ``new`` once, in the file ``name``."""
    root = folder / "config"
    shutil.copytree("config", root)
    text = (root / name).read_text(encoding="utf-8")
    assert old in text
    (root / name).write_text(text.replace(old, new, 1), encoding="utf-8")
    return root


def test_the_paper_has_12_tables_and_26_figures():
    assert [key for key in IMAGENET.tables if key.startswith("table")] == PAPER
    assert [key for key in IMAGENET.figures if key.startswith("figure")] == [
        f"figure{number}" for number in range(1, 27)
    ]


def test_the_tables_rest_on_35_runs_of_which_25_are_trained():
    runs = {row.run for _, row in rows() if row.run}
    methods = [IMAGENET.resolve(run).method for run in sorted(runs)]
    assert len(runs) == 35
    assert {method: methods.count(method) for method in set(methods)} == {
        "grpo": 23,
        "mle": 2,
        "pretrained": 8,
        "external": 2,
    }


def test_the_tables_have_47_rows_of_scores_and_4_of_votes():
    studied = [row for key, row in rows() if IMAGENET.tables[key].kind == "study"]
    assert (len(rows()) - len(studied), len(studied)) == (47, 4)


def test_every_paper_value_is_there():
    for key, row in rows():
        assert len(row.paper) == len(IMAGENET.tables[key].columns), (key, row.labels)
        assert None not in row.paper, (key, row.labels)


def test_a_run_has_the_same_paper_value_in_every_table():
    for key, table in IMAGENET.tables.items():
        for row in table.rows:
            if row.run and row.paper:
                known = paper_values(IMAGENET, row.run)
                for column, value in zip(table.columns, row.paper, strict=True):
                    assert value is None or known[column] == value, (key, row.run, column)


def printed() -> dict[str, list[list[str]]]:
    """The tables as the paper prints them, headings first; a program extracted them from its text."""
    found: dict[str, list[list[str]]] = {}
    for line in (Path(__file__).parent / "paper_tables.tsv").read_text(encoding="utf-8").splitlines():
        if line.startswith("table"):
            cells = found.setdefault(line, [])
        else:
            cells.append(line.split("\t"))
    return found


@pytest.mark.parametrize("key", PAPER)
def test_every_cell_is_the_one_printed_in_the_paper(key):
    headings, *lines = printed()[key]
    table, texts = IMAGENET.tables[key], len(IMAGENET.tables[key].labels)
    assert len(lines) == len(table.rows)
    names = [VOTES.get(column) or COLUMNS[column].heading for column in table.columns]
    assert [heading.rstrip(" ↓↑") for heading in headings[texts:]] == names
    for line, row in zip(lines, table.rows, strict=True):
        decimals = [0 if column in VOTES else COLUMNS[column].paper_decimals for column in table.columns]
        values = [f"{value:.{places}f}" for value, places in zip(row.paper, decimals, strict=True)]
        assert values == [cell.removeprefix("~") for cell in line[texts:]]
        ours = row_labels(IMAGENET, row) if row.run else row.labels
        # An empty cell of the paper means the setting of the row above.
        powers = {"4×10^{-3}": "0.004", "4×10^{-4}": "0.0004", "": ours[0]}
        assert ours == tuple(powers.get(cell, cell) for cell in line[:texts])


def test_check_marks_are_what_the_runs_do():
    for row in IMAGENET.tables["table5"].rows:
        assert (row.labels[1] == "✓") == (IMAGENET.resolve(row.run).sampling.cfg == 1.5), row.labels
    for row in IMAGENET.tables["table7"].rows:
        run = IMAGENET.resolve(row.run)
        terms = {"✓✓": ("clip", "hps"), "✓–": ("clip",), "–✓": ("hps",), "––": None}["".join(row.labels[1:])]
        assert (run.rewards.terms if isinstance(run, GrpoRun) else None) == terms


def test_rows_of_a_block_are_compared_with_each_other_as_in_the_paper():
    blocks = {key: [len(span) for span in IMAGENET.tables[key].spans] for key in PAPER}
    assert {key: sizes for key, sizes in blocks.items() if len(sizes) > 1} == {
        "table1": [2, 2, 2], "table2": [2, 2, 2], "table3": [2, 2], "table4": [2, 2], "table5": [3, 3], "table6": [2, 2],
    }  # fmt: skip


def test_the_feature_dimension_is_the_networks_own():
    assert Registry("mnist").about.feature_dim == FEATURES
    assert (IMAGENET.about.feature_dim, Registry("smoke").about.feature_dim) == (2048, FEATURES)


def test_votes_of_the_study_add_up_to_the_pairs_shown():
    totals = [sum(row.paper) for row in IMAGENET.tables["table3"].rows]
    assert totals == [260, 260, 570, 570]


def test_labels_made_from_settings_are_the_papers_at_the_papers_scale():
    def labels(key: str) -> list[tuple[str, ...]]:
        return [row_labels(IMAGENET, row) for row in IMAGENET.tables[key].rows]

    assert labels("table10") == [("3.0",), ("2.0",), ("1.0",), ("None",)]
    assert labels("table11") == [("0.004",), ("0.0004",), ("0.0",)]
    assert labels("table12")[1:] == [("+MLE (500 iter.)",), ("+MLE (5000 iter.)",), ("+ours (600 iter.)",)]
    assert [cells[1] for cells in labels("table6")] == ["0", "0", "100", "100"]
    assert [cells[1] for cells in labels("table8")] == ["–", "3.0", "0.0"]


@pytest.mark.parametrize("scale", ["mnist", "imagenet"])
def test_every_label_can_be_made_at_every_scale_and_tells_rows_apart(scale):
    registry = Registry(scale)
    for key, table in registry.tables.items():
        labels = [row_labels(registry, row) if row.run else row.labels for row in table.rows]
        assert len(set(labels)) == len(labels), (key, labels)
        assert not any("{" in cell for cells in labels for cell in cells)


def test_tables_of_names_the_tables_and_rows_that_show_a_run():
    assert list(tables_of(IMAGENET, "llamagen_l-ours")) == [
        "table1", "table4", "table9", "table10", "table11", "table12", "extra_cfg", "extra_seeds",
        "extra_covariance", "extra_reference", "extra_ema", "extra_transfer",
    ]  # fmt: skip
    assert tables_of(IMAGENET, "llamagen_xl-vapi") == {"table5": "VA-π | ✓"}


def test_sample_figures_show_pretrained_beside_tuned_with_the_same_guidance():
    figures = {key: figure for key, figure in IMAGENET.figures.items() if figure.kind == "samples"}
    assert len(figures) == 23
    for key, figure in figures.items():
        pretrained, tuned = (IMAGENET.resolve(run) for run in figure.runs)
        assert (pretrained.method, tuned.method) == ("pretrained", "grpo")
        assert pretrained.sampling == tuned.sampling
        assert (pretrained.sampling.cfg == 1.0) == (key in ("figure4", "figure6"))
        assert len(figure.classes) == (0 if key in ("figure3", "figure4", "figure6", "figure7") else 2)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("tables.yaml", "[6.37, 223.95, 0.82, 0.56]", "[6.37, 223.95, 0.82]",
         r"config/tables\.yaml: table4: row llamagen_l-argrpo: 3 paper values for 4 columns"),
        ("tables.yaml", "run: llamagen_l-kl2", "run: llamagen_l-kl9", r"table10: unknown run 'llamagen_l-kl9'"),
        ("tables.yaml", "[fid, inception_score, precision", "[fidd, inception_score, precision", r"table4: .*'fidd'"),
        ("tables.yaml", "labels: [VA-π, –]", "labels: [VA-π]", r"table5: row llamagen_xl-vapi-nocfg: 1 labels for 2"),
        ("tables.yaml", "blocks: [3, 3]", "blocks: [3, 2]", r"table5: blocks: 5 rows in all, but there are 6"),
        ("tables.yaml", "columns: [ours, tie", "columns: [ours, draw", r"table3: .*unknown 'draw'"),
        ("figures.yaml", "runs: [llamagen_l-ours]", "runs: [llamagen_l-our]", r"figure2: unknown run 'llamagen_l-our'"),
        ("figures.yaml", "kind: toy", "kind: toys", r"config/figures\.yaml: figure5: kind: .*'toys'"),
        ("figures.yaml", "[llamagen_l-pretrained, llamagen_l-ours]", "[llamagen_l-ours]", r"figure3: runs: 1 given"),
    ],
)  # fmt: skip
def test_a_slip_in_the_layouts_is_one_line_that_names_file_and_key(name, old, new, message, tmp_path):
    with pytest.raises(ArtuneError, match=message) as caught:
        Registry("imagenet", root=edited(tmp_path, name, old, new))
    assert "\n" not in str(caught.value)


def test_a_label_that_names_no_setting_is_one_line(tmp_path):
    registry = Registry("imagenet", root=edited(tmp_path, "tables.yaml", "{grpo.beta}", "{grpo.betta}"))
    with pytest.raises(ArtuneError, match=r"row llamagen_l-fid: \{grpo\.betta\}"):
        row_labels(registry, registry.tables["table8"].rows[1])


def test_figures_name_classes_as_imagenets_list_does():
    categories = pytest.importorskip("torchvision.models._meta")._IMAGENET_CATEGORIES
    known = {name.lower() for name in categories}
    named = [name for figure in IMAGENET.figures.values() for name in figure.classes]
    assert len(named) == 38
    assert [name for name in named if name.lower() not in known] == []


def test_a_tables_runs_are_those_available_at_the_scale_each_once_and_with_its_seeds():
    registry = Registry("smoke")
    rows = registry.tables["table4"].rows
    first, second, *_ = names = [row.run for row in rows]
    registry.about = registry.about.model_copy(update={"unavailable": {second: "no weights"}})
    expected = [name for name in dict.fromkeys(names) if name != second]
    assert available_runs(registry, [*rows, rows[0]]) == expected
    assert seeded_runs(registry, rows, 2) == [f"{name}{suffix}" for name in expected for suffix in ("", "-s1")]
    assert first in expected
    assert available_runs(registry, registry.tables["table3"].rows) == []  # rows of table3 are tasks of the study


def test_a_row_may_name_the_seeds_of_its_inputs_but_no_repetition(tmp_path):
    root = edited(tmp_path, "tables.yaml", "llamagen_l-ours-t1}", "llamagen_l-ours-t1-s2}")
    with pytest.raises(
        ArtuneError, match=r"tables.yaml: extra_seeds: llamagen_l-ours-t1-s2: a row names no repetition"
    ):
        Registry("mnist", root=root)


def test_rows_under_the_same_inputs_are_compared_and_those_that_a_scale_lacks_say_so():
    mnist, table = Registry("mnist"), IMAGENET.tables["extra_seeds"]
    for span in table.spans:
        inputs = {mnist.split(str(table.rows[at].run))[1] for at in span}
        assert len(inputs) == 1
        seeds = inputs.pop()
        assert {table.rows[at].labels[:2] for at in span} == {(str(seeds.tokenizer), str(seeds.networks))}
    assert available_runs(mnist, table.rows) == [row.run for row in table.rows]
    assert available_runs(IMAGENET, table.rows) == [row.run for row in IMAGENET.tables["table4"].rows]
    assert {IMAGENET.unavailable(str(row.run)) for row in table.rows} == {None, "not trained here"}


def test_a_table_that_is_not_repeated_has_one_run_per_row():
    registry = Registry("mnist")
    table4, seeds = (runs_of_tables(registry, [key], 2) for key in ("table4", "extra_seeds"))
    assert (len(table4), len(seeds)) == (8, 20)
    assert not [name for name in seeds if name.endswith("-s1")]
    assert runs_of_tables(registry, ["table4", "extra_seeds"], 2) == [*table4, *seeds[4:]]


def test_the_report_shows_the_papers_tables_and_of_those_beyond_it_the_ones_there_are(tmp_path):
    papers = [key for key in IMAGENET.tables if not key.startswith("extra_")]
    beyond = [key for key in IMAGENET.tables if key.startswith("extra_")]
    assert report_tables(IMAGENET, tmp_path) == papers
    (tmp_path / f"{beyond[-1]}.md").touch()
    assert set(report_tables(IMAGENET, tmp_path)) == {*papers, beyond[-1]}
