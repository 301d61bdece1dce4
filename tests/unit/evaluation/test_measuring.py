"""Evaluations: the mixed pass equals each alone, and what cannot be scored is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jaxtyping
import pytest
import torch
from tests.models import CLASSES, POSITIONS, tiny_backbone, tiny_prompted, word_tokenizer
from tests.unit.evaluation.tasks import REVIEWS, places, sentiment

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.errors import ConfigError, DataError, LengthError, MismatchError
from softprompt.evaluation import Job, TextPrompt, evaluate, evaluate_many
from softprompt.inference import BatchLimits
from softprompt.prompts import PromptTuning
from softprompt.tasks import Task, TextFormat, compute_metrics

GENERATING = ("encoder-decoder", "decoder-only")
INPUTS = [f"review : {text}" for text, _ in REVIEWS]
LABELS = ("bad", "city centre")
OTHER = TextFormat(input="topic : {text}", target="{label}", label_words={"0": "sport", "1": "travel"})


def said(evaluation):
    return [row.prediction for row in evaluation.predictions]


@pytest.mark.parametrize("kind", GENERATING)
@pytest.mark.parametrize("name", ["rows", "keys", None])
def test_generated_text_is_scored_as_it_stands(kind, name):
    model = tiny_prompted(kind)
    found = evaluate(
        model.backbone, model.prompts[name] if name else None, places(metrics=["bleu", "token_f1"]), max_new_tokens=5
    )
    rows = places().examples("validation")
    texts = model.generate([row.input for row in rows], prompts=[name] * 3, raw=True, max_new_tokens=5, do_sample=False)
    assert said(found) == texts
    assert dict(found) == compute_metrics(["bleu", "token_f1"], texts, [row.targets for row in rows])
    assert (found.task, found.split, found.by) == ("places", "validation", "generate")
    assert found.seconds > 0


@pytest.mark.parametrize("kind", GENERATING)
def test_generated_labels_are_matched(kind):
    """Label words are what the model happens to say for the first row, and what it says for none."""
    model = tiny_prompted(kind)
    prompt = model.prompts["rows"]
    (word,) = model.generate(INPUTS[:1], prompts="rows", raw=True, max_new_tokens=1, do_sample=False)
    task = dataclasses.replace(
        sentiment(), format=dataclasses.replace(sentiment().format, label_words={"1": word.upper(), "0": "bad"})
    )
    found = evaluate(model.backbone, prompt, task, by="generate", max_new_tokens=1)
    expected = [word.upper() if text == word else "bad" if text == "bad" else None for text in said(found)]
    assert [row.label for row in found.predictions] == expected
    assert found.predictions[0].label == word.upper()
    assert found["illegal"] == pytest.approx(100 * expected.count(None) / len(REVIEWS))


@pytest.mark.parametrize("kind", GENERATING)
def test_ranking_chooses_among_the_labels(kind):
    model = tiny_prompted(kind)
    found = evaluate(model.backbone, model.prompts["keys"], sentiment(), by="rank")
    scores = model.score(INPUTS, LABELS, prompts="keys", raw=True)
    assert said(found) == [LABELS[i] for i in scores.argmax(-1).tolist()]
    given = torch.tensor([[row.probabilities[label] for label in LABELS] for row in found.predictions])
    torch.testing.assert_close(given, scores.softmax(-1), atol=1e-5, rtol=1e-4)
    assert "illegal" not in found
    right = [text == row.targets[0] for text, row in zip(said(found), found.predictions, strict=True)]
    assert found["accuracy"] == pytest.approx(100 * sum(right) / len(right))


@pytest.mark.parametrize("kind", [*GENERATING, "encoder-only"])
def test_labels_are_ranked_unless_asked_otherwise(kind):
    """Training ranked and `evaluate` generated, so that the same prompt had two scores under one name."""
    model = tiny_prompted(kind)
    found = evaluate(model.backbone, model.prompts["rows"], sentiment())
    assert found.by == "rank"
    assert found == evaluate(model.backbone, model.prompts["rows"], sentiment(), by="rank")


def test_an_encoder_ranks_its_classes_in_the_labels_order():
    model = tiny_prompted("encoder-only")
    found = evaluate(model.backbone, model.prompts["rows"], sentiment(), by="rank")
    ids, mask, _ = model.encode(INPUTS, "rows", raw=True)
    with torch.no_grad():
        logits = model(ids, mask, prompts="rows").logits
    assert said(found) == [LABELS[i] for i in logits.argmax(-1).tolist()]


@pytest.mark.parametrize("kind", GENERATING)
@pytest.mark.parametrize("rows", [3, 64])
def test_evaluations_in_mixed_batches_are_what_they_are_alone(kind, rows):
    model = tiny_prompted(kind)
    shots = TextPrompt.few_shot(sentiment(), 2)
    jobs = {
        "soft": Job(task=sentiment(), prompt="rows", by="generate"),
        "other": Job(task=sentiment(), prompt="longer", by="generate", max_new_tokens=8),
        "bare": Job(task=sentiment(), by="generate"),
        "shots": Job(task=sentiment(), text=shots, by="generate"),
        "places": Job(task=places(), prompt="keys", max_new_tokens=8),
        "ranked": Job(task=sentiment(), prompt="keys"),
        "ranked too": Job(task=sentiment(), prompt="rows", by="rank"),
    }
    done: list[int] = []
    together = evaluate_many(model, jobs, limits=BatchLimits(rows=rows), progress=done.append)
    assert list(together) == list(jobs)
    assert sum(done) == 6 * len(REVIEWS) + 3
    for name, job in jobs.items():
        alone = evaluate_many(model, {name: job}, limits=BatchLimits(rows=rows))[name]
        assert dict(alone) == dict(together[name])
        for one, other in zip(alone.predictions, together[name].predictions, strict=True):
            assert one.prediction == other.prediction
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    assert said(together["soft"]) != said(together["bare"]) != said(together["shots"])
    assert [row.input for row in together["shots"].predictions] == INPUTS


def test_the_tasks_own_format_applies():
    model = tiny_prompted("decoder-only")
    prompt = model.prompts["rows"]
    stored = prompt.with_info(format=OTHER.to_mapping())
    for by in ("generate", "rank"):
        expected = evaluate(model.backbone, prompt, sentiment(), by=by)
        assert evaluate(model.backbone, stored, sentiment(), by=by) == expected


@pytest.mark.parametrize("kind", GENERATING)
def test_a_chat_template_goes_around_inputs(kind):
    tokenizer = word_tokenizer(kind)
    tokenizer.chat_template = (
        "topic : {{ messages[0]['content'] }} Answer :{% if messages[1:] %} {{ messages[1]['content'] }}{% endif %}"
    )
    backbone = Backbone.from_model(tiny_backbone(kind).model, tokenizer)
    form = dataclasses.replace(sentiment().format, chat=True)
    prompt = PromptTuning(length=3, init="vocab").build(backbone).with_info(format=form.to_mapping())
    found = evaluate(backbone, prompt, dataclasses.replace(sentiment(), format=form), by="rank")
    scores = Prompted(backbone, {"a": prompt}).score([text for text, _ in REVIEWS], LABELS)
    given = torch.tensor([[row.probabilities[label] for label in LABELS] for row in found.predictions])
    torch.testing.assert_close(given, scores.softmax(-1), atol=1e-5, rtol=1e-4)
    plain = evaluate(backbone, prompt, sentiment(), by="rank")
    assert plain.predictions[0].probabilities != pytest.approx(found.predictions[0].probabilities, abs=1e-6)


@pytest.mark.parametrize("kind", GENERATING)
def test_a_text_prompt_is_words_before_the_input(kind):
    backbone = tiny_backbone(kind)
    found = evaluate(backbone, TextPrompt("topic {"), sentiment(), by="rank")
    whole = tiny_prompted(kind).score([f"topic {{ {text}" for text in INPUTS], LABELS, prompts=[None] * 7)
    assert said(found) == [LABELS[i] for i in whole.argmax(-1).tolist()]


def test_a_sample_of_rows_depends_on_the_seed_alone():
    backbone = tiny_backbone("decoder-only")
    drawn = {
        seed: [row.source for row in evaluate(backbone, None, sentiment(), by="rank", rows=3, seed=seed).predictions]
        for seed in range(4)
    }
    assert all(sources == sorted(sources) and len(set(sources)) == 3 for sources in drawn.values())
    assert len({tuple(sources) for sources in drawn.values()}) > 1
    again = evaluate(backbone, None, sentiment(), by="rank", rows=3, seed=2)
    assert again.seed == 2
    assert [row.source for row in again.predictions] == drawn[2]
    assert len(evaluate(backbone, None, sentiment(), by="rank", rows=99).predictions) == 7


@pytest.mark.parametrize("kind", GENERATING)
def test_there_is_room_for_twice_the_longest_label(kind):
    backbone = tiny_backbone(kind)
    labels = {"0": "bad", "1": "a long short sad happy film"}
    task = dataclasses.replace(sentiment(), format=dataclasses.replace(sentiment().format, label_words=labels))
    job = Job(task=task, by="generate")
    (query,) = job.queries(backbone, task.examples("validation")[:1])
    assert query.max_new_tokens == 16
    (free,) = Job(task=places()).queries(backbone, places().examples("validation")[:1])
    assert free.max_new_tokens == 128


def test_long_inputs_are_cut_only_if_asked():
    rows = [{"text": "good " * POSITIONS, "label": "1"}]
    task = Task.from_rows({"validation": rows}, input="{text}", target="{label}", label_words={"1": "good", "0": "bad"})
    backbone = tiny_backbone("decoder-only")
    with pytest.raises(LengthError, match=r"^validation:0: An input has 96 tokens, but only 94 fit"):
        evaluate(backbone, None, task, by="rank")
    assert len(evaluate(backbone, None, task, by="rank", truncate=True).predictions) == 1


def test_an_empty_split_is_an_error():
    empty = dataclasses.replace(sentiment(), _examples={"validation": []})
    with pytest.raises(DataError, match="The split 'validation' of the task 'sentiment' is empty"):
        evaluate(tiny_backbone("decoder-only"), None, empty)
    with pytest.raises(ConfigError, match="Unknown split of the task sentiment 'test'"):
        evaluate(tiny_backbone("decoder-only"), None, sentiment(), "test")


def test_ranking_needs_label_words():
    with pytest.raises(
        ConfigError, match="the task 'places' has none; say by='generate', or give the task label_words"
    ):
        evaluate(tiny_backbone("decoder-only"), None, places(), by="rank")


def test_an_encoder_does_not_generate():
    with pytest.raises(ConfigError, match="tiny encoder-only is encoder-only; say by='rank', and give the task"):
        evaluate(tiny_backbone("encoder-only"), None, sentiment(), by="generate")


def test_an_encoder_has_as_many_classes_as_the_task():
    labels = {"0": "bad", "1": "good", "2": "sad"}
    task = dataclasses.replace(sentiment(), format=dataclasses.replace(sentiment().format, label_words=labels))
    with pytest.raises(ConfigError, match=f"has {CLASSES} classes, but there are 3 candidates"):
        evaluate(tiny_backbone("encoder-only"), None, task, by="rank")


def test_a_foreign_prompt_is_refused():
    prompt = tiny_prompted("encoder-decoder").prompts["rows"]
    with pytest.raises(MismatchError, match="made for"):
        evaluate(tiny_backbone("decoder-only"), prompt, sentiment())


@pytest.mark.parametrize(("given", "kind"), [("prompts/a", "str"), (Path("prompts/a"), "PosixPath"), ({}, "dict")])
def test_what_is_no_prompt_is_refused(given, kind, monkeypatch):
    """The bare backbone was scored in its stead. Without the types that tests check, as users run it."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    message = rf"or None for the bare backbone, but got {kind}; load a folder with SoftPrompt\.load\(path\)"
    with pytest.raises(ConfigError, match=message):
        evaluate(tiny_backbone("decoder-only"), given, sentiment())


