"""What a client is told when something fails: a status and a body in OpenAI's shape, without paths or traces."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from softprompt.errors import (
    ArtefactError,
    BackboneError,
    ConfigError,
    DataError,
    DeadlineError,
    EngineClosedError,
    LengthError,
    MismatchError,
    NonFiniteError,
    QueueFullError,
    RequestCancelled,
    ServerError,
    ShapeError,
    SoftpromptError,
    UnknownPromptError,
    UnreachableError,
    UnsupportedError,
)

__all__ = ["Failure", "FailureError", "failure_of", "invalid", "report"]

_WRONG = "invalid_request_error"
_SERVER = "server_error"

_KINDS: Mapping[type[SoftpromptError], tuple[int, str, str]] = {
    UnknownPromptError: (404, _WRONG, "model_not_found"),
    LengthError: (400, _WRONG, "context_length_exceeded"),
    DataError: (400, _WRONG, "invalid_input"),
    ShapeError: (400, _WRONG, "invalid_input"),
    ConfigError: (400, _WRONG, "invalid_value"),
    UnsupportedError: (400, _WRONG, "unsupported"),
    QueueFullError: (429, "rate_limit_error", "queue_full"),
    DeadlineError: (504, "timeout_error", "deadline"),
    EngineClosedError: (503, _SERVER, "shutting_down"),
    RequestCancelled: (499, _SERVER, "cancelled"),
    MismatchError: (503, _SERVER, "prompt_unusable"),
    ArtefactError: (503, _SERVER, "prompt_unusable"),
    NonFiniteError: (503, _SERVER, "prompt_unusable"),
    UnreachableError: (503, _SERVER, "engine_unreachable"),
    ServerError: (502, _SERVER, "engine_failed"),
    BackboneError: (500, _SERVER, "internal_error"),
}
"""What each error of ours is to a client: the first that an error is an instance of counts."""

_RETRY_S = "1"
_MOST_CHARACTERS = 2000
"""Of a message."""


@final
@dataclass(frozen=True, kw_only=True)
class Failure:
    """An answer that says what went wrong.

    Attributes:
        status: Of HTTP.
        message: What came, what was expected, what to do.
        type: The kind, in OpenAI's words.
        code: What a program tells failures apart by.
        param: The field of the request that is at fault, if one is.
        headers: Further headers.
    """

    status: int
    message: str
    type: str = _WRONG
    code: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """The body of the response; what a client sent is told back in part, and as text that can be written."""
        param = None if self.param is None else _tellable(self.param)
        return {"error": {"message": _tellable(self.message), "type": self.type, "param": param, "code": self.code}}


def _tellable(text: str) -> str:
    short = text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"
    return short.encode("utf-8", "backslashreplace").decode()


class FailureError(Exception):
    """Ends a request with a failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def invalid(message: str, *, param: str | None = None, code: str = "invalid_value", status: int = 400) -> FailureError:
    """A request that is at fault itself."""
    return FailureError(Failure(status=status, message=message, code=code, param=param))


def report(log: logging.Logger, what: str, error: Exception, request_id: str) -> None:
    """Write a failure to the log: the reason of one that is known, where it happened of one that is not."""
    known = isinstance(error, SoftpromptError)
    log.error(what, exc_info=None if known else error, extra={"request_id": request_id, "reason": str(error)})


def failure_of(error: Exception, hidden: Sequence[tuple[str, str]] = (), *, admin: bool = False) -> Failure:
    """What a client is told of an error.

    Args:
        error: What happened.
        hidden: Texts that must not be told, such as paths, with what to say instead.
        admin: Whether the client runs the server, and may know what is wrong with a prompt.
    """
    if isinstance(error, FailureError):
        return error.failure
    known = next((told for kind, told in _KINDS.items() if isinstance(error, kind)), None)
    if known is None:
        message = "The server failed; its log says why, under the request's id."
        return Failure(status=500, message=message, type=_SERVER, code="internal_error")
    status, kind, code = known
    message = str(error)
    for text, instead in hidden:
        message = message.replace(text, instead)
    if code == "prompt_unusable" and admin:
        status, kind = 422, _WRONG
    elif code in ("prompt_unusable", "internal_error"):
        message = "The prompt cannot be used at present; whoever runs the server finds the reason in its log."
    param = "model" if code == "model_not_found" else None
    headers = {"Retry-After": _RETRY_S} if status in (429, 503) else {}
    return Failure(status=status, message=message, type=kind, code=code, param=param, headers=headers)
