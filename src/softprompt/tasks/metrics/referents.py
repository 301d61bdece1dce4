"""Who is meant by a pronoun: the noun that was generated against the noun that is asked about."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["OTHER_THAN", "names_referent", "wsc"]

OTHER_THAN = "not "
"""What a reference begins with if the pronoun does not mean the noun that follows."""

DETERMINERS = frozenset({
    "a", "an", "each", "every", "few", "her", "his", "many", "much", "my", "our", "some",
    "that", "the", "their", "these", "this", "those", "which", "whose", "your",
})  # fmt: skip


def wsc(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Share of rows, in percent, whose generated noun agrees with what is true of the noun asked about.

    A reference `Tom` asks for Tom; `not Tom` asks for anything else, and an empty text is nothing. With several
    references one of them must agree.

    References:
        Raffel et al. 2020, §2.4 and appendix D (WSC as generation); the scoring is that of T5's `wsc_simple`.
    """
    hits = [
        any(agrees(prediction, reference) for reference in row)
        for prediction, row in zip(predictions, references, strict=True)
    ]
    return {"wsc": 100 * sum(hits) / len(hits)}


def agrees(prediction: str, reference: str) -> bool:
    """Whether a generated noun is the referent, or, with `OTHER_THAN`, another one."""
    if not bare_noun(prediction):
        return False
    noun = reference.removeprefix(OTHER_THAN)
    return names_referent(prediction, noun) == (noun == reference)


def names_referent(prediction: str, referent: str) -> bool:
    """Whether all words of one are in the other, and both or neither have an apostrophe (Bob is not Bob's hat)."""
    said, meant = bare_noun(prediction), bare_noun(referent)
    if ("'" in said) != ("'" in meant):
        return False
    said_words, meant_words = set(said.split(" ")), set(meant.split(" "))
    return said_words <= meant_words or meant_words <= said_words


def bare_noun(text: str) -> str:
    """A noun in lower case without determiners."""
    return " ".join(word for word in text.strip().lower().split(" ") if word not in DETERMINERS)
