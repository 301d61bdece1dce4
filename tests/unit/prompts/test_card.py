"""The README beside a stored prompt."""

from __future__ import annotations

import pytest
from tests.unit.prompts.hosts import SMALL

from softprompt.prompts import PromptTuning
from softprompt.prompts.card import render


def test_a_card_says_what_a_person_wants_to_know(tmp_path):
    prompt = PromptTuning(length=1000, init="random", placement="middle").build(SMALL)
    metrics = {"validation": {"accuracy": 0.91, "macro_f1": 0.9}}
    prompt = prompt.with_info(task="films", format={"input": "{text} It was"}, metrics=metrics)
    text = (prompt.save(tmp_path / "mine") / "README.md").read_text()
    for line in (
        "# mine",
        "| method | prompt_tuning, 1000 virtual tokens, placement `middle` |",
        "| backbone | `letters` |",
        "| parameters | 4,000 |",
        "| task | films |",
        "| input template | `{text} It was` |",
        "Scores on validation:",
        "| accuracy | 0.91 |",
        "| macro_f1 | 0.9 |",
    ):
        assert line in text.splitlines()
    (code,) = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    compile(code, "README.md", "exec")
    assert 'sp.SoftPrompt.load("mine")' in code


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ({"status": "finished", "reason": "", "best_step": 12}, "finished, the prompt is of step 12"),
        (
            {"status": "failed", "reason": "the loss is nan", "best_step": 3},
            "failed, the prompt is of step 3: the loss is nan",
        ),
    ],
)
def test_a_card_says_how_training_ended(end, said, tmp_path):
    prompt = PromptTuning(length=2, init="vocab").build(SMALL).with_info(run={"seed": 3, **end})
    assert f"| training | {said} |" in (prompt.save(tmp_path / "mine") / "README.md").read_text().splitlines()


@pytest.mark.parametrize(
    ("form", "classes"),
    [
        ({"input": "{text}", "label_words": {"0": "bad", "1": "fair", "2": "good", "3": "good"}}, 3),
        ({"input": "{text}", "label_words": None}, "N"),
        (None, "N"),
    ],
)
def test_a_card_says_how_many_classes_to_load_an_encoder_with(form, classes):
    """It said 2 whatever the task."""
    text = render(
        "mine",
        {
            "method": {"name": "p_tuning_v2", "length": 2, "placement": "prepend", "head": True},
            "backbone": "bert", "kind": "encoder-only", "parameters": 1, "task": None, "run": None, "format": form,
            "metrics": {},
        },
    )  # fmt: skip
    assert f"add `--classes {classes}` where" in text


def test_a_card_of_an_untrained_prompt(tmp_path):
    text = (PromptTuning(length=2, init="vocab").build(SMALL).save(tmp_path / "new") / "README.md").read_text()
    assert "| task | none |" in text
    assert "Scores" not in text
    assert "training" not in text
    assert "template" not in text
