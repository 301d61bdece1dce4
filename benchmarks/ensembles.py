"""What an ensemble of prompts gains on SST-2, and what its one pass costs (`python -m benchmarks.ensembles`).

Prompts that differ in their seed alone are trained in one session, and put together in several draws of five. Training
that was stopped goes on with the same command.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import softprompt as sp
from benchmarks.timing import alternate, ratios, spread
from softprompt.evaluation import Job, evaluate_many
from softprompt.inference import Query, Together, classify
from softprompt.tasks import Task

MEMBERS, DRAWS, MOST = 5, 3, 8


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure gain and cost, and print what came out as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of SST-2's files, as the task sst2 reads them")
    parser.add_argument("--backbone", default="bundled:gpt-mini")
    parser.add_argument("--output", type=Path, default=Path("runs/ensembles"))
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(arguments)
    backbone = sp.Backbone.from_pretrained(given.backbone)
    task = sp.load_task("sst2", given.data).with_format(
        input="{sentence}\n\nThis film is", label_words={"0": "bad", "1": "great"}
    )
    task = task.validated_on_train(500)  # what SST-2 validates on is tested on
    prompts = trained(backbone, task, given.output, given.steps)
    found = {
        "backbone": given.backbone,
        **gain(backbone, prompts, task),
        "cost": cost(backbone, prompts, task, given.rounds),
    }
    (given.output / "ensembles.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


def trained(backbone: sp.Backbone, task: Task, output: Path, steps: int) -> list[sp.SoftPrompt]:
    """A prompt for each seed, with the settings that `softprompt study --grid backbones` has for SST-2."""
    runs = [
        sp.Run(
            name=f"seed{seed}",
            method=sp.PromptTuning(length=20, init="vocab", placement="append"),
            task=task,
            seed=seed,
            loss="rank",
            optimizer="adamw",
            learning_rate=0.1,
            schedule="linear",
            warmup_steps=min(20, steps),
            batch_size=16,
            steps=steps,
            evaluate_every=steps // 4,
            evaluate_rows=200,
            truncate=True,
        )
        for seed in range(DRAWS * MEMBERS)
    ]
    result = sp.train(backbone, runs, sp.TrainConfig(output_dir=output / "training", pass_tokens=4096))
    return [result[run.name].prompts[""] for run in runs]


def gain(backbone: sp.Backbone, prompts: Sequence[sp.SoftPrompt], task: Task) -> dict[str, object]:
    """Test accuracy of each prompt, and by draw of their mean, the one best on validation, and both ensembles."""
    named = {f"seed{seed}": prompt for seed, prompt in enumerate(prompts)}
    model = sp.Prompted(backbone, named)
    draws = [list(named)[start : start + MEMBERS] for start in range(0, len(named), MEMBERS)]
    asked = {
        **{
            (name, split): Job(task=task, split=split, prompt=name, truncate=True)
            for name in named
            for split in ("validation", "test")
        },
        **{
            (combine, str(draw)): Job(task=task, split="test", prompt=Together(tuple(names), combine), truncate=True)
            for draw, names in enumerate(draws)
            for combine in ("vote", "mean")
        },
    }
    found = evaluate_many(model, asked)
    scores = {key: one.metrics["accuracy"] for key, one in found.items()}
    rows = []
    for draw, names in enumerate(draws):
        best = max(names, key=lambda name: scores[name, "validation"])
        rows.append(
            {
                "members": [scores[name, "test"] for name in names],
                "mean of members": statistics.fmean(scores[name, "test"] for name in names),
                "best on validation": scores[best, "test"],
                "vote": scores["vote", str(draw)],
                "mean of probabilities": scores["mean", str(draw)],
            }
        )
    return {"test_rows": len(task.examples("test")), "draws": rows}


def cost(backbone: sp.Backbone, prompts: Sequence[sp.SoftPrompt], task: Task, rounds: int) -> list[dict[str, float]]:
    """Seconds for 16 inputs by one pass of N members, and by N passes of one each, over those of one prompt."""
    model = sp.Prompted(backbone, {str(place): prompt for place, prompt in enumerate(prompts[:MOST])})
    labels = task.labels or ()
    inputs = [example.columns for example in task.examples("test")[:16]]

    def ask(prompt: str | Together) -> None:
        queries = [
            Query(input=one, prompt=prompt, form=task.format, candidates=labels, truncate=True) for one in inputs
        ]
        list(classify(model, queries))

    works = {}
    for count in range(1, MOST + 1):
        names = tuple(map(str, range(count)))
        works[f"one {count}"] = lambda names=names: ask(Together(names, "mean"))
        works[f"each {count}"] = lambda names=names: list(map(ask, names))
    for work in works.values():
        work()
    seconds = alternate(works, rounds)
    return [
        {
            "members": count,
            "one pass": spread(ratios(seconds, f"one {count}", "one 1")).median,
            "passes": spread(ratios(seconds, f"each {count}", "one 1")).median,
        }
        for count in range(1, MOST + 1)
    ]


if __name__ == "__main__":
    main()
