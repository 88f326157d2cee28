"""MLflow's page with the style sheet and the script that `artune browse` adds to it."""

from importlib.metadata import entry_points

import pytest

from artune.tracking.pages.app import HERE, mlflow_app, with_aids


@pytest.fixture(scope="module")
def browser():
    from starlette.testclient import TestClient

    return TestClient(mlflow_app(), base_url="http://localhost")


def test_the_aids_come_last_in_the_page_once():
    page = with_aids("<html><head></head><body><p>The text </body> of a page</p></body></html>")
    style, script = ((HERE / name).read_text() for name in ("aids.css", "aids.js"))
    assert page.endswith(f"</p><style>{style}</style><script>{script}</script></body></html>")
    assert page.count("<style>") == 1


def test_a_page_without_an_end_is_left_alone():
    assert with_aids("Unable to display MLflow UI") == "Unable to display MLflow UI"


def test_mlflow_finds_the_app_and_serves_its_page_with_the_aids(browser):
    (point,) = entry_points(group="mlflow.app", name="artune")
    assert point.load() is mlflow_app
    answer = browser.get("/")
    assert answer.status_code == 200
    assert answer.text.count((HERE / "aids.css").read_text()) == 1
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert {"etag", "last-modified"}.isdisjoint(answer.headers)


def test_an_older_copy_of_the_page_is_not_called_good_enough(browser):
    copy = {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT", "If-None-Match": "*"}
    assert browser.get("/", headers=copy).status_code == 200


def test_answers_to_programs_are_left_as_they_are(browser):
    assert browser.get("/version").text.count(".") >= 2
    assert "<style>" not in browser.get("/health").text


def test_an_address_of_another_host_is_refused_as_by_mlflow(browser):
    assert browser.get("/", headers={"Host": "example.org"}).status_code == 403
