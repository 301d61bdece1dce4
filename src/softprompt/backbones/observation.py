"""What a model is, read off one tiny forward pass instead of off its name.

The pass shows which modules attend, in which order, with how many heads of which width, and whether the
model scales its embeddings outside the table (as Pegasus and Marian do).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import MODEL_FOR_MASKED_LM_MAPPING, PreTrainedModel

from softprompt.backbones.carrying import Carried, Recorder, Site, carrying
from softprompt.backbones.sharding import device_of, look_up
from softprompt.backbones.spec import BackboneSpec, Kind, StackSpec
from softprompt.errors import BackboneError

__all__ = ["Observation", "classifies", "observe"]

_INPUT_TOKENS, _TARGET_TOKENS = 5, 3


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What one pass showed.

    Attributes:
        spec: The facts that other rooms need.
        sites: Which attention layer a module is; empty if the model does not use the attention interface.
        embedding_scale: What the model multiplies embedded tokens by, outside its embedding table.
        target_scale: What a target's embeddings, given instead of its tokens, must be multiplied by.
        takes_positions: Whether `forward` takes `position_ids`.
    """

    spec: BackboneSpec
    sites: Mapping[nn.Module, Site]
    embedding_scale: float
    target_scale: float
    takes_positions: bool


@torch.no_grad()
def observe(model: PreTrainedModel, *, injectable: bool) -> Observation:
    """Look at a model, which is left as it was.

    Args:
        model: The model, in evaluation mode.
        injectable: Whether softprompt's attention function could be set on it.

    Raises:
        BackboneError: If the model has no head that softprompt can use, or its embeddings cannot be fed.
    """
    kind = _kind(model)
    table = model.get_input_embeddings()
    tokens = _some_tokens(table.weight.shape[0], device_of(table))
    scale = _embedding_scale(model, kind, tokens, "inputs_embeds", "input_ids")
    target_scale = scale
    if kind == "encoder-decoder":
        ids = tokens[:, :_TARGET_TOKENS]
        target_scale = _embedding_scale(
            model, kind, ids, "decoder_inputs_embeds", "decoder_input_ids", input_ids=tokens
        )
    recorder = Recorder()
    with carrying(Carried(recorder=recorder)):
        _pass(model, kind, input_ids=tokens)
    sites = _sites(recorder, model, kind) if injectable else {}
    stacks, no_prefix = _stacks(recorder, sites)
    if kind == "encoder-only" and any(getattr(module, "is_causal", False) for module in sites):
        raise BackboneError(
            f"{type(model).__name__} classifies with a causal model, which is not supported; load the model with "
            "its language-model head and use label words instead."
        )
    if kind == "decoder-only" and sites and not any(getattr(module, "is_causal", True) for module in sites):
        raise BackboneError(
            f"{type(model).__name__} reads its input in both directions, so it cannot continue a text; load a model "
            "that was trained to generate."
        )
    spec = BackboneSpec(
        kind=kind,
        dim=table.weight.shape[1],
        vocab=table.weight.shape[0],
        stacks=stacks,
        max_positions=_max_positions(model),
        no_prefix=no_prefix,
    )
    takes_positions = "position_ids" in inspect.signature(model.forward).parameters
    return Observation(
        spec=spec, sites=sites, embedding_scale=scale, target_scale=target_scale, takes_positions=takes_positions
    )


def _kind(model: PreTrainedModel) -> Kind:
    if model.config.is_encoder_decoder and model.can_generate():
        return "encoder-decoder"
    if model.can_generate():
        return "decoder-only"
    encodes = type(model.config) in MODEL_FOR_MASKED_LM_MAPPING and not model.config.is_encoder_decoder
    if classifies(model) or encodes:
        return "encoder-only"
    raise BackboneError(
        f"{type(model).__name__} has no head that softprompt can use; expected a model that generates text "
        "(AutoModelForCausalLM, AutoModelForSeq2SeqLM), one for sequence classification, or an encoder."
    )


def classifies(model: PreTrainedModel) -> bool:
    """Whether a model has a head over classes of whole inputs."""
    return type(model).__name__.endswith("ForSequenceClassification")


def _some_tokens(vocab: int, device: torch.device) -> Int[Tensor, "1 seq"]:
    """A few ordinary tokens, spread over the vocabulary so as to miss special ones at its ends."""
    steps = torch.linspace(0.3, 0.7, _INPUT_TOKENS, device=device)
    return (steps * vocab).long()[None]


