"""The page in a browser: what people see, type and press."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.models import tiny_backbone
from tests.serving.live import serving

from softprompt.inference import Engine, Request, Sampling
from softprompt.inference.lanes import Lane
from softprompt.prompts import Members, PrefixTuning, PromptTuning
from softprompt.serving import ServerSettings, add_key
from softprompt.tasks import TextFormat

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="the page is tested in chromium, and no program of that name is here"),
]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT_MS = 30_000
KIND = "decoder-only"
FILM = TextFormat(input="review: {text}", target="{label}", label_words={"0": "bad", "1": "good", "2": "terrible"})
PLACE = TextFormat(input="name : {name} food : {food}", target="{said}")
TRAP = "<img src=x onerror=\"document.title='caught'\">"
STRANGE = TextFormat(input=TRAP + "{text}", target="{label}", label_words={"0": f"good {TRAP}", "1": "bad"})
QUOTES = "it's \"good\" $HOME `date` \\ 100% !\n\t'' é 😀 </pre>"


def write_prompts(folder: Path) -> Path:
    def built(form: TextFormat | None, seed: int, **known):
        info = {"format": form.to_mapping() if form else None, **known}
        return PromptTuning(length=3, init="vocab").build(tiny_backbone(KIND), seed=seed).with_info(**info)

    film = built(FILM, 1, task="films", metrics={"validation": {"accuracy": 0.5, "macro_f1": 0.25}})
    film.save(folder / "film")
    Members([film, built(FILM, 2, task="films")], "mean").save(folder / "films-mean")
    PrefixTuning(length=4, hidden=None, init="vocab").build(tiny_backbone(KIND), seed=3).save(folder / "plain")
    built(PLACE, 4, task="places").save(folder / "place")
    built(STRANGE, 5, task=TRAP, metrics={TRAP: {TRAP: TRAP}}).save(folder / "strange")
    shutil.copytree(folder / "plain", folder / "torn")
    (folder / "torn" / "prompt.json").write_text("{")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_prompts(tmp_path_factory.mktemp("prompts"))


@pytest.fixture(scope="module")
def address(folder) -> Iterator[str]:
    with serving(tiny_backbone(KIND), folder) as live:
        yield live.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Visitor:
    """Opens pages, and writes down what went wrong in them and whom they asked."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts = []
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.refusals = False  # whether the server is to refuse requests, which the browser notes as errors

    def open(self, address: str, **options) -> Page:
        context = self._browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", lambda said: self.wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(address)
        expect(page.locator("#count")).not_to_be_empty()
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        wrong = [text for text in self.wrong if not (self.refusals and text.startswith("Failed to load resource"))]
        assert not wrong
        assert self.asked
        own = ("http://127.0.0.1:", "data:")
        assert not [url for url in self.asked if not url.startswith(own)]


@pytest.fixture
def visitor(browser) -> Iterator[Visitor]:
    visitor = Visitor(browser)
    yield visitor
    visitor.close()


@pytest.fixture
def page(visitor, address) -> Page:
    return visitor.open(address)


def choose(page: Page, *names: str) -> None:
    """Have these prompts chosen, and no others."""
    for box in page.locator("#prompts input:enabled").all():
        box.set_checked(False)
    for name in names:
        page.get_by_role("checkbox", name=name, exact=True).check()


def run(page: Page, ended: str = "Done.") -> None:
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#status")).to_have_text(ended)


def answer_of(page: Page, name: str):
    return page.get_by_role("article", name=name, exact=True)


def shares(answer) -> list[float]:
    return [float(text.removesuffix(" %")) for text in answer.locator(".share").all_text_contents()]


