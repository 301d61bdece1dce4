"""`python -m benchmarks`: one training step of prompt tuning, softprompt against PEFT.

`python -m benchmarks pretraining` is another one: see `benchmarks/pretraining.py`.

Both train the same prompt on the same weights and the same batch; steps alternate, so that the machine's noise
falls on both, and the ratio of the medians is what counts.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import peft
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

import softprompt as sp
from benchmarks import pretraining

LENGTH, BATCH, SEQ, LABELLED = 100, 16, 28, 2
GOALS = {"gpt2": 6.0, "llama": 5.0}


def model(shape: str) -> PreTrainedModel:
    """A random model of six layers, width 512."""
    torch.manual_seed(0)
    if shape == "gpt2":
        return GPT2LMHeadModel(GPT2Config(vocab_size=50257, n_embd=512, n_layer=6, n_head=8))
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32000, hidden_size=512, intermediate_size=1376, num_hidden_layers=6, num_attention_heads=8
        )
    )


def batch() -> dict[str, torch.Tensor]:
    """Random rows without padding, labelled at their last tokens."""
    ids = torch.randint(5, 30000, (BATCH, SEQ), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[:, :-LABELLED] = -100
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def step_of(loss: Callable[[], torch.Tensor], parameters: list[torch.nn.Parameter]) -> Callable[[], None]:
    """One training step: forward, backward, AdamW."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


def peers(shape: str) -> dict[str, Callable[[], None]]:
    """A training step of each library, of the same prompt on the same weights."""
    base = model(shape).eval()  # without dropout, so that both compute the same
    other = peft.get_peft_model(
        copy.deepcopy(base), peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=LENGTH)
    )
    backbone = sp.Backbone.from_model(base)
    prompt = sp.PromptTuning(length=LENGTH, init="vocab").build(backbone)
    prompted = sp.Prompted(backbone, {"task": prompt})
    with torch.no_grad():
        other.prompt_encoder["default"].embedding.weight.copy_(prompt().rows)
    rows = batch()
    ours = prompted(**rows).loss.item()
    theirs = other(**rows).loss.item()
    if abs(ours - theirs) > 1e-3 * abs(theirs):
        raise AssertionError(f"The two libraries disagree on the loss: {ours} and {theirs}.")
    return {
        "softprompt": step_of(lambda: prompted(**rows).loss, list(prompt.parameters())),
        "peft": step_of(lambda: other(**rows).loss, [p for p in other.parameters() if p.requires_grad]),
    }


def alternate(steps: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each step, taken in turn after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(repeats):
        for name, step in steps.items():
            start_s = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start_s)
    return seconds


def main() -> None:
    """Print the table, and write it as JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=11, help="steps of each library")
    parser.add_argument("--json", type=Path, help="file for the results")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    print(f"One training step: prompt {LENGTH}, batch {BATCH} x {SEQ} tokens, {LABELLED} labels a row, float32.")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}\n")
    print("| shape | softprompt | PEFT | ratio of medians | goal |\n|---|---|---|---|---|")
    results = {}
    for shape, goal in GOALS.items():
        seconds = alternate(peers(shape), arguments.repeats)
        middle = {name: statistics.median(taken) for name, taken in seconds.items()}
        ratio = middle["peft"] / middle["softprompt"]
        results[shape] = {"seconds": seconds, "ratio": ratio, "goal": goal}
        ours, theirs = (f"{1000 * middle[name]:.0f} ms" for name in ("softprompt", "peft"))
        print(f"| {shape} | {ours} | {theirs} | {ratio:.1f} | {goal:.0f} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["pretraining"]:
        pretraining.main(sys.argv[2:])
    else:
        main()
