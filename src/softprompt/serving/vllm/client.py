"""Requests to a vLLM server. What fails there is told without its address or its words, which are in the log."""

from __future__ import annotations

import contextlib
import logging
import urllib.parse
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import httpx2

from softprompt.errors import ConfigError, QueueFullError, ServerError, UnreachableError

__all__ = ["VllmClient", "VllmServer"]

log = logging.getLogger(__name__)

_COMPLETIONS = "/v1/completions"
_KEPT_S = 2.0
"""How long a connection is kept that nothing goes over: less than the 5 seconds after which uvicorn closes it."""
_MOST_LOGGED = 500
"""Characters of what the server says of a failure."""


@final
@dataclass(frozen=True, kw_only=True)
class VllmServer:
    """Where a vLLM server is, which was started with `--enable-prompt-embeds`.

    Attributes:
        url: Its address, such as `http://127.0.0.1:8001`, without `/v1`.
        model: What it calls the backbone; None for the first model that it lists.
        key: What it lets requests in by; None if it asks for none.
        connect_timeout_s: Seconds within which a connection has to be there.

    Raises:
        ConfigError: If the address is none, or the seconds are not above 0.
    """

    url: str
    model: str | None = None
    key: str | None = field(default=None, repr=False)
    connect_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(f"{self.url!r} is no server's address; give one such as http://127.0.0.1:8001.")
        if not self.connect_timeout_s > 0:
            raise ConfigError(f"connect_timeout_s={self.connect_timeout_s}: expected seconds above 0.")


@final
class VllmClient:
    """A vLLM server for coroutines of one event loop.

    Args:
        server: Where it is.
    """

    def __init__(self, server: VllmServer) -> None:
        self._http = httpx2.AsyncClient(
            base_url=server.url.rstrip("/").removesuffix("/v1"),
            headers={} if server.key is None else {"Authorization": f"Bearer {server.key}"},
            timeout=httpx2.Timeout(None, connect=server.connect_timeout_s),  # answers have deadlines of their own
            limits=httpx2.Limits(max_connections=None, keepalive_expiry=_KEPT_S),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def models(self) -> Any:
        """The JSON of `/v1/models`.

        Raises:
            UnreachableError: As in `complete`, and so are all others.
        """
        with _telling():
            return await _json_of(await self._http.get("/v1/models"))

    async def complete(self, body: Mapping[str, Any]) -> Any:
        """The JSON of an answer that comes whole.

        Raises:
            UnreachableError: If nothing answers there, or says that it cannot at present.
            QueueFullError: If it has too much to do.
            ServerError: If it refuses the request, breaks off, or answers no JSON.
        """
        with _telling():
            return await _json_of(await self._http.post(_COMPLETIONS, json=body))

    async def stream(self, body: Mapping[str, Any]) -> AsyncGenerator[str, None]:
        """The events of an answer as they come. Closed before its end, it ends the request there.

        Raises:
            UnreachableError: As in `complete`, and so are all others.
        """
        with _telling():
            async with self._http.stream("POST", _COMPLETIONS, json=body) as answer:
                if answer.status_code != httpx2.codes.OK:
                    await answer.aread()
                _check_status(answer)
                async for line in answer.aiter_lines():
                    event = line.removeprefix("data:").strip()
                    if event == "[DONE]":
                        return
                    if line.startswith("data:"):
                        yield event


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    """Make errors of the way there those of ours."""
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        log.warning("the engine behind cannot be reached", extra={"reason": f"{type(error).__name__}: {error}"})
        raise UnreachableError(
            "The engine behind this server cannot be reached; try again later, or see whether it runs."
        ) from None
    except httpx2.HTTPError as error:
        log.warning("the engine behind broke off", extra={"reason": f"{type(error).__name__}: {error}"})
        raise ServerError(
            "The engine behind this server broke off before its answer was complete; try again."
        ) from None


async def _json_of(answer: httpx2.Response) -> Any:
    _check_status(answer)
    try:
        return answer.json()
    except ValueError:
        raise ServerError("The engine behind this server answered no JSON; see that it is a vLLM server.") from None


def _check_status(answer: httpx2.Response) -> None:
    if answer.status_code == httpx2.codes.OK:
        return
    said = {"status": answer.status_code, "said": answer.text[:_MOST_LOGGED]}
    log.warning("the engine behind refused a request", extra=said)
    match answer.status_code:
        case httpx2.codes.TOO_MANY_REQUESTS:
            raise QueueFullError("The engine behind this server has too much to do; try again later.")
        case httpx2.codes.SERVICE_UNAVAILABLE:
            raise UnreachableError("The engine behind this server takes no requests at present; try again later.")
        case status:
            raise ServerError(f"The engine behind this server refused the request ({status}); its log says why.")
