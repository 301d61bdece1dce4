"""References that share nothing with the library: one row at a time, unpadded, on the model as transformers makes it.

Prompt tuning is a plain concatenation of embeddings. A decoder's prefix is a cache that is filled before the row
runs, as prefix-tuning's authors did. The prefixes of encoders and of encoder-decoders, which no cache reaches, go
through a written-out attention in float64 that knows no masks.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tests.families import zoo
from tests.families.zoo import Family
from torch import Tensor, nn
from transformers import AttentionInterface, DynamicCache, PreTrainedModel

from softprompt.prompts import PromptTensors, SoftPrompt

IGNORED = -100


def places(prompt: SoftPrompt, inputs: int, marks: Sequence[int]) -> list[int]:
    """Before which of a row's tokens each part of the prompt stands."""
    if prompt.placement == "template":
        return list(marks)
    return [{"prepend": 0, "middle": inputs // 2, "append": inputs}[prompt.placement]]


def logits(
    family: Family,
    ids: Tensor,
    prompt: SoftPrompt | None,
    *,
    inputs: int | None = None,
    marks: Sequence[int] = (),
    target: Tensor | None = None,
) -> Tensor:
    """What predicts the token after each of a row's tokens, `[seq, vocab]`; of a target's; or of each class.

    Args:
        family: Whose model to run.
        ids: The row's real tokens, `[seq]`.
        prompt: Its prompt.
        inputs: How many of its tokens are input; all if None.
        marks: Token indices of a template's marks.
        target: What the decoder of an encoder-decoder reads, `[target]`.
    """
    tensors = prompt() if prompt is not None else PromptTensors()
    inputs = len(ids) if inputs is None else inputs
    at = places(prompt, inputs, marks) if prompt is not None else [0]
    if family.kind == "decoder-only" and tensors.keys_values:
        return _after_cache(zoo.stock(family.name), ids, tensors.keys_values["decoder"], min(at[0], max(inputs - 1, 0)))
    if family.kind == "encoder-only" and tensors.rows is not None:
        at = [max(one, 1) for one in at]
    reads = {} if target is None else {"decoder_input_ids": target[None]}
    if tensors.keys_values:
        return _written_out(family.name)(ids[None], tensors.keys_values, **reads)
    if tensors.rows is None:
        return zoo.stock(family.name)(ids[None], **reads).logits[0]
    assert prompt is not None
    return _joined(family, ids, list(zip(at, tensors.rows.split(prompt.segments), strict=True)), reads)


def _joined(family: Family, ids: Tensor, parts: Sequence[tuple[int, Tensor]], reads: Mapping[str, Tensor]) -> Tensor:
    """The row's embeddings with each part of its prompt before the token that it stands before."""
    model = zoo.stock(family.name)
    embedded = model.get_input_embeddings()(ids) * family.embedding_scale
    pieces: list[Tensor] = []
    columns: list[int] = []
    for i in range(len(ids) + 1):
        pieces += [part for at, part in parts if at == i]
        columns.append(sum(map(len, pieces)))
        pieces.append(embedded[i : i + 1])
    made = model(inputs_embeds=torch.cat(pieces)[None], **reads).logits[0]
    if family.kind != "decoder-only":
        return made
    columns = columns[:-1]
    return made[[column - 1 for column in columns[1:]] + [len(made) - 1]]


def _after_cache(model: PreTrainedModel, ids: Tensor, prefix: Tensor, at: int) -> Tensor:
    """Run the tokens before the prefix, put the prefix behind them in the cache, and run the others."""
    cache = DynamicCache()
    before = [model(ids[None, :at], past_key_values=cache, use_cache=True).logits[0]] if at else []
    for layer, (keys, values) in enumerate(prefix):
        cache.update(keys[None], values[None], layer)
    positions = torch.arange(at, len(ids))[None] + prefix.shape[3]
    after = model(ids[None, at:], position_ids=positions, past_key_values=cache, use_cache=True).logits[0]
    return torch.cat([*before, after])


class WrittenOut:
    """A model whose attention is written out: no masks but a decoder's own causality, prefixes by stack and layer."""

    KERNEL = "written_out"

    def __init__(self, model: PreTrainedModel, kind: str) -> None:
        self.model = model
        model.set_attn_implementation(self.KERNEL)
        for name, module in model.named_modules():
            module.written_out_site = _site(name, kind)  # type: ignore[assignment]

    def __call__(
        self, ids: Tensor, prefixes: Mapping[str, Tensor], layers: Sequence[int] | None = None, **reads: Tensor
    ) -> Tensor:
        depths = {stack: len(self._layers(stack)) for stack in prefixes}
        chosen = {
            stack: sorted(range(depth) if layers is None else {layer % depth for layer in layers})
            for stack, depth in depths.items()
        }
        for module in self.model.modules():
            stack, layer = module.written_out_site  # type: ignore[misc]
            has = stack in prefixes and layer in chosen[stack]
            module.written_out_prefix = prefixes[stack][chosen[stack].index(layer)] if has else None  # type: ignore[assignment]
        return self.model(ids, **reads).logits[0]

    def _layers(self, stack: str) -> set[int]:
        sites = [module.written_out_site for module in self.model.modules()]
        return {layer for name, layer in sites if name == stack and layer >= 0}  # type: ignore[misc]

    @staticmethod
    def attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, *, scaling: float, **options: Any
    ) -> tuple[Tensor, None]:
        """Softmax over the prefix and the row's own tokens, `[1, heads, seq, head_dim]`, in float64."""
        prefix: Tensor | None = module.written_out_prefix  # type: ignore[assignment]
        own = key.shape[2]
        if prefix is not None:
            key, value = torch.cat([prefix[0][None], key], dim=2), torch.cat([prefix[1][None], value], dim=2)
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        scores = (query.double() @ key.double().mT) * scaling
        if (bias := options.get("position_bias")) is not None:
            scores[..., -own:] = scores[..., -own:] + bias
        if module.written_out_site[0] == "decoder":  # type: ignore[index]
            later = torch.ones(query.shape[2], own, dtype=torch.bool).triu(1)
            scores[..., -own:] = scores[..., -own:].masked_fill(later, float("-inf"))
        return (scores.softmax(-1) @ value.double()).float().transpose(1, 2), None


AttentionInterface.register(WrittenOut.KERNEL, WrittenOut.attend)


@functools.cache
def _written_out(name: str) -> WrittenOut:
    return WrittenOut(copy.deepcopy(zoo.stock(name)), zoo.BY_NAME[name].kind)


def with_layers(family: Family, ids: Tensor, prompt: SoftPrompt | None, *, target: Tensor | None = None) -> Tensor:
    """`logits` of a row behind a prefix that some layers are given; of a decoder-only model too."""
    if prompt is None:
        return logits(family, ids, None, target=target)
    reads = {} if target is None else {"decoder_input_ids": target[None]}
    if family.kind == "decoder-only":
        reads["position_ids"] = torch.arange(len(ids))[None] + prompt.length
    return _written_out(family.name)(ids[None], prompt().keys_values, prompt.layers, **reads)


def _site(name: str, kind: str) -> tuple[str, int]:
    """Which stack and layer a module belongs to, read off its name."""
    layer = re.search(r"\.(?:block|layers?|h)\.(\d+)\.", f".{name}.")
    if "EncDecAttention" in name or "encoder_attn" in name:
        stack = "cross"
    else:
        stack = "decoder" if "decoder" in name or kind == "decoder-only" else "encoder"
    return stack, int(layer.group(1)) if layer else -1


def batch_logits(
    family: Family,
    rows: Sequence[Tensor],
    prompts: Sequence[SoftPrompt | None],
    *,
    inputs: Sequence[int] | None = None,
    marks: Tensor | None = None,
    targets: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """`logits` of each row."""
    return [
        logits(
            family,
            row,
            prompts[i],
            inputs=None if inputs is None else inputs[i],
            marks=() if marks is None else marks[i].tolist(),
            target=None if targets is None else targets[i],
        )
        for i, row in enumerate(rows)
    ]


def loss(predicted: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
    """Mean over all labelled tokens; `predicted[i]` are what predicts `labels[i]`, `IGNORED` where nothing counts."""
    return nn.functional.cross_entropy(torch.cat(list(predicted)), torch.cat(list(labels)), ignore_index=IGNORED)


def continuation(
    family: Family, ids: Tensor, prompt: SoftPrompt | None, count: int, *, marks: Sequence[int] = ()
) -> list[int]:
    """The greedy continuation, by an argmax over the whole sequence for every token, up to the end token."""
    made: list[int] = []
    while len(made) < count and zoo.END not in made:
        new = torch.tensor(made, dtype=torch.long)
        if family.kind == "encoder-decoder":
            target = torch.cat([torch.tensor([zoo.PAD]), new])
            predicted = logits(family, ids, prompt, marks=marks, target=target)
        else:
            predicted = logits(family, torch.cat([ids, new]), prompt, inputs=len(ids), marks=marks)
        made.append(int(predicted[-1].argmax()))
    return made
