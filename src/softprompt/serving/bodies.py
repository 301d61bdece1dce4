"""The body of a request, read whole within bounds before anything else sees the request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from softprompt.serving.failures import Failure
from softprompt.serving.settings import ServerSettings

__all__ = ["App", "Message", "Receive", "Send", "nothing", "read_body"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_UPLOAD = re.compile(r"/admin/prompts/[^/]+")
_DIGITS = 19
"""Of a length, at most."""


async def read_body(
    scope: Message, headers: Mapping[bytes, str], receive: Receive, settings: ServerSettings
) -> tuple[Failure | None, bytes, Receive]:
    """Why a request's body is refused, if it is; the body; and what receives the rest of one that is refused.

    Args:
        scope: The request's.
        headers: By lower-case name.
        receive: Receives it.
        settings: How large a body may be, and how long it may take.
    """
    upload = scope["method"] == "PUT" and _UPLOAD.fullmatch(scope["path"]) is not None
    most = settings.max_prompt_bytes if upload else settings.max_body_bytes
    length = headers.get(b"content-length", "0")
    too_large = Failure(
        status=413, message=f"The body is larger than {most} bytes; send less at once.", code="body_too_large"
    )
    if not (length.isascii() and length.isdigit()) or len(length) > _DIGITS or int(length) > most:
        return too_large, b"", receive
    parts: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return Failure(status=499, message="The client has gone.", code="cancelled"), b"", nothing
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                more = message.get("more_body", False)
                if size > most:
                    return too_large, b"", receive
    except TimeoutError:
        slow = f"The body was not there within {settings.body_timeout_s:g} seconds; send it faster."
        return Failure(status=408, message=slow, code="body_too_slow"), b"", nothing
    kind = headers.get(b"content-type", "").partition(";")[0].strip().lower()
    if size and not upload and kind != "application/json":
        other = f"The body has to be application/json, but is {kind or 'of no named type'}."
        return Failure(status=415, message=other, code="wrong_content_type"), b"", nothing
    return None, b"".join(parts), receive


async def nothing() -> Message:
    """Receives that the client has gone."""
    return {"type": "http.disconnect"}
