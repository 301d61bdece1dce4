"""XSum from news to sports: trained on one section of the BBC, tested on another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from softprompt.errors import DataError
from softprompt.tasks.builtin.hub_files import HUB_FILES, read_hub_files
from softprompt.tasks.builtin.summaries import SUMMARY_METRICS, XSUM
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.rows import Row, existing, numbered_lines

__all__ = ["XSUM_NEWS_TO_SPORTS", "read_news_to_sports", "read_sections"]

ADDRESSES = "XSum-WebArxiveUrls-BBCids.txt"
SECTIONS = {"train": "news", "validation": "news", "test": "sport"}
ADDRESS = re.compile(rb"//(?:\w+\.)*bbc\.(?:co\.uk|com)(?::\d+)?/(\w+)")


def read_news_to_sports(folder: Path) -> dict[str, Iterator[Row]]:
    """News of the splits to train on and to choose by, sports of the test split."""
    splits = read_hub_files(folder)
    sections = read_sections(folder / ADDRESSES)
    return {split: in_section(rows, sections, SECTIONS[split]) for split, rows in splits.items()}


def read_sections(path: Path) -> dict[str, str]:
    """The first part of each article's address at the BBC, such as `news` or `sport`, by the article's number.

    Raises:
        DataError: If the file is missing, or a line is no address with a number.
    """
    sections = {}
    for number, line in numbered_lines(existing(path)):
        if not line.strip():
            continue
        address, *numbers = line.split()
        found = ADDRESS.findall(address)
        if not found or len(numbers) != 1 or not numbers[0].isalnum():
            raise DataError(f"{path}:{number}: holds no address of the BBC and number; copy the file again.")
        sections[numbers[0].decode()] = found[-1].decode()  # an archive's address ends in the page's own
    return sections


def in_section(rows: Iterable[Row], sections: Mapping[str, str], wanted: str) -> Iterator[Row]:
    """The rows of one section, with it as a column; a row whose number has no address is bad."""
    for row in rows:
        number = str(row.columns.get("id"))
        if row.problem or number not in sections:
            yield replace(row, problem=row.problem or f"column 'id' holds {number!r:.40}, which {ADDRESSES} lacks")
        elif sections[number] == wanted:
            yield replace(row, columns={**row.columns, "section": wanted})


XSUM_NEWS_TO_SPORTS = TaskDefinition(
    name="xsum_news_to_sports",
    summary=(
        "XSum's articles by the BBC's section: news of its training and validation splits to train on and choose by, "
        "sports of its test split to test on. Other sections are left out."
    ),
    format=XSUM.format,
    metrics=SUMMARY_METRICS,
    splits=("train", "validation", "test"),
    read=read_news_to_sports,
    source=f"{XSUM.source} (XSum-Dataset/{ADDRESSES})",
    licence=XSUM.licence,
    citation=f"{XSUM.citation}; Li and Liang 2021, Prefix-Tuning, ACL, §6.4",
    layout=(
        f"{HUB_FILES}. Columns: document, summary and id. With them {ADDRESSES}, which has each article's address and "
        "id: the hub's rows say no section."
    ),
)
