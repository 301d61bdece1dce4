"""Server-sent events: an answer as it grows."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse

from softprompt.serving.failures import failure_of, report

__all__ = ["STREAMED", "event_stream"]

log = logging.getLogger(__name__)

Event = Mapping[str, Any]

STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer, or with `stream` its events.", "content": {"text/event-stream": {}}}
}
"""What the description of a route that may stream says besides."""


async def event_stream(
    http: Request, events: AsyncGenerator[Event, None], hidden: Callable[[], list[tuple[str, str]]]
) -> StreamingResponse:
    """A response that sends each event as it comes, then `[DONE]`, or the failure that ended them.

    What fails before the first event is a failure of the request, and is raised.

    Args:
        http: The request.
        events: What is sent, at least one.
        hidden: As in `failure_of`.
    """
    first = await anext(events)

    async def lines() -> AsyncIterator[str]:
        try:
            yield _line(first)
            async for event in events:
                yield _line(event)
        except Exception as error:
            failure = failure_of(error, hidden())
            if failure.status >= 500:
                report(log, "a stream failed", error, http.state.request_id)
            yield _line(failure.body())
            return
        finally:
            await events.aclose()
        yield "data: [DONE]\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


def _line(event: Event) -> str:
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
