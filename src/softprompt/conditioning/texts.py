"""From texts to token ids: inputs with the marks of a placement, and targets as they continue an input."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Bool, Int
from jinja2 import TemplateError
from torch import Tensor

from softprompt.backbones import Backbone
from softprompt.conditioning.chat import answer_ends
from softprompt.conditioning.padding import pad_marks, pad_rows
from softprompt.errors import ConfigError, DataError, LengthError
from softprompt.tasks import PROMPT_MARK, FilledText, TextFormat, check_text

__all__ = [
    "EncodedInput",
    "Input",
    "RenderedInput",
    "collate_inputs",
    "encode_inputs",
    "encode_targets",
    "follows_directly",
    "render_input",
]

Input = str | Mapping[str, Any] | tuple[tuple[str, str], ...]
"""A text, the columns of a row by name, or the turns of a conversation, each a role and what is said."""

_ANCHOR = ":"
_NOWHERE = (0, 0)


@dataclass(frozen=True, kw_only=True)
class RenderedInput:
    """An input as text, and how long it may be.

    Attributes:
        filled: The text, perhaps with marks where a prompt goes.
        chat: Whether a chat template stands around it, which brings its own special tokens.
        max_tokens: Most tokens that it may have; None is unbounded.
        truncate: Whether a longer one is shortened; otherwise it is an error.
        source: Where it stands in the data, such as file and line, for errors to name.
    """

    filled: FilledText
    chat: bool = False
    max_tokens: int | None = None
    truncate: bool = False
    source: str = ""


@dataclass(frozen=True)
class EncodedInput:
    """A tokenized input.

    Attributes:
        ids: Token ids, with what the tokenizer adds to a whole input.
        marks: Token indices of the template's marks, in order: each is the number of tokens before it.
        offsets: Where each token begins and ends in the input's text, in characters; nowhere, `(0, 0)`, for special
            tokens. Empty unless asked for.
    """

    ids: list[int]
    marks: tuple[int, ...] = ()
    offsets: tuple[tuple[int, int], ...] = ()


def render_input(backbone: Backbone, form: TextFormat | None, value: Input) -> RenderedInput:
    """The text of one input: its template filled, its chat template put around it.

    Args:
        backbone: Whose chat template to use.
        form: The stored format; None takes the text as it is, and a conversation as the chat template writes it.
        value: A text for a template of one field, or the fields by name.

    Raises:
        DataError: If fields are given without a format, a conversation with one, a field is missing, or a text holds
            `PROMPT_MARK` or a lone surrogate.
        ConfigError: If the chat template is asked for and the tokenizer has none, or it refuses the conversation.
    """
    if form is None:
        if isinstance(value, tuple):
            return RenderedInput(filled=FilledText.plain(_conversation(backbone, value)), chat=True)
        if not isinstance(value, str):
            raise DataError(f"Without a stored template an input is a text, but got {type(value).__name__}.")
        check_text(value, "the input")
        return RenderedInput(filled=FilledText.plain(value))
    if isinstance(value, tuple):
        raise DataError("A stored template is filled with one input, not with a conversation; give a text or fields.")
    filled = form.fill_input(value)
    if form.chat:
        filled = _in_chat(backbone, filled, form.system_text)
    return RenderedInput(filled=filled, chat=form.chat)


def _conversation(backbone: Backbone, turns: Sequence[tuple[str, str]]) -> str:
    """What the chat template makes of turns, and the opening of the answer."""
    tokenizer = backbone.need_tokenizer()
    if tokenizer.chat_template is None:
        raise ConfigError(f"{backbone.name} has no chat template; give a text instead of a conversation.")
    for role, content in turns:
        check_text(content, f"the {role}'s turn")
    said = [{"role": role, "content": content} for role, content in turns]
    try:
        return str(tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True))
    except TemplateError as error:
        raise ConfigError(f"The chat template of {backbone.name} refuses the conversation ({error}).") from error


def _in_chat(backbone: Backbone, said: FilledText, system: str | None) -> FilledText:
    """A user's turn around an input, behind a system turn if there is one, and the opening of the answer."""
    tokenizer = backbone.need_tokenizer()
    if tokenizer.chat_template is None:
        raise ConfigError(f"The format asks for a chat template, but {backbone.name} has none; set chat=False.")

    before = [] if system is None else [{"role": "system", "content": system}]

    def turn(content: str) -> str:
        turns = [*before, {"role": "user", "content": content}]
        try:
            return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        except TemplateError as error:
            raise ConfigError(
                f"The chat template of {backbone.name} refuses the conversation ({error}); "
                + ("put the system turn's words into the input." if before else "set chat=False.")
            ) from error

    whole = turn(said.text)
    if any(part.strip() not in whole for part in (system or "").split(PROMPT_MARK)) or (
        whole.count(PROMPT_MARK) != (system or "").count(PROMPT_MARK) + said.text.count(PROMPT_MARK)
    ):
        raise ConfigError(
            f"The chat template of {backbone.name} leaves the system turn out; put its words into the input."
        )
    opening, _, closing = turn(PROMPT_MARK).rpartition(PROMPT_MARK)
    told = whole[len(opening) : len(whole) - len(closing)]
    if not told or told not in said.text or whole != opening + told + closing:
        return FilledText(whole, ())  # a template that rewrites what it is told: nobody knows what may be shortened
    shift, end = len(opening) - said.text.index(told), len(opening) + len(told)
    return FilledText(whole, tuple((max(a + shift, len(opening)), min(b + shift, end)) for a, b in said.fields))


