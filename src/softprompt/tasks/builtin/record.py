"""ReCoRD: a news text and a sentence with a gap in, the name that fills the gap out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from softprompt.errors import DataError
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

__all__ = ["RECORD"]

HIGHLIGHT = "\n@highlight\n"
ENDED_HIGHLIGHT = re.compile(rf"([.?!\"']){HIGHLIGHT}")


def from_files(split: str, rows: Iterable[Row]) -> Iterator[Row]:
    """One row per answer to train on, one per query elsewhere, from one per passage."""
    return per_answer(split, reshape(rows, queries_of_passage))


def from_hub(split: str, rows: Iterable[Row]) -> Iterator[Row]:
    """One row per answer to train on, one per query elsewhere, from one per query."""
    return per_answer(split, reshape(rows, query_of_hub))


def per_answer(split: str, rows: Iterable[Row]) -> Iterator[Row]:
    """Training rows with one answer each, others with all; answers are a list in both."""

    def unroll(columns: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        if split == "train":
            return ({**columns, "answers": [answer]} for answer in columns["answers"])
        return iter([columns])

    return reshape(rows, unroll)


def queries_of_passage(columns: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of all queries about a passage.

    Raises:
        DataError: If something is missing or of another type, or a query has no answer.
    """
    passage = member(columns, "passage", dict)
    text = member(passage, "text", str)
    entities = [entity_text(text, entity) for entity in members(passage, "entities", dict)]
    for query in members(columns, "qas", dict):
        answers = [member(answer, "text", str) for answer in members(query, "answers", dict)]
        place = f"{member(columns, 'idx', int)}-{member(query, 'idx', int)}"
        yield query_row(text, member(query, "query", str), entities, answers, place)


def query_of_hub(columns: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The row of one query.

    Raises:
        DataError: If something is missing or of another type, or the query has no answer.
    """
    place = member(columns, "idx", dict)
    yield query_row(
        member(columns, "passage", str),
        member(columns, "query", str),
        members(columns, "entities", str),
        members(columns, "answers", str),
        f"{member(place, 'passage', int)}-{member(place, 'query', int)}",
    )


def query_row(text: str, query: str, entities: list[str], answers: list[str], place: str) -> dict[str, Any]:
    """One query as columns: names are sorted, each once, and highlights become sentences, as T5 reads ReCoRD."""
    if not answers:
        raise DataError(
            "column 'answers' holds an empty list; a query without an answer cannot be scored; leave it out"
        )
    return {
        "passage": ENDED_HIGHLIGHT.sub(r"\1 ", text).replace(HIGHLIGHT, ". "),
        "query": query,
        "entities": ", ".join(sorted(set(entities))),
        "answers": sorted(set(answers)),
        "query_id": place,
    }


def entity_text(text: str, entity: Mapping[str, Any]) -> str:
    """The words of a passage between two characters, both counted in.

    Raises:
        DataError: If there are no such characters.
    """
    start, end = member(entity, "start", int), member(entity, "end", int)
    if not 0 <= start <= end < len(text):
        raise DataError(f"an entity from character {start} to {end} is not in its passage of {len(text)}; mend the row")
    return text[start : end + 1]


RECORD = TaskDefinition(
    name="record",
    summary=(
        "ReCoRD (SuperGLUE): a news text, the names in it and a sentence with a gap; which name fills it? A row per "
        "answer to train on; elsewhere a row per query with all of its answers."
    ),
    format=TextFormat(
        input="query: {query} entities: {entities} passage: {passage}",
        target="{answers}",
    ),
    metrics=("record_f1+record_em", "record"),
    splits=SPLITS,
    read=partial(read_superglue, name="ReCoRD", adapt=from_files),
    source=SOURCE,
    licence="research use",
    citation=(
        "Zhang et al. 2018, ReCoRD: Bridging the Gap between Human and Machine Commonsense Reading Comprehension, "
        "arXiv 1810.12885; " + SUPERGLUE
    ),
    group="query_id",
    hub=superglue_hub("record", from_hub),
    layout=superglue_layout("ReCoRD"),
    start_words=("commonsense", "reasoning", "reading", "comprehension"),
)
