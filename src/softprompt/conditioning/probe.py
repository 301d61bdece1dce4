"""Which pass is exact on a backbone: found out by trying both, not by a list of names.

A tiny random batch goes through both passes. The shared-prompt pass is used only if every layer read its
injection on every pass, every window that the masks have is a sliding one, and ragged batches in either padding,
with cached decoding too, give what the concatenation pass gives. Errors are judged against the effect of moving
the prompt by one position, because an absolute bound means nothing across dtypes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor
from transformers import DynamicCache

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Carried, Trace
from softprompt.backbones.prompt_cache import prompt_cache
from softprompt.conditioning.joining import Applied, Joined, Rows, given, join, record_rows
from softprompt.conditioning.padding import last_column_before_next
from softprompt.errors import SoftpromptError
from softprompt.prompts import PromptTensors

__all__ = ["Verdict", "probe"]

_LENGTHS, _INPUTS = (3, 0, 5), (6, 4, 2)
_TOLERANCE = 0.2
_VERDICTS: dict[tuple[str, ...], Verdict] = {}


@dataclass(frozen=True)
class Verdict:
    """What is exact on a backbone.

    Attributes:
        shared: Why the shared-prompt pass is not, or None if it is.
        prefix: Why keys and values cannot be injected, or None if they can.
        window: How many columns a layer with the shortest window sees, or None if every layer sees all; known only
            where the shared-prompt pass is exact.
        stored: Whether a cache may hold prompts' keys and values (see `prompt_cache`).
        joins: Whether each layer also keeps and sees all of a text, so that rows may come into a running batch.
    """

    shared: str | None
    prefix: str | None
    window: int | None = None
    stored: bool = False
    joins: bool = False


def probe(backbone: Backbone) -> Verdict:
    """Find out which passes are exact; the answer is kept for the process.

    Args:
        backbone: Any backbone.

    Raises:
        RuntimeError: If memory runs out, which says nothing about the backbone; the next call tries again.
    """
    kernel = str(backbone.model.config.get_text_config()._attn_implementation)
    key = (backbone.fingerprint.short, kernel, str(backbone.dtype), backbone.device.type)
    if key not in _VERDICTS:
        _VERDICTS[key] = _find_out(backbone)
    return _VERDICTS[key]


@torch.no_grad()
def _find_out(backbone: Backbone) -> Verdict:
    if not backbone.sites:
        return Verdict(shared=backbone.spec.no_prefix, prefix=backbone.spec.no_prefix)
    trace = Trace()
    try:
        prefix = backbone.spec.no_prefix or _reads(backbone)
        if backbone.spec.kind != "decoder-only":
            return Verdict(shared="its input is read in both directions", prefix=prefix)
        shared = _compare(backbone, trace)
    except (SoftpromptError, RuntimeError, ValueError, IndexError, TypeError) as error:
        if should_reduce_batch_size(error):
            raise
        shared = prefix = f"it fails in the probe: {error}"
    if shared is not None and backbone.spec.no_prefix is None:
        prefix = shared  # a prefix goes the same way through masks, windows and positions
    window = min((size for size, _ in trace.windows), default=None)
    stored = shared is None and _stores(backbone)
    joins = stored and window is None and _keeps_every_layer(backbone)
    return Verdict(shared=shared, prefix=prefix, window=window, stored=stored, joins=joins)


def _rows(backbone: Backbone, *, left: bool) -> Rows:
    """A ragged batch of ordinary tokens: two rows with a prompt, one without."""
    generator = torch.Generator().manual_seed(0)
    low, high = int(0.1 * backbone.spec.vocab), int(0.9 * backbone.spec.vocab)
    width = max(_INPUTS)
    ids = torch.randint(low, max(high, low + 1), (len(_INPUTS), width), generator=generator)
    mask = torch.arange(width) < torch.tensor(_INPUTS)[:, None]
    index = torch.tensor([i if length else -1 for i, length in enumerate(_LENGTHS)])
    index = index.where(index < 1, 1)  # prompts 0 and 1; the row between them has none
    fields = {"ids": ids, "mask": mask.flip(1) if left else mask, "index": index, "inputs": torch.tensor(_INPUTS),
                  "marks": torch.full((len(_INPUTS), 1), -1)}  # fmt: skip
    return Rows(**{name: value.to(backbone.device) for name, value in fields.items()})


def _prompts(backbone: Backbone) -> list[Tensor]:
    """Rows that look like embedded tokens."""
    generator = torch.Generator().manual_seed(1)
    lengths = [length for length in _LENGTHS if length]
    ids = [torch.randint(backbone.spec.vocab, (length,), generator=generator) for length in lengths]
    return [backbone.embed(row.to(backbone.device)) for row in ids]


def _reads(backbone: Backbone) -> str | None:
    """Whether every layer reads a prefix, and what it gives changes the outcome."""
    applied = _prefix(backbone, 2)
    rows = _rows(backbone, left=False)
    trace = Trace()
    _run(backbone, join(backbone, [applied, applied], rows), trace)
    if Counter(trace.reads) != Counter(backbone.sites.values()):
        return f"only {len(set(trace.reads))} of {len(backbone.sites)} attention layers read what they are given"
    return None


def _compare(backbone: Backbone, trace: Trace) -> str | None:
    """Compare both passes on a decoder-only model; the shared-prompt pass leaves its trace."""
    rows_of_prompts = _prompts(backbone)
    shared = _recorded(backbone, rows_of_prompts)
    inserted = [Applied(length=len(rows), placement="prepend", rows=rows) for rows in rows_of_prompts]
    moved = [Applied(length=len(rows), placement="prepend", rows=rows.roll(1, 0)) for rows in rows_of_prompts]
    for left in (False, True):
        batch = _rows(backbone, left=left)
        want = _scores(backbone, inserted, batch)
        effect = (_scores(backbone, moved, batch) - want)[batch.index >= 0].abs().max().item()
        error = (_scores(backbone, shared, batch, trace) - want).abs().max().item()
        if not error <= _TOLERANCE * effect:
            side = "left" if left else "right"
            return f"with {side} padding, it differs from the concatenation pass by {error:.3g} of {effect:.3g}"
    error = (_decode(backbone, shared) - _decode(backbone, inserted)).abs().max().item()
    if not error <= _TOLERANCE * effect:
        return f"cached decoding differs from the concatenation pass by {error:.3g} of {effect:.3g}"
    if Counter(trace.reads) != Counter(dict.fromkeys(backbone.sites.values(), 2)):
        return f"only {len(set(trace.reads))} of {len(backbone.sites)} attention layers read what they are given"
    if any(not _slides(window, function) for window, function in trace.windows):
        return "its attention is cut into chunks"
    return None


def _stores(backbone: Backbone) -> bool:
    """Whether a cache that holds prompts decodes as one without.

    Layers that share keys and values have equal ones of a prompt of rows, but not of a prefix.
    """
    prompts = _prompts(backbone)
    rows, moved = (_recorded(backbone, rows) for rows in (prompts, [rows.roll(1, 0) for rows in prompts]))
    prefix = [_prefix(backbone, seed) for seed in (3, 4)]
    for prompt, other in ((rows, moved), (prefix, prefix[::-1])):
        try:
            got = _decode(backbone, prompt, stored=True)
        except (SoftpromptError, RuntimeError, ValueError, IndexError, TypeError, AttributeError) as error:
            if should_reduce_batch_size(error):
                raise
            return False
        want = _decode(backbone, prompt)
        effect = (_decode(backbone, other) - want).abs().max()
        if not (got - want).abs().max() <= _TOLERANCE * effect:
            return False
    return True


def _keeps_every_layer(backbone: Backbone) -> bool:
    """Whether each layer has keys and values of its own in a cache; some models' layers share theirs."""
    return len(DynamicCache(config=backbone.model.config).layers) == len(backbone.sites)


