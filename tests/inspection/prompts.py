"""Prompts and samples on the five families that inspection has to work on."""

from __future__ import annotations

import functools

import torch
from tests.families import batches, zoo

from softprompt.conditioning.texts import EncodedInput
from softprompt.inspection import Sample
from softprompt.prompts import PrefixTuning, PromptTuning, SoftPrompt

FAMILIES = ("t5", "bart", "gpt2", "llama", "bert")
METHODS = {
    "rows": PromptTuning(length=5, init="vocab"),
    "behind": PromptTuning(length=3, init="vocab", placement="append"),
    "inside": PromptTuning(length=2, init="vocab", placement="middle"),
    "prefix": PrefixTuning(length=4, hidden=None),
}


@functools.cache
def made(family: str, method: str) -> SoftPrompt:
    """A prompt for a family's tiny backbone, of the size of its embeddings and activations."""
    prompt = METHODS[method].build(zoo.backbone(family), seed=3)
    if method == "prefix":
        batches._enlarge(prompt, 3)
    return prompt


def samples(family: str) -> list[Sample]:
    """Two inputs of different lengths, with targets."""
    target = (2,) if zoo.BY_NAME[family].kind == "encoder-only" else (40, 7, zoo.END)
    generator = torch.Generator().manual_seed(5)
    return [
        Sample(input=EncodedInput(torch.randint(4, zoo.VOCAB, (length,), generator=generator).tolist()), target=target)
        for length in (4, 7)
    ]
