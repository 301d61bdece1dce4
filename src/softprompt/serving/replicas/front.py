"""The one door before all replicas: it takes each request to one of them, and to another one if that dies."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any, final

from softprompt.errors import EngineClosedError, LostProcessError, QueueFullError, SoftpromptError
from softprompt.serving.failures import Failure, failure_of
from softprompt.serving.guard import App, Message, Receive, Send, closing
from softprompt.serving.running import log_to_stderr

__all__ = ["Ask", "Front", "in_front"]

log = logging.getLogger(__name__)

Ask = Callable[[Message, bytes], AsyncGenerator[Message, None]]
"""Takes the head of a request and its body to a replica, and gives the messages of the answer as they come."""

_REPLICAS = 3
"""That a request is taken to at most: one that itself kills a replica is not to kill them all."""
_HEAD = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path")
_SENT = (*_HEAD, "headers", "client", "server")
"""What is sent on of a request's ASGI scope."""
_LOOKING = ("GET", "HEAD")
_ANSWERED = "/v1/"
"""Where also a POST changes nothing."""
_NOT_HERE = 1008
"""What a websocket is closed with."""
_STREAM = b"text/event-stream"


@final
class Front:
    """A process that computes nothing, and outlives replicas.

    Args:
        engine: Serve's handle of the replicas.
        most_bytes: Largest body that one of them may take.
    """

    def __init__(self, engine: Any, most_bytes: int) -> None:
        log_to_stderr()
        self._answer = engine.options(stream=True).answer
        self._most_bytes = most_bytes

    def __serve_build_asgi_app__(self) -> App:
        """What Serve lets answer."""
        return in_front(self._ask, self._most_bytes)

    async def _ask(self, head: Message, body: bytes) -> AsyncGenerator[Message, None]:
        """As `Ask`.

        Raises:
            LostProcessError: If the replica dies before the answer is whole.
            QueueFullError: If none takes it, and too many wait.
            EngineClosedError: If there are none any more.
        """
        from ray.exceptions import RayError, RayTaskError
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

        answer = self._answer.remote(head, body)
        try:
            async for message in answer:
                yield message
        except BackPressureError:
            raise QueueFullError("All replicas have as many requests as they take; send it again later.") from None
        except DeploymentUnavailableError:
            raise EngineClosedError("There is no replica any more; send it again when there is one.") from None
        except (RayError, ReplicaUnavailableError) as error:
            if isinstance(error, RayTaskError):  # its own mistake, not its end
                raise
            raise LostProcessError(str(error)) from None
        finally:
            answer.cancel()


def in_front(ask: Ask, most_bytes: int) -> App:
    """An application that has every request answered by a replica.

    A replica that dies before anything of its answer was sent is replaced by another one, if the request changes
    nothing; otherwise the client is told.

    Args:
        ask: Takes a request to a replica.
        most_bytes: Largest body that one may take; of a larger one only so much is sent on that it can be refused.
    """

    async def answer(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": _NOT_HERE})
            return
        body = await _body(receive, most_bytes)
        if body is None:
            return
        head = {name: scope[name] for name in _SENT if name in scope}
        for left in reversed(range(_REPLICAS if _changes_nothing(scope) else 1)):
            sending = _Sending(send)
            try:
                async with contextlib.aclosing(ask(head, body)) as messages:
                    async for message in messages:
                        await sending.take(message)
                return
            except LostProcessError:
                told = sending.begun or not left
                log.warning("a replica has ended", extra={"path": scope["path"], "asked_again": not told})
                if told:
                    await sending.end(_lost(scope))
                    return
            except SoftpromptError as error:
                await sending.end(failure_of(error))
                return

    return answer


@final
class _Sending:
    """Sends an answer on; its head is kept until there is something of its body, so that a replica may die between."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._head: Message | None = None
        self._streams = False
        self.begun = False

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

    async def end(self, failure: Failure) -> None:
        """End an answer that will not be whole.

        Raises:
            LostProcessError: If the client has a part of it and no way to be told, so that the connection is cut.
        """
        if not self.begun:
            body, headers = closing(failure)
            await self._send({"type": "http.response.start", "status": failure.status, "headers": headers})
            await self._send({"type": "http.response.body", "body": body})
        elif self._streams:
            event = f"data: {json.dumps(failure.body(), ensure_ascii=False)}\n\n"
            await self._send({"type": "http.response.body", "body": event.encode()})
        else:
            raise LostProcessError(failure.message)


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


async def _body(receive: Receive, most_bytes: int) -> bytes | None:
    """A request's body, or as much as is too much; None if the client has left."""
    parts: list[bytes] = []
    size, more = 0, True
    while more and size <= most_bytes:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
    return b"".join(parts)


async def _live(receive: Receive, send: Send) -> None:
    """Say yes to what a web server tells of its beginning and its end."""
    for moment in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{moment}.complete"})