def _prefix(backbone: Backbone, seed: int) -> Applied:
    """A random prefix of every layer."""
    generator = torch.Generator().manual_seed(seed)
    tensors = PromptTensors(
        keys_values={
            name: torch.randn(s.layers, 2, s.kv_heads, 4, s.head_dim, generator=generator).to(
                backbone.device, backbone.dtype
            )
            for name, s in backbone.spec.stacks.items()
        }
    )
    return Applied(length=4, placement="prepend", keys_values=given(backbone, tensors))


def _recorded(backbone: Backbone, prompts: list[Tensor]) -> list[Applied]:
    return [
        Applied(length=len(rows), placement="prepend", keys_values=kv)
        for rows, kv in zip(prompts, record_rows(backbone, prompts), strict=True)
    ]


def _run(backbone: Backbone, joined: Joined, trace: Trace | None = None, **inputs: Any) -> Any:
    if backbone.spec.kind == "encoder-decoder":
        inputs["decoder_input_ids"] = joined.model_inputs["input_ids"][:, :2]
    if backbone.spec.kind != "encoder-only":
        inputs.setdefault("use_cache", False)
    return backbone.call(Carried(injection=joined.injection, trace=trace), **joined.model_inputs, **inputs)


def _scores(backbone: Backbone, prompts: list[Applied], rows: Rows, trace: Trace | None = None) -> Tensor:
    """Logits of real tokens, zero at padding, `[batch, seq, vocab]`."""
    joined = join(backbone, prompts, rows)
    read = last_column_before_next(joined.columns, joined.mask)
    logits = _run(backbone, joined, trace).logits.float()
    return logits.gather(1, read[:, :, None].expand(-1, -1, logits.shape[2])) * rows.mask[:, :, None]


def _decode(backbone: Backbone, prompts: list[Applied], *, stored: bool = False) -> Tensor:
    """Logits of one cached step after a left-padded batch, `[batch, vocab]`; prompts may be stored in the cache."""
    rows = _rows(backbone, left=True)
    joined = join(backbone, prompts, rows, side="left")
    begun: dict[str, Any] = {"use_cache": True}
    if stored and joined.injection is not None:
        begun["past_key_values"], injection = prompt_cache(backbone.model.config, joined.injection)
        joined = replace(joined, injection=injection)
    past = _run(backbone, joined, **begun).past_key_values
    mask = joined.model_inputs["attention_mask"]
    step: dict[str, Any] = {
        "input_ids": rows.ids[:, :1],
        "attention_mask": torch.cat([mask, mask.new_ones(mask.shape[0], 1)], dim=1),
        "past_key_values": past,
    }
    if backbone.takes_positions:
        step["position_ids"] = joined.model_inputs["position_ids"][:, -1:] + 1
    logits: Tensor = backbone.call(Carried(injection=joined.injection), use_cache=True, **step).logits[:, -1].float()
    return logits


def _slides(window: int, function: Callable[..., Any]) -> bool:
    """Whether a mask function of a local window lets every query see exactly the window's columns before it."""
    query = torch.tensor(3 * window + window // 2)
    keys = torch.arange(int(query) + 1)
    zero = torch.tensor(0)
    seen = function(zero, zero, query, keys)
    return bool((seen == (query - keys < window)).all())
