"""What a chat template puts around an answer."""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from softprompt.backbones import Backbone
from softprompt.errors import ConfigError

__all__ = ["answer_ends", "closing_id"]

_ANSWER = "answer"


def answer_ends(backbone: Backbone) -> tuple[str, str | None]:
    """What stands before and behind an answer in its turn, when the template has opened that turn.

    Llama 2 and Mistral put a blank before it; Gemma closes it with another token than the one that ends a text. What is
    behind that token no model says. Words before the answer, such as empty thoughts, are not of it and are left out.

    Returns:
        Blanks or nothing, and the text that closes the turn up to its first special token; None if it has none.

    Raises:
        ConfigError: If the turn of an answer does not begin as the template opens it.
    """
    tokenizer = backbone.need_tokenizer()
    if tokenizer.chat_template is None:
        return "", None
    asked = [{"role": "user", "content": "question"}]
    try:
        opened = _rendered(tokenizer, asked, add_generation_prompt=True)
        whole = _rendered(tokenizer, [*asked, {"role": "assistant", "content": _ANSWER}])
    except TemplateError as error:
        raise ConfigError(
            f"The chat template of {backbone.name} refuses an answer ({error}); set chat=False."
        ) from error
    lead, found, behind = whole.removeprefix(opened).partition(_ANSWER)
    if not whole.startswith(opened) or not found:
        raise ConfigError(
            f"The chat template of {backbone.name} opens an answer with {opened!r}, but writes one as {whole!r}, which"
            " does not go on from there; set chat=False, or mend the template."
        )
    special = {str(token) for token in tokenizer.added_tokens_decoder.values()} | set(tokenizer.all_special_tokens)
    ends = [behind.find(token) + len(token) for token in special if token in behind]
    return ("" if lead.strip() else lead), (behind[: min(ends)] if ends else None)


def closing_id(backbone: Backbone) -> int | None:
    """The token that closes an answer's turn by the chat template; None if there is none.

    A template that writes no answers closes none: what is generated need not be a chat.
    """
    if backbone.tokenizer is None:
        return None
    try:
        _, closing = answer_ends(backbone)
    except ConfigError:
        return None
    return None if closing is None else backbone.tokenize(closing)[-1]


def _rendered(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]], **settings: Any) -> str:
    return str(tokenizer.apply_chat_template(turns, tokenize=False, **settings))
