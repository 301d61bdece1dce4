"""What stands before every request: who asks, how much is sent and how slowly; and a line in the log behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import secrets
import time
from typing import Any, final

from softprompt.serving.bodies import App, Message, Receive, Send, nothing, read_body
from softprompt.serving.failures import Failure
from softprompt.serving.keys import Keys
from softprompt.serving.metrics import Metrics
from softprompt.serving.settings import ServerSettings

__all__ = ["ADMIN", "Guard", "close_websocket", "closing", "refuse"]

log = logging.getLogger(__name__)

ADMIN = "/admin"
_OPEN = ("/health/", "/page/")
"""Where no key is asked for, besides the page itself."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_NOT_HERE = 1008
"""What a websocket is closed with."""

_CLOSING = Failure(
    status=503,
    message="The server was told to stop, and this took too long; send it again when the server is back.",
    type="server_error",
    code="shutting_down",
    headers={"Retry-After": "1"},
)


@final
class Guard:
    """An application behind keys and bounds.

    Every request gets an id, the client's own `X-Request-Id` if it is a short word. A body is read before the
    application sees the request, so that what is too large or too slow costs nothing else.

    Args:
        app: The application.
        settings: The server's.
        metrics: Where requests are counted.
    """

    def __init__(self, app: App, settings: ServerSettings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._keys = None if settings.keys is None else Keys(settings.keys)
        self._admin_keys = None if settings.admin_keys is None else Keys(settings.admin_keys)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await close_websocket(send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get(b"x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"req-{secrets.token_hex(8)}"
        facts = scope.setdefault("state", {})
        facts.update(request_id=request_id, facts={})
        start, status, begun = time.perf_counter(), 500, False

        async def sending(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                message["headers"] = [*message.get("headers", ()), *_headers(request_id)]
            await send(message)

        try:
            failure = self._refused(scope, headers, facts)
            if failure is None:
                failure, receive = await self._with_body(scope, headers, receive)
            if failure is None:
                await self._app(scope, receive, sending)
            else:
                rest = nothing if b"expect" in headers else receive
                await refuse(failure, rest, sending, timeout_s=self._settings.body_timeout_s)
        except asyncio.CancelledError:  # the server ends, and waits no longer
            if begun:
                raise
            await refuse(_CLOSING, nothing, sending, timeout_s=self._settings.body_timeout_s)
        finally:
            seconds = time.perf_counter() - start
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requested(route, status, seconds)
            log.info(
                "request",
                extra={
                    "request_id": request_id,
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "seconds": round(seconds, 4),
                    **facts["facts"],
                },
            )

    def _refused(self, scope: Message, headers: dict[bytes, str], facts: dict[str, Any]) -> Failure | None:
        """Why a request is not let in, by its head alone."""
        path = scope["path"]
        names = (*_LOCAL_NAMES, self._settings.host)
        if self._settings.is_local and _host(headers.get(b"host", "")) not in names:
            message = f"This server answers this machine only, under the names {', '.join(dict.fromkeys(names))}."
            return Failure(status=403, message=message, type="permission_error", code="wrong_host")
        admin = path == ADMIN or path.startswith(f"{ADMIN}/")
        keys = self._admin_keys if admin else self._keys
        if admin and keys is None:
            message = "Prompts cannot be changed here; the server has to be started with admin_keys for that."
            return Failure(status=403, message=message, type="permission_error", code="admin_off")
        if keys is None or path == "/" or path.startswith(_OPEN):
            return None
        kind, _, key = headers.get(b"authorization", "").partition(" ")
        name = keys.name_of(key.strip()) if kind.lower() == "bearer" else None
        if name is None:
            message = "This server needs a key, as in `Authorization: Bearer KEY`; the one that came is none of its."
            if not key:
                message = "This server needs a key, as in `Authorization: Bearer KEY`, and none came."
            return Failure(
                status=401,
                message=message,
                type="authentication_error",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        facts["facts"]["key"] = name
        return None

    async def _with_body(
        self, scope: Message, headers: dict[bytes, str], receive: Receive
    ) -> tuple[Failure | None, Receive]:
        """Read the body, within the bounds; with it, what receives it again, and then waits for the client to leave.

        With a failure comes what receives the rest of the body.
        """
        failure, read, rest = await read_body(scope, headers, receive, self._settings)
        if failure is not None:
            return failure, rest
        body: bytes | None = read

        async def replay() -> Message:
            nonlocal body
            if body is None:
                return await receive()
            whole, body = body, None
            return {"type": "http.request", "body": whole, "more_body": False}

        return None, replay


async def close_websocket(send: Send) -> None:
    """Say that there are none here."""
    await send({"type": "websocket.close", "code": _NOT_HERE})


async def refuse(failure: Failure, rest: Receive, send: Send, *, timeout_s: float) -> None:
    """Refuse a request, then take the rest of its body and throw it away.

    A connection that is closed while its client still sends is reset, and the client never reads why.

    Args:
        failure: Why.
        rest: Receives the rest of the body.
        send: Sends the response.
        timeout_s: Seconds that the rest may take.
    """
    body, headers = closing(failure)
    await send({"type": "http.response.start", "status": failure.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while (await rest()).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b""})


def closing(failure: Failure) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Body and headers of a response that ends its connection."""
    body = json.dumps(failure.body()).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    return body, [(name.lower().encode(), value.encode()) for name, value in {**headers, **failure.headers}.items()]


def _host(header: str) -> str:
    """The name of a Host header, without its port."""
    header = header.lower()
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] or header


def _headers(request_id: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"x-request-id", request_id.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"cache-control", b"no-store"),
    ]
