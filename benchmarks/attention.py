"""What attending to a prompt of all rows costs, by how it reaches the kernel (`python -m benchmarks.attention`).

All layers' attention, forward and backward, on one thread of a CPU: with the prompt's keys and values copied before
each row's own, as softprompt does it; and apart from these, the two results merged by the logarithms of their sums of
exponentials, where the prompt is given as a view for each row, or once to the queries of all rows as if they were one
row's. Beside it, a whole step of prompt tuning, in which the copies are made.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

import softprompt as sp
from benchmarks.shapes import Weights, build_backbone
from benchmarks.timing import alternate, spread
from softprompt.pretraining.card import machine

ROWS, SEQ, PROMPT = 16, 20, 100
_WIDTH = 64

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Given(NamedTuple):
    """What a layer attends with."""

    query: Float[Tensor, "rows heads seq head_dim"]
    key: Float[Tensor, "rows heads seq head_dim"]
    value: Float[Tensor, "rows heads seq head_dim"]
    prompt_key: Float[Tensor, "1 heads prompt head_dim"]
    prompt_value: Float[Tensor, "1 heads prompt head_dim"]


def copied(given: Given) -> Float[Tensor, "rows heads seq head_dim"]:
    """The prompt's keys and values stand before each row's own."""
    keys, values = (
        torch.cat([prompt.expand(len(own), -1, -1, -1), own], dim=2)
        for own, prompt in ((given.key, given.prompt_key), (given.value, given.prompt_value))
    )  # [rows, heads, prompt+seq, head_dim]
    mask = torch.cat([torch.zeros(given.query.shape[2], given.prompt_key.shape[2]), _causal(given.query)], dim=1)
    return torch.nn.functional.scaled_dot_product_attention(given.query, keys, values, attn_mask=mask[None, None])


def apart(given: Given, *, views: bool) -> Float[Tensor, "rows heads seq head_dim"]:
    """The prompt and the row's own are attended to apart, and merged.

    Args:
        given: What the layer attends with.
        views: Whether each row has a view of the prompt; otherwise the queries of all rows are one row's.
    """
    merged: Tensor = _Merged.apply(*given, views)
    return merged


class _Merged(torch.autograd.Function):
    """Two calls of a kernel forward, and two backward, which take the merged result for their own."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, prompt_key: Tensor, prompt_value: Tensor, views: bool
    ) -> Tensor:
        rows = len(query)
        own, own_sum = _forward(query, key, value, attn_mask=_causal(query)[None, None])
        of_prompt, prompt_sum = _forward(_queries(query, views), *_prompts(prompt_key, prompt_value, rows, views))
        if not views:
            of_prompt = of_prompt[0].unflatten(1, (rows, -1)).transpose(0, 1)
            prompt_sum = prompt_sum[0].unflatten(1, (rows, -1)).transpose(0, 1)  # [rows, heads, seq]
        share = torch.sigmoid(prompt_sum - own_sum)[..., None]  # of the prompt in a query's softmax
        merged = own.lerp(of_prompt, share)
        joint_sum = torch.logaddexp(own_sum, prompt_sum)
        ctx.save_for_backward(query, key, value, prompt_key, prompt_value, merged, joint_sum)
        ctx.views = views
        return merged

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key, value, prompt_key, prompt_value, merged, sums = ctx.saved_tensors
        rows, views = len(query), ctx.views
        mask = _causal(query)[None, None]
        of_query, of_key, of_value = _backward(
            gradient, query, key, value, merged, sums, 0.0, is_causal=False, attn_mask=mask
        )
        prompts = _prompts(prompt_key, prompt_value, rows, views)
        flat_gradient, flat_query, flat_merged = (_queries(part, views) for part in (gradient, query, merged))
        flat_sums = sums if views else sums.transpose(0, 1).flatten(1)[None]
        more, of_prompt_key, of_prompt_value = _backward(
            flat_gradient, flat_query, *prompts, flat_merged, flat_sums, 0.0, is_causal=False
        )
        if views:
            of_prompt_key, of_prompt_value = (part.sum(0, keepdim=True) for part in (of_prompt_key, of_prompt_value))
        else:
            more = more[0].unflatten(1, (rows, -1)).transpose(0, 1)
        return of_query + more, of_key, of_value, of_prompt_key, of_prompt_value, None


