"""Template strings over columns: `question: {question} context: {context}`.

A name in braces is a column, taken as it is written (spaces and points are part of it); literal braces are
doubled. `{prompt}` is the place of a whole soft prompt inside the input; `{soft:20}` is that of its next 20 virtual
tokens, so that a prompt can be divided among several places (Liu et al. 2021, §2.2). Either is rendered as
`PROMPT_MARK`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import final

from softprompt.errors import ConfigError, DataError

__all__ = ["PROMPT_MARK", "FilledText", "Template", "check_text", "column_text", "parse_template"]

PROMPT_MARK = "\U0010fffd"
"""One private-use character, Unicode's last: a place of a soft prompt in a rendered input. Data never hold it."""

MARK_FIELD = "prompt"
SOFT_FIELD = "soft"
MISSING = object()


@final
@dataclass(frozen=True)
class FilledText:
    """A text, and which parts of it columns filled; only these may be shortened.

    Attributes:
        text: The whole.
        fields: Where each filled part begins and ends, in characters, in order.
    """

    text: str
    fields: tuple[tuple[int, int], ...]

    @classmethod
    def plain(cls, text: str) -> FilledText:
        """A text without template: all of it is filled."""
        return cls(text, ((0, len(text)),))


@final
@dataclass(frozen=True)
class Template:
    """A parsed template.

    Args:
        source: The template as it was written.
        pieces: Literal text, each with the column that follows it (`None`: nothing, or a mark, which is text).
        fields: The columns, each once, in order.
        marks: How many places of a soft prompt it has.
        segments: Virtual tokens at each place, if the template divides them; empty if it does not.
    """

    source: str
    pieces: tuple[tuple[str, str | None], ...]
    fields: tuple[str, ...]
    marks: int
    segments: tuple[int, ...]

    def fill(self, texts: Mapping[str, str]) -> FilledText:
        """Put the columns' texts in their places; a text is taken as it is, braces and all."""
        whole, fields = "", []
        for text, name in self.pieces:
            whole += text
            if name is not None:
                fields.append((len(whole), len(whole) + len(texts[name])))
                whole += texts[name]
        return FilledText(whole, tuple(fields))

    def render(self, texts: Mapping[str, str]) -> str:
        """The text that `fill` gives."""
        return self.fill(texts).text


@functools.lru_cache(maxsize=256)
def parse_template(source: str, *, columns: bool = True) -> Template:
    """Parse a template.

    Args:
        source: The template.
        columns: Whether it fills in columns; otherwise it names none.

    Raises:
        ConfigError: If braces do not match, a field is empty or carries a conversion or a format, `{prompt}` stands
            twice or beside `{soft:N}`, or there is no column in it, or one where none may be.
    """
    where = f"The template {source!r}"
    if PROMPT_MARK in source:
        raise ConfigError(
            f"{where} holds the character U+10FFFD, which is kept for the prompt's place: write {{prompt}}."
        )
    try:
        parsed = list(Formatter().parse(source))
    except ValueError as error:
        raise ConfigError(
            f"{where} cannot be read: {error}. Name columns as {{text}}; double literal braces."
        ) from None
    pieces: list[tuple[str, str | None]] = []
    segments: list[int] = []
    for text, name, form, conversion in parsed:
        if name == "":
            raise ConfigError(f"{where} has empty braces: name a column, as in {{text}}; double literal braces.")
        if name == SOFT_FIELD and form and not conversion:
            segments.append(_virtual_tokens(where, form))
        elif form or conversion:
            raise ConfigError(
                f"{where} formats {name!r} with ':' or '!'; only plain column names and {{soft:N}} are known."
            )
        is_mark = name == MARK_FIELD or (name == SOFT_FIELD and bool(form))
        pieces.append((text + PROMPT_MARK, None) if is_mark else (text, name))
    marks = sum(text.count(PROMPT_MARK) for text, _ in pieces)
    if marks > max(1, len(segments)):
        twice = "beside {soft:N}" if segments else "more than once"
        raise ConfigError(
            f"{where} holds {{prompt}} {twice}; a whole soft prompt has one place, and one that is divided a {{soft:N}}"
            " for each of its parts."
        )
    fields = tuple(dict.fromkeys(name for _, name in pieces if name is not None))
    if fields and not columns:
        raise ConfigError(f"{where} names the column {fields[0]!r}, but it is the same for all rows; write it as text.")
    if columns and not fields:
        raise ConfigError(f"{where} names no column ({{prompt}} is the soft prompt's place); name one, as in {{text}}.")
    return Template(source, tuple(pieces), fields, marks=marks, segments=tuple(segments))


def _virtual_tokens(where: str, form: str) -> int:
    if not (form.isascii() and form.isdigit() and int(form) > 0):
        raise ConfigError(f"{where} holds {{soft:{form}}}; give the number of virtual tokens, as in {{soft:20}}.")
    return int(form)


def column_text(row: Mapping[str, object], name: str) -> str:
    """The text of one column: text as it is, numbers as Python prints them, truth values as `true` and `false`.

    Raises:
        DataError: If the column is missing, holds neither text nor a finite number, or no text that UTF-8 can hold.
    """
    match row.get(name, MISSING):
        case str(text):
            pass
        case bool(value):
            text = "true" if value else "false"
        case int(value):
            text = str(value)
        case float(value) if math.isfinite(value):
            text = repr(value)
        case None:
            raise DataError(f"column {name!r} is null; give it a text")
        case value if value is MISSING:
            raise DataError(f"column {name!r} is missing; the row has {', '.join(map(repr, row)) or 'no columns'}")
        case value:
            raise DataError(f"column {name!r} holds {type(value).__name__} ({value!r:.40}); expected text or a number")
    check_text(text, f"column {name!r}")
    return text


def check_text(text: str, what: str) -> None:
    """Refuse what is no text, and what stands for something else in one.

    Args:
        text: From outside.
        what: How errors call it.

    Raises:
        DataError: If it holds `PROMPT_MARK` or a lone surrogate.
    """
    if PROMPT_MARK in text:
        raise DataError(f"{what} holds the character U+10FFFD, which marks a prompt's place; remove it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{what} holds a lone surrogate at character {error.start + 1}; write the text as valid UTF-8"
        ) from None
