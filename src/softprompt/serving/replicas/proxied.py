"""A server behind Ray Serve's proxy: which replica answered, and that a client has left."""

from __future__ import annotations

import asyncio

from softprompt.serving.guard import App, Message, Receive, Send

__all__ = ["behind_proxy"]


def behind_proxy(app: App, replica: str) -> App:
    """An application whose every answer names its replica, in `X-Replica`.

    Where a client leaves, Serve cancels the call. The application is told that its client has left instead, as by any
    web server: a call that is cancelled means to it that the server ends. `X-Request-Id` is left to the proxy, which
    gives each request its own and would send it a second time.

    Args:
        app: The application.
        replica: What Serve calls the replica.
    """

    async def answer(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        left = asyncio.Event()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message["headers"] if name.lower() != b"x-request-id"]
                message = {**message, "headers": [*kept, (b"x-replica", replica.encode())]}
            if not left.is_set():
                await send(message)

        answering = asyncio.ensure_future(app(scope, _until(left, receive), sending))
        try:
            await asyncio.shield(answering)
        except asyncio.CancelledError:
            left.set()
            await asyncio.wait({answering})
            raise
        finally:
            answering.cancel()

    return answer


def _until(left: asyncio.Event, receive: Receive) -> Receive:
    """What comes from a client, until it has left."""

    async def receiving() -> Message:
        coming, leaving = asyncio.ensure_future(receive()), asyncio.ensure_future(left.wait())
        try:
            await asyncio.wait({coming, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return {"type": "http.disconnect"} if left.is_set() else coming.result()
        finally:
            coming.cancel()
            leaving.cancel()

    return receiving
