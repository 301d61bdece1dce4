"""Where the words and the context of an input stand among its tokens: what heads over tokens learn and say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from softprompt.backbones.heads import TokenHead
from softprompt.conditioning.losses import IGNORED
from softprompt.conditioning.texts import EncodedInput, RenderedInput
from softprompt.errors import ConfigError
from softprompt.tasks import TextFormat

__all__ = ["ContextPlaces", "Places", "WordPlaces", "find_places"]

_OUTSIDE = "O"


@final
@dataclass(frozen=True)
class WordPlaces:
    """The words of an input.

    Attributes:
        tokens: The first token of each word; None for one that was cut off, or that the tokenizer passes over.
        tags: The tags that words may have, in the head's order.
        seq: Tokens of the input.
    """

    tokens: tuple[int | None, ...]
    tags: tuple[str, ...]
    seq: int

    def targets(self, target: str) -> list[int]:
        """For each token the index of its word's tag, `IGNORED` but for a word's first; nothing if none has one."""
        made = [IGNORED] * self.seq
        for token, tag in zip(self.tokens, target.split(), strict=True):
            if token is not None:
                made[token] = self.tags.index(tag)
        return made if any(token is not None for token in self.tokens) else []

    def text_of(self, logits: Float[Tensor, "seq outputs"]) -> str:
        """Each word's most probable tag, with blanks between them; `O`, or the first there is, where no token is."""
        best = logits[:, : len(self.tags)].argmax(-1).tolist()
        unseen = _OUTSIDE if _OUTSIDE in self.tags else self.tags[0]
        return " ".join(unseen if token is None else self.tags[best[token]] for token in self.tokens)


@final
@dataclass(frozen=True)
class ContextPlaces:
    """The context that an answer stands in.

    Attributes:
        text: The context.
        tokens: Those of the input that are of it, ascending, and where each begins and ends in it, in characters.
        longest: Most tokens of an answer.
    """

    text: str
    tokens: tuple[tuple[int, int, int], ...]
    longest: int

    def targets(self, target: str) -> list[int]:
        """First and last token of the target where it first stands in the context; nothing if it does not, or is cut.

        It is looked for as whole words first.
        """
        answer = target.strip()
        found = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", self.text) or re.search(re.escape(answer), self.text)
        if found is None:
            return []
        start, end = found.span()
        inside = [(token, a, b) for token, a, b in self.tokens if a < end and b > start]
        if not inside or inside[0][1] > start or inside[-1][2] < end:
            return []
        return [inside[0][0], inside[-1][0]]

    def text_of(self, logits: Float[Tensor, "seq outputs"]) -> str:
        """The words between those two tokens whose logits have the highest sum (Devlin et al. 2019, §4.2)."""
        if not self.tokens:
            return ""
        chosen = logits[[token for token, _, _ in self.tokens], :2].float()  # [context, 2]
        scores = chosen[:, None, 0] + chosen[None, :, 1]  # [context, context]
        allowed = torch.ones_like(scores, dtype=torch.bool).triu().tril(self.longest - 1)
        first, last = divmod(int(scores.where(allowed, -torch.inf).argmax()), len(self.tokens))
        return self.text[self.tokens[first][1] : self.tokens[last][2]].strip()


Places = WordPlaces | ContextPlaces
"""What a head over tokens is about in one input."""


def find_places(
    kind: TokenHead,
    form: TextFormat | None,
    rendered: RenderedInput,
    encoded: EncodedInput,
    *,
    outputs: int,
    longest: int = 1,
) -> Places:
    """What a head over tokens is about in an input.

    Args:
        kind: What the head reads off tokens.
        form: How the input became text.
        rendered: The text.
        encoded: Its tokens, with their offsets.
        outputs: How many numbers the head gives for each token.
        longest: Most tokens of an answer.

    Raises:
        ConfigError: If the format names no words, or no context, for the head to read, or another number of tags.
    """
    if kind == "tokens" and form is not None and form.words is not None and form.tags is not None:
        if len(form.tags) != outputs:
            raise ConfigError(
                f"The prompt's head knows {outputs} tags, but the task has {len(form.tags)} ({', '.join(form.tags)}); "
                "give label_words for the tags that it was trained on, in their order."
            )
        words = _words(rendered.filled.text, rendered.filled.fields[form.place_of(form.words)])
        return WordPlaces(tuple(_first_tokens(words, encoded.offsets)), form.tags, len(encoded.ids))
    if kind == "span" and form is not None and form.context is not None:
        start, end = rendered.filled.fields[form.place_of(form.context)]
        inside = [
            (token, max(a, start) - start, min(b, end) - start)
            for token, (a, b) in enumerate(encoded.offsets)
            if a < end and b > start
        ]
        return ContextPlaces(rendered.filled.text[start:end], tuple(inside), longest)
    reads = (
        "tags words, but the format names none (words)"
        if kind == "tokens"
        else ("finds answers, but the format names no column that they stand in (context)")
    )
    raise ConfigError(f"The prompt's head {reads}; use it with a task of its own kind, or train another.")


def _words(text: str, field: tuple[int, int]) -> list[tuple[int, int]]:
    """Where each word of a filled part, in which blanks divide them, begins and ends."""
    begin, found = field[0], []
    for word in text[slice(*field)].split(" "):
        found.append((begin, begin + len(word)))
        begin += len(word) + 1
    return found


def _first_tokens(words: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]]) -> list[int | None]:
    """The first token that reaches into each word; none that reaches into one before, too."""
    owner: dict[int, int] = {}
    for token, (a, b) in enumerate(offsets):
        for character in range(a, b):
            owner.setdefault(character, token)
    found: list[int | None] = []
    for start, end in words:
        reaching = next((owner[character] for character in range(start, end) if character in owner), None)
        found.append(None if reaching in found else reaching)
    return found
