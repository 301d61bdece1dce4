"""The door before replicas, without a Ray: what is asked again where one dies, and what a client is told."""

from __future__ import annotations

import asyncio
import json

import pytest

from softprompt.errors import EngineClosedError, LostProcessError, QueueFullError
from softprompt.serving.replicas.front import in_front

HEAD = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
STREAM = {**HEAD, "headers": [(b"Content-Type", b"text/event-stream; charset=utf-8")]}
PIECE = {"type": "http.response.body", "body": b"a piece, ", "more_body": True}
END = {"type": "http.response.body", "body": b"the end"}


class Replicas:
    """Each call is answered by the next of some lists of messages, whose last may be an error."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []
        self.closed = 0

    async def ask(self, head, body):
        self.asked.append((head, body))
        try:
            for message in self.answers.pop(0):
                if isinstance(message, Exception):
                    raise message
                yield message
        finally:
            self.closed += 1


def call(replicas, method="POST", path="/v1/completions", parts=(b"asked",), most_bytes=100):
    """What a client is sent."""
    sent = []
    coming = [{"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts]

    async def receive():
        return coming.pop(0) if coming else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [], "app": object(), "state": {}}
    asyncio.run(in_front(replicas.ask, most_bytes)(scope, receive, send))
    return sent


def told(sent):
    """The status and the code of a failure."""
    return sent[0]["status"], json.loads(sent[1]["body"])["error"]["code"]


LOST = LostProcessError("gone")


def test_an_answer_goes_through_and_the_request_travels_without_what_is_of_the_process():
    replicas = Replicas([HEAD, PIECE, END])
    assert call(replicas, parts=(b"as", b"ked")) == [HEAD, PIECE, END]
    head = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": []}
    assert replicas.asked == [(head, b"asked")]
    assert replicas.closed == 1


@pytest.mark.parametrize("before", [[LOST], [HEAD, LOST]])
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/chat/completions"), ("GET", "/admin/prompts")])
def test_what_a_dead_replica_had_is_asked_again(before, method, path):
    replicas = Replicas(before, before, [HEAD, END])
    assert call(replicas, method, path) == [HEAD, END]
    assert len(replicas.asked) == replicas.closed == 3


def test_a_request_does_not_kill_them_all():
    replicas = Replicas(*[[LOST]] * 9)
    sent = call(replicas)
    assert told(sent) == (503, "replica_lost")
    assert dict(sent[0]["headers"])[b"retry-after"] == b"1"
    assert len(replicas.asked) == 3


@pytest.mark.parametrize(("method", "path"), [("PUT", "/admin/prompts/a"), ("POST", "/admin/reload")])
def test_what_changes_something_is_asked_once(method, path):
    replicas = Replicas([LOST], [HEAD, END])
    sent = call(replicas, method, path)
    assert told(sent) == (503, "replica_lost")
    assert "look whether it was carried out" in json.loads(sent[1]["body"])["error"]["message"]
    assert len(replicas.asked) == 1


def test_a_stream_that_breaks_off_says_so():
    replicas = Replicas([STREAM, PIECE, LOST], [STREAM, END])
    sent = call(replicas)
    assert sent[:2] == [STREAM, PIECE]
    assert not sent[2].get("more_body", False)
    assert json.loads(sent[2]["body"].decode().removeprefix("data: "))["error"]["code"] == "replica_lost"
    assert len(replicas.asked) == 1


def test_a_part_of_another_answer_ends_in_a_cut_connection():
    with pytest.raises(LostProcessError, match="send it again"):
        call(Replicas([HEAD, PIECE, LOST]))


@pytest.mark.parametrize(
    ("error", "failure"),
    [(QueueFullError("full"), (429, "queue_full")), (EngineClosedError("no"), (503, "shutting_down"))],
)
def test_what_is_not_taken_is_told_as_by_the_engine(error, failure):
    replicas = Replicas([error], [HEAD, END])
    sent = call(replicas)
    assert told(sent) == failure
    assert dict(sent[0]["headers"])[b"retry-after"] == b"1"
    assert len(replicas.asked) == 1


def test_of_a_body_that_is_too_large_no_more_goes_on_than_is_refused():
    replicas = Replicas([HEAD, END])
    call(replicas, parts=(b"x" * 60, b"y" * 60, b"z" * 60))
    assert replicas.asked[0][1] == b"x" * 60 + b"y" * 60


def test_a_client_that_leaves_before_its_body_is_whole_is_nobody():
    replicas = Replicas([HEAD, END])
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    asyncio.run(in_front(replicas.ask, 10)({"type": "http", "method": "GET", "path": "/"}, receive, send))
    assert (sent, replicas.asked) == ([], [])


def test_it_lives_as_a_web_server_asks_and_has_no_websockets():
    async def talk(scope, came):
        sent = []

        async def receive():
            return came.pop(0)

        async def send(message):
            sent.append(message["type"])

        await in_front(Replicas().ask, 10)(scope, receive, send)
        return sent

    moments = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    lived = asyncio.run(talk({"type": "lifespan"}, moments))
    assert lived == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert asyncio.run(talk({"type": "websocket"}, [])) == ["websocket.close"]