def is_wider_than_the_screen(page: Page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > window.innerWidth")


def test_the_list_has_every_prompt_with_its_card(page):
    rows = page.locator("#prompts li")
    expect(rows).to_have_count(7)
    expect(page.locator("#count")).to_have_text("7 of 7.")
    film = rows.filter(has=page.get_by_role("checkbox", name="film", exact=True))
    film.locator("summary").click()
    for text in ("prompt_tuning", "review: {text}", "bad, good, terrible", "accuracy 0.5, macro_f1 0.25"):
        expect(film.locator("dl")).to_contain_text(text)
    expect(film.locator("dt")).to_contain_text(["virtual tokens", "scores on validation"])
    expect(rows.filter(has_text="films-mean")).to_contain_text("ensemble of 2")
    torn = rows.filter(has_text="torn")
    expect(torn).to_contain_text("Damaged")
    expect(torn.get_by_role("checkbox")).to_be_disabled()


def test_the_filter_narrows_the_list_and_keeps_what_is_chosen(page):
    choose(page, "plain")
    page.get_by_label("Filter").fill("FILMS prompt_tuning")
    expect(page.locator("#prompts .name")).to_have_text(["film", "plain"])
    expect(page.locator("#count")).to_have_text("1 of 7.")
    page.get_by_label("Filter").fill("nothing of the kind")
    expect(page.locator("#count")).to_have_text("0 of 7.")
    page.get_by_label("Filter").fill("")
    expect(page.locator("#prompts li")).to_have_count(7)


def test_of_very_many_prompts_only_some_are_drawn(visitor, folder, tmp_path):
    for number in range(230):
        shutil.copytree(folder / "plain", tmp_path / f"p{number:03}")
    with serving(tiny_backbone(KIND), tmp_path) as live:
        page = visitor.open(live.url)
        expect(page.locator("#prompts li")).to_have_count(200)
        expect(page.locator("#count")).to_have_text("231 of 231. The first 200 are shown; filter for others.")
        page.get_by_label("Filter").fill("p229")
        page.get_by_role("checkbox", name="p229").check()
        page.get_by_label("Filter").fill("")
        expect(page.get_by_role("checkbox", name="p229")).to_be_checked()
        expect(page.locator("#prompts li")).to_have_count(200)


def test_two_prompts_answer_side_by_side_as_the_engine_does(page, folder):
    choose(page, "film", "plain")
    page.get_by_label("Input").fill("very good film")
    page.get_by_label("Max tokens").fill("6")
    run(page)
    left, right = (answer_of(page, name).bounding_box() for name in ("film", "plain"))
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] < right["x"]
    shown = shares(answer_of(page, "film"))
    assert len(shown) == 3
    assert sum(shown) == pytest.approx(100, abs=0.2)
    assert answer_of(page, "plain").locator(".share").count() == 0
    with Engine(tiny_backbone(KIND), folder) as engine:
        for name in ("film", "plain"):
            want = engine.answer(Request(input="very good film", prompt=name, sampling=Sampling(max_new_tokens=6)))
            expect(answer_of(page, name).locator(".text")).to_have_text(want.completions[0].text)
        labels = ("bad", "good", "terrible")
        choice = engine.answer(Request(input="very good film", prompt="film", candidates=labels)).choice
    assert shown == pytest.approx([100 * choice.probabilities[label] for label in labels], abs=0.06)
    expect(answer_of(page, "film").locator(".best .name")).to_have_text(f"✓ {choice.label}")
    width = answer_of(page, "film").locator(".best .bar span").evaluate("bar => parseFloat(bar.style.width)")
    assert width == pytest.approx(max(shown), abs=0.06)
    expect(answer_of(page, "plain")).to_contain_text("4 virtual tokens")


def test_settings_are_sent_if_they_are_set(page):
    choose(page, "film")
    page.get_by_label("Input").fill("film")
    with page.expect_request("**/v1/completions") as asked:
        run(page)
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    assert asked.value.post_data_json == {"model": "film", "prompt": "film", "max_tokens": 64, **streamed}
    for label, value in (("Max tokens", "3"), ("Temperature", "0.7"), ("Seed", "5")):
        page.get_by_label(label).fill(value)
    page.get_by_label("Raw").check()
    with page.expect_request("**/v1/completions") as asked:
        run(page)
    sampling = {"max_tokens": 3, "temperature": 0.7, "seed": 5, "raw": True}
    assert asked.value.post_data_json == {"model": "film", "prompt": "film", **sampling, **streamed}
    page.get_by_label("Max tokens").fill("0")
    before = page.locator("#answers").inner_html()
    page.get_by_role("button", name="Run").click()
    assert page.get_by_label("Max tokens").evaluate("box => document.activeElement === box && !box.validity.valid")
    assert page.locator("#answers").inner_html() == before


