"""A report as readers see it: in a browser, on a narrow screen, and in print."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from tests.unit.reporting.rows import SIZES, grid, rows, write_study

from softprompt.cli import main

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="reports are opened in chromium, and no program of that name is here"),
]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
METHODS = {
    "bare backbone": {"method": "text_prompt"},
    "rows": {"method": "prompt_tuning", "length": [1, 20, 100], "init": ["random", "class_labels"], "learning_rate": 1},
    "single": {"method": "prompt_tuning", "length": 20, "learning_rate": 0.1},
    "three together": {"method": "ensemble", "of": "single", "members": 3, "combine": "vote"},
    "model tuning, with a long name that has to be broken somewhere": {"method": "model_tuning", "learning_rate": 1},
}  # fmt: skip
CLAIM = {"says": "Words before noise.", "better": {"init": "class_labels"}, "worse": {"init": "random"}}
FIGURES = {
    *("score_against_size", "pre_training_1", "score_against_trained", "domain_shift", "ensembles_1"),
    *("axis_length_1", "axis_init_1"),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    tasks = {
        "films": {"task": "sst2", "tested_on": {"product reviews": {"task": "amazon_books"}}},
        "domains": {"task": "clinc150_domains"},
    }
    asked = grid(backbones=list(SIZES), tasks=tasks, methods=METHODS, claims=[CLAIM])
    folder = write_study(tmp_path_factory.mktemp("study"), asked, rows(asked))
    assert main(["report", str(folder)]) == 0
    return (folder / "report.html").as_uri()


def opened(browser: Browser, address: str, width: int) -> Page:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.on("request", lambda request: asked.append(request.url))
    asked: list[str] = []
    page.goto(address)
    assert asked == [address]
    return page


@pytest.mark.parametrize("width", [360, 1280])
def test_no_page_is_wider_than_the_screen(browser, address, width):
    page = opened(browser, address, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_every_figure_is_drawn_with_its_numbers_below(browser, address):
    page = opened(browser, address, 1280)
    names = page.locator("figure").evaluate_all("all => all.map(one => one.id)")
    assert set(names) >= FIGURES
    for name in names:
        drawing, numbers = page.locator(f"#{name} svg").bounding_box(), page.locator(f"#{name} table").bounding_box()
        assert drawing["width"] > 400
        assert drawing["height"] > 200
        assert numbers["y"] >= drawing["y"] + drawing["height"]
    page.close()


def test_no_text_of_a_drawing_leaves_it(browser, address):
    page = opened(browser, address, 1280)
    outside = page.evaluate(
        """() => [...document.querySelectorAll('svg')].flatMap(svg => {
            const room = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('text')].filter(text => {
                const own = text.getBoundingClientRect();
                return own.left < room.left - 2 || own.right > room.right + 2
                    || own.top < room.top - 2 || own.bottom > room.bottom + 2;
            }).map(text => text.textContent);
        })"""
    )
    assert outside == []
    page.close()


def test_it_is_printed_whole_on_pages_of_a4(browser, address, tmp_path):
    page = opened(browser, address, 1280)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 690, "height": 1000})  # what A4 leaves between the margins, at 96 to the inch
    tallest = max(page.locator("figure .plot").evaluate_all("all => all.map(one => one.offsetHeight)"))
    assert tallest < 1000
    wide = page.locator("table").evaluate_all(
        "all => all.filter(one => one.scrollWidth > 692).map(one => one.caption.textContent)"
    )
    assert wide == []
    written = page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", written)
    assert len(boxes) > 3
    assert {(round(float(width)), round(float(height))) for width, height in boxes} == {(595, 842)}
    page.close()
