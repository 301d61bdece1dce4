"""From texts to token ids: inputs with the mark of a placement, and targets as they continue an input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from softprompt.backbones import Backbone
from softprompt.errors import ConfigError, DataError, LengthError
from softprompt.tasks import PROMPT_MARK, TextFormat

__all__ = ["EncodedInput", "encode_input", "encode_target", "render_input"]

_ANCHOR = ":"


@dataclass(frozen=True)
class EncodedInput:
    """A tokenized input.

    Attributes:
        ids: Token ids, with what the tokenizer adds to a whole input.
        mark: Token index of the template's mark, -1 for none.
    """

    ids: list[int]
    mark: int = -1


def render_input(backbone: Backbone, form: TextFormat | None, value: str | Mapping[str, object]) -> str:
    """The text of one input: its template filled, its chat template put around it.

    Args:
        backbone: Whose chat template to use.
        form: The stored format; None takes the text as it is.
        value: A text for a template of one field, or the fields by name.

    Raises:
        DataError: If fields are given without a format, or a field is missing.
        ConfigError: If the format wants a chat template and the tokenizer has none.
    """
    if form is None:
        if not isinstance(value, str):
            raise DataError(f"Without a stored template an input is a text, but got {type(value).__name__}.")
        return value
    text = form.render_input(value)
    if not form.chat:
        return text
    tokenizer = backbone.need_tokenizer()
    if tokenizer.chat_template is None:
        raise ConfigError(f"The format asks for a chat template, but {backbone.name} has none; set chat=False.")
    turns = [{"role": "user", "content": text}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def encode_input(
    backbone: Backbone, text: str, *, chat: bool = False, max_tokens: int | None = None, truncate: bool = False
) -> EncodedInput:
    """Tokenize an input.

    In a decoder-only model the input stays open, without the end token, and without trailing blanks, which
    targets begin with.

    Args:
        backbone: Whose tokenizer to use.
        text: The input, perhaps with the mark of the middle placement.
        chat: Whether a chat template stands around it, which brings its own special tokens.
        max_tokens: Most tokens that the input may have; None is unbounded.
        truncate: Whether a longer input is cut at its end; otherwise it is an error.

    Raises:
        LengthError: If the input is too long and may not be cut.
    """
    lead, tail = backbone.special_ends
    if backbone.spec.kind == "decoder-only":
        text, tail = text if chat else text.rstrip(" "), []
    if chat:
        lead, tail = [], []
    before, marked, after = text.partition(PROMPT_MARK)
    head = backbone.tokenize(before)
    body = head + backbone.tokenize(after) if marked else head
    room = None if max_tokens is None else max_tokens - len(lead) - len(tail)
    if room is not None and len(body) > room:
        if not truncate or room < 1:
            raise LengthError(
                f"An input has {len(body) + len(lead) + len(tail)} tokens, but only {max_tokens} fit beside the prompt "
                f"and the target ({text[:40]!r}…); shorten it, or pass truncate=True."
            )
        body = body[:room]
    mark = len(lead) + min(len(head), len(body)) if marked else -1
    return EncodedInput([*lead, *body, *tail], mark)


def encode_target(
    backbone: Backbone, input_text: str, target: str, *, chat: bool = False, end: bool = True
) -> list[int]:
    """Tokenize a target as it continues an input.

    In a decoder-only model the target is tokenized as a word that follows other text, separated from it by a
    blank unless the input ends a line; and it closes with the end token. In an encoder-decoder it is a text of
    its own.

    Args:
        backbone: Whose tokenizer to use.
        input_text: The input that it follows.
        target: The target.
        chat: Whether the input ends with a chat template's opening of the answer, which needs no blank.
        end: Whether to close it with the end token.
    """
    if backbone.spec.kind == "encoder-decoder":
        lead, tail = backbone.special_ends
        return [*lead, *backbone.tokenize(target), *(tail if end else [])]
    separator = "" if chat or input_text.endswith("\n") else " "
    ids = list(_continuation(backbone, separator, target))
    return [*ids, backbone.end_id] if end and backbone.end_id is not None else ids


def _continuation(backbone: Backbone, separator: str, target: str) -> list[int]:
    """Token ids of a text that follows other text, whatever the tokenizer does at a text's beginning."""
    anchor = backbone.tokenize(_ANCHOR)
    joined = backbone.tokenize(_ANCHOR + separator + target)
    if joined[: len(anchor)] == anchor:
        return joined[len(anchor) :]
    return backbone.tokenize(separator + target)
