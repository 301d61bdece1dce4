"""Requests to a vLLM server. What fails there is told without its address or its words, which are in the log."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from typing import Any, final

import httpx2

from softprompt.errors import ConfigError, QueueFullError, ServerError, UnreachableError

__all__ = ["VllmClient", "VllmServer"]

log = logging.getLogger(__name__)

_COMPLETIONS = "/v1/completions"
_JSON = {"Content-Type": "application/json"}
_KEY = re.compile("[!-~]+")
_KEPT_S = 2.0
"""How long a connection is kept that nothing goes over: less than the 5 seconds after which uvicorn closes it."""
_HEALTH_S = 2.0
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
        ConfigError: If the address is none, the key cannot be sent, or the seconds are not above 0.
    """

    url: str
    model: str | None = None
    key: str | None = field(default=None, repr=False)
    connect_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if not _is_address(self.url):
            raise ConfigError(f"{self.url!r} is no server's address; give one such as http://127.0.0.1:8001.")
        if self.key is not None and not _KEY.fullmatch(self.key):
            raise ConfigError(
                "The key of the vLLM server is empty, or has blanks, line ends or letters beyond ASCII; give it as it "
                "stands behind vLLM's --api-key."
            )
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

    async def is_up(self) -> bool:
        """Whether it says that it is well, within 2 seconds."""
        try:
            return (await self._http.get("/health", timeout=_HEALTH_S)).status_code == httpx2.codes.OK
        except httpx2.HTTPError:
            return False

    async def models(self) -> Any:
        """The JSON of `/v1/models`.

        Raises:
            UnreachableError: As in `complete`, and so are all others.
        """
        with _telling():
            return await _json_of(await self._http.get("/v1/models"))

    async def complete(self, body: bytes) -> Any:
        """The JSON of an answer that comes whole.

        Args:
            body: The JSON of what is asked.

        Raises:
            UnreachableError: If nothing answers there, or says that it cannot at present.
            QueueFullError: If it has too much to do.
            ServerError: If it refuses the request, breaks off, or answers no JSON.
        """
        with _telling():
            return await _json_of(await self._http.post(_COMPLETIONS, content=body, headers=_JSON))

    async def stream(self, body: bytes) -> AsyncGenerator[str, None]:
        """The events of an answer as they come. Closed before its end, it ends the request there.

        Args:
            body: The JSON of what is asked.

        Raises:
            UnreachableError: As in `complete`, and so are all others.
        """
        with _telling():
            async with self._http.stream("POST", _COMPLETIONS, content=body, headers=_JSON) as answer:
                if answer.status_code != httpx2.codes.OK:
                    await answer.aread()
                _check_status(answer)
                async for line in _lines(answer):
                    event = line.removeprefix("data:").strip()
                    if event == "[DONE]":
                        return
                    if line.startswith("data:"):
                        yield event


def _is_address(url: str) -> bool:
    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL:
        return False
    return parts.scheme in ("http", "https") and bool(parts.host) and (parts.port is None or 0 < parts.port < 2**16)


async def _lines(answer: httpx2.Response) -> AsyncGenerator[str, None]:
    """The lines of an answer, which end at line feeds alone: JSON may hold U+2028 and its like as they are."""
    left = b""
    async for some in answer.aiter_bytes():
        *whole, left = (left + some).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
    yield left.decode(errors="replace")


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
    except (ValueError, RecursionError):
        log.warning("the engine behind answered no JSON", extra={"said": answer.text[:_MOST_LOGGED]})
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
