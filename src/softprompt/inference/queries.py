"""What is asked of a prompted model: an input, the prompt that answers it, and how the input becomes text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from jaxtyping import Bool, Int
from torch import Tensor

from softprompt.conditioning import Prompted
from softprompt.conditioning.places import Places
from softprompt.conditioning.texts import EncodedInput, Input, collate_inputs
from softprompt.config import choose
from softprompt.errors import ConfigError
from softprompt.inference.together import Together
from softprompt.prompts import Combine, SoftPrompt
from softprompt.tasks import TextFormat

__all__ = [
    "EncodedQuery",
    "Query",
    "collate",
    "known",
    "make_queries",
    "names_of",
    "prompts_of",
    "stored_format",
]


@final
@dataclass(frozen=True, kw_only=True)
class Query:
    """One input and what is wanted of it.

    Attributes:
        input: A text, the columns of a row by name, or, where there is no form, the turns of a conversation.
        prompt: The name of the prompt that answers it, or of several that answer together; None for the bare backbone.
        form: How the input becomes text; None takes a text as it is.
        candidates: What to choose from, when it is classified.
        max_new_tokens: Longest answer, when text is generated or found.
        max_input_tokens: Longest input, besides what the backbone allows.
        truncate: Whether a longer input is shortened, in what fills its template; otherwise it is an error.
        source: Where it stands in the data, such as file and line, for errors to name.

    Raises:
        ConfigError: If a number of tokens is below 1.
    """

    input: Input
    prompt: str | Together | None
    form: TextFormat | None = None
    candidates: tuple[str, ...] = ()
    max_new_tokens: int = 128
    max_input_tokens: int | None = None
    truncate: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        for name, value in (("max_new_tokens", self.max_new_tokens), ("max_input_tokens", self.max_input_tokens)):
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value}: expected at least 1.")


@final
@dataclass(frozen=True, kw_only=True)
class EncodedQuery:
    """A tokenized query.

    Attributes:
        input: Its token ids and its template's marks.
        prompt: As in `Query`.
        tokens: Tokens that it takes up in a batch: input, prompt, and what is generated or scored, for each prompt.
        room: Tokens behind the input: most to generate, or those of the longest candidate.
        targets: Token ids of each candidate; empty when text is generated or read off.
        candidates: The candidates.
        places: What a head over tokens is about, where the prompt has one.
    """

    input: EncodedInput
    prompt: str | Together | None
    tokens: int
    room: int
    targets: Sequence[list[int]]
    candidates: tuple[str, ...]
    places: Places | None = None

    @property
    def names(self) -> tuple[str | None, ...]:
        """Each row of a batch that it needs: by its prompt."""
        return names_of(self.prompt)

    @property
    def combine(self) -> Combine:
        """How several prompts become one answer."""
        return self.prompt.combine if isinstance(self.prompt, Together) else "vote"

    @property
    def group(self) -> tuple[int, int, int, str, bool]:
        """What queries of a batch must share, so that each gets in it what it would get alone, or waste no room."""
        return self.room, len(self.targets), len(self.names), self.combine, bool(self.candidates)

    @property
    def passes(self) -> int:
        """How many times the model is called for it at most: for every token generated, or for input and candidates."""
        return min(self.room, 2) if self.targets else max(1, self.room)


def make_queries(
    model: Prompted,
    asked: Iterable[tuple[str | Mapping[str, Any], str | Together | None]],
    *,
    raw: bool = False,
    **settings: Any,
) -> Iterator[Query]:
    """Queries whose inputs fill the template that is stored with their prompt.

    Args:
        model: The backbone with its prompts.
        asked: Each input with its prompt, as in `Query`; read one by one. Of several prompts the first one's template
            counts.
        raw: Whether texts are taken as they are, without template.
        **settings: Further fields of `Query`, the same for all.

    Raises:
        ConfigError: If there is no prompt of a name.
    """
    forms: dict[str | None, TextFormat | None] = {None: None}
    for value, prompt in asked:
        name = names_of(prompt)[0]
        if name is not None and name not in forms:
            forms[name] = stored_format(model, name)
        yield Query(input=value, prompt=prompt, form=None if raw else forms[name], **settings)


def names_of(prompt: str | Together | None) -> tuple[str | None, ...]:
    """The prompts of a query, each of which has a row."""
    return prompt.names if isinstance(prompt, Together) else (prompt,)


def collate(
    model: Prompted, rows: Sequence[EncodedQuery]
) -> tuple[Int[Tensor, "batch seq"], Bool[Tensor, "batch seq"], Int[Tensor, "batch marks"]]:
    """Token ids of a batch, padded on the right; their mask; and the token indices of the marks.

    A query has a row for each of its prompts (`prompts_of`).
    """
    return collate_inputs(model.backbone, [row.input for row in rows for _ in row.names])


def prompts_of(rows: Sequence[EncodedQuery]) -> list[str | None]:
    """The prompt of each row of a batch."""
    return [name for row in rows for name in row.names]


def stored_format(model: Prompted, name: str) -> TextFormat | None:
    """How inputs become text by what is stored with a prompt.

    Raises:
        ConfigError: If there is none of that name.
    """
    stored = known(model, name).info.format
    return None if stored is None else TextFormat.from_mapping(stored)


def known(model: Prompted, name: str) -> SoftPrompt:
    """The prompt of a name.

    Raises:
        ConfigError: If there is none.
    """
    if name not in model.prompts:
        raise choose("prompt", name, model.prompts)
    return model.prompts[name]
