"""An answer of a replica as messages that travel through Ray, and a client that has left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from softprompt.serving.bodies import App, Message

__all__ = ["answered"]


async def answered(app: App, head: Message, body: bytes, replica: str) -> AsyncGenerator[Message, None]:
    """The messages of an application's answer as they come; the first names its replica, in `X-Replica`.

    Where they are no longer asked for, or the call is cancelled, as by Serve when a client leaves, the application is
    told that its client has left, as by any web server: a call that is cancelled means to it that the server ends.
    `X-Request-Id` is left to Serve's proxy, which gives each request its own and would send it a second time.

    Args:
        app: The application.
        head: The request's ASGI scope.
        body: Its whole body.
        replica: What Serve calls the replica.
    """
    left = asyncio.Event()
    messages: asyncio.Queue[Message | None] = asyncio.Queue()
    unread = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if unread:
            return unread.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message["headers"] if name.lower() != b"x-request-id"]
            message = {**message, "headers": [*kept, (b"x-replica", replica.encode())]}
        await messages.put(message)

    answering = asyncio.ensure_future(app(dict(head), receive, send))
    answering.add_done_callback(lambda _: messages.put_nowait(None))
    try:
        while (message := await messages.get()) is not None:
            yield message
        answering.result()
    finally:
        left.set()
        await asyncio.wait({answering})
