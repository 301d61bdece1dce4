"""Whether the model behind is the backbone that is here: found out by asking, before anybody else does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softprompt.backbones import Backbone
from softprompt.errors import MismatchError, ServerError, UnreachableError
from softprompt.serving.vllm.bodies import asked_at, ranking_body, written
from softprompt.serving.vllm.client import VllmClient
from softprompt.store import pack_embeddings

__all__ = ["Behind", "look_behind"]

_TOKENS, _ASKED = 6, 8
_ROUNDING, _TOLERANCE = 0.05, 0.2
"""Nats by which log-probabilities may differ in the mean: of one engine by how embeddings are rounded, and of two by
what they compute in. vLLM 0.32 in float32 differed from the library in bfloat16 by 0.013, from itself by nothing."""


@final
@dataclass(frozen=True, kw_only=True)
class Behind:
    """The engine behind.

    Attributes:
        model: What it calls the backbone.
        max_tokens: Longest sequence that it takes; None if it does not say.
    """

    model: str
    max_tokens: int | None


async def look_behind(client: VllmClient, backbone: Backbone, model: str | None) -> Behind:
    """Ask a server for the next token of an input by its ids and by its embeddings, and compare with the backbone.

    Args:
        client: Asks it.
        backbone: What it should have.
        model: What it calls that; None for the first model that it lists.

    Raises:
        MismatchError: If it has another model, or embeds tokens otherwise.
        ServerError: If it lists no such model, takes no embeddings, or fails.
    """
    behind = _listed(await client.models(), model)
    ids = torch.linspace(0.3, 0.7, _TOKENS, dtype=torch.double).mul(backbone.spec.vocab).long().to(backbone.device)
    tokens = [(7 * place + 3) * backbone.spec.vocab // (7 * _ASKED) for place in range(_ASKED)]
    packed = pack_embeddings(backbone.embed(ids[None])[0])
    by_ids = await _asked(client, behind.model, {"prompt": [ids.tolist()]}, tokens)
    try:
        by_rows = await _asked(client, behind.model, {"prompt_embeds": [packed]}, tokens)
    except UnreachableError:
        raise
    except ServerError as error:
        raise ServerError(f"{error} It took token ids; start it with --enable-prompt-embeds for embeddings.") from None
    if not _apart(by_ids, by_rows) <= _ROUNDING:
        raise MismatchError(
            f"The server's {behind.model!r} does not continue the embeddings that {backbone.name} has for an input as "
            "it continues the input; serve that backbone there."
        )
    if not _apart(by_ids, _own(backbone, ids, tokens)) <= _TOLERANCE:
        raise MismatchError(
            f"The server's {behind.model!r} continues an input otherwise than {backbone.name}; serve that backbone "
            "there."
        )
    return behind


def _listed(answer: Any, model: str | None) -> Behind:
    try:
        cards = {str(card["id"]): card for card in answer["data"]}
        name = next(iter(cards)) if model is None else model
        most = cards[name].get("max_model_len")
        return Behind(model=name, max_tokens=None if most is None else int(most))
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration):
        wanted = "a model" if model is None else f"the model {model!r}"
        raise ServerError(f"The server does not list {wanted} at /v1/models; name one that it has.") from None


async def _asked(client: VllmClient, model: str, given: dict[str, Any], tokens: list[int]) -> Float[Tensor, " tokens"]:
    answer = await client.complete(written(ranking_body(model, given, tokens)))
    (found,) = asked_at(answer, 1, tokens)
    return torch.tensor([found[token] for token in tokens])


@torch.no_grad()
def _own(backbone: Backbone, ids: Int[Tensor, " seq"], tokens: list[int]) -> Float[Tensor, " tokens"]:
    logits = backbone.call(input_ids=ids[None], use_cache=False)[0][0, -1]  # [vocab]
    return logits.float().log_softmax(-1).cpu()[tokens]


def _apart(some: Float[Tensor, " tokens"], others: Float[Tensor, " tokens"]) -> float:
    return float((some - others).abs().mean())
