"""Rows as published become rows that a template can fill."""

from __future__ import annotations

import pytest

from softprompt.errors import DataError
from softprompt.tasks import Row
from softprompt.tasks.reshaping import member, members, reshape


def words(columns):
    return [{"word": word} for word in member(columns, "text", str).split()]


def test_a_row_becomes_none_one_or_several_with_its_place():
    rows = [Row("a:1", {"text": "x y"}), Row("a:2", {"text": ""}), Row("a:3", {"text": "z"})]
    assert list(reshape(rows, words)) == [
        Row("a:1", {"word": "x"}),
        Row("a:1", {"word": "y"}),
        Row("a:3", {"word": "z"}),
    ]


def test_a_row_that_does_not_fit_becomes_bad_and_a_bad_one_stays():
    first, second, third = reshape([Row("a:1", {"text": 3}), Row("a:2", {}, "torn"), Row("a:3", {"text": "z"})], words)
    assert first.problem == "column 'text' holds 3; expected a text: use the file as it was published"
    assert second == Row("a:2", {}, "torn")
    assert third == Row("a:3", {"word": "z"})


def test_a_row_that_breaks_off_gives_nothing():
    def half(columns):
        yield {"word": "x"}
        raise DataError("the rest is missing")

    assert list(reshape([Row("a:1", {"text": "x"})], half)) == [Row("a:1", {"text": "x"}, "the rest is missing")]


@pytest.mark.parametrize(("value", "kind"), [(True, bool), (1, int), ("a", str), ([1], list), ({"a": 1}, dict)])
def test_a_member_of_its_type(value, kind):
    assert member({"x": value}, "x", kind) == value


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (True, int, "holds True; expected a whole number"),
        (1, bool, "holds 1; expected true or false"),
        (None, str, "holds None; expected a text"),
        ("ab", list, "holds 'ab'; expected a list"),
        ([], dict, r"holds \[\]; expected an object"),
    ],
)
def test_a_member_of_another_type(value, kind, expected):
    with pytest.raises(DataError, match=f"column 'x' {expected}: use the file as it was published"):
        member({"x": value}, "x", kind)


def test_a_member_that_is_missing():
    with pytest.raises(DataError, match=r"column 'x' is missing \(there is 'y', 'z'\); use the file as it was"):
        member({"y": 1, "z": 2}, "x", int)
    with pytest.raises(DataError, match=r"\(there is nothing\)"):
        member({}, "x", int)


def test_members_of_one_type():
    assert members({"x": ["a", "b"]}, "x", str) == ["a", "b"]
    with pytest.raises(DataError, match=r"column 'x\[1\]' holds 2; expected a text"):
        members({"x": ["a", 2]}, "x", str)