def encode_inputs(backbone: Backbone, inputs: Sequence[RenderedInput], *, offsets: bool = False) -> list[EncodedInput]:
    """Tokenize inputs.

    In a decoder-only model an input stays open, without the end token, and without trailing blanks, which
    targets begin with; nor are blanks kept before a mark. Where an input is shortened, what columns filled loses its
    end, the longest part first; templates, text prompts and the turns of a chat stay whole.

    Args:
        backbone: Whose tokenizer to use.
        inputs: From `render_input`, with their bounds.
        offsets: Whether to say where in its text each token stands.

    Raises:
        BackboneError: If the tokenizer does not know that.
        LengthError: If an input is too long and may not be shortened, or not by so much.
    """
    opened = backbone.spec.kind == "decoder-only"
    texts = [one.filled.text.rstrip(" ") if opened and not one.chat else one.filled.text for one in inputs]
    parts = [_between_marks(text) for text in texts]
    flat = [part for several in parts for part in several]
    tokens = iter(
        backbone.tokenize_with_offsets(flat) if offsets else [(ids, []) for ids in backbone.tokenize_all(flat)]
    )
    lead, tail = backbone.special_ends
    ends = (lead, [] if opened else tail)
    return [
        _assemble(
            backbone,
            replace(one, filled=FilledText(text, one.filled.fields)),
            _Body.of(text, [next(tokens) for _ in several]),
            ([], []) if one.chat else ends,
        )
        for one, text, several in zip(inputs, texts, parts, strict=True)
    ]


def _between_marks(text: str) -> list[str]:
    *before, last = text.split(PROMPT_MARK)
    return [*(part.rstrip(" ") for part in before), last]


@dataclass(frozen=True)
class _Body:
    """A tokenized input without special tokens: its parts, between which its marks stand."""

    parts: list[list[int]]
    offsets: list[tuple[int, int]]

    @classmethod
    def of(cls, text: str, parts: Sequence[tuple[list[int], list[tuple[int, int]]]]) -> _Body:
        """From the tokens between a text's marks, each with its place between them, if it is known."""
        begins = itertools.accumulate((len(part) + len(PROMPT_MARK) for part in text.split(PROMPT_MARK)), initial=0)
        places = [(a + begin, b + begin) for (_, found), begin in zip(parts, begins, strict=False) for a, b in found]
        return cls([ids for ids, _ in parts], places)

    @property
    def ids(self) -> list[int]:
        return [token for part in self.parts for token in part]

    @property
    def starts(self) -> list[int]:
        """How many tokens stand before each part."""
        return [0, *itertools.accumulate(map(len, self.parts[:-1]))]


def _assemble(backbone: Backbone, one: RenderedInput, body: _Body, ends: tuple[list[int], list[int]]) -> EncodedInput:
    """One input with its special tokens, shortened where it must be and may."""
    (lead, tail), ids = ends, body.ids
    kept: Sequence[int] = range(len(ids))
    total = len(lead) + len(ids) + len(tail)
    if one.max_tokens is not None and total > one.max_tokens:
        spans = _spans(backbone, one.filled, body) if one.truncate else []
        fixed = total - sum(end - start for start, end in spans)
        if fixed >= one.max_tokens:
            template, remedy = (
                (f", {fixed} of them not from a column", "shorten the template")
                if one.truncate
                else ("", "shorten it, or pass truncate=True")
            )
            raise LengthError(
                f"{one.source}{': ' if one.source else ''}An input has {total} tokens{template}, but only "
                f"{one.max_tokens} fit beside the prompt and the target ({one.filled.text[:40]!r}…); {remedy}."
            )
        kept = _shortened(len(ids), spans, one.max_tokens - fixed)
    marks = tuple(len(lead) + bisect_left(kept, start) for start in body.starts[1:])
    places = [body.offsets[index] for index in kept] if body.offsets else []
    if places:
        places = [*([_NOWHERE] * len(lead)), *places, *([_NOWHERE] * len(tail))]
    return EncodedInput([*lead, *(ids[index] for index in kept), *tail], marks, tuple(places))


