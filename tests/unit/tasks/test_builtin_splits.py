"""How rows of published files become splits: files at hand, shares by text, references together or one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.errors import DataError
from softprompt.tasks import Row
from softprompt.tasks.builtin.folders import files_at_hand
from softprompt.tasks.builtin.references import group_references, one_row_each
from softprompt.tasks.builtin.shares import split_by_text

SHARES = {"train": 70, "validation": 20, "test": 10}


def rows_of(texts) -> list[Row]:
    return [Row(f"a:{number}", {"text": text}) for number, text in enumerate(texts)]


def test_the_first_pattern_that_is_met_says_which_files(tmp_path):
    for name in ("b.xml", "a.xml", "old.txt", "deep/c.xml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "dev.txt").mkdir()
    wanted = {"train": ["new.txt", "*.xml", "old.txt"], "validation": ["dev.txt"], "test": ["**/*.xml"]}
    assert files_at_hand(tmp_path, wanted) == {
        "train": [tmp_path / "a.xml", tmp_path / "b.xml"],
        "test": [tmp_path / "a.xml", tmp_path / "b.xml", tmp_path / "deep" / "c.xml"],
    }
    with pytest.raises(
        DataError, match=r"The data_dir .* holds none of the files new\.txt, dev\.txt; check the folder"
    ):
        files_at_hand(tmp_path, {"train": ["new.txt"], "validation": ["dev.txt"]})


@given(st.lists(st.text(max_size=3)), st.randoms())
def test_a_text_is_in_one_split_whatever_is_around_it(texts, random):
    splits = {name: list(rows) for name, rows in split_by_text(lambda: rows_of(texts), "text", SHARES).items()}
    assert list(splits) == list(SHARES)
    assert sorted(row.source for rows in splits.values() for row in rows) == sorted(
        row.source for row in rows_of(texts)
    )
    home = {row.columns["text"]: name for name, rows in splits.items() for row in rows}
    assert all(home[row.columns["text"]] == name for name, rows in splits.items() for row in rows)
    shuffled = [*random.sample(texts, len(texts)), "another"]
    for name, rows in split_by_text(lambda: rows_of(shuffled), "text", SHARES).items():
        assert all(home.get(row.columns["text"], name) == name for row in rows)


def test_shares_are_met_roughly_and_never_change():
    texts = [f"text {number}" for number in range(5000)]
    sizes = {name: sum(1 for _ in rows) for name, rows in split_by_text(lambda: rows_of(texts), "text", SHARES).items()}
    assert sizes == {"train": 3481, "validation": 1008, "test": 511}


def test_rows_without_the_text_go_to_the_first_split():
    rows = [Row("a:1", {}, "is bad"), Row("a:2", {"other": "x"}), Row("a:3", {"text": None})]
    splits = {name: list(several) for name, several in split_by_text(lambda: rows, "text", SHARES).items()}
    assert splits == {"train": rows, "validation": [], "test": []}


def test_references_together_and_one_by_one():
    rows = [
        Row("a:1", {"table": "x", "references": ["one", "two"]}),
        Row("a:2", {}, "is bad"),
        Row("a:3", {"table": "y", "references": ["three"]}),
        Row("a:4", {"table": "x", "references": ["four"]}),
    ]
    assert [(row.source, row.columns.get("references")) for row in group_references(rows, by="table")] == [
        ("a:2", None),
        ("a:1", ["one", "two", "four"]),
        ("a:3", ["three"]),
    ]
    assert [(row.source, row.columns.get("references")) for row in one_row_each(rows)] == [
        ("a:1", ["one"]),
        ("a:1", ["two"]),
        ("a:2", None),
        ("a:3", ["three"]),
        ("a:4", ["four"]),
    ]
    assert rows[0].columns["references"] == ["one", "two"]
    empty = [Row("a:1", {"references": []}), Row("a:2", {"references": "text"})]
    assert list(one_row_each(empty)) == empty