def test_a_template_of_several_fields_gets_an_input_for_each(page):
    choose(page, "place", "plain")
    expect(page.locator("#inputs label .name")).to_have_text(["name", "food", "Input"])
    page.get_by_label("name for place").fill("fish")
    page.get_by_label("food for place").fill("cheap")
    page.get_by_label("Input for plain").fill("film")
    with page.expect_request(lambda request: "place" in (request.post_data or "")) as asked:
        run(page)
    assert asked.value.post_data_json["prompt"] == {"name": "fish", "food": "cheap"}
    for name in ("place", "plain"):
        expect(answer_of(page, name)).to_contain_text("tokens read")
    page.get_by_label("Raw").check()
    expect(page.locator("#inputs label .name")).to_have_text(["Input"])
    expect(page.get_by_label("Input")).to_have_value("film")


def test_stop_ends_the_answers_here_and_in_the_engine(visitor, folder, monkeypatch):
    turn = Lane.turn
    monkeypatch.setattr(Lane, "turn", lambda self, new: (turn(self, new), time.sleep(0.3)))
    with serving(tiny_backbone(KIND), folder) as live:
        page = visitor.open(live.url)
        choose(page, "plain", "place")
        page.get_by_label("Input").fill("film")
        page.get_by_label("name for place").fill("fish")
        page.get_by_label("food for place").fill("cheap")
        page.get_by_label("Max tokens").fill("80")
        expect(page.get_by_role("button", name="Stop")).to_be_disabled()
        page.get_by_role("button", name="Run").click()
        expect(answer_of(page, "plain").locator(".text")).not_to_be_empty()
        expect(page.locator("#answers")).to_have_attribute("aria-busy", "true")
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#status")).to_have_text("Stopped.")
        for name in ("plain", "place"):
            expect(answer_of(page, name)).to_contain_text("Stopped.")
        expect(page.get_by_role("button", name="Run")).to_be_focused()
        assert live.idle(30)
        assert live.engine.counts().output_tokens < 40
        expect(page.get_by_role("button", name="Stop")).to_be_disabled()
        page.close()  # which asks for the load now and then, and would find no server


def test_a_key_is_asked_for_kept_in_the_tab_and_never_shown(visitor, folder, tmp_path):
    key = add_key(tmp_path / "keys", "somebody")
    visitor.refusals = True
    with serving(tiny_backbone(KIND), folder, ServerSettings(keys=str(tmp_path / "keys"))) as live:
        page = visitor.open(live.url)
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("This server needs a key")
        dialog.get_by_label("Key").fill("wrong")
        page.keyboard.press("Enter")
        expect(dialog).to_contain_text("the one that came is none of its")
        dialog.get_by_label("Key").fill(key)
        page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        expect(page.locator("#prompts li")).to_have_count(7)
        choose(page, "plain")
        page.get_by_label("Input").fill("film")
        run(page)
        expect(answer_of(page, "plain")).to_contain_text("tokens read")
        for language in ("curl", "python"):
            page.get_by_label("Language").select_option(language)
            expect(page.locator("#code")).to_contain_text("SOFTPROMPT_API_KEY")
        assert key not in page.content()
        assert page.evaluate("[localStorage.length, document.cookie, sessionStorage.length]") == [0, "", 1]
        page.reload()
        expect(page.locator("#prompts li")).to_have_count(7)
        expect(page.locator("#code")).to_contain_text("SOFTPROMPT_API_KEY")
        expect(dialog).to_be_hidden()


def test_errors_are_told_in_the_servers_words(visitor, address):
    visitor.refusals = True
    page = visitor.open(address)
    choose(page, "film", "plain")
    page.get_by_label("Input").fill("very " * 200)
    run(page)
    for name in ("film", "plain"):
        expect(answer_of(page, name).locator(".error")).to_contain_text("tokens")
    page.get_by_label("Input").fill("film")
    page.get_by_label("Max tokens").fill("5000")
    run(page)
    expect(answer_of(page, "plain").locator(".error")).to_contain_text(
        "max_tokens=5000 is more than this server's 1024; ask for fewer."
    )
    choose(page)
    expect(page.locator("#chosen")).to_contain_text("No prompt is chosen")
    run(page, "Choose at least one prompt.")


