"""Small tasks and sessions on the tiny backbones, and how their results are compared."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tests.models import WORDS, tiny_backbone
from torch import nn

from softprompt.backbones import Backbone
from softprompt.prompts import PrefixTuning, PromptTuning, PTuning, SoftPrompt
from softprompt.tasks import Task
from softprompt.training import Run, TrainConfig, TrainResult, train

QUIET = {"progress": False}
_PLAIN_WORDS = [word for word in WORDS if word.isalpha() and word not in ("good", "bad", "great", "terrible")]


@functools.cache
def calm_backbone(kind: str) -> Backbone:
    """The tiny backbone of a kind with smaller weights.

    Attention that is nearly saturated makes training chaotic: a difference in the last bit grows tenfold with every
    few steps, whatever computes it. Here it stays small, so that runs can be compared after many steps.
    """
    wild = tiny_backbone(kind)
    model = copy.deepcopy(wild.model)
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and id(parameter) not in tables:
                parameter.mul_(0.3)
    return Backbone.from_model(model, wild.tokenizer, name=f"calm {kind}")


def words(count: int, source: random.Random) -> str:
    """A text of that many words, which the tiny backbones know."""
    return " ".join(source.choices(_PLAIN_WORDS, k=count))


def sentiment(rows: int = 24, seed: int = 0, **settings: Any) -> Task:
    """Reviews of 1 to 12 words: good where `great` stands at the front, bad where `terrible` does."""
    source = random.Random(seed)

    def some(count: int) -> list[dict[str, str]]:
        made = [(source.choice(["0", "1"]), words(source.randint(1, 12), source)) for _ in range(count)]
        return [{"text": f"{'great' if label == '1' else 'terrible'} {text}", "label": label} for label, text in made]

    defaults = {"input": "review : {text}", "target": "{label}", "label_words": {"0": "bad", "1": "good"}}
    return Task.from_rows(
        {"train": some(rows), "validation": some(10)}, **{**defaults, "name": "sentiment", **settings}
    )


def describing(rows: int = 14, seed: int = 1) -> Task:
    """Tables and their descriptions: free text, one or two references."""
    source = random.Random(seed)
    made = [
        {
            "table": f"name : {words(source.randint(1, 4), source)}",
            "said": [words(source.randint(2, 6), source) for _ in range(source.randint(1, 2))],
        }
        for _ in range(rows)
    ]
    return Task.from_rows({"train": made, "validation": made[:6]}, input="{table}", target="{said}", name="describing")


def placed_runs(kind: str) -> list[Run]:
    """Runs whose prompts stand at different places: in the middle, at those of a template, and inside."""
    marked = sentiment(input="review : {prompt} {text}")
    divided = sentiment(input="{soft:1} review : {soft:2} {text} {soft:1}", seed=3)
    settings: dict[str, Any] = {"optimizer": "adamw", "learning_rate": 0.03, "batch_size": 3, "steps": 8}
    at = functools.partial(PromptTuning, init="vocab")
    made = [
        Run(name="in-the-middle", method=at(length=3, placement="middle"), task=marked, seed=1, **settings),
        Run(name="half-way", method=at(length=2, placement="middle"), task=sentiment(), seed=2, **settings),
        Run(name="divided", method=at(length=4, placement="template"), task=divided, seed=3, **settings),
    ]
    if kind == "decoder-only":
        for name, where in (("infix", "append"), ("infix-half-way", "middle")):
            method = PrefixTuning(length=3, hidden=None, placement=where)
            made.append(Run(name=name, method=method, task=describing(), seed=4, **settings))
    return made


def varied_runs(kind: str) -> list[Run]:
    """Runs that differ in everything that runs may differ in, for 20 steps or fewer."""
    first, second = sentiment(), describing() if kind != "encoder-only" else sentiment(seed=5)
    return [
        Run(name="rows", method=PromptTuning(length=5), task=first, learning_rate=0.3, batch_size=4, steps=20),
        Run(
            name="behind",
            method=PromptTuning(length=3, init="vocab", placement="append"),
            task=second,
            optimizer="adamw",
            learning_rate=0.05,
            schedule="linear",
            warmup_steps=4,
            batch_size=3,
            steps=20,
            max_new_tokens=6,
            seed=1,
        ),
        Run(
            name="keys",
            method=PrefixTuning(length=4, hidden=None, init="vocab"),
            task=second,
            optimizer="adamw",
            learning_rate=0.02,
            schedule="cosine",
            batch_size=5,
            steps=20,
            max_new_tokens=6,
            seed=2,
        ),
        Run(
            name="mlp",
            method=PrefixTuning(length=2, hidden=16),
            task=first,
            learning_rate=0.02,
            clip_norm=1.0,
            batch_size=2,
            accumulate=2,
            steps=20,
            seed=3,
        ),
        Run(
            name="encoded",
            method=PTuning(length=3, hidden=6),
            task=first,
            optimizer="adamw",
            learning_rate=0.01,
            batch_size=3,
            steps=16,
            seed=5,
        ),
        Run(
            name="near-words",
            method=PromptTuning(length=4, init="vocab", towards="good or bad", towards_weight=0.1),
            task=first,
            optimizer="adamw",
            learning_rate=0.02,
            batch_size=4,
            steps=14,
            seed=6,
        ),
        Run(
            name="top",
            method=PrefixTuning(length=3, hidden=None, layers=[-1]),
            task=second,
            optimizer="adamw",
            learning_rate=0.02,
            batch_size=4,
            steps=18,
            max_new_tokens=6,
            seed=7,
        ),
        Run(
            name="ranked",
            method=PromptTuning(length=4, init="vocab", placement="append"),
            task=first,
            loss="rank",
            optimizer="adamw",
            learning_rate=0.03,
            batch_size=4,
            steps=15,
            seed=8,
        ),
        Run(
            name="ranked-phrases",
            method=PrefixTuning(length=2, hidden=None, init="vocab"),
            task=sentiment(seed=9, label_words={"0": "bad", "1": "good or great"}),
            loss="rank",
            optimizer="adamw",
            learning_rate=0.02,
            batch_size=3,
            steps=13,
            seed=9,
        ),
        Run(
            name="short",
            method=PromptTuning(length=7, init="random"),
            task=first,
            learning_rate=0.1,
            batch_tokens=40,
            batch_size=8,
            steps=12,
            seed=4,
        ),
    ]


def short_run(name: str = "a", **settings: Any) -> Run:
    """A run of a few cheap steps, without evaluation."""
    defaults = {"task": sentiment(), "learning_rate": 0.1, "batch_size": 4, "steps": 4, "evaluate_every": 0}
    method = PromptTuning(length=3, init="vocab")
    return Run(**{**defaults, "name": name, "method": method, **settings})


def trained(kind: str, runs: Sequence[Run], **config: Any) -> TrainResult:
    """Train on the calm backbone of a kind."""
    return train(calm_backbone(kind), runs, TrainConfig(**{**QUIET, **config}))


def tensors(prompt: SoftPrompt) -> Mapping[str, torch.Tensor]:
    """A prompt's tensors by name."""
    return {name: value.detach() for name, value in prompt().named().items()}


def difference(one: SoftPrompt, other: SoftPrompt) -> float:
    """The largest relative difference of two prompts' tensors: of their difference's norm to the norm."""
    left, right = tensors(one), tensors(other)
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).norm() / right[name].norm()) for name in left)


def moved(run: Run, kind: str, prompt: SoftPrompt) -> float:
    """How far training moved a prompt from its start, relative to the start."""
    return difference(prompt, run.method.build(calm_backbone(kind), run.task, run.seed).fold())
