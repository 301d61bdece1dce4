"""A shared evaluation has each row once, in the rows' order; several real processes are in `tests/training`."""

from __future__ import annotations

import pytest

from softprompt.errors import ConfigError, NonFiniteError
from softprompt.evaluation.recording import Said
from softprompt.evaluation.together import answer_together
from softprompt.loop.processes import Processes
from softprompt.tasks import Example


def row(number):
    return Example(input="", targets=("good",), label=None, source=str(number), columns={})


ROWS = {"a": [row(number) for number in range(7)], "b": [row(10)], "c": []}


def process(monkeypatch, index, gathered):
    """One of three processes, which hears from the others what it is told."""
    one = Processes()
    monkeypatch.setattr(one, "count", 3)
    monkeypatch.setattr(one, "index", index)
    monkeypatch.setattr(one, "gather", gathered)
    return one


def answer(rows):
    return {name: [Said(one.source) for one in several] for name, several in rows.items()}


def test_every_row_is_asked_about_once_and_stands_where_it_stood(monkeypatch):
    parts = []

    def gathered(part):
        parts.append(part)
        return [answer(dict.fromkeys(ROWS, ROWS["a"]))] * 3

    for index in range(3):
        answer_together(process(monkeypatch, index, gathered), answer, ROWS, sharded=False)
    assert sorted(said.text for part in parts for said in part["a"]) == [one.source for one in ROWS["a"]]
    last = process(monkeypatch, 2, lambda part: parts)
    assert answer_together(last, answer, ROWS, sharded=False) == answer(ROWS)


def test_an_error_in_one_process_is_one_in_all(monkeypatch):
    """Otherwise the others would go on, and wait for it in the next step for ever."""
    lost = NonFiniteError("the scores are NaN")
    parts = [answer(ROWS), lost, answer(ROWS)]
    for index in range(3):
        with pytest.raises(NonFiniteError, match="the scores are NaN"):
            answer_together(process(monkeypatch, index, lambda part: parts), answer, ROWS, sharded=False)


def test_with_sharded_weights_all_ask_about_all_and_the_first_is_believed(monkeypatch):
    one = process(monkeypatch, 1, lambda part: pytest.fail("gathered"))
    asked = []
    monkeypatch.setattr(one, "from_first", lambda value: asked.append(value) or {"first": [Said("so")]})
    assert answer_together(one, answer, ROWS, sharded=True) == {"first": [Said("so")]}
    assert asked == [answer(ROWS)]


def test_with_sharded_weights_a_process_that_fails_leaves(monkeypatch):
    """Others wait in the middle of a pass, so that telling them would wait for ever; a NaN all have computed."""
    one = process(monkeypatch, 1, lambda part: pytest.fail("gathered"))
    monkeypatch.setattr(one, "from_first", lambda value: pytest.fail("told"))

    def fail(rows):
        raise ConfigError("no memory")

    with pytest.raises(ConfigError, match="no memory"):
        answer_together(one, fail, ROWS, sharded=True)
    monkeypatch.setattr(one, "from_first", lambda value: NonFiniteError("the first one's"))
    with pytest.raises(NonFiniteError, match="the first one's"):
        answer_together(one, answer, ROWS, sharded=True)
