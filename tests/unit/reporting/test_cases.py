"""Rows with what was said of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.reporting.rows import grid, rows, write_study

from softprompt.errors import DataError
from softprompt.evaluation import Evaluation
from softprompt.evaluation.result import Prediction
from softprompt.reporting import make_report, open_study
from softprompt.reporting.cases import kept_cases, read_cases
from softprompt.studies.cases import CaseFile, choose_cases


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


def test_a_study_shows_answers_of_its_best_line_on_each_backbone(tmp_path):
    asked = grid()
    made = rows(asked)
    folder = write_study(tmp_path, asked, made)
    assert kept_cases(open_study(folder)) == ((), "")
    file = CaseFile(folder / "cases.jsonl")
    for row in made:
        if row["seed"] == 0 and row["backbone"] == "bundled:t5-mini":
            said = {"input": row["label"], "targets": ["good"], "prediction": "bad"}
            file.add(row["key"], {"split": "test", "answers": 300, "right": 200, "cases": [said]})
    file.add(made[0]["key"], {"split": "test", "answers": 1, "right": 0, "cases": []})  # of a value that was not chosen
    cases, note = kept_cases(open_study(folder))
    where = "films, test (model tuning on bundled:t5-mini, seed 0)"
    assert [(case.task, case.input, case.right) for case in cases] == [(where, "model tuning", False)]
    assert note == f"{where}: 200 of 300 outputs are one of the targets."
    told = make_report(open_study(folder))
    assert (told.cases, told.cases_note) == (cases, note)


def test_answers_are_kept_once_and_behind_a_line_that_was_cut_short(tmp_path):
    file = tmp_path / "cases.jsonl"
    found = {"split": "test", "answers": 1, "right": 1, "cases": []}
    CaseFile(file).add("a", found)
    with file.open("a", encoding="utf-8") as cut:
        cut.write('{"key": "b", "ca')
    for key in ("a", "b"):
        CaseFile(file).add(key, found)
    assert list(CaseFile(file).by_key()) == ["a", "b"]
    assert len(file.read_text(encoding="utf-8").splitlines()) == 2


def test_few_answers_are_kept_whose_numbers_are_finite():
    def answer(number, label, probabilities=None):
        return Prediction(
            input="x" * 900, targets=("good",), prediction=label, label=label, probabilities=probabilities
        )

    said = [answer(number, "bad" if number % 2 else "good", {"good": float("nan")}) for number in range(20)]
    found = choose_cases(
        Evaluation(task="films", split="test", by="rank", metrics={}, predictions=tuple(said), metric_names=())
    )
    assert (found["answers"], found["right"]) == (20, 10)
    assert [one["label"] for one in found["cases"]] == ["bad"] * 5 + ["good"] * 2
    assert {one["probabilities"] for one in found["cases"]} == {None}
    assert {len(one["input"]) for one in found["cases"]} == {403}


def test_what_is_no_file_of_predictions_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"There is no file .*none.jsonl; make it with `softprompt evaluate --output"):
        read_cases([tmp_path / "none.jsonl"])
    with pytest.raises(DataError, match="line 2: no prediction; give what `softprompt evaluate"):
        read_cases([write(tmp_path / "a.jsonl", said(1, "x"), {"task": "films"})])
    with pytest.raises(DataError, match="holds no predictions; finish the evaluation first"):
        read_cases([write(tmp_path / "b.jsonl")])