def _queries(parts: Tensor, views: bool) -> Tensor:
    """`[rows, heads, seq, head_dim]` as it is, or as `[1, heads, rows*seq, head_dim]`."""
    return parts if views else parts.transpose(0, 1).flatten(1, 2)[None]


def _prompts(key: Tensor, value: Tensor, rows: int, views: bool) -> tuple[Tensor, Tensor]:
    return (key.expand(rows, -1, -1, -1), value.expand(rows, -1, -1, -1)) if views else (key, value)


@functools.cache
def _causal_mask(seq: int) -> Tensor:
    return torch.full((seq, seq), float("-inf")).triu(1)


def _causal(query: Tensor) -> Float[Tensor, "seq seq"]:
    return _causal_mask(query.shape[2])


WAYS: Mapping[str, Callable[[Given], Tensor]] = {
    "copied": copied,
    "views, merged": functools.partial(apart, views=True),
    "one row, merged": functools.partial(apart, views=False),
}


def given(heads: int) -> Given:
    """Random values that take gradients."""
    torch.manual_seed(0)
    shapes = [(ROWS, heads, SEQ, _WIDTH)] * 3 + [(1, heads, PROMPT, _WIDTH)] * 2
    return Given(*(torch.randn(shape).requires_grad_() for shape in shapes))


def results(way: Callable[[Given], Tensor], values: Given) -> list[Tensor]:
    """What attention gives, and all gradients."""
    made = way(values)
    return [made.detach(), *torch.autograd.grad(made.sin().sum(), values)]


def measure(shape: str, rounds: int) -> dict[str, Any]:
    """Seconds of all layers' attention in each way, of a whole step, and how far the ways differ."""
    backbone = build_backbone(shape, Weights())
    config = backbone.model.config
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    values = given(heads)
    found = {name: results(way, values) for name, way in WAYS.items()}
    differs = {
        name: max(float((a - b).norm() / b.norm()) for a, b in zip(found[name], found["copied"], strict=True))
        for name in found
    }
    model = sp.Prompted(backbone, {"p": sp.PromptTuning(length=PROMPT, init="vocab").build(backbone)})
    ids = torch.randint(5, 999, (ROWS, SEQ))
    labels = torch.full_like(ids, -100)
    labels[:, -1] = 7
    works: dict[str, Callable[[], object]] = {
        name: (lambda way=way: [results(way, values) for _ in range(layers)]) for name, way in WAYS.items()
    }
    works["step"] = lambda: model(ids, labels=labels).loss.backward()
    alternate(works, 1)
    seconds = alternate(works, rounds)
    return {
        "shape": shape,
        "milliseconds": {
            name: {part: 1000 * value for part, value in asdict(spread(several)).items()}
            for name, several in seconds.items()
        },
        "difference": differs,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attention",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shapes", nargs="+", default=["small", "gpt2"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = [measure(shape, options.rounds) for shape in options.shapes]
    print(f"{machine(torch.device('cpu'))}; {ROWS} rows of {SEQ} tokens, a prompt of {PROMPT}, milliseconds")
    print(f"{'shape':<8}{'way':<18}{'median':>8}{'low':>8}{'high':>8}{'differs by':>12}")
    for one in found:
        for name, times in one["milliseconds"].items():
            told = f"{one['difference'][name]:12.1e}" if name in one["difference"] else ""
            print(f"{one['shape']:<8}{name:<18}{times['median']:8.1f}{times['low']:8.1f}{times['high']:8.1f}{told}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
