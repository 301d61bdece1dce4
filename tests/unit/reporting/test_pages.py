"""The pages: whole, escaped, without anything beside them, and the same in HTML and Markdown."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from tests.unit.reporting.rows import grid, rows, write_study

from softprompt.reporting import make_report, open_study, write_report
from softprompt.reporting import writing as writing_module

TRAP = "<img src=x onerror=alert(1)> | *bold* `code`"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    methods = {
        f"rows {TRAP}": {"method": "prompt_tuning", "length": [1, 20], "learning_rate": [0.1, 0.3]},
        "model tuning": {"method": "model_tuning", "learning_rate": 0.001},
    }
    asked = grid(name=TRAP, question=TRAP, methods=methods)
    outputs = folder / "outputs.jsonl"
    case = {"task": "films", "split": "test", "input": f"{TRAP}\n# no heading", "targets": ["good"], "prediction": TRAP}
    outputs.write_text(json.dumps(case) + "\n", encoding="utf-8")
    study = open_study(write_study(folder / "study", asked, rows(asked)))
    return write_report(make_report(study, predictions=[outputs]), folder / "out")


class Page(HTMLParser):
    """Tags of a page, and whether each that is opened is closed."""

    VOID = ("meta", "br", "img", "link", "input", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_needs_nothing_beside_it(pages):
    text = pages[0].read_text(encoding="utf-8")
    page = Page(text)
    assert not any(page.named(tag) for tag in ("script", "img", "link", "iframe"))
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_every_text_of_others_is_escaped(pages):
    text = pages[0].read_text(encoding="utf-8")
    assert "<img" not in text
    assert text.count("&lt;img src=x") > 5


def test_figures_have_descriptions_and_tables_headings(pages):
    page = Page(pages[0].read_text(encoding="utf-8"))
    plots = [one for one in page.named("div") if "plot" in (one.get("class") or "")]
    assert len(plots) == len(page.named("svg")) == len(page.named("figure")) == 3
    assert all("The numbers are in the table below." in (one["aria-label"] or "") for one in plots)
    assert len(page.named("table")) == len(page.named("caption"))
    assert {one["scope"] for one in page.named("th")} == {"col", "row"}
    ids = [one["id"] for _, one in page.tags if one.get("id")]
    assert len(ids) == len(set(ids))
    assert {(one["href"] or "").removeprefix("#") for one in page.named("a")} <= set(ids)


def test_both_pages_have_the_same_sections_and_numbers(pages):
    html, markdown = (page.read_text(encoding="utf-8") for page in pages)
    headings = re.findall(r"<h2>(.*?)</h2>", html)
    assert headings == re.findall(r"^## (.*)$", markdown, re.MULTILINE)
    assert headings[:3] == ["Question", "Summary", "Setting"]
    for number in ("63.0 ± 1.0 (3)", "68.0 ± 1.0 (3)"):
        assert number in html
        assert number in markdown


def test_plots_lie_beside_the_markdown_and_no_text_of_others_is_markup(pages):
    markdown = pages[1].read_text(encoding="utf-8")
    shown = re.findall(r"\]\((figures/\w+\.svg)\)", markdown)
    assert len(shown) == 3
    assert all((pages[1].parent / name).read_text(encoding="utf-8").startswith("<?xml") for name in shown)
    assert "\\<img src=x" in markdown
    assert "    # no heading" in markdown
    rows_of_tables = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) >= 3 for line in rows_of_tables)
    assert not [line for line in rows_of_tables if re.search(r"(?<!\\)<img", line)]


def test_a_page_that_was_not_finished_leaves_the_older_one(pages, monkeypatch):
    before = pages[0].read_text(encoding="utf-8")

    def broken(*_):
        raise RuntimeError("stopped")

    monkeypatch.setattr(writing_module, "as_html", broken)
    study = open_study(pages[0].parent.parent / "study")
    with pytest.raises(RuntimeError, match="stopped"):
        write_report(make_report(study), pages[0].parent)
    assert pages[0].read_text(encoding="utf-8") == before
    assert not list(pages[0].parent.glob(".*"))