def test_an_answer_that_breaks_off_is_no_answer(visitor, address):
    """A stream may end in an error of the server, or without its end."""
    page = visitor.open(address)
    choose(page, "plain")
    page.get_by_label("Input").fill("film")
    begin = 'data: {"choices": [{"text": "begun", "finish_reason": null}]}\n\n'
    ends = {'data: {"error": {"message": "Too late."}}\n\n': "Too late.", "": "The server ended its answer early."}
    for end, told in ends.items():
        page.route("**/v1/completions", lambda route, _, end=end: route.fulfill(body=begin + end))
        run(page)
        expect(answer_of(page, "plain").locator(".text")).to_have_text("begun")
        expect(answer_of(page, "plain").locator(".error")).to_have_text(told)


def test_what_the_server_sends_is_text_and_never_markup(visitor, address):
    """Templates, labels, tasks, scores and answers come from whoever made a prompt."""
    page = visitor.open(address)
    choose(page, "strange")
    page.locator("#prompts li", has=page.locator("input:checked")).locator("summary").click()
    expect(page.locator("#prompts .card")).to_contain_text(TRAP)
    page.get_by_label("Input").fill(TRAP)
    chunk = json.dumps({"choices": [{"text": TRAP, "finish_reason": "stop"}]})
    page.route("**/v1/completions", lambda route: route.fulfill(body=f"data: {chunk}\n\ndata: [DONE]\n\n"))
    run(page)
    expect(answer_of(page, "strange").locator(".text")).to_have_text(TRAP)
    expect(answer_of(page, "strange").locator(".bars")).to_contain_text(TRAP)
    error = json.dumps({"error": {"message": TRAP}})
    page.route("**/v1/completions", lambda route: route.fulfill(body=f"data: {error}\n\n"))
    run(page)
    expect(answer_of(page, "strange").locator(".error")).to_have_text(TRAP)
    assert page.locator("img").count() == 0
    assert page.title() == "softprompt"


def test_markup_would_be_refused_if_it_came(visitor, address):
    """The page's policy stands behind its care: neither inline scripts nor styles nor strings as markup."""
    page = visitor.open(address)
    refused = "() => { try { document.body.innerHTML = '<b>x</b>'; return false; } catch { return true; } }"
    assert page.evaluate(refused)
    page.evaluate("""() => {
        const script = document.createElement("script");
        try { script.text = "document.title = 'caught'"; document.body.append(script); } catch {}
        document.body.setAttribute("style", "margin-top: 99px");
    }""")
    assert page.title() == "softprompt"
    assert page.evaluate("getComputedStyle(document.body).marginTop") != "99px"
    assert visitor.wrong
    visitor.wrong.clear()


def test_the_code_asks_for_the_same(page, address):
    choose(page, "plain")
    page.get_by_label("Input").fill(QUOTES)
    page.get_by_label("Max tokens").fill("4")
    page.get_by_label("Raw").check()
    said = page.locator("#code").text_content()
    assert said.startswith("curl ")
    shell = ["sh", "-c", said.replace("curl ", r"printf '%s\0' ", 1)]
    words = subprocess.run(shell, check=True, capture_output=True, timeout=60).stdout.decode().split("\0")
    assert words[:4] == [f"{address}/v1/completions", "-H", "Content-Type: application/json", "-d"]
    assert json.loads(words[4]) == {"model": "plain", "prompt": QUOTES, "max_tokens": 4, "raw": True}

    choose(page, "plain", "film", "place")
    page.get_by_label("Raw").uncheck()
    page.get_by_label("Input").fill(f"film {QUOTES}")
    page.get_by_label("name for place").fill("fish's")
    page.get_by_label("food for place").fill('"cheap"\n')
    page.get_by_label("Language").select_option("python")
    program = [sys.executable, "-W", "error", "-c", page.locator("#code").text_content()]
    lines = subprocess.run(program, check=True, capture_output=True, text=True, timeout=120).stdout.splitlines()
    run(page)
    texts = {name: answer_of(page, name).locator(".text").inner_text() for name in ("film", "place", "plain")}
    assert lines[1:] == [texts[name] for name in sorted(texts)]
    told = [100 * one["probability"] for one in json.loads(lines[0].replace("'", '"'))]
    assert told == pytest.approx(shares(answer_of(page, "film")), abs=0.06)


