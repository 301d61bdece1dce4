"""The one door before all replicas: it takes each request to one of them, and to another one if that dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any, final

from softprompt.errors import EngineClosedError, QueueFullError, ServerError, SoftpromptError
from softprompt.serving.bodies import App, Message, Receive, Send, nothing, read_body
from softprompt.serving.failures import Failure, failure_of
from softprompt.serving.guard import close_websocket, closing, refuse
from softprompt.serving.running import log_to_stderr
from softprompt.serving.settings import ServerSettings

__all__ = ["Ask", "Front", "ReplicaLostError", "in_front"]

log = logging.getLogger(__name__)

Ask = Callable[[Message, bytes], AsyncGenerator[Message, None]]
"""Takes the head of a request and its body to a replica, and gives the messages of the answer as they come."""

_REPLICAS = 3
"""That a request is taken to at most: one that itself kills a replica is not to kill them all."""
_SENT = (
    *("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path"),
    *("headers", "client", "server"),
)
"""What is sent on of a request's ASGI scope."""
_LOOKING = ("GET", "HEAD")
_ANSWERED = "/v1/"
"""Where also a POST changes nothing."""
_STREAM = b"text/event-stream"


class ReplicaLostError(ServerError):
    """A replica ended before its answer was whole."""


@final
class Front:
    """A process that computes nothing, and outlives replicas.

    Args:
        engine: Serve's handle of the replicas.
        settings: The server's.
    """

    def __init__(self, engine: Any, settings: ServerSettings) -> None:
        log_to_stderr()
        self._answer = engine.options(stream=True).answer
        self._settings = settings

    def __serve_build_asgi_app__(self) -> App:
        """What Serve lets answer."""
        return in_front(self.ask, self._settings)

    async def ask(self, head: Message, body: bytes) -> AsyncGenerator[Message, None]:
        """As `Ask`.

        Raises:
            ReplicaLostError: If the replica ends before the answer is whole.
            QueueFullError: If none takes it, and too many wait.
            EngineClosedError: If there are none any more.
        """
        from ray.exceptions import RayError, RayTaskError
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

        answer = self._answer.remote(head, body)
        try:
            async for message in answer:
                yield message
        except (asyncio.CancelledError, GeneratorExit):  # nobody waits for it any more
            with contextlib.suppress(Exception):  # it says again what the call itself failed with
                answer.cancel()
            raise
        except BackPressureError:
            raise QueueFullError("All replicas have as many requests as they take; send it again later.") from None
        except DeploymentUnavailableError:
            raise EngineClosedError("There is no replica any more; send it again when there is one.") from None
        except (RayError, ReplicaUnavailableError) as error:
            if isinstance(error, RayTaskError):  # its own mistake, not its end
                raise
            raise ReplicaLostError(str(error)) from None


def in_front(ask: Ask, settings: ServerSettings) -> App:
    """An application that has every request answered by a replica.

    A replica that dies before anything of its answer was sent is replaced by another one, if the request changes
    nothing; otherwise the client is told.

    Args:
        ask: Takes a request to a replica.
        settings: The server's, which say how large a body may be, and how long it may take.
    """

    async def answer(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _begin_and_end(receive, send)
            return
        if scope["type"] != "http":
            await close_websocket(send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        failure, body, rest = await read_body(scope, headers, receive, settings)
        if failure is not None:
            rest = nothing if b"expect" in headers else rest
            await refuse(failure, rest, send, timeout_s=settings.body_timeout_s)
            return
        await _answer(ask, scope, body, send)

    return answer


async def _answer(ask: Ask, scope: Message, body: bytes, send: Send) -> None:
    """Send on what a replica answers, or another one in its place."""
    head = {name: scope[name] for name in _SENT if name in scope}
    for tries_left in reversed(range(_REPLICAS if _changes_nothing(scope) else 1)):
        sending = _Sending(send)
        try:
            async with contextlib.aclosing(ask(head, body)) as messages:
                async for message in messages:
                    await sending.take(message)
            return
        except ReplicaLostError as error:
            if sending.whole:
                return
            again = tries_left > 0 and not sending.begun
            told = {"path": scope["path"], "asked_again": again, "reason": str(error)}
            log.warning("a replica has ended", extra=told)
            if not again:
                await sending.end(_lost(scope))
                return
        except SoftpromptError as error:
            await sending.end(failure_of(error))
            return


@final
class _Sending:
    """Sends an answer on; its head is kept until there is something of its body, so that a replica may die between.

    Attributes:
        begun: Whether the client has any of it.
        whole: Whether it has all of it.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._head: Message | None = None
        self._streams = False
        self.begun = self.whole = False

    async def take(self, message: Message) -> None:
        """The next message of the answer."""
        if message["type"] == "http.response.start":
            self._head = message
            self._streams = any(
                name.lower() == b"content-type" and kind.startswith(_STREAM) for name, kind in message["headers"]
            )
            return
        if self._head is not None:
            self.begun = True
            await self._send(self._head)
            self._head = None
        await self._send(message)
        self.whole = not message.get("more_body", False)

    async def end(self, failure: Failure) -> None:
        """End an answer that will not be whole.

        Raises:
            ReplicaLostError: If the client has a part of it and no way to be told, so that the connection is cut.
        """
        if not self.begun:
            body, headers = closing(failure)
            await self._send({"type": "http.response.start", "status": failure.status, "headers": headers})
            await self._send({"type": "http.response.body", "body": body})
        elif self._streams:
            event = f"data: {json.dumps(failure.body(), ensure_ascii=False)}\n\n"
            await self._send({"type": "http.response.body", "body": event.encode()})
        else:
            raise ReplicaLostError(failure.message)


def _lost(scope: Message) -> Failure:
    again = "send it again" if _changes_nothing(scope) else "look whether it was carried out, then send it again"
    return Failure(
        status=503,
        message=f"The replica that had this request has ended; {again}.",
        type="server_error",
        code="replica_lost",
        headers={"Retry-After": "1"},
    )


def _changes_nothing(scope: Message) -> bool:
    return scope["method"] in _LOOKING or (scope["method"] == "POST" and scope["path"].startswith(_ANSWERED))


async def _begin_and_end(receive: Receive, send: Send) -> None:
    """Say yes to what a web server tells of its beginning and its end."""
    for moment in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{moment}.complete"})
