"""AG News: titles and first sentences of news, by topic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from softprompt.tasks.builtin.folders import files_at_hand
from softprompt.tasks.builtin.shares import split_by_text
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.format import TextFormat
from softprompt.tasks.rows import Row, not_empty, read_delimited

__all__ = ["AG_NEWS", "read_ag_news"]

FILES = {"train": ["train.csv"], "test": ["test.csv"]}
FROM_TEST = {"train": ["from_test_train.csv"], "validation": ["from_test_dev.csv"]}


def read_ag_news(folder: Path) -> dict[str, Iterator[Row]]:
    """The splits at hand; of the published files, a tenth of the training file validates.

    Where the test file alone was to be had, its two parts are read instead, never with all of it.
    """
    parts_of_test = (folder / "from_test_train.csv").is_file() and not (folder / "train.csv").is_file()
    wanted = FROM_TEST if parts_of_test else FILES
    files = {split: paths[0] for split, paths in files_at_hand(folder, wanted).items()}
    splits: dict[str, Iterator[Row]] = {}
    if "train" in files and "validation" not in files:
        splits = split_by_text(lambda: read_articles(files["train"]), "description", {"train": 90, "validation": 10})
    return splits | {split: read_articles(file) for split, file in files.items() if split not in splits}


def read_articles(path: Path) -> Iterator[Row]:
    """The rows of a file, which has no line that names the columns."""
    return not_empty(path, read_delimited(path, delimiter=",", quoted=True, header=("class", "title", "description")))


AG_NEWS = TaskDefinition(
    name="ag_news",
    summary=(
        "AG's news articles, title and description, by topic. The published set has no validation split: a tenth of "
        "the training rows, drawn by their text, is held out by softprompt."
    ),
    format=TextFormat(
        input="title: {title} description: {description}",
        target="{class}",
        label_words={"1": "World", "2": "Sports", "3": "Business", "4": "Sci/Tech"},
    ),
    metrics=("accuracy", "macro_f1"),
    splits=("train", "validation", "test"),
    read=read_ag_news,
    source="http://groups.di.unipi.it/~gulli/AG_corpus_of_news_articles.html, the four largest classes",
    licence="for research and other non-commercial activity",
    citation="Zhang, Zhao and LeCun 2015, Character-level Convolutional Networks for Text Classification, NeurIPS",
    layout=(
        "train.csv and test.csv, each line class (1 to 4), title and description, without a first line of names; or "
        "from_test_train.csv and from_test_dev.csv, a split of the test file. Those of them that are at hand."
    ),
)
