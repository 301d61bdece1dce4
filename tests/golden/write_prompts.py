"""Write the stored prompts that every later version must read: `python -m tests.golden.write_prompts`.

Run once for a schema; the folders are then kept as they are. `test_stored_prompts.py` holds what is in them. A new
schema gets folders of its own beside these.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from softprompt.prompts import PrefixTuning, PromptInfo, PromptTuning, SoftPrompt
from softprompt.prompts.parameters import DirectPrefix, DirectRows

FOLDER = Path(__file__).parent / "prompts"


def counted(*shape: int, start: float) -> Tensor:
    """Eighths, counted up: float32 holds each of them exactly."""
    count = torch.Size(shape).numel()
    return (torch.arange(count) / 8 + start).view(shape)


def prompt_tuning() -> SoftPrompt:
    """Rows, with everything that can be known of a prompt."""
    info = PromptInfo(
        backbone="bundled:tiny",
        fingerprint={"architecture": "00112233445566778899aabbccddeeff", "weights": "AD8AQIA/wD8="},
        kind="encoder-decoder",
        tokenizer="0123456789abcdef",
        task="sentence_polarity",
        format={"input": "Review: {text}", "target": "{label}", "label_words": {"0": "schlecht", "1": "großartig"}},
        run={"seed": 3, "optimizer": "adafactor", "learning_rate": 0.3, "steps": 200},
        metrics={"validation": {"accuracy": 0.8125}},
        lineage=("started from prompts/older", "trained on sentence_polarity"),
    )
    method = PromptTuning(length=4, init="class_labels", placement="append")
    return SoftPrompt(DirectRows(counted(4, 6, start=-1.0)), method, info)


def prefix_tuning() -> SoftPrompt:
    """Keys and values of three stacks, two of them of the same shape, with as little information as there may be."""
    info = PromptInfo(backbone="someone/model", fingerprint={"architecture": "ff", "weights": "AAA="})
    stacks = {
        "encoder": counted(2, 2, 2, 3, 2, start=0.0),
        "cross": counted(1, 2, 2, 3, 2, start=10.0),
        "decoder": counted(1, 2, 2, 3, 2, start=-10.0),
    }
    return SoftPrompt(DirectPrefix(stacks), PrefixTuning(length=3, hidden=16), info)


if __name__ == "__main__":
    for name, build in {"prompt_tuning_1": prompt_tuning, "prefix_tuning_1": prefix_tuning}.items():
        print(build().save(FOLDER / name))
