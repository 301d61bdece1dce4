"""A server as a process: it listens, and ends in order when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any, final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from softprompt.errors import ConfigError
from softprompt.inference import Engine
from softprompt.serving.app import create_app
from softprompt.serving.settings import ServerSettings

__all__ = ["JsonLines", "log_to_stderr", "serve"]

_BACKLOG = 128
_PLAIN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


def serve(engine: Engine, settings: ServerSettings, *, started: Callable[[str], None] | None = None) -> bool:
    """Serve an engine until the process is told to stop (SIGTERM, Ctrl-C); then close it.

    No further connections are taken then, and requests in flight are finished, within `shutdown_timeout_s`.

    Args:
        engine: Answers.
        settings: The server's.
        started: Called with the address, once the server listens.

    Returns:
        Whether all requests that were taken were answered.

    Raises:
        ConfigError: If the address is taken or is none of this machine's.
    """
    app = create_app(engine, settings)
    with contextlib.closing(_listening(settings)) as listener, _without_exit_by_signal():
        host, port = listener.getsockname()[:2]
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=_protocol(settings.body_timeout_s),
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="on",
                limit_concurrency=settings.max_connections,
                timeout_graceful_shutdown=max(1, round(settings.shutdown_timeout_s)),
                ssl_certfile=settings.tls_certificate,
                ssl_keyfile=settings.tls_key,
            )
        )
        if started is not None:
            scheme = "https" if settings.tls_certificate else "http"
            started(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")
        server.run(sockets=[listener])
    return engine.close(timeout=settings.shutdown_timeout_s)


def _listening(settings: ServerSettings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"Nothing can listen on {settings.host}:{settings.port} ({error.strerror}); give another host or port."
        ) from None
    listener.setblocking(False)
    return listener


@contextlib.contextmanager
def _without_exit_by_signal() -> Iterator[None]:
    """Uvicorn sends itself the signal again when it has ended in order; that is no reason to die of it."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _protocol(timeout_s: float) -> type[H11Protocol]:
    """HTTP by uvicorn, where connections whose first request's head does not come are closed."""

    @final
    class Impatient(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._waiting = self.loop.call_later(timeout_s, self._give_up)

        def _give_up(self) -> None:
            if self.cycle is None:
                self.transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
            super().connection_lost(exc)

    return Impatient


@final
class JsonLines(logging.Formatter):
    """A log of JSON objects, one a line, with what was said beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _PLAIN},
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_to_stderr() -> None:
    """Make the process's log a log of JSON lines on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
