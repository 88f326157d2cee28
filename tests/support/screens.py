"""Pages at two sizes and in two colour schemes, and what a reader must be able to count on in every one of them.

    for screen in four_screens(browser, url, "report"):
        assert faults_of(screen) == []

Pictures are written to the folder that the environment variable ``ARTUNE_SCREENS`` names, and not at all without it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = "ARTUNE_SCREENS"
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
SCHEMES = ("light", "dark")
LOOKED_AT = (Path(__file__).parent / "screens.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Screen:
    """A page in a window of one size (a key of ``SIZES``) and one scheme; ``troubles`` fills with its errors."""

    page: Any
    size: str
    scheme: str
    troubles: list[str] = field(default_factory=list)

    def save(self, name: str, whole: bool = False) -> None:
        """Write ``NAME-SIZE-SCHEME.png``, of the window or of the ``whole`` page, if a folder is given."""
        if folder := os.environ.get(FOLDER):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}-{self.size}-{self.scheme}.png", full_page=whole)


@contextmanager
def opened(browser: Any, url: str, size: str = "desktop", scheme: str = "light", **context: Any) -> Iterator[Screen]:
    """``url`` in a window of its own; ``context`` is for Playwright's ``new_context``, such as java_script_enabled."""
    width, height = SIZES[size]
    settings = {"color_scheme": scheme, "reduced_motion": "reduce", "bypass_csp": True} | context
    window = browser.new_context(viewport={"width": width, "height": height}, **settings)
    try:
        screen = Screen(window.new_page(), size, scheme)
        screen.page.set_default_timeout(20_000)
        screen.page.on("console", lambda message: screen.troubles.extend(_errors(message)))
        screen.page.on("pageerror", lambda error: screen.troubles.append(str(error)))
        screen.page.goto(url)
        yield screen
    finally:
        window.close()


def _errors(message: Any) -> list[str]:
    """What a console message says, with the address that it is about, if it is an error."""
    address = message.location.get("url")
    return [f"{message.text} ({address})" if address else message.text] if message.type == "error" else []


def four_screens(
    browser: Any, url: str, name: str, prepare: Callable[[Any], None] | None = None, whole: bool = False, **context: Any
) -> Iterator[Screen]:
    """Both sizes in both schemes, each saved as a picture called ``name`` before it is handed out.

    Args:
        browser: Playwright's browser, such as the fixture ``chromium``.
        url: address of the page.
        name: first part of the pictures' names.
        prepare: called with the Playwright page before the picture is taken: waits until the page is filled, or clicks
            its way to what shall be seen.
        whole: take a picture of the whole page instead of the window's.
        context: further arguments of ``new_context``.
    """
    for size in SIZES:
        for scheme in SCHEMES:
            with opened(browser, url, size, scheme, **context) as screen:
                if prepare:
                    prepare(screen.page)
                screen.save(name, whole)
                yield screen


def faults_of(screen: Screen, keyboard: bool = True) -> list[str]:
    """All that is wrong with a screen, one line each: errors, width, contrast and, unless told not to, keyboard."""
    page = screen.page
    found = [f"error: {text}" for text in screen.troubles]
    found += [f"wider than the window: {text}" for text in too_wide(page)]
    found += [f"faint: {text}" for text in faint_text(page)]
    if keyboard:
        found += [f"keyboard: {text}" for text in keyboard_faults(page)]
    return [f"{screen.size}, {screen.scheme}: {text}" for text in found]


def too_wide(page: Any) -> list[str]:
    """Elements that stick out of the window to the left or right, but for those in a box that scrolls by itself."""
    return _ask(page, "tooWide")


def faint_text(page: Any) -> list[str]:
    """Texts whose contrast against what is painted behind them is below WCAG's rule AA.

    That is 4.5 to 1, or 3 to 1 for text of at least 24 px, or 18.66 px in bold. Text of disabled controls is exempt, as
    in the rule, and text over a picture is not judged.
    """
    return _ask(page, "faintText")


def keyboard_faults(page: Any, most: int = 2000) -> list[str]:
    """Whatever can be clicked and is not reached by Tab, or does not show that it has the focus.

    One member of a group that has the arrow keys (radio buttons, tabs, menus) stands for the group. A box that scrolls is
    reached itself or by something in it.
    """
    _ask(page, "watchFocus")
    for number in range(most):
        page.keyboard.press("Tab")
        if number % 10 == 9 and _ask(page, "wentRound"):
            return _ask(page, "focusFaults")
    return [f"no end after {most} stops"]


def _ask(page: Any, function: str) -> Any:
    page.evaluate(f"() => {{ if (!window.looked) {{ {LOOKED_AT} }} }}")
    return page.evaluate(f"() => window.looked.{function}()")
