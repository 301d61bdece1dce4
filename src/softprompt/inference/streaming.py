"""Text of an answer as it grows: whole characters only, and nothing of what may become a stop text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from transformers import PreTrainedTokenizerBase

__all__ = ["GrowingText", "overlap"]

_UNFINISHED = "\ufffd"
"""How a tokenizer shows bytes that are no whole character yet."""
_KEPT, _LONGEST = 8, 32
"""Tokens that are decoded again with each new one, at least and at most: what a token says depends on those before."""


@final
class GrowingText:
    """The text of tokens that come one by one. What was given stays: the text is what all pieces make together.

    Args:
        tokenizer: The backbone's.
        stop: Texts before which it ends.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._ids: list[int] = []
        self._first = 0  # the tokens from here on are decoded again
        self._known = ""  # what they said, as far as it stands in the text
        self._read = 0  # tokens that the text is of
        self._given = 0
        self.text = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """Take a token, and give the text that is certain now and was not before; "" once a stop text was met."""
        if self.stopped:
            return ""
        self._ids.append(token)
        said = self._decode(self._first)
        if said.endswith(_UNFINISHED) and len(self._ids) - self._read < _KEPT:
            return ""
        before = len(self.text)
        self.text += said[len(self._known) :]
        self._known, self._read = said, len(self._ids)
        self._shorten()
        self._cut(before)
        held = 0 if self.stopped else max((overlap(self.text, stop) for stop in self._stop), default=0)
        return self._give(len(self.text) - held)

    def finish(self) -> str:
        """The rest of the text, when no token follows."""
        if not self.stopped:
            before, whole = len(self.text), self._decode(0)
            if not whole.startswith(self.text):  # bytes that make no character undo those before them
                whole = self.text + self._decode(self._first)[len(self._known) :]
            self.text = whole
            self._cut(before)
        return self._give(len(self.text))

    def _decode(self, first: int) -> str:
        text = str(self._tokenizer.decode(self._ids[first:], skip_special_tokens=True))
        return text if first else text.removeprefix(" ")

    def _shorten(self) -> None:
        """Decode fewer of the old tokens again, where fewer say the same at the text's end."""
        if len(self._ids) - self._first <= _LONGEST:
            return
        first = len(self._ids) - _KEPT
        said = self._decode(first)
        if said and _UNFINISHED not in said and self.text.endswith(said):
            self._first, self._known = first, said

    def _cut(self, before: int) -> None:
        """End the text before a stop text, of which at most the last characters are new."""
        places = [self.text.find(stop, max(0, before - len(stop) + 1)) for stop in self._stop]
        if found := [place for place in places if place >= 0]:
            self.text, self.stopped = self.text[: min(found)], True

    def _give(self, end: int) -> str:
        start, self._given = self._given, max(self._given, end)
        return self.text[start : self._given]


def overlap(text: str, stop: str) -> int:
    """How many of a text's last characters begin a stop text."""
    begin = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while begin >= 0 and not stop.startswith(text[begin:]):
        begin = text.find(stop[0], begin + 1)
    return len(text) - begin if begin >= 0 else 0
