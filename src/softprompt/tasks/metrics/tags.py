"""Metrics of tagged words: a prediction is a row's tags, with blanks between them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from softprompt.errors import DataError
from softprompt.tasks.metrics.signature import Answers

__all__ = ["entities", "entity_counts", "entity_f1", "right_tags", "scores_of_entities", "tag_accuracy"]

INSIDE = re.compile("[BIES]-.+")
OUTSIDE = "O"


def entity_f1(answers: Answers) -> dict[str, float]:
    """F1, precision and recall of entities over all rows, in percent: one is right if its type and both its ends are.

    Raises:
        DataError: If a row has several references, or a tag of one is neither `O` nor begins with `B-`, `I-`, `E-` or
            `S-`.

    References:
        Tjong Kim Sang and De Meulder 2003, §2.4 (conlleval); Nakayama 2018 (seqeval, in its default mode).
    """
    counts = entity_counts(answers.predictions, answers.references)
    return scores_of_entities([sum(column) for column in zip(*counts, strict=True)])


def tag_accuracy(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Share of words, in percent, whose tag is right; a word for which none was said is wrong.

    Raises:
        DataError: If a row has several references.
    """
    right, words = (sum(column) for column in zip(*right_tags(predictions, references), strict=True))
    return {"tag_accuracy": 100 * right / max(1, words)}


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Type, first and last word of each entity.

    A word continues the entity before it if its tag begins with `I-` or `E-`, that of the word before with `B-` or
    `I-`, and both are of one type; otherwise it begins one. Tags of another form are outside.
    """
    parts = [tag.split("-", 1) if INSIDE.fullmatch(tag) else [OUTSIDE, ""] for tag in tags]

    def continues(place: int) -> bool:
        if not 0 < place < len(parts):
            return False
        (before, kind), (prefix, own) = parts[place - 1], parts[place]
        return before in "BI" and prefix in "IE" and kind == own

    found, first = set(), 0
    for place, (prefix, kind) in enumerate(parts):
        first = first if continues(place) else place
        if prefix != OUTSIDE and not continues(place + 1):
            found.add((kind, first, place))
    return found


def entity_counts(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[tuple[int, int, int]]:
    """By row, how many entities are right, said, and true; tags that were said behind the last word are left out.

    Raises:
        DataError: As of `entity_f1`.
    """
    counts = []
    for said, true in _rows("entity_f1", predictions, references):
        for tag in true:
            if tag != OUTSIDE and not INSIDE.fullmatch(tag):
                raise DataError(f"The tag {tag!r} is of no entity (O, B-TYPE, I-TYPE); use the metric tag_accuracy.")
        ours, theirs = entities(said[: len(true)]), entities(true)
        counts.append((len(ours & theirs), len(ours), len(theirs)))
    return counts


def scores_of_entities(counts: Sequence[float]) -> dict[str, float]:
    """F1, precision and recall in percent of so many entities that are right, said, and true."""
    right, said, true = map(float, counts)
    return {
        "entity_f1": 200 * right / max(1, said + true),
        "entity_precision": 100 * right / max(1, said),
        "entity_recall": 100 * right / max(1, true),
    }


def right_tags(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """By row, how many tags are right, and how many words there are."""
    rows = _rows("tag_accuracy", predictions, references)
    return [(sum(one == other for one, other in zip(said, true, strict=False)), len(true)) for said, true in rows]


def _rows(
    metric: str, predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> list[tuple[list[str], list[str]]]:
    for index, row in enumerate(references):
        if len(row) != 1:
            raise DataError(f"Row {index} has {len(row)} references, but {metric} needs its only tags; name no others.")
    return [(said.split(), row[0].split()) for said, row in zip(predictions, references, strict=True)]
