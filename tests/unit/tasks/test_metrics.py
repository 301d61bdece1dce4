"""Metrics: golden values worked out by hand or given by the libraries' own documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.errors import ConfigError, DataError
from softprompt.tasks import compute_metrics, get_metric, match_label, metric_names, register_metric
from softprompt.tasks.metrics import registry
from softprompt.tasks.metrics.answers import normalise_answer

BUILT_IN = (
    "accuracy", "bleu", "bleu_multi", "bleu_uncased", "bleu_webnlg", "chrf", "exact_match", "macro_f1", "rouge1",
    "rouge2", "rougeL", "rougeL_coco", "rougeLsum", "tag_accuracy", "token_f1", "wsc",
)  # fmt: skip
NEED_MORE = ("binary_f1", "cider", "entity_f1", "meteor", "multirc", "nist", "record", "ter", "ter_webnlg")

# The example of sacrebleu's README ("Using SacreBLEU from Python"), which gives BLEU 48.53 and chrF2 59.73.
SACREBLEU_SAID = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
SACREBLEU_TRUE = [
    ["The dog bit the man.", "The dog had bit the man."],
    ["It was not unexpected.", "No one was surprised."],
    ["The man bit him first.", "The man had bitten the dog."],
]

# 6 words, 2 pairs and a subsequence of 5 words are shared (jumps and jumps have one stem); 8 and 9 words in all.
QUICK_SAID = ["The quick brown dog jumps on the log."]
QUICK_TRUE = [["The quick brown fox jumped over the lazy dog"]]


@pytest.fixture
def metrics(monkeypatch):
    """The registry, put back as it was after the test."""
    monkeypatch.setattr(registry.METRICS, "_values", dict(registry.METRICS._values))


@pytest.mark.parametrize(
    ("name", "predictions", "references", "score"),
    [
        ("accuracy", ["Great ", "bad", "so great"], [["great"], ["great"], ["great"]], 100 / 3),
        ("accuracy", ["b"], [["a", "B"]], 100),
        # a: precision 1, recall 2/3, F1 4/5. b: precision 1/2, recall 1, F1 2/3.
        ("macro_f1", ["a", "A", "b", "b"], [["a"], ["a"], ["a"], ["b"]], 100 * (4 / 5 + 2 / 3) / 2),
        # The illegal c is no class: a has recall 1/2, F1 2/3; b is perfect.
        ("macro_f1", ["a", "c", "b"], [["a"], ["a"], ["b"]], 100 * (2 / 3 + 1) / 2),
        ("exact_match", ["The  Eiffel Tower!", "Paris"], [["eiffel tower"], ["Rome", "London"]], 50),
        # "cat sat" and "cat sat down" share two words: 2 * 2 / 5.
        ("token_f1", ["the cat sat"], [["dogs", "A cat sat down"]], 80),
        ("token_f1", ["the", "the", "x"], [["an", "a cat"], ["cat"], ["the"]], 0),
        ("exact_match", ["the", "the", "x"], [["an", "a cat"], ["cat"], ["the"]], 100 / 3),
        ("bleu", SACREBLEU_SAID, SACREBLEU_TRUE, 48.53),
        ("chrf", SACREBLEU_SAID, SACREBLEU_TRUE, 59.73),
        ("rouge1", QUICK_SAID, QUICK_TRUE, 100 * 2 * 6 / 17),
        ("rouge2", QUICK_SAID, QUICK_TRUE, 100 * 2 * 2 / 15),
        ("rougeL", QUICK_SAID, QUICK_TRUE, 100 * 2 * 5 / 17),
        # Lin 2004, §3.2: the two sentences share "1 2" and "1 3 5" with the reference, together four of its five words.
        ("rougeLsum", ["1 2 6 7 8\n1 3 8 9 5"], [["1 2 3 4 5"]], 100 * 2 * 4 / (5 + 10)),
        ("rougeLsum", QUICK_SAID, QUICK_TRUE, 100 * 2 * 5 / 17),
    ],
)
def test_golden_values(name, predictions, references, score):
    assert compute_metrics([name], predictions, references) == {name: pytest.approx(score, abs=0.005)}


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_perfect_output_scores_100_and_an_empty_one_0(name):
    references = [["the quick brown fox jumps"], ["over a very lazy dog"]]
    assert compute_metrics([name], [row[0] for row in references], references) == {name: pytest.approx(100)}
    assert compute_metrics([name], ["", ""], references) == {name: 0}


@pytest.mark.parametrize("name", sorted(set(BUILT_IN) - {"macro_f1", "tag_accuracy"}))
def test_rows_may_differ_in_their_number_of_references(name):
    """A row with one reference scores as if that reference stood there twice, wherever the row stands."""
    short = [["the man bit him first"], ["it was not unexpected", "no one was surprised"], ["the dog bit"]]
    long = [row if len(row) == 2 else row * 2 for row in short]
    said = ["the man had bitten him", "it wasn't a surprise", "the dog bit the man"]
    assert compute_metrics([name], said, short) == compute_metrics([name], said, long)
    assert get_metric(name)(said[::-1], short[::-1]) == pytest.approx(get_metric(name)(said, short))


@pytest.mark.parametrize(
    "name", ["accuracy", "exact_match", "token_f1", "rouge1", "rouge2", "rougeL", "rougeL_coco", "rougeLsum"]
)
def test_the_best_reference_counts(name):
    assert compute_metrics([name], ["one two three"], [["zero", "one two three", "one"]]) == {name: pytest.approx(100)}


def test_an_answer_is_normalised_as_squad_does():
    assert normalise_answer(" The U.S.A.,  an  anthem\n") == "usa anthem"
    assert normalise_answer("theatre a-b") == "theatre ab"


def test_several_metrics_at_once_in_their_order():
    assert list(compute_metrics(["token_f1", "accuracy"], ["a"], [["a"]])) == ["token_f1", "accuracy"]


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([], [], "0 predictions and 0 rows of references"),
        (["a"], [["a"], ["b"]], "1 predictions and 2 rows"),
        (["a", "b"], [["a"], []], "Row 1 has no reference"),
    ],
)
def test_rows_that_do_not_match_are_refused(predictions, references, message):
    with pytest.raises(DataError, match=message):
        compute_metrics(["accuracy"], predictions, references)


def test_macro_f1_needs_one_class_per_row():
    with pytest.raises(DataError, match="Row 1 has 2 references, but macro_f1 needs its one class; use accuracy"):
        compute_metrics(["macro_f1"], ["a", "b"], [["a"], ["a", "b"]])


def test_the_names():
    assert metric_names() == tuple(sorted((*BUILT_IN, *NEED_MORE)))
    with pytest.raises(ConfigError, match=r"Unknown metric 'acuracy'. Did you mean 'accuracy'"):
        compute_metrics(["acuracy"], ["a"], [["a"]])


def test_the_documents_name_every_metric():
    text = (Path(__file__).parents[3] / "docs" / "evaluating.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.split("\n") if line.startswith("| `")]
    assert sorted(name for row in rows for name in re.findall("`(.+?)`", row)) == sorted((*BUILT_IN, *NEED_MORE))


def letters(predictions, references):
    """A metric of another package: letters per prediction."""
    return {"letters": sum(map(len, predictions)) / len(predictions)}


def copied(predictions, references):
    """A metric that gives another one's score again."""
    return {"letters": 0.0}


@pytest.mark.usefixtures("metrics")
def test_a_metric_of_ones_own():
    register_metric("letters", letters)
    assert "letters" in metric_names()
    assert compute_metrics(["letters", "accuracy"], ["ab", "c"], [["x"], ["c"]]) == {"letters": 1.5, "accuracy": 50}


@pytest.mark.usefixtures("metrics")
def test_two_scores_of_one_name_are_refused():
    register_metric("letters", letters)
    register_metric("copied", copied)
    with pytest.raises(ConfigError, match="The metric 'copied' gives 'letters', as one before it does"):
        compute_metrics(["letters", "copied"], ["a"], [["a"]])


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("credit cards", "Credit cards"),
        ("  CREDIT\n cards ", "Credit cards"),
        ("credit", None),
        ("credit cards.", None),
        ("I say home", None),
        ("", None),
    ],
)
def test_generated_text_is_matched_to_labels(text, label):
    assert match_label(text, ("home", "Credit cards")) == label


@given(st.text(), st.lists(st.text(), max_size=3))
def test_a_match_is_one_of_the_labels_and_a_label_matches_itself(text, labels):
    assert match_label(text, labels) in {None, *labels}
    assert all(match_label(label, [label]) == label for label in labels)