def _pass(model: PreTrainedModel, kind: Kind, **inputs: Any) -> Tensor:
    """What one tiny pass gives: logits, or states."""
    device = next(iter(inputs.values())).device
    if kind == "encoder-decoder" and not inputs.keys() & {"decoder_input_ids", "decoder_inputs_embeds"}:
        inputs["decoder_input_ids"] = torch.arange(_TARGET_TOKENS, device=device)[None]
    if kind != "encoder-only":
        inputs["use_cache"] = False
    attention_mask = torch.ones(1, _INPUT_TOKENS, dtype=torch.long, device=device)
    outcome: Tensor = model(**inputs, attention_mask=attention_mask)[0]  # of a bare encoder, the last layer's states
    return outcome


def _embedding_scale(
    model: PreTrainedModel, kind: Kind, ids: Tensor, as_rows: str, as_ids: str, **inputs: Tensor
) -> float:
    """Find what embeddings must be multiplied by to stand for their ids: nothing, or sqrt(dim)."""
    want = _pass(model, kind, **inputs, **{as_ids: ids}).float()
    embedded = look_up(model, ids)
    candidates = (1.0, math.sqrt(embedded.shape[-1]))
    passes = [_pass(model, kind, **inputs, **{as_rows: embedded * c}).float() for c in candidates]
    errors = [(logits - want).abs().max().item() for logits in passes]
    best = min(range(len(candidates)), key=errors.__getitem__)
    if errors[best] > 1e-2 * (want.abs().max().item() + 1e-6):
        raise BackboneError(
            f"{type(model).__name__} gives other logits for {as_ids} than for their embeddings (difference "
            f"{errors[best]:.3g}), so prompt rows cannot be fed to it exactly."
        )
    return candidates[best]


def _sites(recorder: Recorder, model: PreTrainedModel, kind: Kind) -> dict[nn.Module, Site]:
    """Name the modules that attended, in order. A decoder module that saw the encoder's length is cross-attention."""
    in_encoder = set(model.get_encoder().modules()) if kind == "encoder-decoder" else set()
    sites: dict[nn.Module, Site] = {}
    counts = {"encoder": 0, "cross": 0, "decoder": 0}
    for module, key, _ in recorder.calls:
        stack: Literal["encoder", "cross", "decoder"] = "decoder"
        if kind == "encoder-only" or module in in_encoder:
            stack = "encoder"
        elif kind == "encoder-decoder" and key.shape[2] == _INPUT_TOKENS:
            stack = "cross"
        sites[module] = Site(stack, counts[stack])
        counts[stack] += 1
    return sites


def _stacks(recorder: Recorder, sites: Mapping[nn.Module, Site]) -> tuple[dict[str, StackSpec], str | None]:
    """Describe each stack, or say why its layers cannot be given keys and values."""
    if not sites:
        return {}, "its attention does not go through transformers' attention interface"
    shapes: dict[str, list[tuple[int, int, int]]] = {}
    for module, key, value in recorder.calls:
        shapes.setdefault(sites[module].stack, []).append((key.shape[1], key.shape[3], value.shape[3]))
    for stack, found in shapes.items():
        if len(set(found)) > 1:
            return {}, f"the layers of its {stack} differ in their heads"
        if found[0][1] != found[0][2]:
            return {}, f"keys and values of its {stack} differ in width"
    order = [stack for stack in ("encoder", "cross", "decoder") if stack in shapes]
    return {
        stack: StackSpec(layers=len(shapes[stack]), kv_heads=shapes[stack][0][0], head_dim=shapes[stack][0][1])
        for stack in order
    }, None


def _max_positions(model: PreTrainedModel) -> int | None:
    """Longest sequence: of the position table or of the rotary embedding's training; None if unbounded."""
    config = model.config.get_text_config()
    limit: int | None = getattr(config, "max_position_embeddings", None)
    if limit is None:
        return None
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") in ("dynamic", "longrope"):
        limit = min(limit, rope.get("original_max_position_embeddings") or limit)
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    for table in tables:
        if (
            table is not model.get_input_embeddings()
            and table.num_embeddings == limit
            and table.padding_idx is not None
        ):
            return limit - table.padding_idx - 1  # RoBERTa counts positions from behind its table's padding row
    return limit
