"""MultiRC: a paragraph, a question and one of its answers in, whether the answer is right out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from softprompt.tasks.builtin.superglue import (
    SOURCE,
    SPLITS,
    SUPERGLUE,
    read_superglue,
    superglue_hub,
    superglue_layout,
)
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.format import TextFormat
from softprompt.tasks.reshaping import member, members, reshape
from softprompt.tasks.rows import Row

__all__ = ["MULTIRC"]


def from_files(split: str, rows: Iterable[Row]) -> Iterator[Row]:
    """One row per answer, from one per paragraph."""
    return reshape(rows, answers_of_paragraph)


def from_hub(split: str, rows: Iterable[Row]) -> Iterator[Row]:
    """One row per answer, as the hub has them already."""
    return reshape(rows, answer_of_hub)


def answers_of_paragraph(columns: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of all answers to all questions about a paragraph.

    Raises:
        DataError: If something is missing or of another type.
    """
    passage = member(columns, "passage", dict)
    for question in members(passage, "questions", dict):
        for answer in members(question, "answers", dict):
            yield {
                "paragraph": without_markup(member(passage, "text", str)),
                "question": without_markup(member(question, "question", str)),
                "answer": without_markup(member(answer, "text", str)),
                "label": member(answer, "label", int),
                "question_id": f"{member(columns, 'idx', int)}-{member(question, 'idx', int)}",
            }


def answer_of_hub(columns: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The row of one answer.

    Raises:
        DataError: If something is missing or of another type.
    """
    place = member(columns, "idx", dict)
    yield {
        **{name: without_markup(member(columns, name, str)) for name in ("paragraph", "question", "answer")},
        "label": member(columns, "label", int),
        "question_id": f"{member(place, 'paragraph', int)}-{member(place, 'question', int)}",
    }


def without_markup(text: str) -> str:
    """A text without the marks of bold type and with blanks for line breaks, as T5 reads MultiRC."""
    return text.replace("<br>", " ").replace("<b>", "").replace("</b>", "")


MULTIRC = TaskDefinition(
    name="multirc",
    summary=(
        "MultiRC (SuperGLUE): a paragraph, a question and one of several answers; is it right? A row per answer; those "
        "of one question are scored together."
    ),
    format=TextFormat(
        input="question: {question} answer: {answer} paragraph: {paragraph}",
        target="{label}",
        label_words={"0": "False", "1": "True"},
    ),
    metrics=("f1a+multirc_em", "multirc"),
    splits=SPLITS,
    read=partial(read_superglue, name="MultiRC", adapt=from_files),
    source=SOURCE,
    licence="research use",
    citation=(
        "Khashabi et al. 2018, Looking Beyond the Surface: A Challenge Set for Reading Comprehension over Multiple "
        "Sentences, NAACL; " + SUPERGLUE
    ),
    group="question_id",
    hub=superglue_hub("multirc", from_hub),
    layout=superglue_layout("MultiRC"),
)