def test_an_unknown_prompt_is_refused():
    with pytest.raises(ConfigError, match="Unknown prompt 'row'"):
        evaluate_many(tiny_prompted("decoder-only"), {"a": Job(task=sentiment(), prompt="row")})


def test_an_unknown_way_is_refused(monkeypatch):
    """Without the types that tests check, as users run it."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ConfigError, match=r"Unknown way to evaluate \(by\) 'ranking'. Did you mean 'rank'"):
        Job(task=sentiment(), by="ranking")


def test_rows_are_counted_from_one():
    with pytest.raises(ConfigError, match="rows=0"):
        Job(task=sentiment(), rows=0)


@pytest.mark.parametrize("kind", GENERATING)
def test_calibration_divides_by_what_is_said_without_content(kind):
    backbone = tiny_prompted(kind).backbone
    text = TextPrompt("so :")
    plain = evaluate(backbone, text, sentiment(), by="rank")
    found = evaluate(backbone, text, sentiment(), by="rank", calibrate=True)
    empty = [{"text": one, "label": "0"} for one in ("N/A", "[MASK]", "...")]
    without = Task.from_rows({"validation": empty}, **_form_of(sentiment()))
    prior = evaluate(backbone, text, without, by="rank").predictions
    for row, before in zip(found.predictions, plain.predictions, strict=True):
        shares = {
            label: before.probabilities[label] / sum(one.probabilities[label] for one in prior) for label in LABELS
        }
        for label in LABELS:
            assert row.probabilities[label] == pytest.approx(shares[label] / sum(shares.values()), rel=1e-5)
        assert row.prediction == max(shares, key=shares.__getitem__)
    assert said(found) != said(plain) or any(
        row.probabilities != before.probabilities
        for row, before in zip(found.predictions, plain.predictions, strict=True)
    )
    with pytest.raises(ConfigError, match="calibrate=True corrects probabilities of labels; say by='rank'"):
        Job(task=sentiment(), by="generate", calibrate=True)


def _form_of(task: Task) -> dict:
    form = task.format
    return {"input": form.input, "target": form.target, "label_words": form.label_words}
