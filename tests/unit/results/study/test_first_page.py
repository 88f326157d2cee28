"""The words of the study's first page: filled in as text, missing ones seen, a study without them refused."""

import pytest
from fastapi.testclient import TestClient
from project import ROOT
from study_pairs import make_study

from artune.commands.cli import main
from artune.config.registry import Registry
from artune.config.tables import StudyPage
from artune.results.study.first_page import first_page, shows
from artune.results.study.pairs import PairFile
from artune.results.study.serve import Told, build_app
from artune.results.study.store import VoteStore

GIVEN = {"contact": "A. <b>Example</b> & $son, a@example.org", "minutes": 12, "purpose": "Why.", "consent": "Agreed."}


@pytest.fixture
def study(tmp_path):
    make_study(tmp_path / "pairs.zip", pairs=3, checks=1)
    return PairFile(tmp_path / "pairs.zip")


def test_words_are_text_and_a_page_that_is_filled_in_is_no_trial(study, tmp_path):
    told = Told(page=StudyPage(**GIVEN), classes=("coat", "bag"))
    with TestClient(build_app(study, VoteStore(tmp_path / "votes.sqlite", study.pairs), ("*",), told=told)) as client:
        page = client.get("/").text
    assert "A. &lt;b&gt;Example&lt;/b&gt; &amp; $son, a@example.org" in page
    assert "6 pairs and a few obvious ones, about 12 minutes" in page  # three pairs per question
    assert "Every image shows one of these: coat, bag." in page
    assert "trial" not in page
    assert "not given" not in page


@pytest.mark.parametrize("key", sorted(GIVEN))
def test_what_is_missing_is_seen(study, key):
    page = first_page(StudyPage(**{**GIVEN, key: None}), (), study.pairs).decode()
    assert f"<mark>[{key}: not given in config/study.yaml]</mark>" in page
    assert "This is a trial" in page


@pytest.mark.parametrize("scale", ["mnist", "fashion", "imagenet"])
def test_the_words_fit_the_data_set(scale, study):
    data = Registry(scale, root=ROOT / "config").data
    page = first_page(StudyPage(**GIVEN), data.class_names, study.pairs).decode()
    assert ("t-shirt" in page) == (scale == "fashion")
    assert "digit" not in page
    assert "photo" not in page  # a scan of a digit is none


def test_many_classes_are_counted_and_not_listed():
    assert shows([f"class {number}" for number in range(1000)]) == "The images show 1,000 kinds of things."
    assert shows(()) == ""


def test_a_study_that_tells_raters_neither_contact_nor_minutes_is_served_as_a_trial_only(tmp_path, capsys):
    assert main(["study", "serve", "--pairs", str(tmp_path / "pairs.zip")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: config/study.yaml: page: contact, minutes: not given")
    assert "--trial" in said


def test_a_change_of_the_words_draws_no_pairs_again():
    rule = (ROOT / "workflow/rules/study.smk").read_text()
    assert 'study=REGISTRY.study.model_dump(exclude={"judge", "page"})' in rule