def test_the_code_is_copied(visitor, address):
    page = visitor.open(address, permissions=["clipboard-read", "clipboard-write"])
    page.get_by_label("Input").fill(QUOTES)
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copied")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#code").text_content()

    page = visitor.open(address)  # which may not write to the clipboard
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copied")).to_contain_text("Selected")
    assert page.evaluate("getSelection().toString().trim()") == page.locator("#code").text_content().strip()


def test_the_load_is_shown_as_it_is(page):
    choose(page, "plain")
    page.get_by_label("Input").fill("film")
    run(page)
    expect(page.locator("#load")).to_contain_text("prompts in memory")
    expect(page.locator("#load div", has_text="prompts in memory").locator("dd")).not_to_have_text("0")
    expect(page.locator("#spark polyline")).to_have_attribute("points", re.compile(r"\d+\.\d \d+\.\d \d"))


def test_everything_is_done_by_keys(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the input"
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        at = page.evaluate("""() => {
            const at = document.activeElement;
            const name = at.id || at.dataset.field || at.ariaLabel || at.labels?.[0]?.textContent.trim() || at.tagName;
            return [name, getComputedStyle(at).outlineStyle !== "none"];
        }""")
        if at[0] == "BODY":
            break
        if at[0] not in ("prompts",):  # a list that scrolls
            assert at[1], f"{at[0]} does not show that it has the focus"
        reached.append(at[0])
    for name in ("reload", "filter", "film", "max_tokens", "raw", "run", "language", "copy", "code"):
        assert name in reached
    assert any("card of film" in name for name in reached)
    page.get_by_role("checkbox", name="film", exact=True).focus()
    page.keyboard.press("Space")
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".card")).to_be_visible()
    page.get_by_role("link", name="Skip to the input").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("film")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#status")).to_have_text("Done.")
    expect(answer_of(page, "film")).to_contain_text("tokens read")
    expect(page.get_by_label("Input")).to_have_value("film")


def test_every_control_has_a_name(page):
    choose(page, "place", "plain")
    unnamed = page.evaluate("""() => [...document.querySelectorAll("input, textarea, select, button, [tabindex='0']")]
        .filter((one) => !(one.labels?.length || one.ariaLabel || one.textContent.trim()))
        .map((one) => one.outerHTML)""")
    assert unnamed == []
    expect(page.locator("#answers")).to_have_attribute("aria-live", "polite")


def test_a_narrow_screen_does_not_scroll_sideways(visitor, address, tmp_path):
    page = visitor.open(address, viewport={"width": 320, "height": 640})
    assert not is_wider_than_the_screen(page)
    choose(page, "film", "place", "films-mean")
    for area in page.locator("textarea").all():
        area.fill("w" * 60 + " film")
    for summary in page.locator("summary").all():
        summary.click()
    run(page)
    assert not is_wider_than_the_screen(page)
    assert page.locator(".card dd").evaluate_all("all => Math.min(...all.map((one) => one.clientWidth))") > 60
    page.screenshot(path=tmp_path / "narrow.png", full_page=True)


def test_it_is_dark_where_people_want_it_dark(visitor, address, tmp_path):
    def lightness(page: Page) -> tuple[float, float]:
        """Of the paper and of the ink, 0 to 255."""
        colours = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        return tuple(sum(map(int, one.removeprefix("rgb(").removesuffix(")").split(","))) / 3 for one in colours)

    for scheme in ("light", "dark"):
        page = visitor.open(address, color_scheme=scheme)
        paper, ink = lightness(page)
        assert (paper > ink) == (scheme == "light")
        assert abs(paper - ink) > 180
        page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)


def test_a_server_that_is_gone_is_told(visitor, folder):
    visitor.refusals = True
    with serving(tiny_backbone(KIND), folder) as live:
        page = visitor.open(live.url)
        page.get_by_label("Input").fill("film")
        page.route("**/v1/**", lambda route: route.abort())
        run(page)
        expect(page.locator("#answers .error")).to_have_text("The server cannot be reached.")
        expect(page.locator("#load")).to_have_text("The server cannot be reached.")
