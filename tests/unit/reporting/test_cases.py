"""Rows with what was said of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from softprompt.errors import DataError
from softprompt.reporting.cases import read_cases


def said(number: int, prediction: str, **more) -> dict:
    row = {"task": "films", "split": "test", "input": f"film {number}", "targets": ["good", "great"]}
    return {**row, "prediction": prediction, **more}


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_most_certain_mistakes_come_first_and_a_few_right_ones_after(tmp_path):
    file = write(
        tmp_path / "a.jsonl",
        *(said(n, "bad", label="bad", probabilities={"bad": 0.5 + n / 100, "good": 0.5 - n / 100}) for n in range(9)),
        *(said(n, "great ", probabilities={"good": 0.9}) for n in range(3)),
    )
    cases, note = read_cases([file])
    assert [(case.right, case.input) for case in cases] == [
        (False, "film 8"),
        (False, "film 7"),
        (False, "film 6"),
        (False, "film 5"),
        (True, "film 0"),
        (True, "film 1"),
    ]
    assert cases[0].certainty == pytest.approx(0.58)
    assert (cases[0].targets, cases[0].task) == ("good | great", "films, test (a)")
    assert note == "films, test (a): 3 of 12 outputs are one of the targets."


def test_a_label_counts_before_the_words_that_stand_for_it(tmp_path):
    cases, _ = read_cases([write(tmp_path / "a.jsonl", said(1, "Good!", label="good"))])
    assert [case.right for case in cases] == [True]


def test_texts_are_drawn_from_the_whole_file_and_long_ones_trimmed(tmp_path):
    long = {"input": "a" * 300 + "b" * 300}
    cases, _ = read_cases([write(tmp_path / "a.jsonl", *({**said(n, f"text {n}"), **long} for n in range(40)))])
    assert [case.prediction for case in cases] == ["text 0", "text 10", "text 20", "text 30"]
    assert cases[0].input == "a" * 200 + " … " + "b" * 200
    assert cases[0].certainty is None


def test_what_is_no_file_of_predictions_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"There is no file .*none.jsonl; make it with `softprompt evaluate --output"):
        read_cases([tmp_path / "none.jsonl"])
    with pytest.raises(DataError, match="line 2: no prediction; give what `softprompt evaluate"):
        read_cases([write(tmp_path / "a.jsonl", said(1, "x"), {"task": "films"})])
    with pytest.raises(DataError, match="holds no predictions; finish the evaluation first"):
        read_cases([write(tmp_path / "b.jsonl")])
