"""Metrics of tagged words, on tags that a model may say and data may hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.errors import DataError
from softprompt.tasks import compute_metrics
from softprompt.tasks.metrics.tags import entities

SEGMENTS = st.lists(st.tuples(st.sampled_from(["X", "Y", None]), st.integers(1, 3)), min_size=1, max_size=6)


@given(SEGMENTS)
def test_entities_are_what_sound_tags_were_made_of(segments):
    tags, made = [], set()
    for kind, length in segments:
        if kind is not None:
            made.add((kind, len(tags), len(tags) + length - 1))
        tags += ["O"] * length if kind is None else [f"B-{kind}", *[f"I-{kind}"] * (length - 1)]
    assert entities(tags) == made


def test_what_a_model_says_besides_tags_is_outside():
    scores = compute_metrics(["entity_f1", "tag_accuracy"], ["B-PER per O O B-PER B-PER", ""], [["B-PER O O"], ["O"]])
    assert scores["entity_f1"] == 100
    assert scores["tag_accuracy"] == 50


def test_tags_without_entities_are_refused():
    with pytest.raises(DataError, match=r"The tag 'NOUN' is of no entity .*; use the metric tag_accuracy"):
        compute_metrics(["entity_f1"], ["O"], [["NOUN"]])
    with pytest.raises(DataError, match="Row 0 has 2 references, but tag_accuracy needs its only tags"):
        compute_metrics(["tag_accuracy"], ["O"], [["O", "B-X"]])
