"""What prompts are looked at with."""

from __future__ import annotations

import pytest
from tests.models import tiny_backbone

import softprompt as sp
from softprompt.conditioning import Prompted
from softprompt.conditioning.texts import EncodedInput
from softprompt.errors import ConfigError
from softprompt.inference import BatchLimits
from softprompt.inspection import task_samples, text_sample
from softprompt.inspection.samples import Asked, batches
from softprompt.prompts import PromptTuning

FORM = {"input": "review : {text}", "target": "{label}", "label_words": {"0": "bad", "1": "good"}}
ROWS = [
    {"text": f"the {what} was {how}", "label": str(i)}
    for what in ("film", "book")
    for i, how in enumerate(("sad", "funny"))
]
TASK = sp.Task.from_rows({"train": ROWS, "validation": ROWS}, **FORM)
KINDS = ("decoder-only", "encoder-decoder", "encoder-only")


def prompt_for(kind: str, **info) -> sp.SoftPrompt:
    return PromptTuning(length=3, init="vocab").build(tiny_backbone(kind), seed=1).with_info(**info)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_task(kind):
    backbone = tiny_backbone(kind)
    found = task_samples(backbone, prompt_for(kind), TASK, rows=3)
    assert len(found) == 3
    first = found[0]
    text = backbone.tokenizer.decode(first.input.ids, skip_special_tokens=True)
    assert text.removeprefix("<s> ") == first.example.input
    assert first.example.input.startswith("review : the")
    assert first.target in first.candidates
    if kind == "encoder-only":
        assert first.candidates == ((0,), (1,))
    else:
        said = backbone.tokenizer.decode(list(first.target), skip_special_tokens=True).strip()
        assert said == first.said == first.example.targets[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_and_the_label_that_the_model_says(kind):
    backbone, prompt = tiny_backbone(kind), prompt_for(kind, format=TASK.format.to_mapping())
    for text in ("the film was sad", "the cheap river", "funny boring"):
        found = text_sample(backbone, prompt, text)
        evaluated = sp.Task.from_rows({"validation": [{"text": text, "label": "0"}]}, **FORM)
        (said,) = sp.evaluate(backbone, prompt, evaluated, by="rank").predictions
        assert found.said == said.prediction
    assert text_sample(backbone, prompt, "sad", target="good").said == "good"


def test_a_text_without_labels_is_followed_by_what_is_generated():
    backbone, prompt = tiny_backbone("encoder-decoder"), prompt_for("encoder-decoder")
    found = text_sample(backbone, prompt, "the film")
    (said,) = Prompted(backbone, {"p": prompt}).generate(["the film"], max_new_tokens=20)
    assert found.said == said
    assert found.candidates == ()


def test_an_encoder_says_classes_alone():
    backbone = tiny_backbone("encoder-only")
    assert text_sample(backbone, prompt_for("encoder-only"), "the film").target == ()
    with pytest.raises(ConfigError, match="says no text and 'good' is no class that is known"):
        text_sample(backbone, prompt_for("encoder-only"), "the film", target="good")
    with pytest.raises(ConfigError, match="'so' is none of them: bad, good"):
        text_sample(backbone, prompt_for("encoder-only", format=TASK.format.to_mapping()), "the film", target="so")


def test_batches_keep_order_and_bounds():
    asked = [Asked(input=EncodedInput(list(range(n)))) for n in (3, 5, 2, 9, 1)]
    found = list(batches(asked, 2, BatchLimits(rows=3, tokens=22)))
    assert [one for some in found for one in some] == asked
    assert [len(some) for some in found] == [3, 2]
    assert [len(some) for some in batches(asked, 2, BatchLimits(rows=1))] == [1] * 5
