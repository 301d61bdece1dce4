"""Batches of an engine that are answered in single passes, where some fail or take long."""

from __future__ import annotations

import threading
import time

import pytest
from tests.models import tiny_backbone

from softprompt.errors import DeadlineError, RequestCancelled
from softprompt.inference import Engine, Request, ranking_requests
from softprompt.inference.ranking import choose_among

CANDIDATES = ("good", "bad")
DEADLINE_S = 2.5


def test_who_leaves_or_is_late_costs_no_further_pass(monkeypatch):
    """Halves of a batch that failed were tried with requests for which nobody waited any more."""
    begun, go, passes = threading.Event(), threading.Event(), []

    def choosing(model, rows):
        passes.append([row.candidates[-1] for row in rows])
        if len(passes) == 1:
            begun.set()
            go.wait(20)
        if len(passes) == 2:
            tickets["left"].cancel()
            time.sleep(max(0.0, submitted + DEADLINE_S + 0.1 - time.monotonic()))
            raise RuntimeError("the machine")
        return choose_among(model, rows)

    monkeypatch.setattr(ranking_requests, "choose_among", choosing)
    with Engine(tiny_backbone("decoder-only")) as engine:
        first = engine.submit(Request(input="good film", candidates=(*CANDIDATES, "first")))
        assert begun.wait(20)
        tickets = {
            name: engine.submit(Request(input="good film", candidates=(*CANDIDATES, name), deadline_s=deadline_s))
            for name, deadline_s in {"left": None, "late": DEADLINE_S, "one": None, "two": None}.items()
        }
        submitted = time.monotonic()
        go.set()
        for name, error in {"left": RequestCancelled, "late": DeadlineError}.items():
            with pytest.raises(error):
                tickets[name].result(20)
        for ticket in (first, tickets["one"], tickets["two"]):
            assert ticket.result(20).choice
        counts = engine.counts()
    assert sorted(passes[1]) == ["late", "left", "one", "two"]
    assert sorted(name for batch in passes[2:] for name in batch) == ["one", "two"]
    assert (counts.answered, counts.failed, counts.waiting, counts.waiting_tokens) == (3, 2, 0, 0)
