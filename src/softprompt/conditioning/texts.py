"""From texts to token ids: inputs with the mark of a placement, and targets as they continue an input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from softprompt.backbones import Backbone
from softprompt.errors import ConfigError, DataError, LengthError
from softprompt.tasks import PROMPT_MARK, TextFormat

__all__ = ["EncodedInput", "encode_input", "encode_inputs", "encode_target", "encode_targets", "render_input"]

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
    """Tokenize one input; see `encode_inputs`."""
    return encode_inputs(backbone, [text], chat=chat, max_tokens=[max_tokens], truncate=truncate)[0]


def encode_inputs(
    backbone: Backbone,
    texts: Sequence[str],
    *,
    chat: bool = False,
    max_tokens: Sequence[int | None] | None = None,
    truncate: bool = False,
) -> list[EncodedInput]:
    """Tokenize inputs.

    In a decoder-only model an input stays open, without the end token, and without trailing blanks, which
    targets begin with.

    Args:
        backbone: Whose tokenizer to use.
        texts: The inputs, perhaps with the mark of the middle placement.
        chat: Whether a chat template stands around them, which brings its own special tokens.
        max_tokens: Most tokens that each input may have; None is unbounded.
        truncate: Whether a longer input is cut at its end; otherwise it is an error.

    Raises:
        LengthError: If an input is too long and may not be cut.
    """
    opened = backbone.spec.kind == "decoder-only"
    parts = [(text.rstrip(" ") if opened and not chat else text).partition(PROMPT_MARK) for text in texts]
    heads = backbone.tokenize_all([before for before, _, _ in parts])
    marked = [index for index, (_, mark, _) in enumerate(parts) if mark]
    rests = dict(zip(marked, backbone.tokenize_all([parts[index][2] for index in marked]), strict=True))
    lead, tail = ([], []) if chat else backbone.special_ends
    ends = (lead, [] if opened else tail)
    limits = max_tokens or [None] * len(texts)
    return [
        _assemble(texts[index], head, rests.get(index), ends, limits[index], truncate)
        for index, head in enumerate(heads)
    ]


def _assemble(
    text: str,
    head: list[int],
    rest: list[int] | None,
    ends: tuple[list[int], list[int]],
    max_tokens: int | None,
    truncate: bool,
) -> EncodedInput:
    """One input from what stands before and behind its mark; `rest` is None without mark."""
    lead, tail = ends
    body = [*head, *(rest or [])]
    room = None if max_tokens is None else max_tokens - len(lead) - len(tail)
    if room is not None and len(body) > room:
        if not truncate or room < 1:
            raise LengthError(
                f"An input has {len(body) + len(lead) + len(tail)} tokens, but only {max_tokens} fit beside the prompt "
                f"and the target ({text[:40]!r}…); shorten it, or pass truncate=True."
            )
        body = body[:room]
    mark = -1 if rest is None else len(lead) + min(len(head), len(body))
    return EncodedInput([*lead, *body, *tail], mark)


def encode_target(
    backbone: Backbone, input_text: str, target: str, *, chat: bool = False, end: bool = True
) -> list[int]:
    """Tokenize one target; see `encode_targets`."""
    return encode_targets(backbone, [(input_text, target)], chat=chat, end=end)[0]


def encode_targets(
    backbone: Backbone, pairs: Sequence[tuple[str, str]], *, chat: bool = False, end: bool = True
) -> list[list[int]]:
    """Tokenize targets as they continue their inputs.

    In a decoder-only model a target is tokenized as a word that follows other text, separated from it by a blank
    unless the input ends a line; and it closes with the end token. In an encoder-decoder it is a text of its own.

    Args:
        backbone: Whose tokenizer to use.
        pairs: Each target behind the input that it follows.
        chat: Whether the inputs end with a chat template's opening of the answer, which needs no blank.
        end: Whether to close them with the end token.
    """
    if backbone.spec.kind == "encoder-decoder":
        lead, tail = backbone.special_ends
        bodies = backbone.tokenize_all([target for _, target in pairs])
        return [[*lead, *body, *(tail if end else [])] for body in bodies]
    texts = [f"{'' if chat or text.endswith(chr(10)) else ' '}{target}" for text, target in pairs]
    closing = [backbone.end_id] if end and backbone.end_id is not None else []
    return [[*body, *closing] for body in _continuations(backbone, texts)]


def _continuations(backbone: Backbone, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts that follow other text, whatever the tokenizer does at a text's beginning."""
    anchor = backbone.tokenize(_ANCHOR)
    joined = backbone.tokenize_all([_ANCHOR + text for text in texts])
    return [
        ids[len(anchor) :] if ids[: len(anchor)] == anchor else backbone.tokenize(text)
        for ids, text in zip(joined, texts, strict=True)
    ]
