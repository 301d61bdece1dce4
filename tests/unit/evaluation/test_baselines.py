"""Text prompts and the majority answer, as rivals of a soft prompt."""

from __future__ import annotations

import dataclasses

import pytest
from tests.unit.evaluation.tasks import REVIEWS, places, questions, sentiment

from softprompt.errors import ConfigError, DataError
from softprompt.evaluation import Job, TextPrompt, evaluate_majority
from softprompt.tasks import PROMPT_MARK, Task, TextFormat


def test_the_most_frequent_label_is_said_for_every_row():
    found = evaluate_majority(sentiment())
    assert {row.prediction for row in found.predictions} == {"bad"}
    assert found["accuracy"] == pytest.approx(100 * 4 / 7)
    assert (found.by, found.split, "illegal" in found) == ("majority", "validation", False)
    assert {row.label for row in found.predictions} == {"bad"}


def test_in_free_text_every_reference_counts_and_the_first_of_several_wins():
    assert evaluate_majority(places(metrics=["bleu"])).predictions[1].prediction == "a pub near the river"
    rows = [{"x": "a", "y": ["one", "two"]}, {"x": "b", "y": ["three", "two"]}]
    task = Task.from_rows({"train": rows, "test": rows}, input="{x}", target="{y}")
    assert evaluate_majority(task, "test").predictions[0].prediction == "two"


def test_of_tagged_words_the_most_frequent_tag_is_said_of_each():
    """It was the most frequent row of tags, with as many tags as that row had words."""
    tags = ["O B-PER", "O B-PER", "O O O O B-LOC", "O O"]
    rows = [{"words": "x " * len(said.split()), "tags": said} for said in tags]
    task = Task.from_rows({"train": rows, "test": rows[1:]}, input="{words}", target="{tags}", words="words")
    found = evaluate_majority(task, "test")
    assert [row.prediction for row in found.predictions] == ["O O", "O O O O O", "O O"]
    assert found["tag_accuracy"] == pytest.approx(100 * 7 / 9)


def test_a_majority_needs_both_splits():
    rows = [{"text": text, "label": label} for text, label in REVIEWS]
    task = Task.from_rows({"validation": rows}, input="{text}", target="{label}")
    with pytest.raises(ConfigError, match="Unknown split of the task rows 'train'"):
        evaluate_majority(task)
    empty = dataclasses.replace(task, _examples={"train": task.examples("validation"), "validation": []})
    with pytest.raises(DataError, match="'rows' has no rows in validation"):
        evaluate_majority(empty)


@pytest.mark.parametrize(
    ("text", "input"),
    [
        ("Answer :", "Answer : review : {text}"),
        ("Answer ", "Answer review : {text}"),
        ("Answer\n", "Answer\nreview : {text}"),
        ("as {json}", "as {{json}} review : {text}"),
    ],
)
def test_a_text_prompt_stands_before_the_input(text, input):
    form = TextPrompt(text).before(sentiment().format)
    assert form == dataclasses.replace(sentiment().format, input=input)
    assert form.render_input({"text": "so {sad}"}).endswith("review : so {sad}")


def test_a_chat_template_stays():
    form = dataclasses.replace(sentiment().format, chat=True)
    assert TextPrompt("Answer").before(form).chat


def test_few_shots_are_training_rows_with_their_targets():
    prompt = TextPrompt.few_shot(sentiment(), 3, seed=1, instruction="topic :")
    first, *shots, end = prompt.text.split("\n\n")
    known = {f"review : {text} {'bad' if label == '0' else 'city centre'}" for text, label in REVIEWS}
    assert (first, end) == ("topic :", "")
    assert len(set(shots)) == 3
    assert set(shots) <= known
    assert prompt.before(sentiment().format).render_input("good").endswith("\n\nreview : good")


def test_shots_depend_on_the_seed_alone():
    draws = {TextPrompt.few_shot(sentiment(), 4, seed=seed).text for seed in range(5)}
    assert len(draws) > 1
    assert TextPrompt.few_shot(sentiment(), 4, seed=2) == TextPrompt.few_shot(sentiment(), 4, seed=2)


def test_shots_have_no_place_for_a_soft_prompt():
    rows = [{"text": "good", "label": "fine"}]
    task = Task.from_rows({"train": rows, "test": rows}, input="review {prompt} {text}", target="{label}")
    shots = TextPrompt.few_shot(task, 1)
    assert PROMPT_MARK not in shots.text
    assert shots.text == "review good fine\n\n"
    assert isinstance(shots.before(task.format), TextFormat)


@pytest.mark.parametrize(
    ("input", "shot"), [("{text}\n", "good\nfine"), ("{text} ", "good fine"), ("{text} \n ", "good \n fine")]
)
def test_shots_look_like_what_is_scored(input, shot):
    """Behind a line's end the target of a shot began with a blank that the scored one has not."""
    rows = [{"text": "good", "label": "fine"}]
    task = Task.from_rows({"train": rows, "test": rows}, input=input, target="{label}")
    assert TextPrompt.few_shot(task, 1).text == f"{shot}\n\n"


@pytest.mark.parametrize("shots", [0, 8])
def test_there_are_as_many_shots_as_rows(shots):
    with pytest.raises(ConfigError, match=f"shots={shots}: the training split of sentiment has 7 rows"):
        TextPrompt.few_shot(sentiment(), shots)


def test_a_text_prompt_is_not_blank():
    with pytest.raises(ConfigError, match="text prompt is blank"):
        TextPrompt(" \n")


def test_the_majority_is_scored_on_the_rows_that_others_are_scored_on():
    """The demo once compared it, on all rows, with prompts on a draw of them."""
    task = sentiment()
    drawn = [example.source for example in Job(task=task, rows=2, seed=3).examples()]
    assert len(drawn) == 2
    assert [row.source for row in evaluate_majority(task, rows=2, seed=3).predictions] == drawn


def test_the_majority_is_scored_in_groups():
    task = questions()
    found = evaluate_majority(task, "test", rows=7, seed=1)
    assert len(found.predictions) == 9
    assert list(found) == ["f1a", "multirc_em", "accuracy"]
    assert [row.source for row in found.predictions] == [
        row.source for row in Job(task=task, split="test", rows=7, seed=1).examples()
    ]
