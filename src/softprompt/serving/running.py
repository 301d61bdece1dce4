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

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from softprompt.errors import ConfigError
from softprompt.serving.app import create_app
from softprompt.serving.bodies import Message, Receive, Send
from softprompt.serving.engines import AnsweringEngine
from softprompt.serving.failures import Failure
from softprompt.serving.guard import closing, refuse
from softprompt.serving.settings import ServerSettings

__all__ = ["SWITCH_S", "JsonLines", "log_to_stderr", "protocol", "serve"]

log = logging.getLogger(__name__)

_BACKLOG = 128
SWITCH_S = 0.0005
"""After which Python lets another thread go on: the engine's thread gives way at every operation, and would stand still
for ten times as long whenever a request is read."""
_BROKEN = Failure(
    status=400, message="What came is no request of HTTP/1.1; send its head and body in that form.", code="invalid_http"
)
_FULL = Failure(
    status=503,
    message="The server has as many connections as it may; try again later.",
    type="server_error",
    code="too_many_connections",
    headers={"Retry-After": "1"},
)
_PLAIN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


def serve(engine: AnsweringEngine, settings: ServerSettings, *, started: Callable[[str], None] | None = None) -> bool:
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
    with contextlib.closing(_listening(settings)) as listener:
        host, port = listener.getsockname()[:2]
        config = uvicorn.Config(
            app,
            http=protocol(settings.body_timeout_s),
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            limit_concurrency=settings.max_connections,
            timeout_graceful_shutdown=max(1, round(settings.shutdown_timeout_s)),
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
        )
        server = uvicorn.Server(config)
        with _ending_by_signal(server), _switching(SWITCH_S):
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
def _ending_by_signal(server: uvicorn.Server) -> Iterator[None]:
    """Let signals end a server in order: also those that come before uvicorn heeds them, or that it sends again."""

    def end(*_: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _switching(interval_s: float) -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(interval_s)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def protocol(timeout_s: float) -> type[H11Protocol]:
    """HTTP by uvicorn, which closes connections that keep it waiting: with a request's head, or with taking an answer.

    What uvicorn refuses itself is told in OpenAI's shape: connections beyond its `limit_concurrency`, and what is no
    HTTP.

    Args:
        timeout_s: Seconds that each may take.
    """

    async def full(scope: Message, receive: Receive, send: Send) -> None:
        log.warning("refused a request: there are too many connections")
        await refuse(_FULL, receive, send, timeout_s=timeout_s)

    @final
    class Impatient(H11Protocol):
        _head: asyncio.TimerHandle | None = None
        _reader: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.limit_concurrency = None  # which would be told as a plain text
            self._head = self.loop.call_later(timeout_s, transport.abort)

        def data_received(self, data: bytes) -> None:
            if self._head is None and self._is_idle():
                self._head = self.loop.call_later(timeout_s, self.transport.abort)
            most = self.config.limit_concurrency
            self.app = self.config.loaded_app if most is None or len(self.connections) <= most else full
            super().data_received(data)
            if self._head is not None and not self._is_idle():
                self._head.cancel()
                self._head = None

        def send_400_response(self, msg: str) -> None:
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # otherwise an answer has begun
                body, headers = closing(_BROKEN)
                told = h11.Response(status_code=_BROKEN.status, headers=headers, reason=b"Bad Request")
                for event in (told, h11.Data(data=body), h11.EndOfMessage()):
                    self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._reader = self.loop.call_later(timeout_s, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._reader is not None:
                self._reader.cancel()

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in (self._head, self._reader):
                if timer is not None:
                    timer.cancel()
            super().connection_lost(exc)

        def _is_idle(self) -> bool:
            """Whether no request is being answered."""
            return self.cycle is None or self.cycle.response_complete

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
