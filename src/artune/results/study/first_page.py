"""The words of the first page: purpose, duration, consent, contact, and what the images show."""

import html
from collections.abc import Sequence
from pathlib import Path
from string import Template

from artune.config.tables import StudyPage
from artune.results.study.pairs import Pairs

MOST_NAMED = 12  # classes that are listed; of more, only the number is given


def first_page(page: StudyPage, classes: Sequence[str], pairs: Pairs) -> bytes:
    """The HTML of the rating page, with the words of ``page`` in it as text, never as markup.

    Args:
        page: the words from ``config/study.yaml``; what is missing is a visible gap, and the page calls itself a trial.
        classes: names of the classes of the data set; empty if they are not known.
        pairs: the pairs, for the length of a session.
    """
    number = min(pairs.session, len(pairs.of_kind("pair")))
    words = {key: html.escape(str(value)) for key, value in page.model_dump().items() if value}
    gaps = {key: f"<mark>[{key}: not given in config/study.yaml]</mark>" for key in page.missing()}
    trial = "" if not gaps else '<p class="trial">This is a trial: its makers have not filled in this page yet.</p>'
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    shown = {"shows": html.escape(shows(classes)), "number": str(number), "trial": trial}
    return template.substitute(words | gaps | shown).encode()


def shows(classes: Sequence[str]) -> str:
    """What the images show, in a sentence: ``Every image shows one of these: cat, dog.``"""
    if not classes:
        return ""
    if len(classes) > MOST_NAMED:
        return f"The images show {len(classes):,} kinds of things."
    return f"Every image shows one of these: {', '.join(classes)}."
