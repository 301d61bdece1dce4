"""WebNLG 2017: facts of DBpedia in, a text that says them out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from softprompt.tasks.builtin.folders import files_at_hand
from softprompt.tasks.builtin.references import group_references, one_row_each
from softprompt.tasks.builtin.triples import TABLE_FORMAT, TABLE_METRICS, read_benchmark
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.rows import Row

__all__ = ["WEBNLG_2017", "read_webnlg"]

FILES = {
    "train": ["train/**/*.xml"],
    "validation": ["dev/**/*.xml"],
    "test": ["test/testdata_with_lex.xml"],
}
# fmt: off
SEEN = frozenset({
    "Airport", "Astronaut", "Building", "City", "ComicsCharacter",
    "Food", "Monument", "SportsTeam", "University", "WrittenWork",
})
# fmt: on
"""The categories that are trained on; the test set has five more (Gardent et al. 2017, §3)."""


def read_webnlg(folder: Path) -> dict[str, Iterator[Row]]:
    """The splits at hand, a row per text to train on and one per set of triples elsewhere; the test set also by views.

    Texts that their readers marked `toFix` are references, but are not trained on (as in Li and Liang 2021's code).
    """
    files = files_at_hand(folder, FILES)
    splits: dict[str, Iterator[Row]] = {}
    if "train" in files:
        good = frozenset({"good"})
        splits["train"] = one_row_each(chain.from_iterable(read_benchmark(file, texts=good) for file in files["train"]))
    if "validation" in files:
        splits["validation"] = _grouped(files["validation"])
    if "test" in files:
        splits["test"] = _grouped(files["test"])
        splits["test_seen"] = (row for row in _grouped(files["test"]) if row.columns.get("seen", True))
        splits["test_unseen"] = (row for row in _grouped(files["test"]) if not row.columns.get("seen", True))
    return splits


def _grouped(files: list[Path]) -> Iterator[Row]:
    """One row per set of triples, and whether its category is trained on."""
    for row in group_references(chain.from_iterable(map(read_benchmark, files)), by="table"):
        seen = row.columns.get("category") in SEEN
        yield row if row.problem else replace(row, columns={**row.columns, "seen": seen})


WEBNLG_2017 = TaskDefinition(
    name="webnlg_2017",
    summary=(
        "WebNLG challenge 2017: one to seven facts of DBpedia in, a text that says them out. A row per text to train "
        "on; elsewhere one per set of facts with all of its texts. `test` is all of the test set, `test_seen` its ten "
        "categories that are trained on, `test_unseen` the five others."
    ),
    format=TABLE_FORMAT,
    metrics=TABLE_METRICS,
    splits=("train", "validation", "test", "test_seen", "test_unseen"),
    read=read_webnlg,
    source="https://gitlab.com/shimorina/webnlg-dataset (webnlg_challenge_2017)",
    licence="CC BY-NC-SA 4.0",
    citation="Gardent et al. 2017, The WebNLG Challenge: Generating Text from RDF Data, INLG",
    layout=(
        "the folders train and dev with the XML files of all sizes and categories, and test/testdata_with_lex.xml, or "
        "those of them that are at hand."
    ),
)
