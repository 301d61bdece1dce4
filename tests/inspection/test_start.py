"""A prompt as it began."""

from __future__ import annotations

import pytest
import torch
from tests.models import tiny_backbone

import softprompt as sp
from softprompt.errors import UnsupportedError
from softprompt.inspection import nearest_words, prompt_at_start

ROWS = [{"text": f"the film was {how}", "label": label} for label, how in (("0", "sad"), ("1", "funny"))] * 4
TASK = sp.Task.from_rows(
    {"train": ROWS, "validation": ROWS},
    input="{text}",
    target="{label}",
    label_words={"0": "bad", "1": "good"},
    name="films",
)


def trained(method, tmp_path, task=TASK):
    run = sp.Run(name="a", method=method, task=task, seed=7, steps=2, learning_rate=0.5, evaluate_every=0, batch_size=2)
    config = sp.TrainConfig(output_dir=tmp_path, progress=False)
    result = sp.train(tiny_backbone("decoder-only"), [run], config)
    return sp.SoftPrompt.load(result["a"].path)


@pytest.mark.parametrize(
    "method",
    [
        sp.PromptTuning(length=4, init="class_labels"),
        sp.PromptTuning(length=4, init="vocab"),
        sp.PrefixTuning(length=2, hidden=8),
        sp.PTuning(length=3, hidden=8),
    ],
    ids=["labels", "words", "mlp", "encoder"],
)
def test_it_is_what_training_began_with(method, tmp_path):
    backbone = tiny_backbone("decoder-only")
    prompt = trained(method, tmp_path)
    start, want = prompt_at_start(backbone, prompt)().named(), method.build(backbone, TASK, 7)().named()
    assert set(start) == set(want)
    for name, value in start.items():
        assert torch.equal(value, want[name])
        assert not torch.equal(value, prompt().named()[name])


def test_labels_are_there_before_training(tmp_path):
    backbone = tiny_backbone("decoder-only")
    start = prompt_at_start(backbone, trained(sp.PromptTuning(length=4), tmp_path))
    (found,) = nearest_words(backbone, start, 1)
    assert [row[0].word for row in found.rows[:2]] == ["bad", "good"]


def test_what_is_not_known_is_said(tmp_path):
    backbone = tiny_backbone("decoder-only")
    fresh = sp.PromptTuning(length=4, init="vocab").build(backbone)
    with pytest.raises(UnsupportedError, match="The prompt says no seed of a training"):
        prompt_at_start(backbone, fresh)
    unformatted = trained(sp.PromptTuning(length=4), tmp_path / "one").with_info(format=None)
    with pytest.raises(UnsupportedError, match="cannot be built again as it began: init='class_labels' needs a task"):
        prompt_at_start(backbone, unformatted)
    source = fresh.save(tmp_path / "source")
    moved = trained(sp.PromptTuning(length=4, init="prompt", source=str(source)), tmp_path / "two")
    source.rename(tmp_path / "elsewhere")
    with pytest.raises(UnsupportedError, match=r"cannot be built again as it began: .*source is not a prompt folder"):
        prompt_at_start(backbone, moved)
    shared = unformatted.with_info(run={"seed": 1, "tasks": []})
    shared = sp.SoftPrompt(shared.parametrization, sp.MultitaskPrompt(length=4), shared.info)
    with pytest.raises(UnsupportedError, match="shared rows with those of other tasks"):
        prompt_at_start(backbone, shared)
