"""Processes that were given different runs do not train; two real ones are in `tests/training`."""

from __future__ import annotations

import pytest

from softprompt.errors import ConfigError
from softprompt.loop.processes import Processes
from softprompt.training.agreement import check_agreement


def process(monkeypatch, told):
    """One of two, which hears what both have told so far."""
    one = Processes()
    monkeypatch.setattr(one, "count", 2)
    monkeypatch.setattr(one, "gather", lambda value: told.append(value) or told)
    return one


def test_what_differs_is_named_in_every_process(monkeypatch):
    """They added the gradients of different runs, and nothing said so."""
    told = []
    check_agreement(process(monkeypatch, told), {"run 'a'": {"seed": 0}, "run 'b'": {"seed": 1}})
    with pytest.raises(ConfigError, match="but were not given the same: run 'a', run 'c'"):
        check_agreement(
            process(monkeypatch, told), {"run 'a'": {"seed": 7}, "run 'b'": {"seed": 1}, "run 'c'": {"seed": 2}}
        )


def test_processes_that_were_given_the_same_go_on(monkeypatch):
    told = []
    for _ in range(2):
        check_agreement(process(monkeypatch, told), {"run 'a'": {"rows": [("one", ("good",))]}})
    assert len(told) == 2
    assert told[0] == told[1]


def test_alone_there_is_nobody_to_ask(monkeypatch):
    alone = Processes()
    monkeypatch.setattr(alone, "gather", lambda value: pytest.fail("asked"))
    check_agreement(alone, {"run 'a'": object()})
