"""What a training step takes in float32 and in bfloat16 on a CPU (`python -m benchmarks.precision`).

One step of a prompt of 20 rows, forward and backward, with 16 rows of 20 tokens, on one thread: in float32; with
weights in bfloat16 (`--dtype bfloat16`), and with weights in float32 under autocast (`--precision bf16`), as softprompt
computes it, where attention that is to be differentiated is in float32; and both in bfloat16 throughout, as with the
stock kernel. The rates of the machine's products in both dtypes stand beside them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from transformers import AttentionInterface

import softprompt as sp
from benchmarks.shapes import SHAPES, Weights, build_backbone
from benchmarks.timing import alternate, ratios, spread
from softprompt.backbones import attention
from softprompt.pretraining.card import machine

ROWS, SEQ, PROMPT = 16, 20, 20
_SIDE = 1024
"""Of the matrices of a product."""


def _backbone(shape: str, dtype: str) -> sp.Backbone:
    """A shape with random weights, or a backbone by its name."""
    if shape in SHAPES:
        return build_backbone(shape, Weights(dtype=dtype))
    return sp.Backbone.from_pretrained(shape, dtype=dtype)


def _step(shape: str, dtype: str) -> Callable[[], object]:
    backbone = _backbone(shape, dtype)
    model = sp.Prompted(backbone, {"p": sp.PromptTuning(length=PROMPT, init="vocab").build(backbone)})
    torch.manual_seed(0)
    ids = torch.randint(5, 999, (ROWS, SEQ))
    labels = torch.full_like(ids, -100)
    labels[:, -1] = 7
    return lambda: model(ids, labels=labels).loss.backward()


def _throughout(step: Callable[[], object]) -> Callable[[], object]:
    """The same step with the stock kernel."""

    def taken() -> object:
        with mock.patch.object(attention, "precise_sdpa", AttentionInterface()["sdpa"]):
            return step()

    return taken


def _autocast(step: Callable[[], object]) -> Callable[[], object]:
    def taken() -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return step()

    return taken


def _product(dtype: torch.dtype) -> Callable[[], object]:
    a, b = (torch.randn(_SIDE, _SIDE, dtype=dtype) for _ in range(2))
    return lambda: a @ b


def measure(shape: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of a step in each way, and how many times as long as in float32, round by round."""
    whole, half = _step(shape, "float32"), _step(shape, "bfloat16")
    works = {
        "float32": whole,
        "bfloat16": half,
        "bfloat16 throughout": _throughout(half),
        "autocast": _autocast(whole),
        "autocast throughout": _throughout(_autocast(whole)),
    }
    alternate(works, 1)
    seconds = alternate(works, rounds)
    return {
        "shape": shape,
        "milliseconds": {name: 1000 * spread(several).median for name, several in seconds.items()},
        "of float32": {name: asdict(spread(ratios(seconds, name, "float32"))) for name in works},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.precision",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shapes", nargs="+", default=["bundled:gpt-small", "bundled:t5-small", "small", "gpt2"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    products = alternate({dtype: _product(getattr(torch, dtype)) for dtype in ("float32", "bfloat16")}, options.rounds)
    rates = {dtype: 2e-9 * _SIDE**3 / spread(several).median for dtype, several in products.items()}
    print(f"{machine(torch.device('cpu'))}; {ROWS} rows of {SEQ} tokens, a prompt of {PROMPT}")
    print(", ".join(f"{dtype} products {rate:,.0f} GFLOP/s" for dtype, rate in rates.items()))
    print(f"{'shape':<20}{'step':<22}{'ms':>8}{'of float32':>12}{'low':>8}{'high':>8}")
    found = [measure(shape, options.rounds) for shape in options.shapes]
    for one in found:
        for name, times in one["of float32"].items():
            told = f"{times['median']:12.2f}{times['low']:8.2f}{times['high']:8.2f}"
            print(f"{one['shape']:<20}{name:<22}{one['milliseconds'][name]:8.1f}{told}")
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine(torch.device("cpu")), "rates": rates, "steps": found}, indent=2) + "\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
