"""The study's page in a real browser: a rater's actions, and failures."""

import signal

import pytest
from playwright.sync_api import expect
from screens import SCHEMES, SIZES, faults_of, opened
from study_pairs import make_study
from study_server import Server

from artune.results.study.tally import tally_votes

VIEWPORTS = {"desktop": (1366, 768), "phone": (390, 844), "phone, turned": (844, 390)}


def test_a_whole_session_by_keyboard_is_what_the_tally_counts(rater, server):
    one = rater().start()
    for position, key in enumerate(["1", "2", "0", "ArrowLeft", "ArrowRight", "ArrowDown"]):
        expect(one.page.locator("#count")).to_have_text(f"{position} of 6")
        one.at(position).press(key)
    expect(one.page.locator("#finished")).to_have_text("You have given 6 answers.")
    assert one.votes(server.folder) == list(enumerate(["left", "right", "tie", "left", "right", "tie"]))
    stored = one.votes(server.folder, "rater, kind, left_side, right_side, pressed, choice, seconds, seed")
    assert sorted(kind for _, kind, *_ in stored) == ["check"] * 2 + ["pair"] * 4
    for _, _, left, right, pressed, choice, seconds, seed in stored:
        assert choice == {"left": left, "right": right, "tie": "tie"}[pressed]
        assert 0.25 < seconds < 60
        assert seed == 0
    expect(one.page.locator("#more")).to_be_hidden()  # no pair is left to rate
    line = tally_votes(server.folder / "votes.sqlite")["raters"][stored[0][0]]
    assert (line["votes"], line["checks"]) == (4, 2)


def test_a_whole_session_by_mouse_asks_both_questions_and_shows_five_references(rater, server):
    one, questions = rater().start(), set()
    for position, button in enumerate(["Left", "Right", "Cannot decide"] * 2):
        one.at(position)
        question, references = one.page.get_by_role("heading").inner_text(), one.page.locator("#references img").count()
        questions.add((question, references))
        one.page.get_by_role("button", name=button).click()
    expect(one.page.get_by_role("heading")).to_have_text("Thank you!")
    assert questions == {("Which image looks more realistic?", 0), ("Which image matches the real images better?", 5)}
    assert one.votes(server.folder) == list(enumerate(["left", "right", "tie"] * 2))


def test_a_reload_in_the_middle_goes_on_where_it_was(rater, server):
    one = rater().start()
    one.press("1").at(1).press("2").at(2)
    code = one.code
    one.page.reload()
    one.at(2)
    expect(one.page.locator("#count")).to_have_text("2 of 6")
    assert one.code == code
    one.press("0").at(3)
    assert one.votes(server.folder) == [(0, "left"), (1, "right"), (2, "tie")]
    other = rater()  # the same person at another computer, with the code that the page shows
    other.page.goto(other.url)
    other.page.get_by_label("Started before? Your code:").fill(one.page.locator("#rate .own").inner_text().upper())
    other.page.get_by_role("button", name="Continue").click()
    other.at(3)


def test_two_raters_at_once_do_not_mix(rater, server):
    one, two = rater().start(), rater().start()
    for position in range(6):
        one.at(position).press("1")
        two.at(position).press("2")
    for each, side in ((one, "left"), (two, "right")):
        expect(each.page.get_by_role("heading")).to_have_text("Thank you!")
        assert each.votes(server.folder) == [(at, side) for at in range(6)]
    assert one.code != two.code
    # The sides are mirrored and the keys opposite, so both raters chose the same image of every pair.
    chosen = [sorted(each.votes(server.folder, "item, choice")) for each in (one, two)]
    assert chosen[0] == chosen[1]


def test_a_double_click_or_a_key_held_down_is_one_vote(rater, server):
    one = rater().start()
    one.page.locator("#left").dblclick()
    one.at(1)
    one.page.locator("#right").dblclick(delay=20)
    one.at(2).press("0").press("0").press("1")
    one.at(3)
    one.page.keyboard.down("2")
    one.at(4)
    for _ in range(5):
        one.page.keyboard.down("2")  # a keyboard repeats a key that is held down: still one press
    one.page.wait_for_timeout(400)
    expect(one.page.locator("#count")).to_have_text("4 of 6")
    assert one.votes(server.folder) == [(0, "left"), (1, "right"), (2, "tie"), (3, "right")]


HOSTILE = [
    "<img src=x onerror=alert(1)>", "\"><script>alert(1)</script>", "' OR 1=1 --", "../../pairs.json", "%00%ff%fe",
    "javascript:alert(1)", "a" * 5000, "a" * 20, "__proto__",
]  # fmt: skip


