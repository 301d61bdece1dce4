"""CoNLL-2003's English news: names of persons, places and organisations among the words of a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from softprompt.tasks.builtin.folders import files_at_hand
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.format import TextFormat
from softprompt.tasks.rows import NOT_UTF8, Row, not_empty, numbered_lines

__all__ = ["CONLL2003"]

FILES = {
    "train": ["train.txt", "eng.train"],
    "validation": ["valid.txt", "eng.testa"],
    "test": ["test.txt", "eng.testb"],
}
TAGS = ("O", *(f"{prefix}-{kind}" for kind in ("PER", "ORG", "LOC", "MISC") for prefix in "BI"))
NEW_DOCUMENT = "-DOCSTART-"


def read_folder(folder: Path) -> dict[str, Iterator[Row]]:
    """The splits that a folder has."""
    return {
        split: not_empty(paths[0], read_sentences(paths[0])) for split, paths in files_at_hand(folder, FILES).items()
    }


def read_sentences(path: Path) -> Iterator[Row]:
    """The sentences of a file: a word in each line, first in it the word and last its tag, a blank line behind them.

    A sentence's place is its first line. Lines that begin a document are passed over.
    """
    words: list[str] = []
    tags: list[str] = []
    first, problem = 0, None
    for number, line in numbered_lines(path):
        columns = line.split()
        if columns and columns[0] != NEW_DOCUMENT.encode():
            first = first or number
            try:
                word, *_, tag = (column.decode() for column in columns)
            except UnicodeDecodeError:
                problem = problem or f"line {number} {NOT_UTF8}"
            except ValueError:
                problem = problem or f"line {number} has one column; expected a word, and its tag last"
            else:
                words.append(word)
                tags.append(tag)
        elif first:
            yield _sentence(path, first, words, tags, problem)
            words, tags, first, problem = [], [], 0, None
    if first:
        yield _sentence(path, first, words, tags, problem)


def _sentence(path: Path, first: int, words: list[str], tags: list[str], problem: str | None) -> Row:
    return Row(f"{path}:{first}", {} if problem else {"words": words, "tags": tags}, problem)


CONLL2003 = TaskDefinition(
    name="conll2003",
    summary=(
        "Names in Reuters' news: a tag for each word, in the published splits. An encoder with a prompt's head tags the"
        " words; a model that generates text writes the tags."
    ),
    format=TextFormat(input="{words}", target="{tags}", words="words", label_words={tag: tag for tag in TAGS}),
    metrics=("entity_f1", "tag_accuracy"),
    splits=("train", "validation", "test"),
    read=read_folder,
    source="https://www.clips.uantwerpen.be/conll2003/ner",
    licence="for research, under the agreement on the Reuters corpus",
    citation="Tjong Kim Sang and De Meulder 2003, Introduction to the CoNLL-2003 Shared Task, CoNLL",
    layout="train.txt, valid.txt and test.txt (or eng.train, eng.testa, eng.testb), or some of them.",
)
