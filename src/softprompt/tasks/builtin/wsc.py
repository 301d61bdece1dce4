"""WSC: a text with one pronoun between asterisks in, the noun that it means out."""

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
from softprompt.tasks.hub import label_values
from softprompt.tasks.metrics.referents import OTHER_THAN
from softprompt.tasks.reshaping import member, reshape
from softprompt.tasks.rows import Row

__all__ = ["WSC", "mark_pronoun", "noun_as_in_text"]

WORD = re.compile(r"\S+")


def from_files(split: str, rows: Iterable[Row]) -> Iterator[Row]:
    """Rows as published, whose spans are an object in the column `target`."""
    return referents(split, reshape(rows, lambda columns: [{**columns, **member(columns, "target", dict)}]))


def from_hub(split: str, rows: Iterable[Row]) -> Iterator[Row]:
    """Rows of the hub, whose spans are columns and whose label is a number."""
    return referents(split, label_values(False, True)(split, rows))


def referents(split: str, rows: Iterable[Row]) -> Iterator[Row]:
    """Rows with the pronoun marked and the noun as referent; only those in which it is meant are trained on."""

    def shape(columns: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        meant = member(columns, "label", bool)
        if meant or split != "train":
            text, noun = member(columns, "text", str), noun_as_in_text(columns)
            pronoun, place = member(columns, "span2_text", str), member(columns, "span2_index", int)
            yield {
                "text": mark_pronoun(text, pronoun, place),
                "referent": noun if meant else OTHER_THAN + noun,
                "idx": columns.get("idx"),
            }

    return reshape(rows, shape)


def noun_as_in_text(columns: Mapping[str, Any]) -> str:
    """The noun that is asked about, spelt as in the text where the data have another case, a line end or a full stop.

    Raises:
        DataError: If something is missing, blank or of another type, or the text has no word at the noun's place.
    """
    text, noun = member(columns, "text", str), member(columns, "span1_text", str)
    place = member(columns, "span1_index", int)
    if not noun.strip():
        raise DataError("column 'span1_text' is blank; use the file as it was published")
    if noun in text:
        return noun
    words = text.split()
    if not 0 <= place < len(words):
        raise DataError(f"column 'span1_index' holds {place}, but the text has {len(words)} words; mend the row")
    first = noun[:1].lower() if words[place][0].islower() else noun[:1].upper()
    return (first + noun[1:]).rstrip(".").replace("\n", " ")


def mark_pronoun(text: str, pronoun: str, place: int) -> str:
    """The text with `*` on both sides of a pronoun.

    Args:
        text: The text, which stays as it is otherwise.
        pronoun: What to mark.
        place: Its word, counted from 0 between blanks. Quotes before it are passed over; a word off is found.

    Raises:
        DataError: If the pronoun is not there.
    """
    starts = [word.start() for word in WORD.finditer(text)]
    form = re.compile(rf"[^\w\s]*({re.escape(pronoun)})(?!\w)")
    for near in (place, place + 1, place - 1):
        found = form.match(text, starts[near]) if 0 <= near < len(starts) else None
        if found:
            return f"{text[: found.start(1)]}*{pronoun}*{text[found.end(1) :]}"
    raise DataError(
        f"column 'span2_text' holds {pronoun!r:.40}, which is not word {place} of the text; use the file as it was "
        "published"
    )


WSC = TaskDefinition(
    name="wsc",
    summary=(
        "Winograd Schema Challenge (SuperGLUE) as T5 has it: a text with a pronoun between asterisks in, the noun that "
        "it means out. Trained on the rows whose noun is meant; in the others the target says 'not' before the noun, "
        "and any other noun is right."
    ),
    format=TextFormat(input="{text}", target="{referent}"),
    metrics=("wsc",),
    splits=SPLITS,
    read=partial(read_superglue, name="WSC", adapt=from_files),
    source=SOURCE,
    licence="CC BY 4.0",
    citation=("Levesque, Davis and Morgenstern 2012, The Winograd Schema Challenge, KR; " + SUPERGLUE),
    hub=superglue_hub("wsc.fixed", from_hub),
    layout=superglue_layout("WSC"),
    start_words=("commonsense", "pronoun", "resolution"),
)
