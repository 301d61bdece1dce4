"""Small data sets that nobody wrote, in the formats in which those of the named grids are published."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path

__all__ = ["write_data"]

_WORDS = {"0": ("dull", "slow", "weak", "cold"), "1": ("warm", "funny", "fresh", "bright")}
_TRAIN, _REST = 240, 24
_REFERENCES = 4
"""Of a table of E2E."""


def write_data(folder: Path) -> Path:
    """All that `{data}` stands for in a named grid: few short rows, but more than any of them draws at quick size."""
    draw = random.Random(0)
    _write_sst2(folder / "sst2" / "sentence_level", draw)
    _write_e2e(folder / "e2e", draw)
    _write_trec(folder / "trec", draw)
    _write_news(folder / "ag_news", draw)
    _write_glue(folder / "glue" / "MRPC", ("#1 String", "#2 String"), "Quality", draw)
    _write_glue(folder / "glue" / "QQP", ("question1", "question2"), "is_duplicate", draw)
    for category in ("books", "electronics"):
        _write_amazon(folder / "amazon" / category, category, draw)
    for part in ("orig", "new"):
        _write_imdb(folder / "counterfactual_imdb" / "sentiment" / part, part, draw)
    for domain in ("new_wiki", "amazon_reviews"):
        _write_squad(folder / "squadshifts" / f"{domain}_v1.0.json", domain, draw)
    return folder


def _write_sst2(folder: Path, draw: random.Random) -> None:
    folder.mkdir(parents=True)
    for file, rows in (("train.tsv", _TRAIN), ("dev.tsv", _REST)):
        lines = [f"{text}\t{label}\n" for text, label in _reviews(f"a film of {file[0]}", rows, draw)]
        (folder / file).write_text("".join(lines), encoding="utf-8")


def _write_e2e(folder: Path, draw: random.Random) -> None:
    folder.mkdir(parents=True)
    for file, rows in (("trainset.csv", _TRAIN), ("devset.csv", _REST)):
        with (folder / file).open("w", encoding="utf-8", newline="") as out:
            table = csv.writer(out)
            table.writerow(["mr", "ref"])
            for number in range(rows * _REFERENCES):
                name, food = f"{file[0]}{number // _REFERENCES}", ("French", "Thai")[number // _REFERENCES % 2]
                said = f"{name} has {draw.choice(['good', 'fine', 'fair'])} {food} food."
                table.writerow([f"name[{name}], food[{food}]", said])


def _write_trec(folder: Path, draw: random.Random) -> None:
    folder.mkdir(parents=True)
    kinds = ("ABBR:exp", "DESC:def", "ENTY:food", "HUM:ind", "LOC:city", "NUM:date")
    lines = [f"{draw.choice(kinds)} What of case {number} ?\n" for number in range(_TRAIN)]
    (folder / "train_5500.label").write_text("".join(lines), encoding="latin-1")


def _write_news(folder: Path, draw: random.Random) -> None:
    folder.mkdir(parents=True)
    for file, rows in (("train.csv", _TRAIN), ("test.csv", _REST)):
        with (folder / file).open("w", encoding="utf-8", newline="") as out:
            table = csv.writer(out, quoting=csv.QUOTE_ALL)
            for number in range(rows):
                table.writerow([draw.randint(1, 4), f"{file} {number}", f"What was said of case {number}."])


def _write_glue(folder: Path, texts: tuple[str, str], label: str, draw: random.Random) -> None:
    folder.mkdir(parents=True)
    for file, rows in (("train.tsv", _TRAIN), ("dev.tsv", _REST)):
        lines = ["\t".join((*texts, label))]
        for number in range(rows):
            first, second = (draw.choice(_WORDS[draw.choice("01")]) for _ in texts)
            lines.append(f"Case {number} is {first}.\tIt is {second}.\t{number % 2}")
        (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_amazon(folder: Path, category: str, draw: random.Random) -> None:
    folder.mkdir(parents=True)
    rows = list(_reviews(f"one of the {category}", _TRAIN, draw))
    for file, label in (("negative.review", "0"), ("positive.review", "1")):
        reviews = [
            f"<review>\n<rating>\n{1 + 4 * int(label)}.0\n</rating>\n<review_text>\n{text}\n</review_text>\n</review>\n"
            for text, own in rows
            if own == label
        ]
        (folder / file).write_text("".join(reviews), encoding="utf-8")


def _write_imdb(folder: Path, part: str, draw: random.Random) -> None:
    folder.mkdir(parents=True)
    for file, rows in (("train.tsv", _TRAIN), ("dev.tsv", _REST)):
        lines = [
            f"{('Negative', 'Positive')[int(label)]}\t{text}\n"
            for text, label in _reviews(f"a {part} film of {file[0]}", rows, draw)
        ]
        (folder / file).write_text("".join(["Sentiment\tText\n", *lines]), encoding="utf-8")


def _write_squad(file: Path, domain: str, draw: random.Random) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    articles = []
    for number in range(_TRAIN // 2):
        wells = str(draw.randrange(2, 99))
        answer = {"answer_start": len("Village 000 "), "text": wells}
        question = {"id": f"{domain}-{number}", "question": "How many wells?", "answers": [answer]}
        paragraph = {"context": f"Village {number:03} {wells} wells.", "qas": [question]}
        articles.append({"title": f"Village_{number}", "paragraphs": [paragraph]})
    file.write_text(json.dumps({"data": articles, "version": "1.0"}), encoding="utf-8")


def _reviews(start: str, rows: int, draw: random.Random) -> Iterator[tuple[str, str]]:
    """Texts, no two the same, each with `0` or `1`."""
    for number in range(rows):
        label = "01"[number % 2]
        yield f"{start}, number {number}: {draw.choice(_WORDS[label])}", label
