"""What the way to a vLLM server may take up, how long it is waited for, and what is said where it is not ready."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest
from tests.serving.live import fill_some, llama
from tests.serving.vllm_stub import Stub, running

from softprompt.cli.opening import pass_once
from softprompt.conditioning import Prompted
from softprompt.errors import ConfigError, LengthError, QueueFullError, ServerError, UnreachableError
from softprompt.inference import Request, Sampling
from softprompt.prompts import SoftPrompt
from softprompt.serving.vllm import VllmEngine, VllmServer, beginnings, inputs

CANDIDATES = ("good", "so boring", "so funny", "very good", "very bad", "bad film", "boring")
INPUT = "a good film " * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill_some(tmp_path_factory.mktemp("prompts"), llama())


@pytest.fixture
def stub():
    return Stub(llama().model)


@pytest.fixture
def url(stub):
    with running(stub) as url:
        yield url


def chosen_from(*candidates, **asked):
    return Request(input=INPUT, prompt="rows", candidates=candidates, **asked)


def test_candidates_count_what_is_sent_for_them(url, stub, folder):
    """The input goes along with each beginning; counted once, a request could fill the memory before it was refused."""
    with VllmEngine(llama(), folder, VllmServer(url=url), most_tokens=60) as engine:
        before = len(stub.bodies)
        assert engine.submit(chosen_from("good", "bad")).result(10).choice is not None
        with pytest.raises(LengthError, match="at most 60 fit here"):
            engine.submit(chosen_from(*CANDIDATES))
        stub.trouble = "stuck"
        asked = Sampling(max_new_tokens=20, min_new_tokens=20)
        running_on = engine.submit(Request(input="a", prompt="rows", sampling=asked))
        with pytest.raises(QueueFullError, match="1 requests are on their way"):
            engine.submit(chosen_from("good", "bad"))
        running_on.cancel()
        assert len(stub.bodies) <= before + 2


def test_what_was_answered_takes_no_room_until_it_is_settled(url, folder, monkeypatch):
    """A client that had its answer was refused its next request, as long as the first had not ended here."""
    with VllmEngine(llama(), folder, VllmServer(url=url), most_requests=1) as engine:
        settle, late = engine._backlog.settle, []
        monkeypatch.setattr(engine._backlog, "settle", late.append)
        assert engine.submit(chosen_from("good", "bad")).result(10).choice is not None
        assert engine.submit(chosen_from("good", "bad")).result(10).choice is not None
        monkeypatch.undo()
        for job in late:
            settle(job)


def test_more_texts_than_may_be_on_their_way_are_no_matter_of_time(url, folder):
    with (
        VllmEngine(llama(), folder, VllmServer(url=url), most_requests=3) as engine,
        pytest.raises(ConfigError, match="4 texts at once are more than the 3 requests"),
    ):
        engine.check_number(4)


def test_inputs_are_made_when_they_are_sent_and_not_in_the_loop(url, stub, folder, monkeypatch):
    """Fails if all requests of a ranking are held at once, or other answers wait while one is written."""
    made, pack = [], inputs.pack_embeddings

    def packed(rows):
        made.append((threading.current_thread().name, len(stub.bodies)))
        return pack(rows)

    with VllmEngine(llama(), folder, VllmServer(url=url)) as engine:
        before = len(stub.bodies)
        monkeypatch.setattr(inputs, "pack_embeddings", packed)
        monkeypatch.setattr(beginnings, "_MOST_SENT", 1)  # a request for each beginning
        targets = [f"{one} {other}" for one in CANDIDATES for other in ("good", "bad")]
        choice = engine.submit(chosen_from(*targets)).result(10).choice
    want = Prompted(llama(), {"rows": SoftPrompt.load(folder / "rows")}).score([INPUT], targets, prompts="rows")[0]
    assert list(choice.logprobs.values()) == pytest.approx(want.tolist(), abs=1e-4)
    assert len(made) > 10
    assert all("vllm" not in thread for thread, _ in made)
    assert all(asked - before >= place - 4 for place, (_, asked) in enumerate(made))


def test_what_takes_time_before_the_engine_is_asked_is_no_waiting(url, folder, monkeypatch):
    """`wait_s` is what a metric tells of queues; embedding belongs to the run."""
    pack = inputs.pack_embeddings

    def slowly(rows):
        time.sleep(0.3)
        return pack(rows)

    with VllmEngine(llama(), folder, VllmServer(url=url)) as engine:
        monkeypatch.setattr(inputs, "pack_embeddings", slowly)
        answer = engine.submit(chosen_from("good", "bad")).result(10)
        assert answer.wait_s < 0.2 < 0.3 <= answer.run_s


def test_a_first_pass_that_does_not_end_ends_the_start(url, stub, folder):
    """Fails if the command waits for ever, and says nothing, behind an engine that hangs after it was looked at."""
    with VllmEngine(llama(), folder, VllmServer(url=url)) as engine:
        stub.trouble = "slow"
        with pytest.raises(UnreachableError, match=r"a first request of two tokens within 0\.1 seconds"):
            pass_once(engine, 0.1)
        stub.trouble = "refused"
        pass_once(engine, 10)


def test_embeddings_that_are_refused_name_the_flag(url, stub, folder):
    stub.trouble = "plain"
    with pytest.raises(ServerError, match=r"refused the request \(400\).*start it with --enable-prompt-embeds"):
        VllmEngine(llama(), folder, VllmServer(url=url))


def test_a_server_behind_that_is_down_is_seen(stub, folder):
    with contextlib.ExitStack() as behind:
        url = behind.enter_context(running(stub))
        with VllmEngine(llama(), folder, VllmServer(url=url)) as engine:
            assert engine.is_reachable()
            behind.close()
            assert not engine.is_reachable()
