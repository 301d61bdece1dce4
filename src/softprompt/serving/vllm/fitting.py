"""What a vLLM server can compute as the library does, and what it cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from softprompt.backbones import Backbone
from softprompt.conditioning import generation
from softprompt.errors import NonFiniteError, UnsupportedError
from softprompt.inference import Sampling

__all__ = ["check_backbone", "check_finite", "check_settings", "unfit"]

_LARGEST = torch.finfo(torch.float16).max
"""What every dtype can hold that an engine may compute in."""
_LEAST_TEMPERATURE = 0.01
"""vLLM lifts what is lower, and above 0, to this."""
_CHOICE = {"TemperatureLogitsWarper", "TopKLogitsWarper", "TopPLogitsWarper"}
_LEAST = {"MinLengthLogitsProcessor", "MinNewTokensLengthLogitsProcessor"}


def unfit(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> str | None:
    """Why a prompt of these tensors cannot be served so; None if it can. Damage is found where it is loaded.

    Args:
        tensors: By their names, as its folder has them.
        dtype: The backbone's, in which rows are sent.
    """
    if set(tensors) == {"rows"}:
        rows = tensors["rows"]
        if bool((rows.isfinite() & ~_finite(rows.to(dtype))).any()):
            return (
                f"it has values beyond the {_LARGEST:g} that float16 can hold, which vLLM may compute in; train it "
                "again with a lower rate"
            )
        return None
    if any(name.partition(".")[0].isdigit() for name in tensors):
        return "it is an ensemble, whose members answer in one pass, and vLLM computes each by itself; serve a member"
    if any(name.startswith("head.") for name in tensors):
        return "it brings a head, and vLLM has the model's own alone"
    return (
        "it is a prefix, which gives keys and values to the layers, and vLLM takes embeddings alone; train a prompt of "
        "rows, or serve it without vLLM"
    )


def check_backbone(backbone: Backbone) -> None:
    """Refuse a backbone whose inputs vLLM does not take as embeddings.

    Raises:
        UnsupportedError: If it is one.
    """
    if backbone.spec.kind != "decoder-only":
        raise UnsupportedError(
            f"{backbone.name} is {backbone.spec.kind}, and vLLM takes embeddings for decoder-only models alone; serve "
            "it without vLLM."
        )


def check_settings(backbone: Backbone, sampling: Sampling, ids: Sequence[int]) -> None:
    """Refuse settings of a request, or of the model, that vLLM would compute otherwise, or not at all.

    It knows no token ids of an input of embeddings, which a repetition penalty is about, and no temperature between 0
    and 0.01.

    Args:
        backbone: Whose own settings count where the request says nothing.
        sampling: The request's.
        ids: The input's token ids.

    Raises:
        UnsupportedError: If there are such.
    """
    if 0 < sampling.temperature < _LEAST_TEMPERATURE:
        raise UnsupportedError(
            f"The request asks for temperature={sampling.temperature:g}, which vLLM computes as {_LEAST_TEMPERATURE};"
            f" send 0, which takes the likeliest token, or {_LEAST_TEMPERATURE} and more."
        )
    processors, _ = generation.logits_processors(backbone, ids, sampling.options())
    names = {type(one).__name__ for one in processors if type(one).__module__.startswith("transformers.")}
    if other := sorted(names - _CHOICE - (_LEAST if sampling.min_new_tokens else set())):
        raise UnsupportedError(
            f"The request, or {backbone.name} itself, asks for {', '.join(other)}, which vLLM does not compute where "
            "inputs are embeddings; leave it out, or send repetition_penalty=1 if the model asks for one."
        )


def check_finite(embeddings: Float[Tensor, "tokens dim"], name: str) -> None:
    """Refuse embeddings that are not finite in whatever dtype the engine has: there they spoil others' answers.

    Args:
        embeddings: What would be sent.
        name: Of the prompt.

    Raises:
        NonFiniteError: If they are not.
    """
    if not bool(_finite(embeddings).all()):
        raise NonFiniteError(
            f"The prompt {name!r} has values that are NaN, or larger than the {_LARGEST:g} that float16 can hold; train"
            " it again with a lower rate."
        )


def _finite(embeddings: Float[Tensor, "tokens dim"]) -> Bool[Tensor, "tokens dim"]:
    return embeddings.to(torch.float16).isfinite()
