"""Which methods an encoder can answer a task by."""

from __future__ import annotations

import pytest
import torch
import transformers as tf
from tests.families.test_token_heads import SMALL, asked, tagged
from tests.models import tiny_backbone
from tests.training.sessions import describing, sentiment, short_run, trained

from softprompt.backbones import Backbone
from softprompt.errors import ConfigError, UnsupportedError
from softprompt.prompts import MultitaskPrompt, PrefixTuning, PromptTuning, PTuning, PTuningV2
from softprompt.tasks import Mixture
from softprompt.training import LoRA, ModelTuning
from softprompt.training.suitability import check_suits

HEADLESS_METHODS = [None, PTuning(length=2), PTuningV2(length=2), MultitaskPrompt(length=2), LoRA(), ModelTuning()]


@pytest.mark.parametrize("method", HEADLESS_METHODS)
def test_tags_and_spans_need_a_head_that_a_prompt_brings(method):
    """It was said that they have no label words, which would have made them another task."""
    for task, targets in ((tagged(), "tags of words"), (asked(), "answers in 'context'")):
        with pytest.raises(UnsupportedError, match=f"are {targets}, for which tiny encoder-only has no head; train a "):
            check_suits(tiny_backbone("encoder-only"), method, task)
        check_suits(tiny_backbone("encoder-only"), PTuningV2(length=2, head=True), task)
        check_suits(tiny_backbone("decoder-only"), method, task)


def test_an_encoder_without_a_trained_head_needs_one():
    def bare(kind):
        torch.manual_seed(0)
        return kind(tf.BertConfig(**SMALL))

    stored = Backbone.from_model(bare(tf.BertModel), name="stored")
    fresh = Backbone(bare(tf.BertForSequenceClassification), None, "fresh", has_untrained_head=True)
    for backbone in (stored, fresh):
        for method in (None, PTuning(length=2)):
            with pytest.raises(UnsupportedError, match=f"{backbone.name} has no head that was trained, and nothing br"):
                check_suits(backbone, method, sentiment())
    check_suits(fresh, ModelTuning(), sentiment())
    with pytest.raises(UnsupportedError, match="stored has no head that was trained"):
        check_suits(stored, ModelTuning(), sentiment())


def test_labels_must_be_the_heads_classes():
    three = sentiment(label_words={"0": "bad", "1": "good", "2": "so"})
    encoder = tiny_backbone("encoder-only")
    for method in HEADLESS_METHODS:
        check_suits(encoder, method, sentiment())
        with pytest.raises(UnsupportedError, match="has 3 label words, but the head of tiny encoder-only has 2 classe"):
            check_suits(encoder, method, three)
    check_suits(encoder, PromptTuning(length=3, head=True), three)
    with pytest.raises(UnsupportedError, match="writes no text, but the targets of describing are free text; give la"):
        check_suits(encoder, PrefixTuning(length=2, head=True), describing())


def test_sessions_ask_before_anything_is_made():
    for method in (ModelTuning(), PTuningV2(length=2)):
        with pytest.raises(UnsupportedError, match="The targets of tagged are tags of words"):
            trained("encoder-only", [short_run(task=tagged(), method=method)])


def test_the_head_of_a_mixture_is_that_of_its_only_task():
    """A mixture says neither tags nor context, so its only task was said to have no labels."""
    method = PTuningV2(length=2, head=True)
    result = trained("encoder-only", [short_run(task=Mixture([tagged()]), method=method, steps=1)])
    assert len(result["a"].prompt().head["tokens.weight"]) == 3
    several = Mixture([tagged(), asked()])
    with pytest.raises(ConfigError, match="run 'a': a head has the classes of one task"):
        trained("encoder-only", [short_run(task=several, method=method)])
