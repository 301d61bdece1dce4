"""Movie-review sentences, positive or negative."""

from __future__ import annotations

from softprompt.tasks.builtin.bundled import DATA, read_bundled
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.format import TextFormat

__all__ = ["SENTENCE_POLARITY"]

SENTENCE_POLARITY = TaskDefinition(
    name="sentence_polarity",
    summary=(
        "Sentences from movie reviews, positive or negative. Duplicates and sentences of SST-2's development and test "
        "sets are left out; the split into 80, 10 and 10 % is softprompt's own."
    ),
    format=TextFormat(
        input="sentence: {text}",
        target="{label}",
        label_words={"negative": "negative", "positive": "positive"},
    ),
    metrics=("accuracy", "macro_f1"),
    splits=("train", "validation", "test"),
    read=read_bundled,
    source="https://www.cs.cornell.edu/people/pabo/movie-review-data/ (sentence polarity v1.0), through nltk_data",
    licence="CC BY 4.0, as the index of nltk_data states",
    citation=(
        "Pang and Lee 2005, Seeing Stars: Exploiting Class Relationships for Sentiment Categorization with Respect to "
        "Rating Scales, ACL"
    ),
    folder=DATA / "sentence_polarity",
)
