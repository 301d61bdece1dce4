"""Questions about a passage whose answers stand in it: SQuAD's JSON, and the JSON lines of MRQA 2019."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from softprompt.errors import DataError
from softprompt.tasks.documents import read_json
from softprompt.tasks.format import TextFormat
from softprompt.tasks.reshaping import member, members, reshape
from softprompt.tasks.rows import Row, read_rows

__all__ = ["BLANK_ANSWER", "QA_FORMAT", "QA_METRICS", "answers_on_hub", "first_answers", "read_mrqa", "read_squad"]

QA_FORMAT = TextFormat(input="question: {question} context: {context}", target="{answers}", context="context")
QA_METRICS = ("token_f1", "exact_match")
BLANK_ANSWER = "the question's answer is blank; give its text, or skip bad rows"
UNANSWERED = (
    "the question has no answer; questions that cannot be answered, as in SQuAD 2, are not part of this task: leave"
    " them out, or skip bad rows"
)


def read_squad(path: Path) -> Iterator[Row]:
    """The questions of a file in SQuAD's format, each with its article's title and its distinct answers in order.

    A row's place is its way through the document, such as `dev-v1.1.json:data[0].paragraphs[2].qas[1]`. A question
    without an answer is a bad row.

    Raises:
        DataError: If the file cannot be read, or articles, paragraphs or questions are no lists.

    References:
        Rajpurkar et al. 2016, §3.
    """
    for article, place in _parts(read_json(path), "data", f"{path}:"):
        title = article.get("title", "") if isinstance(article, dict) else ""
        for paragraph, within in _parts(article, "paragraphs", f"{place}."):
            for row in _questions(paragraph, f"{within}."):
                yield replace(row, columns={"title": title, **row.columns})


def read_mrqa(path: Path) -> Iterator[Row]:
    """The questions of a file of MRQA 2019, whose lines hold a passage each; the first line is a header.

    A row's place is its line and its question's place in it. A question without an answer is a bad row.

    Raises:
        DataError: If the file cannot be read.

    References:
        Fisch et al. 2019, §3.
    """
    for row in read_rows(path):
        if row.problem:
            yield row
        elif "header" not in row.columns:
            try:
                yield from _questions(row.columns, f"{row.source} ")
            except DataError as problem:
                yield replace(row, problem=str(problem))


def answers_on_hub(split: str, rows: Iterable[Row]) -> Iterator[Row]:
    """Rows of SQuAD as the hub has them, with their distinct answers as a list; the first alone to train on."""

    def listed(columns: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        texts = members(member(columns, "answers", dict), "text", str)
        distinct = [text for text in dict.fromkeys(texts) if text.strip()]
        if not distinct:
            raise DataError(UNANSWERED)
        yield {**columns, "answers": distinct}

    adapted = reshape(rows, listed)
    return first_answers(adapted) if split == "train" else adapted


def first_answers(rows: Iterable[Row]) -> Iterator[Row]:
    """The same rows, each with its first answer alone, as T5 is trained."""
    for row in rows:
        yield row if row.problem else replace(row, columns={**row.columns, "answers": row.columns["answers"][:1]})


def _parts(whole: Any, key: str, place: str) -> Iterator[tuple[Any, str]]:
    """What is listed under a key, each with its place.

    Raises:
        DataError: If there is no such list.
    """
    parts = whole.get(key) if isinstance(whole, Mapping) else None
    if not isinstance(parts, list):
        raise DataError(
            f"{place.rstrip(':. ')} has no list {key!r}; expected SQuAD's form: data, in it paragraphs with context and"
            " qas, in these question and answers."
        )
    return ((part, f"{place}{key}[{index}]") for index, part in enumerate(parts))


def _questions(paragraph: Any, place: str) -> Iterator[Row]:
    for question, source in _parts(paragraph, "qas", place):
        asked = question if isinstance(question, dict) else {}
        columns = {"id": asked.get("id", asked.get("qid")), "context": paragraph.get("context")}
        try:
            columns |= {"question": asked.get("question"), "answers": _answers(asked)}
        except DataError as problem:
            yield Row(source, columns, str(problem))
        else:
            yield Row(source, columns)


def _answers(asked: Mapping[str, Any]) -> list[str]:
    """A question's distinct answers in order.

    Raises:
        DataError: If there is none, or no list of them.
    """
    # SQuAD has the texts with their places, MRQA the texts.
    texts = [one.get("text") if isinstance(one, dict) else one for one in member(asked, "answers", list)]
    distinct = list(dict.fromkeys(text for text in texts if isinstance(text, str) and text.strip()))
    if not distinct:
        blank = texts and all(isinstance(text, str) for text in texts)
        raise DataError(BLANK_ANSWER if blank else UNANSWERED)
    return distinct
