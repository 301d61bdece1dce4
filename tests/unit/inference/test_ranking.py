"""Choices among candidates, and a head's classes."""

from __future__ import annotations

import pytest
import torch
from tests.models import tiny_prompted
from tests.unit.inference.test_generating import GENERATING, NAMES, TEXTS

from softprompt.errors import ConfigError, NonFiniteError
from softprompt.inference import BatchLimits, Query, classify

CANDIDATES = ("good", "bad", "city centre")


def queries(candidates=CANDIDATES):
    return [Query(input=text, prompt=name, candidates=candidates) for text, name in zip(TEXTS, NAMES, strict=True)]


def shares(choices):
    return torch.tensor([list(choice.probabilities.values()) for choice in choices])


@pytest.mark.parametrize("kind", [*GENERATING, "encoder-only"])
def test_mixed_batches_give_what_each_row_gives_alone(kind):
    model = tiny_prompted(kind)
    asked = queries(CANDIDATES[:2])
    mixed = list(classify(model, asked, limits=BatchLimits(rows=5)))
    alone = [next(classify(model, [query])) for query in asked]
    torch.testing.assert_close(shares(mixed), shares(alone), atol=1e-5, rtol=1e-4)
    assert [choice.label for choice in mixed] == [choice.label for choice in alone]
    assert shares(mixed).std(0).max() > 0.01


@pytest.mark.parametrize("kind", GENERATING)
def test_probabilities_are_the_softmax_of_the_models_scores(kind):
    model = tiny_prompted(kind)
    scores = model.score(TEXTS, CANDIDATES, prompts=NAMES)
    choices = list(classify(model, queries(), limits=BatchLimits(tokens=100)))
    torch.testing.assert_close(shares(choices).float(), scores.softmax(-1), atol=1e-5, rtol=1e-4)
    assert [choice.label for choice in choices] == [CANDIDATES[i] for i in scores.argmax(-1).tolist()]
    assert list(choices[0].probabilities) == list(CANDIDATES)


@pytest.mark.parametrize("kind", GENERATING)
def test_each_query_has_its_own_candidates(kind):
    model = tiny_prompted(kind)
    asked = [
        Query(input=TEXTS[0], prompt="rows", candidates=candidates)
        for candidates in (CANDIDATES, ("fish",), ("very", "name place pub near"), CANDIDATES)
    ]
    first, only, other, last = classify(model, asked)
    assert (only.label, only.probabilities) == ("fish", {"fish": 1.0})
    assert set(other.probabilities) == {"very", "name place pub near"}
    assert first.label == last.label


def test_classes_of_an_encoder_stand_in_the_candidates_order():
    model = tiny_prompted("encoder-only")
    ids, mask, _ = model.encode(TEXTS, NAMES)
    with torch.no_grad():
        logits = model(ids, mask, prompts=NAMES).logits
    choices = list(classify(model, queries(("bad", "good"))))
    torch.testing.assert_close(shares(choices).float(), logits.softmax(-1), atol=1e-5, rtol=1e-4)
    assert [choice.label for choice in choices] == [("bad", "good")[i] for i in logits.argmax(-1).tolist()]


def test_an_encoder_has_as_many_classes_as_there_are_candidates():
    with pytest.raises(ConfigError, match=r"has 2 classes, but there are 3 candidates .* name as many"):
        list(classify(tiny_prompted("encoder-only"), queries()))


@pytest.mark.parametrize("kind", [*GENERATING, "encoder-only"])
def test_a_diverged_prompt_is_no_choice(kind):
    model = tiny_prompted(kind)
    with torch.no_grad():
        next(iter(model.prompts["longer"].parameters())).fill_(float("nan"))
    healthy = [query for query in queries(CANDIDATES[:2]) if query.prompt != "longer"]
    assert len(list(classify(model, healthy))) == 9
    with pytest.raises(NonFiniteError, match="with the prompt 'longer' are NaN"):
        list(classify(model, queries(CANDIDATES[:2])))
