"""What starting a pass costs, in tokens that could go through the model instead (`python -m benchmarks.starting`).

Passes of a prompt of 20 rows, forward and backward, of ever more rows of 32 tokens, on one thread: a line through their
times has the time of a token as its slope, and that of a pass without tokens as its beginning. Rows are cut into passes
by this cost (`softprompt.conditioning.splitting.start_cost`): fewer passes have more padding.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import torch

import softprompt as sp
from benchmarks.shapes import SHAPES, Weights, build_backbone
from benchmarks.timing import alternate
from softprompt.conditioning.splitting import start_cost
from softprompt.pretraining.card import machine

PROMPT, SEQ, ROWS = 20, 32, (1, 2, 4, 8, 16)


def _pass(model: sp.Prompted, rows: int) -> Callable[[], object]:
    """A pass of some rows, each with the prompt in front."""
    torch.manual_seed(0)
    ids = torch.randint(5, 999, (rows, SEQ))
    labels = torch.full_like(ids, -100)
    labels[:, -1] = 7
    return lambda: model(ids, labels=labels).loss.backward()


def measure(shape: str, rounds: int) -> tuple[float, float]:
    """Milliseconds of a pass without tokens, and of a token; by the fastest rounds, weighted by their times."""
    backbone = (
        build_backbone(shape, Weights()) if shape in SHAPES else sp.Backbone.from_pretrained(shape, dtype="float32")
    )
    prompt = sp.PromptTuning(length=PROMPT, init="vocab").build(backbone)
    model = sp.Prompted(backbone, {"p": prompt}, conditioning="concatenation")
    works = {str(rows): _pass(model, rows) for rows in ROWS}
    alternate(works, 1)
    fastest = np.array([1000 * min(several) for several in alternate(works, rounds).values()])
    tokens = np.array([rows * (PROMPT + SEQ) for rows in ROWS])
    lines = np.column_stack([np.ones(len(tokens)), tokens]) / fastest[:, None]
    start, token = np.linalg.lstsq(lines, np.ones(len(tokens)), rcond=None)[0]
    return float(start), float(token)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.starting", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ["bundled:gpt-mini", "bundled:gpt-small", "bundled:t5-small", "small", "gpt2", "small-t5"]
    parser.add_argument("--shapes", nargs="+", default=known)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    print(f"{machine(cpu)}; passes are cut as if a start cost {start_cost(cpu)} tokens")
    print(f"{'shape':<20}{'start, ms':>11}{'token, ms':>11}{'start, tokens':>15}")
    for shape in options.shapes:
        start, token = measure(shape, options.rounds)
        print(f"{shape:<20}{start:11.1f}{token:11.3f}{start / token:15.0f}")


if __name__ == "__main__":
    main()
