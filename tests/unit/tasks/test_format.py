"""The text format: inputs, targets, label words, and what is stored of it."""

from __future__ import annotations

import json

import pytest

from softprompt.errors import ConfigError, DataError
from softprompt.tasks import PROMPT_MARK, TextFormat

PLAIN = TextFormat(input="{text}", target="{label}")
PAIR = TextFormat(input="question: {question} context: {context}", target="{answers}")
CLASSES = TextFormat(input="{text}", target="It was {label}.", label_words={"0": "bad", "1": "great"})


def test_a_text_fills_one_field_and_a_mapping_any():
    assert PLAIN.render_input(" as it is\u0085{braces} ") == " as it is\u0085{braces} "
    assert PLAIN.render_input({"text": "a", "more": object()}) == "a"
    assert PAIR.render_input({"question": "who?", "context": 7}) == "question: who? context: 7"
    assert PAIR.fields == ("question", "context")
    assert PAIR.target_fields == ("answers",)


def test_one_blank_field_of_several_is_allowed():
    assert PAIR.render_input({"question": "who?", "context": ""}) == "question: who? context: "


def test_the_mark_is_rendered():
    assert TextFormat(input="{a} {prompt}", target="{b}").render_input("x") == f"x {PROMPT_MARK}"


@pytest.mark.parametrize(
    ("form", "value", "message"),
    [
        (PAIR, "one", "has the fields question, context, but one text came; give a mapping"),
        (PAIR, {"question": "a"}, "column 'context' is missing; the row has 'question'"),
        (PLAIN, {}, "column 'text' is missing; the row has no columns"),
        (PLAIN, " \n", r"the input is empty \('text'\)"),
        (PAIR, {"question": "", "context": " "}, r"the input is empty \('question', 'context'\)"),
        (PLAIN, {"text": ["a"]}, "column 'text' holds list"),
        (PLAIN, f"a{PROMPT_MARK}", r"U\+10FFFD"),
    ],
)
def test_an_input_that_is_refused(form, value, message):
    with pytest.raises(DataError, match=message):
        form.render_input(value)


def test_a_list_gives_several_references():
    assert PAIR.render_targets({"answers": ["a", "b "]}) == ("a", "b ")
    assert PAIR.render_targets({"answers": "a"}) == ("a",)
    both = TextFormat(input="{x}", target="{title}: {answers}")
    assert both.render_targets({"title": "t", "answers": ["a", 2]}) == ("t: a", "t: 2")


@pytest.mark.parametrize(
    ("form", "row", "message"),
    [
        (PLAIN, {}, "column 'label' is missing"),
        (PLAIN, {"label": None}, "column 'label' is null"),
        (PLAIN, {"label": " "}, r"the target is empty \('label'\)"),
        (PLAIN, {"label": []}, "column 'label' holds an empty list"),
        (PLAIN, {"label": ["a", ""]}, "the target is empty"),
        (PLAIN, {"label": [["a"]]}, "column 'label' holds list"),
        (TextFormat(input="{x}", target="{a} {b}"), {"a": ["1"], "b": ["2"]}, "'a' and 'b' hold lists"),
        (CLASSES, {"label": 2}, "column 'label' holds '2', which has no label word; known: 0, 1"),
        (CLASSES, {"label": ["0"]}, "column 'label' holds list"),
    ],
)
def test_a_target_that_is_refused(form, row, message):
    with pytest.raises(DataError, match=message):
        form.render_targets(row)


def test_label_words_stand_in_the_target():
    assert CLASSES.render_targets({"label": 1}) == ("It was great.",)
    assert CLASSES.label_key({"label": 1}) == "1"
    assert CLASSES.labels == ("It was bad.", "It was great.")
    assert PLAIN.labels is None


def test_values_may_share_a_word():
    stars = TextFormat(input="{t}", target="{s}", label_words={"1": "bad", "2": "bad", "3": "good"})
    assert stars.labels == ("bad", "good")
    assert stars.render_targets({"s": 2}) == ("bad",)


