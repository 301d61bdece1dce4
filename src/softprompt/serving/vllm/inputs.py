"""The input of a request as a vLLM server takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from softprompt.conditioning import Prompted
from softprompt.inference.jobs import Job
from softprompt.inference.queries import EncodedQuery, collate
from softprompt.serving.vllm.fitting import check_finite
from softprompt.store import pack_embeddings

__all__ = ["WholeInput", "input_tokens"]


def input_tokens(model: Prompted, encoded: EncodedQuery) -> int:
    """Tokens of an input and rows of its prompt, together."""
    return len(encoded.input.ids) + sum(0 if name is None else model.prompts[name].length for name in encoded.names)


@final
class WholeInput:
    """A request's input: token ids, or embeddings among which its prompt's rows stand.

    Args:
        model: The backbone with its prompts.
        job: The request.

    Raises:
        NonFiniteError: If an embedding is not finite in every dtype that the server may have.
    """

    def __init__(self, model: Prompted, job: Job) -> None:
        self._backbone = model.backbone
        self._ids = job.encoded.input.ids
        self._rows = None if job.lease is None else _embedded(model, job.encoded)
        if self._rows is not None and job.lease is not None:
            check_finite(self._rows, job.lease.name)

    @torch.no_grad()
    def before(self, behind: Sequence[tuple[int, ...]]) -> dict[str, list[Any]]:
        """What is sent of it, once in front of each of some token ids: the field `prompt`, or `prompt_embeds`.

        Args:
            behind: Those token ids, of each.
        """
        rows = self._rows
        if rows is None:
            return {"prompt": [[*self._ids, *ids] for ids in behind]}
        packed = []
        for ids in behind:
            more = self._backbone.embed(torch.tensor(ids, dtype=torch.long, device=rows.device))  # [ids, dim]
            packed.append(pack_embeddings(torch.cat([rows, more])))
        return {"prompt_embeds": packed}


@torch.no_grad()
def _embedded(model: Prompted, encoded: EncodedQuery) -> Float[Tensor, "joined dim"]:
    ids, mask, marks = collate(model, [encoded])
    (rows,) = model.embed_ids(ids, mask, prompts=encoded.names, marks=marks)
    return rows
