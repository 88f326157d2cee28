"""A real headless Chromium, shared by all tests; every rater has a browser context of its own."""

import hashlib
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from study_pairs import make_study
from study_server import Server

NAMES = ("chromium", "chromium-browser", "google-chrome")
SMALL = {"pairs": 2, "checks": 1, "check_every": 2}  # six items: two pairs and one check per task


@pytest.fixture(scope="module")  # not per session: its event loop would disturb other modules
def chromium():
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium here: sudo bash tests/system-packages.sh installs Debian's, or put one on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's sandbox does not run as root, which CI is; the pages are local and trusted.
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(chromium, tmp_path_factory):
    """One server for all tests; every test has raters of its own."""
    folder = tmp_path_factory.mktemp("study")
    make_study(folder / "pairs.zip", **SMALL)
    with Server(folder) as running:
        yield running


class Rater:
    """A person at a browser. Messages, errors and dialogs of the page are collected; at the end there must be none."""

    def __init__(self, browser, url: str, **settings):
        self.context = browser.new_context(**settings)
        self.page, self.url, self.troubles = self.context.new_page(), url, []
        self.page.set_default_timeout(20_000)
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.troubles.append(dialog.message), dialog.dismiss()))

    def start(self):
        self.page.goto(self.url)
        self.page.get_by_role("button", name="Start").click()
        return self.at(0)

    def at(self, position: int):
        """Wait until the pair at ``position`` can be answered."""
        self.page.locator(f'#rate[data-position="{position}"]').wait_for()
        self.page.wait_for_timeout(300)  # the page ignores answers during the first quarter of a second
        return self

    def press(self, key: str):
        self.page.keyboard.press(key)
        return self

    @property
    def code(self) -> str:
        return self.page.url.split("#")[1]

    def votes(self, folder: Path, what: str = "position, pressed") -> list[tuple]:
        """The columns ``what`` of this rater's votes in the store, by position."""
        number = "(SELECT number FROM raters WHERE code_sha256 = ?)"
        with closing(sqlite3.connect(folder / "votes.sqlite")) as database:
            digest = hashlib.sha256(self.code.encode()).hexdigest()
            query = f"SELECT {what} FROM votes WHERE rater = {number} ORDER BY position"
            return database.execute(query, (digest,)).fetchall()


@pytest.fixture
def rater(chromium, server):
    """A function that makes raters; their pages are checked and closed after the test."""
    made = []

    def make(**settings) -> Rater:
        made.append(Rater(chromium, settings.pop("url", server.url), **settings))
        return made[-1]

    yield make
    troubles = [trouble for one in made for trouble in one.troubles]
    for one in made:
        one.context.close()
    assert troubles == []
