"""The door before replicas, without a Ray: what is asked again where one dies, and what a client is told."""

from __future__ import annotations

import asyncio
import json

import pytest

from softprompt.errors import EngineClosedError, QueueFullError
from softprompt.serving import ServerSettings
from softprompt.serving.replicas.front import Front, ReplicaLostError, in_front

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


SETTINGS = ServerSettings(max_body_bytes=100, max_prompt_bytes=1000, body_timeout_s=0.2)
KIND = (b"content-type", b"application/json")


def call(replicas, method="POST", path="/v1/completions", parts=(b"asked",)):
    """What a client is sent."""
    sent = []
    coming = [{"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts]

    async def receive():
        return coming.pop(0) if coming else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [KIND], "app": object(), "state": {}}
    asyncio.run(in_front(replicas.ask, SETTINGS)(scope, receive, send))
    return sent


def told(sent):
    """The status and the code of a failure."""
    return sent[0]["status"], json.loads(sent[1]["body"])["error"]["code"]


LOST = ReplicaLostError("gone")


def test_an_answer_goes_through_and_the_request_travels_without_what_is_of_the_process():
    replicas = Replicas([HEAD, PIECE, END])
    assert call(replicas, parts=(b"as", b"ked")) == [HEAD, PIECE, END]
    head = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": [KIND]}
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
    with pytest.raises(ReplicaLostError, match="send it again"):
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


@pytest.mark.parametrize("before", [[STREAM, PIECE, END], [HEAD, END]])
def test_an_answer_that_is_whole_is_not_lost(before):
    """A replica that died behind its last word was told of behind the end of the answer."""
    replicas = Replicas([*before, LOST], [HEAD, END])
    assert call(replicas) == before
    assert len(replicas.asked) == 1


def test_a_body_is_bounded_before_a_replica_is_asked():
    replicas = Replicas([HEAD, END])
    assert told(call(replicas, parts=(b"x" * 60, b"y" * 60))) == (413, "body_too_large")
    assert replicas.asked == []
    assert call(replicas, "PUT", "/admin/prompts/a", parts=(b"x" * 600,)) == [HEAD, END]


def talk(scope, came, settings=SETTINGS):
    """What is sent where messages come, and then nothing more."""
    replicas, sent = Replicas([HEAD, END]), []

    async def receive():
        if not came:
            await asyncio.Event().wait()
        return came.pop(0)

    async def send(message):
        sent.append(message)

    asyncio.run(in_front(replicas.ask, settings)(scope, receive, send))
    assert replicas.asked == []
    return sent


def test_a_body_that_does_not_come_is_not_waited_for():
    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": [KIND]}
    assert told(talk(scope, [{"type": "http.request", "body": b"{", "more_body": True}])) == (408, "body_too_slow")
    assert told(talk(scope, [{"type": "http.disconnect"}])) == (499, "cancelled")


def test_it_lives_as_a_web_server_asks_and_has_no_websockets():
    moments = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    lived = [message["type"] for message in talk({"type": "lifespan"}, moments)]
    assert lived == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert [message["type"] for message in talk({"type": "websocket"}, [])] == ["websocket.close"]


class Handle:
    """Of replicas as Serve gives it: a call's answer fails, or never comes."""

    def __init__(self, error=None):
        self.error = error
        self.cancelled = 0
        self.answer = self

    def options(self, *, stream):
        assert stream
        return self

    def remote(self, head, body):
        return self

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.error is None:
            await asyncio.Event().wait()
        raise self.error

    def cancel(self):
        """As Serve's, which fails again where the call has failed."""
        self.cancelled += 1
        if self.error is not None:
            raise self.error


def test_what_serve_fails_with_is_told_in_our_words():
    """Cancelling a call that had failed put Serve's own error in the place of ours: 503 in plain text."""
    ray, serve = pytest.importorskip("ray.exceptions"), pytest.importorskip("ray.serve.exceptions")
    known = {
        serve.BackPressureError(9, 8): QueueFullError,
        serve.DeploymentUnavailableError("engine"): EngineClosedError,
        serve.ReplicaUnavailableError("r1"): ReplicaLostError,
        ray.ActorDiedError(): ReplicaLostError,
        ray.ActorUnavailableError("gone", b"x" * 16): ReplicaLostError,
    }
    for error, ours in known.items():
        with pytest.raises(ours):
            asyncio.run(anext(Front(Handle(error), SETTINGS).ask({}, b"")))
    mistake = ray.RayTaskError("answer", "a trace", ValueError("broken"))
    with pytest.raises(ray.RayTaskError):
        asyncio.run(anext(Front(Handle(mistake), SETTINGS).ask({}, b"")))


def test_an_answer_that_nobody_waits_for_is_cancelled_in_the_replica():
    handle = Handle()

    async def leave():
        call = asyncio.ensure_future(anext(Front(handle, SETTINGS).ask({}, b"")))
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(leave())
    assert handle.cancelled == 1