def test_keys_that_yaml_reads_as_numbers_and_truth_values_are_compared_as_text():
    form = TextFormat(input="{t}", target="{y}", label_words={0: "no", True: "yes"})
    assert form.label_words == {"0": "no", "true": "yes"}
    assert form.render_targets({"y": True}) == form.render_targets({"y": "true"}) == ("yes",)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "{soft:2} {y}"}, "target template .* holds {prompt} or {soft:N}"),
        ({"target": "{prompt} {y}"}, "target template .* holds {prompt} or {soft:N}; a prompt's place is in the input"),
        ({"target": "{y} {z}", "label_words": {"0": "a"}}, "one column, but the target template '{y} {z}' has y, z"),
        ({"label_words": {}}, "label_words is empty"),
        ({"label_words": {"0": " "}}, "label word of '0' is ' '"),
        ({"label_words": {"0": "a" + PROMPT_MARK}}, "label word of '0'"),
        ({"system": "be brief"}, "system= is the first turn of a conversation; set chat=True"),
        ({"system": "", "chat": True}, "The system turn is empty"),
        ({"system": "on {x}", "chat": True}, "names the column 'x', but it is the same for all rows"),
        ({"system": "{prompt}", "input": "{x} {prompt}", "chat": True}, "holds {prompt} more than once"),
        ({"label_words": {"0": "Bad", "1": "bad "}}, "'Bad' and 'bad ' differ only in case or spacing"),
    ],
)
def test_a_format_that_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        TextFormat(**{"input": "{x}", "target": "{y}", **settings})


SPOKEN = TextFormat(input="{t}", target="{y}", chat=True, system="{prompt}")


@pytest.mark.parametrize("form", [PLAIN, PAIR, CLASSES, SPOKEN])
def test_what_is_stored_gives_the_same_format(form):
    assert TextFormat.from_mapping(json.loads(json.dumps(form.to_mapping()))) == form


def test_a_stored_format_with_a_foreign_name_is_refused():
    with pytest.raises(ConfigError, match=r"setting of TextFormat 'inputs'. Did you mean 'input'"):
        TextFormat.from_mapping({"inputs": "{x}", "target": "{y}"})


TAGGED = TextFormat(input="tag: {tokens}", target="{ner}", words="tokens", label_words={0: "O", 1: "B-PER"})


def test_words_and_their_tags_are_lists_or_texts():
    row = {"tokens": ["Ann", "saw", "it"], "ner": [1, 0, 0]}
    as_text = {"tokens": "Ann  saw it", "ner": "1 0 0"}
    for given in (row, as_text):
        assert TAGGED.render_input(given) == "tag: Ann saw it"
        assert TAGGED.render_targets(given) == ("B-PER O O",)
    assert TAGGED.tags == ("O", "B-PER")
    assert TAGGED.labels is None
    assert TextFormat.from_mapping(json.loads(json.dumps(TAGGED.to_mapping()))) == TAGGED


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["a", "b"], "ner": [0]}, "column 'ner' has 1 tags for the 2 words of 'tokens'"),
        ({"tokens": ["a b"], "ner": [0]}, "column 'tokens' holds 'a b' as word 0; give a word without blanks"),
        ({"tokens": ["a", " "], "ner": [0, 0]}, "column 'tokens' holds ' ' as word 1"),
        ({"tokens": ["a"], "ner": [2]}, "column 'ner' holds '2', which has no label word; known: 0, 1"),
    ],
)
def test_words_without_their_tags_are_refused(row, message):
    with pytest.raises(DataError, match=message):
        TAGGED.render_targets(row)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"words": "c"}, "words='c' is no column of the input template '{a} {b}'; name one of a, b"),
        ({"context": "c"}, "context='c' is no column"),
        ({"words": "a", "target": "tags {t}"}, "the target template is 'tags {t}'; name the column of tags alone"),
        ({"words": "a", "context": "b"}, "words= that they do not; drop one"),
        ({"context": "b", "label_words": {"x": "y"}}, "label_words= that they do not; drop one"),
        ({"words": "a", "label_words": {"x": "y z"}}, "The tag of 'x' is 'y z'; give it a word without blanks"),
    ],
)
def test_words_and_context_that_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        TextFormat(**{"input": "{a} {b}", "target": "{t}", **settings})