def _spans(backbone: Backbone, given: FilledText, body: _Body) -> list[tuple[int, int]]:
    """Where each filled part begins and ends, in tokens; a token that reaches over its end is not of it."""

    def tokens_before(place: int) -> int:
        *_, before = several = given.text[:place].split(PROMPT_MARK)
        part = len(several) - 1
        return body.starts[part] + _shared_beginning(backbone.tokenize(before), body.parts[part])

    return [(tokens_before(start), tokens_before(end)) for start, end in given.fields]


def _shared_beginning(some: list[int], others: list[int]) -> int:
    return next((i for i, (one, other) in enumerate(zip(some, others, strict=False)) if one != other), len(some))


def _shortened(count: int, spans: Sequence[tuple[int, int]], room: int) -> list[int]:
    """Which of `count` tokens stay, when spans may keep `room` together: the longest lose their ends, to one level."""
    cut: set[int] = set()
    for rank, (start, end) in enumerate(sorted(spans, key=lambda span: span[1] - span[0])):
        share = min(end - start, room // (len(spans) - rank))
        cut.update(range(start + share, end))
        room -= share
    return [index for index in range(count) if index not in cut]


def collate_inputs(
    backbone: Backbone, rows: Sequence[EncodedInput]
) -> tuple[Int[Tensor, "batch seq"], Bool[Tensor, "batch seq"], Int[Tensor, "batch marks"]]:
    """Token ids of a batch, padded on the right; their mask; and the token indices of the marks."""
    ids, mask = pad_rows([row.ids for row in rows], fill=backbone.pad_id)
    marks = pad_marks([row.marks for row in rows])
    return ids.to(backbone.device), mask.to(backbone.device), marks.to(backbone.device)


def encode_targets(
    backbone: Backbone, pairs: Sequence[tuple[RenderedInput, str]], *, end: bool = True
) -> list[list[int]]:
    """Tokenize targets as they continue their inputs.

    In a decoder-only model a target is tokenized as a word that follows other text, separated from it by a blank
    unless the input ends a line or a chat template opens the answer; and it closes with the end token, or as the chat
    template closes an answer. In an encoder-decoder it is a text of its own.

    Args:
        backbone: Whose tokenizer to use.
        pairs: Each target behind the input that it follows.
        end: Whether to close them with the end token.

    Raises:
        ConfigError: If a chat template opens an answer otherwise than it writes one.
    """
    if backbone.spec.kind == "encoder-decoder":
        lead, tail = backbone.target_ends
        bodies = backbone.tokenize_all([target for _, target in pairs], as_targets=True)
        return [[*lead, *body, *(tail if end else [])] for body in bodies]
    chats = any(before.chat for before, _ in pairs)
    blank, closing = answer_ends(backbone) if chats else ("", None)
    texts = [
        f"{blank if before.chat else '' if follows_directly(before) else ' '}{target}"
        f"{closing or '' if before.chat and end else ''}"
        for before, target in pairs
    ]
    tail = [backbone.end_id] if end and backbone.end_id is not None else []
    return [
        [*body, *([] if before.chat and closing else tail)]
        for (before, _), body in zip(pairs, _continuations(backbone, texts), strict=True)
    ]


def follows_directly(before: RenderedInput) -> bool:
    """Whether a target of a decoder-only model follows an input without a blank between them."""
    return before.chat or before.filled.text.endswith("\n")


def _continuations(backbone: Backbone, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts that follow other text, whatever the tokenizer does at a text's beginning."""
    anchor = backbone.tokenize(_ANCHOR)
    joined = backbone.tokenize_all([_ANCHOR + text for text in texts])
    return [
        ids[len(anchor) :] if ids[: len(anchor)] == anchor else backbone.tokenize(text)
        for ids, text in zip(joined, texts, strict=True)
    ]