def test_a_hostile_code_opens_nothing_and_runs_nothing(rater, server):
    one = rater()
    one.page.goto(one.url)
    alert, field = one.page.get_by_role("alert"), one.page.get_by_label("Started before? Your code:")
    for code in HOSTILE:
        one.page.goto("about:blank")
        one.page.goto(f"{one.url}/#{code}")
        expect(alert).to_be_visible()
        expect(one.page.get_by_role("heading")).to_have_text("Which image?")
        assert one.page.locator("main img:visible").count() == 0
        field.fill(code)
        field.press("Enter")
        expect(alert).to_contain_text("This code belongs to nobody." if code == "a" * 20 else "That is not a code.")
    one.troubles = [text for text in one.troubles if "401" not in text]  # the browser logs the refusal itself
    one.page.get_by_role("button", name="Start").click()  # the page still works
    one.at(0).press("1").at(1)
    assert len(one.votes(server.folder)) == 1


def test_the_last_answers_can_be_taken_back(rater, server):
    one = rater().start()
    expect(one.page.get_by_role("button", name="Undo")).to_be_disabled()
    one.press("1").at(1).press("1").at(2)
    one.press("u").at(1).press("2").at(2)
    assert one.votes(server.folder) == [(0, "left"), (1, "right")]
    one.page.get_by_role("button", name="Undo").click()
    one.at(1).press("U").at(0).press("0").at(1)
    assert one.votes(server.folder) == [(0, "tie")]


def test_everything_works_without_a_mouse_and_the_focus_is_seen(rater, server):
    one = rater()
    one.page.goto(one.url)
    one.press("Tab").press("Enter").at(0)
    for position, key in enumerate(("Enter", "Space", "Enter")):
        while one.page.evaluate("document.activeElement.id") != "right":
            one.press("Tab")
        assert one.page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"
        one.press(key).at(position + 1)
        assert one.page.evaluate("document.activeElement.id") == "right"  # the next pair needs no Tab
    assert [pressed for _, pressed in one.votes(server.folder)] == ["right"] * 3


def test_a_server_that_is_killed_loses_nothing_and_the_page_goes_on_by_itself(chromium, rater, tmp_path):
    make_study(tmp_path / "pairs.zip", pairs=4)
    first = Server(tmp_path)
    one = rater(url=first.url).start()
    one.press("1").at(1)
    first.stop(signal.SIGKILL)
    one.press("2")
    expect(one.page.get_by_role("alert")).to_contain_text("The server does not answer")
    one.press("1")  # no answer is accepted while another waits to be sent
    with Server(tmp_path, first.port):
        one.at(2)
        expect(one.page.get_by_role("alert")).to_be_hidden()
        one.press("0").at(3)
        assert one.votes(tmp_path) == [(0, "left"), (1, "right"), (2, "tie")]
    one.troubles = [text for text in one.troubles if "ERR_CONNECTION" not in text]  # logged by the browser


def test_an_older_tab_of_the_same_rater_catches_up(rater, server):
    one = rater().start()
    tab = rater()
    tab.page.goto(one.page.url)
    tab.at(0)
    one.press("1").at(1).press("1").at(2)
    tab.press("2").at(2)  # the tab's answer to the first pair comes too late and is not counted
    assert one.votes(server.folder) == [(0, "left"), (1, "left")]


def test_a_rater_who_has_finished_may_rate_more(chromium, rater, tmp_path):
    make_study(tmp_path / "pairs.zip", pairs=2, checks=0, session=3)
    with Server(tmp_path) as running:
        one = rater(url=running.url).start()
        one.press("1").at(1).press("1").at(2).press("1")
        one.page.get_by_role("button", name="Rate some more").click()
        one.at(3).press("2")
        expect(one.page.locator("#finished")).to_have_text("You have given 4 answers.")
        expect(one.page.locator("#more")).to_be_hidden()


def test_neither_the_page_nor_what_it_fetches_says_whose_an_image_is(rater):
    one, sent = rater(), []
    one.page.on("response", lambda answer: sent.append(answer))
    one.start()
    for position in range(5):
        one.press("1").at(position + 1)
    said = [one.page.content().replace("spellcheck", "")]
    said += [answer.url + str(answer.all_headers()) for answer in sent]
    said += [answer.text() for answer in sent if "/api/" in answer.url or "/page.js" in answer.url]
    assert len(sent) > 20
    for text in said:
        for word in ("ours", "pretrained", "scrambled", "check", "CFG", "llamagen"):
            assert word not in text, (word, text[:300])
    assert {answer.url.split("/")[2] for answer in sent} == {one.url.split("/")[2]}  # no other host is contacted


