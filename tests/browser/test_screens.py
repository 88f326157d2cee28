"""The helpers that look at pages find what is wrong with a page on purpose, and nothing on a plain one."""

import pytest
from screens import FOLDER, SCHEMES, SIZES, faint_text, faults_of, four_screens, keyboard_faults, opened, too_wide

STYLE = "<meta name='viewport' content='width=device-width'><meta name='color-scheme' content='light dark'>"
GOOD = f"""<!doctype html><title>x</title>{STYLE}<h1>Plain</h1><p>Text, <a href='#b'>a link</a></p><button id='b'>Press</button>
<div style='overflow-x:auto;width:200px' tabindex='0'><p style='width:900px'>wide, but in a box that scrolls</p></div>
<label><input type=radio name=r> one</label><label><input type=radio name=r> two</label>"""
BAD = f"""<!doctype html><title>x</title>{STYLE}<style>.mute:focus{{outline:0}} .pale{{color:#999}} body{{background:#fff;color:#111}}</style>
<p id='broad' style='width:2000px'>broad</p><p class='pale'>pale</p><p id='clear' style='opacity:.4'>see-through</p>
<h1 class='pale' style='font-size:30px'>large pale</h1><p id='shade' style='background:rgba(0,0,0,.6)'>on a shade</p>
<a class='mute' href='#x'>silent</a><button tabindex='-1' id='left-out'>left out</button>
<div id='fake' style='cursor:pointer' onclick='1'>not a button</div>
<p id='before'>fine</p><style>#before::before{{content:"pale too";color:#aaa}}</style>
<script>console.error("something is wrong"); setTimeout(() => {{ throw new Error("thrown") }})</script>"""


def address(text):
    return f"data:text/html;charset=utf-8,{text.replace('%', '%25').replace('#', '%23')}"


def test_a_plain_page_has_no_faults_in_any_screen_and_pictures_are_written_where_asked(chromium, tmp_path, monkeypatch):
    monkeypatch.delenv(FOLDER, raising=False)
    seen = []
    for screen in four_screens(chromium, address(GOOD), "plain"):
        seen.append((screen.size, screen.scheme))
        assert faults_of(screen) == []
        monkeypatch.setenv(FOLDER, str(tmp_path / "screens"))  # from the second on
    assert seen == [(size, scheme) for size in SIZES for scheme in SCHEMES]
    pictures = {f"plain-{size}-{scheme}.png" for size, scheme in seen[1:]}
    assert {path.name for path in (tmp_path / "screens").iterdir()} == pictures


@pytest.fixture
def bad(chromium):
    with opened(chromium, address(BAD)) as screen:
        for _ in range(100):  # until both errors have been told
            if len(screen.troubles) < 2:
                screen.page.wait_for_timeout(50)
        yield screen


def test_errors_and_what_is_too_wide_are_found(bad):
    assert sorted(bad.troubles) == ["something is wrong", "thrown"]
    assert [text.split()[0] for text in too_wide(bad.page)] == ["p#broad", "the"]


def test_faint_text_is_found_by_the_colours_that_are_painted(bad):
    found = dict(text.rsplit(": ", 1) for text in faint_text(bad.page))
    assert {name.split()[0] for name in found} == {"p.pale", "h1.pale", "p#clear", "p#shade", "p#before"}
    assert found['p.pale "pale"'] == "2.85 to 1"  # #999 on white


def test_what_the_keyboard_does_not_reach_or_does_not_show_is_found(bad):
    assert keyboard_faults(bad.page) == [
        'a.mute "silent" does not show the focus',
        'button#left-out "left out" is not reached',
        'div#fake "not a button" is not reached',
    ]
