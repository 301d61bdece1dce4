"""Another package adds one of everything that has a name, and none of it needs a change to softprompt."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys

import pytest
import torch
from tests.models import WORDS
from tests.training.sessions import calm_backbone, tensors, trained

from softprompt.conditioning import Prompted
from softprompt.errors import ArtefactError
from softprompt.evaluation import evaluate
from softprompt.loop import optimizers, schedules
from softprompt.prompts import PrefixTuning, PromptTuning, SoftPrompt, initializers, placements, registry
from softprompt.tasks import catalogue, load_task, task_names
from softprompt.tasks.metrics import registry as metrics
from softprompt.training import Run

SOURCE = '''
from dataclasses import dataclass
from pathlib import Path

import torch

from softprompt.config import from_mapping
from softprompt.prompts import PromptInfo, PromptTensors, SoftPrompt
from softprompt.prompts.parameters import Parameters
from softprompt.tasks import Row, TaskDefinition, TextFormat


class Repeated(Parameters):
    def __init__(self, length, row):
        super().__init__()
        self.length, self.row = length, torch.nn.Parameter(row)

    def forward(self):
        return PromptTensors(rows=self.row.expand(self.length, -1))


@dataclass(frozen=True, kw_only=True)
class OneRow:
    """A prompt of one trained row, several times."""

    length: int = 3
    placement: str = "second"

    def build(self, backbone, task=None, seed=0):
        row = torch.full((backbone.spec.dim,), 0.25)
        info = PromptInfo(backbone=backbone.name, fingerprint=backbone.fingerprint.to_mapping())
        return SoftPrompt(Repeated(self.length, row), self, info)

    @classmethod
    def from_settings(cls, settings):
        return from_mapping(cls, settings)


def ones(materials):
    return torch.ones(materials.length, materials.dim)


def second(lengths, marks):
    return lengths[:, None].clamp(max=1)


def length_share(predictions, references):
    pairs = list(zip(predictions, references, strict=True))
    return {"length_share": 100 * sum(len(said) / len(true[0]) for said, true in pairs) / len(pairs)}


class Falling(torch.optim.Optimizer):
    """Every value that has a gradient falls by the rate."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(group["lr"])


def falling(parameters, *, learning_rate, weight_decay):
    return Falling(parameters, {"lr": learning_rate})


def halving(step, warmup, total):
    return 0.5**step


def read(folder):
    rows = [Row(f"film:{number}", {"text": f"a film {number}", "said": "good"}) for number in range(4)]
    return {"train": rows, "validation": rows}


FILMS = TaskDefinition(
    name="films",
    summary="Films.",
    format=TextFormat(input="{text}", target="{said}", label_words={"good": "good", "bad": "terrible"}),
    metrics=("length_share",),
    splits=("train", "validation"),
    read=read,
    source="here",
    licence="CC0",
    citation="nobody",
    folder=Path(__file__).parent,
)
'''
OFFERS = {
    "methods": "one_row = another_package:OneRow",
    "initializers": "ones = another_package:ones",
    "placements": "second = another_package:second",
    "metrics": "length_share = another_package:length_share",
    "optimizers": "falling = another_package:falling",
    "schedules": "halving = another_package:halving",
    "tasks": "films = another_package:FILMS",
}
REGISTRIES = (
    registry.METHODS,
    initializers.ROWS,
    placements.PLACEMENTS,
    metrics.METRICS,
    optimizers.OPTIMIZERS,
    schedules.SCHEDULES,
    catalogue.TASKS,
)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with an entry point in every group, on the path within the context that is returned."""
    folder = tmp_path / "site"
    info = folder / "another_package-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "another_package.py").write_text(SOURCE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: another-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "".join(f"[softprompt.{group}]\n{offer}\n" for group, offer in OFFERS.items())
    )
    with monkeypatch.context() as context:
        context.syspath_prepend(folder)
        for each in REGISTRIES:
            context.setattr(each, "_values", dict(each._values))
        yield context
    sys.modules.pop("another_package", None)


def films_run(name, method) -> Run:
    return Run(
        name=name,
        method=method,
        task=load_task("films"),
        optimizer="falling",
        schedule="halving",
        learning_rate=0.1,
        batch_size=2,
        steps=3,
        by="rank",
    )


def test_runs_of_another_packages_strategies(installed, tmp_path):
    """The start, the optimizer and the schedule say exactly where the prompts end; the metric, what they score."""
    one_row = importlib.import_module("another_package").OneRow
    assert "films" in task_names()
    runs = [
        films_run("theirs", one_row(length=3)),  # the class itself, which no name was looked up for
        films_run("mixed", PromptTuning(length=2, init="ones", placement="second")),
    ]
    result = trained("decoder-only", runs, output_dir=tmp_path / "session")
    fallen = 0.1 * (1 + 0.5 + 0.25)
    dim = calm_backbone("decoder-only").spec.dim
    torch.testing.assert_close(tensors(result["theirs"].prompt)["rows"], torch.full((3, dim), 0.25 - fallen))
    torch.testing.assert_close(tensors(result["mixed"].prompt)["rows"], torch.full((2, dim), 1 - fallen))
    for name in ("theirs", "mixed"):
        run = result[name]
        scored = evaluate(calm_backbone("decoder-only"), SoftPrompt.load(run.path), load_task("films"), by="rank")
        letters = [len(row.prediction) for row in scored.predictions]
        assert run.metrics["length_share"] == scored["length_share"] == 100 * sum(letters) / len(letters) / len("good")
    stored = json.loads((result["theirs"].path / "prompt.json").read_text(encoding="utf-8"))
    assert stored["method"] == {"name": "one_row", "length": 3, "placement": "second"}

    installed.undo()
    with pytest.raises(
        ArtefactError, match=r"Unknown method 'one_row'.* Known: multitask, .*prefix_tuning, prompt_tuning"
    ):
        SoftPrompt.load(result["theirs"].path)


@pytest.mark.usefixtures("installed")
def test_a_prompt_stands_where_another_packages_placement_says():
    backbone = calm_backbone("decoder-only")
    prompt = PromptTuning(length=2, init="vocab", placement="second").build(backbone)
    marked = SoftPrompt(prompt.parametrization, dataclasses.replace(prompt.method, placement="middle"), prompt.info)
    model = Prompted(backbone, {"theirs": prompt, "marked": marked})
    ids = torch.arange(5, 13).view(2, 4) % len(WORDS)
    theirs = model(ids, prompts="theirs").logits
    torch.testing.assert_close(theirs, model(ids, prompts="marked", marks=torch.tensor([[1], [1]])).logits)
    assert not torch.allclose(theirs, model(ids, prompts="marked", marks=torch.tensor([[2], [2]])).logits)


@pytest.mark.usefixtures("installed")
def test_a_prefix_starts_from_the_activations_of_another_packages_rows():
    backbone = calm_backbone("decoder-only")
    prefix = PrefixTuning(length=2, hidden=None, init="ones").build(backbone)
    rows = torch.ones(1, 2, backbone.spec.dim)
    keys, values = backbone.record(rows, torch.ones(1, 2, dtype=torch.bool))["decoder", 1]
    torch.testing.assert_close(prefix().keys_values["decoder"][1], torch.stack([keys[0], values[0]]))
