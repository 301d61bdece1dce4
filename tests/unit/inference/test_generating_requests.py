"""Texts that run when memory runs out: they go on as if it had not."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref

import pytest
import torch
from tests.models import tiny_backbone
from tests.unit.inference.test_generating import GENERATING, TEXTS

from softprompt.conditioning.decoding import JoiningDecoding
from softprompt.conditioning.turns import TurnDecoding
from softprompt.inference import BatchLimits, Engine, Request, Sampling
from softprompt.prompts import Members, PrefixTuning, PromptTuning

METHODS = {
    "rows": PromptTuning(length=3, init="vocab"),
    "keys": PrefixTuning(length=4, hidden=None, init="vocab"),
    "behind": PromptTuning(length=2, init="vocab", placement="append"),
    "last": PrefixTuning(length=3, hidden=None, layers=[-1]),
}
DRAWN = Sampling(max_new_tokens=9, min_new_tokens=9, temperature=2.0, seed=4)
LONG = Sampling(max_new_tokens=12, min_new_tokens=12)
ASKED = [
    Request(input=TEXTS[0], prompt="rows", sampling=LONG),
    Request(input=TEXTS[1], prompt="keys", sampling=DRAWN, answers=3),
    Request(input=TEXTS[2], prompt="behind", sampling=LONG),
    Request(input=TEXTS[3], prompt="vote", sampling=LONG),
    Request(input=TEXTS[0], prompt="mean", sampling=LONG),
    Request(input=TEXTS[1], prompt="last", sampling=LONG),
    Request(input=TEXTS[2], prompt="last", sampling=DRAWN, answers=2),
    Request(input=TEXTS[3], sampling=LONG),
]


class Memory:
    """Room for so many rows of a batch, or of all together, from a step on."""

    def __init__(self) -> None:
        self.rows, self.after, self.steps, self.short, self.shared = 100, 0, 0, 0, False
        self.batches = weakref.WeakSet()
        self.open = threading.Event()
        self.open.set()

    @contextlib.contextmanager
    def held(self):
        """Let nothing begin before the block's end, so that what is asked within waits together."""
        self.open.clear()
        try:
            yield
        finally:
            self.open.set()

    def shrink(self, rows: int, after: int) -> None:
        self.rows, self.after, self.steps = rows, after, 0

    def need(self, batch, rows: int) -> None:
        self.open.wait(60)
        self.steps += 1
        self.batches.add(batch)
        if self.shared:
            rows += sum(other.rows for other in self.batches if other is not batch)
        if self.steps > self.after and rows > self.rows:
            self.short += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture
def memory(monkeypatch):
    one = Memory()

    def bounded(decoding):
        admit, step = decoding.admit, decoding.step

        def admitting(self, prompts, rows):
            one.need(self, self.rows + len(rows.ids))
            return admit(self, prompts, rows)

        def stepping(self, tokens):
            out = step(self, tokens)
            one.need(self, self.rows)  # behind the step, which has written to the layers' memory by then
            return out

        monkeypatch.setattr(decoding, "admit", admitting)
        monkeypatch.setattr(decoding, "step", stepping)

    bounded(JoiningDecoding)
    bounded(TurnDecoding)
    return one


@pytest.fixture(params=GENERATING)
def engine(request, tmp_path):
    backbone = tiny_backbone(request.param)
    prompts = {name: method.build(backbone, seed=5) for name, method in METHODS.items()}
    for name, prompt in prompts.items():
        prompt.save(tmp_path / name)
    for combine in ("vote", "mean"):
        Members([prompts["rows"], prompts["keys"]], combine).save(tmp_path / combine)
    with Engine(backbone, tmp_path, limits=BatchLimits(rows=32)) as engine:
        yield engine


def said(answer):
    return [(one.text, one.finish, [token.token for token in one.tokens]) for one in answer.completions]


@pytest.mark.parametrize("after", [0, 5, 11])
def test_texts_that_memory_is_too_small_for_go_on_in_halves(engine, memory, after, caplog):
    """All texts of the batch ended in the error, those that had come far among them."""
    wanted = [said(engine.answer(one, timeout=60)) for one in ASKED]
    memory.shrink(2, after)
    with caplog.at_level(logging.WARNING, logger="softprompt"):
        with memory.held():
            tickets = [engine.submit(one) for one in ASKED]
        assert [said(ticket.result(60)) for ticket in tickets] == wanted
    assert memory.short
    assert any("Out of memory with" in message for message in caplog.messages)
    for ticket, one in zip(tickets, wanted, strict=True):
        pieces = list(ticket.pieces())
        for index, (text, _, tokens) in enumerate(one):
            own = [piece for piece in pieces if piece.index == index]
            assert "".join(piece.text for piece in own) == text
            assert [token.token for piece in own for token in piece.tokens] == tokens
    assert (engine.counts().waiting, engine.counts().running) == (0, 0)
    memory.shrink(100, 0)
    assert said(engine.answer(ASKED[0], timeout=60)) == wanted[0]


def test_halves_take_turns(engine, memory):
    """Side by side they would need as much memory as before."""
    asked = [
        Request(input=text, prompt="rows", sampling=LONG) for text in (TEXTS * 2)[:6]
    ]  # begun at once, or in two parts: one has three
    wanted = [said(engine.answer(one, timeout=60)) for one in asked]
    memory.shared = True
    memory.shrink(2, 8)
    with memory.held():
        tickets = [engine.submit(one) for one in asked]
    assert [said(ticket.result(60)) for ticket in tickets] == wanted
    assert memory.short


def test_what_no_memory_is_enough_for_fails_alone(engine, memory):
    wanted = [said(engine.answer(one, timeout=60)) for one in ASKED]
    memory.shrink(1, 3)
    tickets = [engine.submit(one) for one in ASKED]
    for one, ticket, text in zip(ASKED, tickets, wanted, strict=True):
        if one.prompt == "mean":  # its members choose each token together, in two rows
            with pytest.raises(RuntimeError, match="out of memory"):
                ticket.result(60)
        else:
            assert said(ticket.result(60)) == text


def test_who_leaves_while_texts_rest_is_not_read_again(engine, memory):
    wanted = [said(engine.answer(one, timeout=60)) for one in ASKED]
    memory.shrink(2, 6)
    tickets = [engine.submit(one) for one in ASKED]
    next(tickets[0].pieces())
    for ticket in tickets[1::2]:
        ticket.cancel()
    assert [said(ticket.result(60)) for ticket in tickets[::2]] == wanted[::2]
    engine.close()
    assert engine.counts().running == 0


def test_a_text_that_is_complete_is_answered_though_its_batch_fails_behind_it(engine, monkeypatch):
    def failing(self, rows):
        raise RuntimeError("no room to move rows")

    for decoding in (JoiningDecoding, TurnDecoding):
        monkeypatch.setattr(decoding, "keep", failing)
    rank, begin = engine._ranker.step, threading.Event()
    monkeypatch.setattr(engine._ranker, "step", lambda: (begin.wait(60), rank()))  # so that both begin together
    short, long = (
        engine.submit(Request(input="good film", sampling=Sampling(max_new_tokens=room, min_new_tokens=room)))
        for room in (2, 40)
    )
    begin.set()
    assert len(short.result(60).completions[0].tokens) == 2
    with pytest.raises(RuntimeError, match="no room to move rows"):
        long.result(60)
