"""A conversation's prompt from training over its folder to answers."""

from __future__ import annotations

import copy

import pytest
from tests.training.sessions import calm_backbone, sentiment, short_run, tensors

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.inference import classify, make_queries
from softprompt.prompts import PromptTuning, SoftPrompt
from softprompt.training import TrainConfig, train

TURNS = (
    "{% for m in messages %}| {{ 'Answer' if m['role'] == 'assistant' else m['role'] }} : {{ m['content'] }} "
    "{% endfor %}"
    "{% if add_generation_prompt %}| Answer : {% endif %}"
)


def chatty(kind: str) -> Backbone:
    """The calm backbone of a kind, as an instruction model."""
    plain = calm_backbone(kind)
    tokenizer = copy.deepcopy(plain.need_tokenizer())
    tokenizer.chat_template = TURNS
    return Backbone.from_model(plain.model, tokenizer, name="chatty")


@pytest.mark.slow
@pytest.mark.parametrize("place", [{"system": "be good {prompt} and great"}, {}], ids=["system", "user"])
@pytest.mark.parametrize("kind", ["decoder-only", "encoder-decoder"])
def test_a_chat_is_trained_stored_loaded_and_answered(kind, place, tmp_path):
    """Parts were tested, the whole was not: what is learned in a conversation answers in one."""
    backbone, task = chatty(kind), sentiment(chat=True, **place)
    method = PromptTuning(length=4, placement="middle" if place else "prepend")
    learning = {"optimizer": "adamw", "learning_rate": 0.05, "loss": "rank", "steps": 40, "evaluate_every": 40}
    run = short_run("chat", task=task, method=method, **learning)
    result = train(backbone, [run], TrainConfig(output_dir=tmp_path, progress=False))["chat"]
    losses = [entry["loss"] for entry in result.history]
    assert sum(losses[-10:]) < 0.98 * sum(losses[:10])
    loaded = SoftPrompt.load(tmp_path / "prompts" / "chat")
    assert (loaded.info.format["chat"], loaded.info.format["system"]) == (True, place.get("system"))
    assert all(value.equal(tensors(result.prompt)[name]) for name, value in tensors(loaded).items())
    rows = task.examples("validation")
    model = Prompted(backbone, {"loaded": loaded})
    asked = make_queries(model, [(row.columns, "loaded") for row in rows], candidates=task.labels)
    right = [choice.label == row.targets[0] for choice, row in zip(classify(model, asked), rows, strict=True)]
    assert 100 * sum(right) / len(rows) == result.metrics["accuracy"]
