"""Tasks of tagged words, from files in their published form."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from softprompt.errors import DataError
from softprompt.tasks import load_task

FILES = Path(__file__).parents[2] / "fixtures" / "tasks"


def test_conll2003():
    task = load_task("conll2003", FILES / "conll2003")
    assert task.report.rows == {"train": 3, "validation": 1}
    first, second, third = task.examples("train")
    assert first.input == "Maren Olstad joins Harbour Lines in Tromsø ."
    assert first.targets == ("B-PER I-PER O B-ORG I-ORG O B-LOC O",)
    assert first.source.endswith("train.txt:3")
    assert (second.input, second.source[-2:]) == ("LUGANO 1996-08-30", "12")
    assert third.columns["tags"] == ["B-MISC", "O", "O"]
    assert len(task.tags) == 9
    assert task.watched == "entity_f1"


def test_the_original_names_of_its_files(tmp_path):
    shutil.copy(FILES / "conll2003" / "valid.txt", tmp_path / "eng.testa")
    assert load_task("conll2003", tmp_path).report.rows == {"validation": 1}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b"Olstad\n", "valid.txt:1: line 1 has one column; expected a word, and its tag last"),
        (b"a X O\n\xff X O\n", "valid.txt:1: line 2 is not valid UTF-8"),
        (b"a X B-GOD\n", "column 'tags' holds 'B-GOD', which has no label word"),
    ],
)
def test_a_bad_sentence_is_named(tmp_path, lines, message):
    (tmp_path / "valid.txt").write_bytes(lines)
    with pytest.raises(DataError, match=message):
        load_task("conll2003", tmp_path)
    (tmp_path / "valid.txt").write_bytes(b"good X O\n\n" + lines)
    assert load_task("conll2003", tmp_path, on_bad_row="skip").report.rows == {"validation": 1}


def test_an_empty_file_is_an_error(tmp_path):
    (tmp_path / "train.txt").write_text("\n")
    with pytest.raises(DataError, match="holds no row"):
        load_task("conll2003", tmp_path)
