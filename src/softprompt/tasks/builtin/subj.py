"""Sentences about films, subjective or objective."""

from __future__ import annotations

from softprompt.tasks.builtin.bundled import DATA, read_bundled
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.format import TextFormat

__all__ = ["SUBJ"]

SUBJ = TaskDefinition(
    name="subj",
    summary=(
        "Sentences about films: subjective (from reviews) or objective (from plot summaries). Of 10,000, some "
        "that other film-review sets share are left out; many remain. Split into 80, 10 and 10 % by softprompt."
    ),
    format=TextFormat(
        input="sentence: {text}",
        target="{label}",
        label_words={"subjective": "subjective", "objective": "objective"},
    ),
    metrics=("accuracy", "macro_f1"),
    splits=("train", "validation", "test"),
    read=read_bundled,
    source=(
        "https://www.cs.cornell.edu/people/pabo/movie-review-data/ (subjectivity v1.0), through "
        "https://github.com/harvardnlp/sent-conv-torch"
    ),
    licence="CC BY 4.0, as the index of nltk_data states",
    citation=(
        "Pang and Lee 2004, A Sentimental Education: Sentiment Analysis Using Subjectivity Summarization Based on "
        "Minimum Cuts, ACL"
    ),
    folder=DATA / "subj",
)
