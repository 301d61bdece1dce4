"""Text of an answer as it grows: whole characters only, and nothing of what may become a stop text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from transformers import PreTrainedTokenizerBase

__all__ = ["GrowingText"]

_UNFINISHED = "\ufffd"
"""How a tokenizer shows bytes that are no whole character yet."""


@final
class GrowingText:
    """The text of tokens that come one by one.

    Args:
        tokenizer: The backbone's.
        stop: Texts before which it ends.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._ids: list[int] = []
        self._given = 0
        self.text = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """Take a token, and give the text that is certain now and was not before; "" once a stop text was met."""
        if self.stopped:
            return ""
        self._ids.append(token)
        self._decode()
        return self._give(self._certain())

    def finish(self) -> str:
        """The rest of the text, when no token follows."""
        return self._give(len(self.text))

    def _decode(self) -> None:
        self.text = str(self._tokenizer.decode(self._ids, skip_special_tokens=True)).removeprefix(" ")
        places = [place for stop in self._stop if (place := self.text.find(stop)) >= 0]
        if places:
            self.text, self.stopped = self.text[: min(places)], True

    def _certain(self) -> int:
        """How much of the text no further token changes."""
        if self.stopped:
            return len(self.text)
        whole = len(self.text.rstrip(_UNFINISHED))
        longest = max((_overlap(self.text, stop) for stop in self._stop), default=0)
        return min(whole, len(self.text) - longest)

    def _give(self, end: int) -> str:
        start, self._given = self._given, max(self._given, end)
        return self.text[start : self._given]


def _overlap(text: str, stop: str) -> int:
    """How many of a text's last characters begin a stop text."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
