"""MLflow's own pages in a real browser, as `make mlflow` opens them.

MLflow's interface is not ours, but where the link leads is, which columns, charts and names it shows, that the pictures of
a run are seen without a click, and the style sheet and the script of artune.tracking.pages, with which these pages hold the
rules of ours: no element sticks out of the window, the contrast is enough, and the keyboard reaches everything.
"""

import os
import re
import signal
import socket
import subprocess
import sys

import pytest
from finished_runs import finished_run
from playwright.sync_api import expect
from project import ROOT
from screens import SCHEMES, SIZES, faint_text, keyboard_faults, opened, too_wide

from artune.config.registry import Registry
from artune.tracking.mlflow_run import connect_mlflow
from artune.tracking.mlflow_store import upsert
from artune.tracking.saved_views import rows_of

RUNS = ("llamagen_l-argrpo", "llamagen_l-ours", "llamagen_l-argrpo-maniqa", "llamagen_l-ours-maniqa")
HEADINGS = ("eval/fid", "eval/inception_score", "eval/precision", "eval/recall")
KNOWN = ("users/current", "ResizeObserver loop")  # MLflow asks for a user, which it has not got here
# The panel of MLflow's assistant opens over a third of the window the first time that a browser sees the pages.
SEEN_BEFORE = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
PATIENCE = 90_000  # milliseconds; MLflow's pages are four megabytes of scripts
CUT = "element => element.scrollWidth > element.clientWidth + 1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def links(chromium, tmp_path_factory):
    """The links that `artune browse` prints for a store with the runs of Table 4: to their scores and to their curves."""
    folder = tmp_path_factory.mktemp("mlflow")
    (folder / "config").symlink_to(ROOT / "config")
    (folder / "results").mkdir()
    registry, uri = Registry("mnist", root=ROOT / "config"), f"sqlite:///{folder}/results/mlflow.db"
    folders = [finished_run(folder / "results/mnist/runs", registry, run, 1 + at / 10) for at, run in enumerate(RUNS)]
    assert upsert(uri, registry, folders)
    browse = [sys.executable, "-m", "artune", "browse", "--scale", "mnist", "--port", str(free_port())]
    quiet = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    with subprocess.Popen(browse, cwd=folder, env=quiet, stderr=subprocess.PIPE, text=True) as pages:
        found: list[str] = []
        while len(found) < 2:
            line = pages.stderr.readline()
            assert line, "browse ended"
            found += re.findall(r"^  (?:runs and scores|curves) +(\S+)$", line)
        yield {"scores": found[0], "curves": found[1], "run": run_link(uri, found[0])}
        pages.send_signal(signal.SIGTERM)
        assert pages.wait(60) == 128 + signal.SIGTERM


def run_link(uri: str, link: str) -> str:
    client = connect_mlflow(uri)
    (experiment,) = client.search_experiments()
    (run,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'llamagen_l-ours'")
    return f"{link.split('?')[0]}/{run.info.run_id}?workflowType=machine_learning"


def judge(screen, name: str) -> None:
    """What is wrong with a page is nothing; the keyboard, which takes seconds per page, is tried in one scheme."""
    screen.save(name)
    for _ in range(20):  # colours fade in
        found = {"too wide": too_wide(screen.page), "faint": faint_text(screen.page)}
        if not any(found.values()):
            break
        screen.page.wait_for_timeout(250)
    if screen.scheme == "dark":
        found["keyboard"] = keyboard_faults(screen.page, 500)
    assert not any(found.values()), found


def look_at_landing(screen) -> None:
    """Four runs, four scores; on a phone MLflow leaves no room for the list, and only the filter is looked for."""
    page = screen.page
    expect(page.get_by_test_id("search-box")).to_have_value(rows_of("table4"), timeout=PATIENCE)
    if screen.size == "desktop":
        for run in RUNS:
            page.get_by_role("link", name=run, exact=True).wait_for()
        expect(page.get_by_text("matching runs")).to_have_text(f"{len(RUNS)} matching runs", timeout=PATIENCE)
        for heading in HEADINGS:
            title = page.get_by_role("columnheader").get_by_text(heading, exact=True)
            expect(title).to_be_visible(timeout=PATIENCE)  # the table draws its columns one after the other
            assert not title.evaluate(CUT), heading
    judge(screen, "mlflow-landing")


def look_at_run(screen) -> None:
    """The samples stand on the first screen, and not below a list of settings."""
    picture = screen.page.locator("img[src*='strip.png']")
    picture.wait_for()
    screen.page.wait_for_function("image => image.naturalWidth > 0", arg=picture.element_handle())
    box = picture.bounding_box()
    assert box["y"] + box["height"] <= 400
    judge(screen, "mlflow-run")
    handle = screen.page.get_by_label("Resize Column").first
    handle.focus()
    screen.page.keyboard.press("Enter")
    expect(screen.page.get_by_role("heading", name="Resize Column")).to_be_visible()


def look_at_curves(screen) -> None:
    """Curves first, each drawn, and none of their names is cut."""
    screen.page.get_by_placeholder("Search metric charts").wait_for(state="attached")
    if screen.size == "desktop":
        screen.page.locator(".main-svg").first.wait_for()
        titles = screen.page.locator("h4[title*='/']")
        expect(titles.first).to_have_text("reward/total", timeout=PATIENCE)
        assert not [title.inner_text() for title in titles.all() if title.evaluate(CUT)]
    judge(screen, "mlflow-curves")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
def test_landing_run_and_comparison(chromium, links, size, scheme):
    with opened(chromium, "about:blank", size, scheme) as screen:
        screen.page.set_default_timeout(PATIENCE)
        screen.page.add_init_script(SEEN_BEFORE)
        screen.page.goto(links["scores"])
        look_at_landing(screen)
        screen.page.goto(links["run"])
        look_at_run(screen)
        screen.page.goto(links["curves"])
        look_at_curves(screen)
        assert [text for text in screen.troubles if not any(known in text for known in KNOWN)] == []
        assert screen.page.locator("[class*=notification-notice]").count() == 0  # a message that slides in
        assert screen.page.get_by_text("does not exist").count() == 0
