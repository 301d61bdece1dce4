"""Reviews of Amazon by kind of product, positive or negative: one task for each kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from softprompt.errors import DataError
from softprompt.tasks.builtin.folders import files_at_hand
from softprompt.tasks.builtin.shares import split_by_text
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.format import TextFormat
from softprompt.tasks.rows import NOT_UTF8, Row, numbered_lines

__all__ = ["AMAZON", "read_reviews"]

TAG = re.compile(rb"<(/?)(\w+)>")


def read_reviews(path: Path, label: str) -> Iterator[Row]:
    """The reviews of a file: tags on lines of their own, as in XML, around text that is not escaped.

    Args:
        path: The file.
        label: What all of its reviews are.

    Raises:
        DataError: If the file breaks off within a review, text stands outside of a tag, or there is no review.
    """
    fields: dict[str, list[bytes]] = {}
    first, within = 0, ""
    for number, line in numbered_lines(path):
        text = line.rstrip(b"\r\n")
        tag = TAG.fullmatch(text)
        closes, name = (tag[1], tag[2].decode()) if tag else (b"", "")
        if within:
            if closes and name == within:
                within = ""
            else:
                fields[within].append(text)
        elif name == "review" and closes:
            yield _review(f"{path}:{first}", fields, label)
            fields = {}
        elif name == "review":
            first, fields = number, {}
        elif name and name != "data" and not closes:
            within, fields[name] = name, []
        elif text.strip() and name != "data":
            raise DataError(f"{path}:{number}: holds {text!r:.60} outside of a tag; mend the line or copy it again.")
    if fields or within or not first:
        problem = f"breaks off in the review of line {first}" if first else "holds no <review>"
        raise DataError(f"{path} {problem}; copy the file again.")


def _review(source: str, fields: dict[str, list[bytes]], label: str) -> Row:
    try:
        columns = {name: b"\n".join(lines).decode() for name, lines in fields.items()}
    except UnicodeDecodeError:
        return Row(source, {}, NOT_UTF8)
    kept = {name: text for name, text in columns.items() if name in ("rating", "title", "review_text")}
    return Row(source, {**kept, "label": label})


def read_category(folders: Sequence[str]) -> Callable[[Path], dict[str, Iterator[Row]]]:
    """How one kind of product is read, whose folder has one of these names."""

    def read(folder: Path) -> dict[str, Iterator[Row]]:
        wanted = {label: [f"{name}/{label}.review" for name in folders] for label in ("negative", "positive")}
        files = [(label, paths[0]) for label, paths in files_at_hand(folder, wanted).items()]
        return split_by_text(
            lambda: chain.from_iterable(read_reviews(file, label) for label, file in files),
            "review_text",
            {"train": 80, "validation": 10, "test": 10},
        )

    return read


def define_category(name: str, what: str, *folders: str) -> TaskDefinition:
    """The task of one kind of product."""
    return TaskDefinition(
        name=f"amazon_{name}",
        summary=(
            f"Reviews of {what}, positive (four or five stars) or negative (one or two). Split into about 80, 10 and "
            "10 % by the text alone: a text is in the same split in all kinds of product."
        ),
        format=TextFormat(
            input="review: {review_text}",
            target="{label}",
            label_words={"negative": "negative", "positive": "positive"},
        ),
        metrics=("accuracy", "macro_f1"),
        splits=("train", "validation", "test"),
        read=read_category(folders),
        source="https://www.cs.jhu.edu/~mdredze/datasets/sentiment (multi-domain sentiment 2.0, sorted_data_acl)",
        licence="none stated by the authors; research use",
        citation=(
            "Blitzer, Dredze and Pereira 2007, Biographies, Bollywood, Boom-boxes and Blenders: Domain Adaptation for "
            "Sentiment Classification, ACL"
        ),
        layout=f"{folders[0]}/negative.review and {folders[0]}/positive.review.",
    )


AMAZON = (
    define_category("books", "books", "books"),
    define_category("dvd", "DVDs", "dvd"),
    define_category("electronics", "electronics", "electronics"),
    define_category("kitchen", "kitchen and housewares", "kitchen_&_housewares", "kitchen"),
)
