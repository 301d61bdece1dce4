"""What one pass of N prompts costs beside N passes of one (`python -m benchmarks.ensembles`).

What prompts know does not change what they cost, so these are as they begin. What an ensemble gains is a study:
`softprompt study --grid ensembles`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

import softprompt as sp
from benchmarks.timing import alternate, ratios, spread
from softprompt.inference import Query, Together, classify
from softprompt.pretraining.card import machine
from softprompt.tasks import Task

MOST, INPUTS = 8, 16


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print what came out as JSON, and write it where asked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ensembles",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--backbone", default="bundled:gpt-mini")
    parser.add_argument("--length", type=int, default=20, help="virtual tokens of each prompt")
    parser.add_argument("--placement", default="append", help="where they stand")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--json", type=Path, help="file for the results")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    backbone = sp.Backbone.from_pretrained(given.backbone)
    method = sp.PromptTuning(length=given.length, init="vocab", placement=given.placement)
    prompts = [method.build(backbone, seed=seed) for seed in range(MOST)]
    found = {
        "backbone": given.backbone,
        "length": given.length,
        "placement": given.placement,
        "machine": machine(torch.device("cpu")),
        "inputs": INPUTS,
        "members": cost(backbone, prompts, sp.load_task("sentence_polarity"), given.rounds),
    }
    text = json.dumps(found, indent=2) + "\n"
    if given.json:
        given.json.write_text(text, encoding="utf-8")
    print(text, end="")


def cost(backbone: sp.Backbone, prompts: Sequence[sp.SoftPrompt], task: Task, rounds: int) -> list[dict[str, float]]:
    """Seconds to classify some inputs by one pass of N members, and by N passes of one each, over those of one prompt.

    Args:
        backbone: The frozen model.
        prompts: The most members.
        task: Whose test inputs are classified, and among which labels.
        rounds: How often each way is timed.
    """
    model = sp.Prompted(backbone, {str(place): prompt for place, prompt in enumerate(prompts)})
    inputs = [example.columns for example in task.examples("test")[:INPUTS]]

    def ask(prompt: str | Together) -> None:
        queries = [
            Query(input=one, prompt=prompt, form=task.format, candidates=task.labels or (), truncate=True)
            for one in inputs
        ]
        list(classify(model, queries))

    works = {}
    for count in range(1, len(prompts) + 1):
        names = tuple(map(str, range(count)))
        works[f"one {count}"] = lambda names=names: ask(Together(names, "mean"))
        works[f"each {count}"] = lambda names=names: list(map(ask, names))
    for work in works.values():
        work()
    seconds = alternate(works, rounds)
    return [
        {
            "count": count,
            "one pass": spread(ratios(seconds, f"one {count}", "one 1")).median,
            "passes": spread(ratios(seconds, f"each {count}", "one 1")).median,
        }
        for count in range(1, len(prompts) + 1)
    ]


if __name__ == "__main__":
    main()