@pytest.mark.parametrize("viewport", VIEWPORTS)
def test_both_images_and_all_answers_fit_on_the_screen_and_small_images_stay_crisp(rater, viewport):
    width, height = VIEWPORTS[viewport]
    one = rater(viewport={"width": width, "height": height}).start()
    one.at(0)
    for position in (0, 3):  # one pair per question
        for following in range(1, position + 1):
            one.press("1").at(following)
        for name in ("#left", "#right", "#tie", "#question"):
            box = one.page.locator(name).bounding_box()
            assert min(box["x"], box["y"]) >= 0
            assert box["x"] + box["width"] <= width
            assert box["y"] + box["height"] <= height, name
        left, right = (one.page.locator(f"{name} img").bounding_box() for name in ("#left", "#right"))
        assert left["width"] == pytest.approx(left["height"], abs=1)
        assert left["width"] == pytest.approx(right["width"], abs=1)
        assert left["width"] >= 96  # four times the size of a digit's image, even on a small screen
        assert left["y"] == right["y"]
        style = "getComputedStyle(document.querySelector('#left img')).imageRendering"
        assert one.page.evaluate(style) == "pixelated"


def test_the_page_follows_the_colours_of_the_system(rater):
    colours = set()
    for scheme in ("light", "dark"):
        one = rater(color_scheme=scheme)
        one.page.goto(one.url)
        colours.add(one.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2


# Notes every change of the class of #rate; a click comes as soon as a new pair rests, which must not count as an answer.
WATCH = """
window.seen = [];
addEventListener("DOMContentLoaded", () => new MutationObserver(() => {
  const rate = document.getElementById("rate"), left = document.getElementById("left");
  const resting = rate.classList.contains("resting");
  const opacity = Number(getComputedStyle(left.querySelector("span")).opacity);
  window.seen.push({ at: performance.now(), resting, opacity, disabled: left.getAttribute("aria-disabled") });
  if (resting) left.click();
}).observe(document.getElementById("rate"), { attributes: true, attributeFilter: ["class"] }));
"""


def test_the_rest_of_a_new_pair_is_visible_and_takes_no_answer(rater, server):
    one = rater()
    one.page.add_init_script(WATCH)
    one.start().press("2").at(1)
    assert one.votes(server.folder) == [(0, "right")]
    seen = one.page.evaluate("seen")
    begun = [note for note in seen if note["resting"]]
    assert {(note["opacity"], note["disabled"]) for note in begun} == {(0.35, "true")}
    ended = [note for note in seen if note["at"] > begun[-1]["at"]][-1]
    assert not ended["resting"]
    assert ended["opacity"] == 1
    assert ended["at"] - begun[-1]["at"] == pytest.approx(250, abs=200)  # a quarter of a second; timers may be late
    assert one.page.locator("#left").get_attribute("aria-disabled") is None


def test_on_a_phone_the_images_fill_the_width_and_no_keyboard_is_mentioned(rater):
    one = rater(viewport={"width": 390, "height": 844})
    one.page.goto(one.url)
    expect(one.page.locator(".keys")).to_be_hidden()
    expect(one.page.locator(".tap")).to_be_visible()
    assert one.page.evaluate("document.documentElement.scrollWidth") == 390
    one.start()
    for position in (0, 3):  # one pair per question
        for following in range(1, position + 1):
            one.press("1").at(following)
        widths = [one.page.locator(f"{name} img").bounding_box()["width"] for name in ("#left", "#right")]
        assert sum(widths) > 0.95 * 390
        assert one.page.evaluate("document.documentElement.scrollWidth") == 390
    assert one.page.locator("#rate kbd:visible").count() == 0


def test_the_first_page_says_purpose_duration_consent_and_contact_before_anybody_starts(rater):
    one = rater()
    one.page.goto(one.url)
    for words in (
        "Two computer programs made these images",
        "4 pairs",
        "Taking part is voluntary",
        "one of these: zero,",
    ):
        expect(one.page.locator("#start")).to_contain_text(words)
    for key in ("contact", "minutes"):  # the tests' server serves a trial: what its makers have not filled in is seen
        expect(one.page.locator("mark", has_text=f"{key}: not given")).to_be_visible()
    expect(one.page.locator(".trial")).to_be_visible()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
def test_every_page_fits_the_window_is_readable_and_needs_no_mouse(chromium, server, size, scheme):
    keyboard = scheme == "light"  # what is reached does not depend on the colours
    with opened(chromium, server.url, size, scheme) as screen:
        screen.page.get_by_role("button", name="Agree and start").wait_for()
        screen.save("study-first")
        assert faults_of(screen, keyboard) == []
        screen.page.get_by_role("button", name="Agree and start").click()
        for position, key in enumerate(("1", "2", "0", "1", "2", "0")):
            screen.page.locator(f'#rate[data-position="{position}"]:not(.resting):not(.waiting)').wait_for()
            if position in (0, 3):  # one pair per question
                screen.save(f"study-pair-{position}")
                assert faults_of(screen, keyboard) == []
            screen.page.keyboard.press(key)
        screen.page.locator("#finish").wait_for()
        screen.save("study-last")
        assert faults_of(screen, keyboard) == []
