"""Files of JSON lines that only grow."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.errors import ConfigError
from softprompt.linefile import LineFile, as_line

ROWS = [{"key": "a", "text": "é\u2028\r"}, {"key": "b"}, {"key": "c", "score": [1.5, None]}]


@pytest.fixture
def file(tmp_path):
    return LineFile(tmp_path / "rows.jsonl", "key")


@pytest.fixture
def beside(file):
    return file.path.with_name("rows.jsonl.settings.json")


def test_rows_come_back_numbered(file):
    assert list(file) == []
    file.add(ROWS[0])
    file.add(*ROWS[1:])
    assert list(file) == list(enumerate(ROWS, 1))


@given(size=st.integers(0, sum(len(as_line(row).encode()) for row in ROWS)))
def test_a_file_may_end_anywhere(tmp_path_factory, size):
    """Cut at every byte: the rows before it are there, and what is added stands on a line of its own."""
    file = LineFile(tmp_path_factory.mktemp("cut") / "rows.jsonl", "key")
    file.add(*ROWS)
    os.truncate(file.path, size)
    kept = file.path.read_bytes().count(b"\n")
    assert [row for _, row in file] == ROWS[:kept]
    file.cut()
    file.add({"key": "d"})
    assert [row for _, row in file] == [*ROWS[:kept], {"key": "d"}]


def test_a_whole_file_is_not_touched(file):
    file.cut()
    assert not file.path.exists()
    file.add(*ROWS)
    file.path.chmod(0o444)
    before = file.path.stat().st_mtime_ns
    file.cut()
    assert file.path.stat().st_mtime_ns == before


@pytest.mark.parametrize("line", ["", "no JSON", "[1]", '"key"', '{"score": 1}', "\udcff"])
def test_lines_that_are_no_rows_are_none(file, line):
    file.path.write_text(f"{as_line(ROWS[1])}{line}\n", errors="surrogateescape")
    assert list(file) == [(1, ROWS[1]), (2, None)]


def test_what_json_does_not_know_becomes_text(file):
    file.add({"key": file.path})
    assert list(file) == [(1, {"key": str(file.path)})]


def test_settings_stand_beside_the_file(file, beside):
    assert file.made_with() == {}
    file.keep_made_with({"prompt": "é", "folder": file.path})
    file.add(ROWS[0])
    assert file.made_with() == json.loads(beside.read_text()) == {"prompt": "é", "folder": str(file.path)}
    assert {path.name for path in file.path.parent.iterdir()} == {file.path.name, beside.name}


@pytest.mark.parametrize("settings", [None, "{", "[]"])
def test_lines_of_unknown_settings_are_refused(file, beside, settings):
    if settings is not None:
        beside.write_text(settings)
    assert file.made_with() == {}, "an empty file needs none"
    file.path.write_text("x")
    with pytest.raises(ConfigError) as refusal:
        file.made_with()
    assert str(refusal.value) == (
        f"{file.path} exists, but rows.jsonl.settings.json beside it does not say what it was made with; choose "
        "another output, or remove it."
    )


def test_other_settings_are_named(file):
    now = {"by": ("rank",), "prompt": 1, "rows": None}
    file.check_made_with({"by": ["rank"], "prompt": 1, "gone": 2}, now, "answers")
    with pytest.raises(ConfigError) as refusal:
        file.check_made_with({"prompt": 2}, now, "answers")
    assert str(refusal.value) == (
        f"{file.path} holds answers that were made with another by and prompt; choose another output, or remove it."
    )


def test_a_pipe_is_only_written_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    file = LineFile(tmp_path / "pipe", "key")
    assert not file.keeps
    reader = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        file.cut()
        assert (list(file), file.made_with()) == ([], {})
        file.add(ROWS[1])
        assert os.read(reader, 100) == as_line(ROWS[1]).encode()
    finally:
        os.close(reader)
