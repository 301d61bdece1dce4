"""What a load needs: prompts on disk, untrained, and texts to ask about."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import softprompt as sp
from benchmarks.rows import draw_lengths

__all__ = ["make_texts", "name_of", "write_copies", "write_tasks"]

LENGTH = 16
SHORT = 4
"""Virtual tokens of one prompt of thousands."""
_WORD = 3
"""Letters of the shortest word."""


def name_of(task: int) -> str:
    """A task's prompt, by the task's rank."""
    return f"task{task:05d}"


def write_tasks(backbone: sp.Backbone, folder: Path, count: int) -> None:
    """Write untrained prompts, of prompt tuning and prefix tuning in turn, all of one length."""
    methods = sp.PromptTuning(length=LENGTH, init="vocab"), sp.PrefixTuning(length=LENGTH, hidden=None)
    for task in range(count):
        methods[task % len(methods)].build(backbone, seed=task).save(folder / name_of(task))


def write_copies(backbone: sp.Backbone, folder: Path, count: int, *, seed: int) -> None:
    """Write small prompts that differ in their values alone, thousands in seconds."""
    first = sp.PromptTuning(length=SHORT, init="vocab").build(backbone, seed=seed).save(folder / name_of(0))
    values, told = load_file(first / "prompt.safetensors"), (first / "prompt.json").read_bytes()
    generator = torch.Generator().manual_seed(seed)
    for task in range(1, count):
        path = folder / name_of(task)
        path.mkdir()
        other = {name: value + torch.randn(value.shape, generator=generator) for name, value in values.items()}
        save_file(other, path / "prompt.safetensors")
        (path / "prompt.json").write_bytes(told)


def make_texts(backbone: sp.Backbone, count: int, *, seed: int) -> list[str]:
    """Texts of the vocabulary's words, as long as real sentences."""
    tokenizer = backbone.need_tokenizer()
    spoken = {tokenizer.decode([token]).strip() for token in range(len(tokenizer))}
    words = sorted(word for word in spoken if word.isascii() and word.isalpha() and len(word) >= _WORD)
    draw = random.Random(seed)
    return [" ".join(draw.choices(words, k=max(1, before))) for before, _ in draw_lengths("sentences", count)]
