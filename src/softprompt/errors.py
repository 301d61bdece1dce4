"""The exceptions that softprompt raises: one tree, so that one `except` catches them all.

Each message says what was expected, what came, and what to do about it.
"""

from __future__ import annotations

__all__ = [
    "ArtefactError",
    "BackboneError",
    "ConfigError",
    "DataError",
    "DeadlineError",
    "EngineClosedError",
    "LengthError",
    "LostProcessError",
    "MismatchError",
    "MissingDependencyError",
    "MissingFileError",
    "NonFiniteError",
    "QueueFullError",
    "RequestCancelled",
    "ServerError",
    "ShapeError",
    "SoftpromptError",
    "TrainingInterrupted",
    "UnknownPromptError",
    "UnreachableError",
    "UnsupportedError",
]


class SoftpromptError(Exception):
    """Base of every error that softprompt raises on purpose."""


class ConfigError(SoftpromptError, ValueError):
    """A setting is unknown, out of range, or contradicts another."""


class ShapeError(SoftpromptError, ValueError):
    """A tensor has the wrong shape, or an index lies outside one."""


class LengthError(SoftpromptError, ValueError):
    """Prompt, input and target together are longer than the backbone's positions."""


class UnknownPromptError(ConfigError):
    """There is no prompt of a name."""


class DataError(SoftpromptError, ValueError):
    """A file or a row of data cannot be used; the message names the file and the line."""


class MissingFileError(DataError):
    """A file or folder of data is not there."""


class BackboneError(SoftpromptError, ValueError):
    """A model cannot be loaded or wrapped as a backbone."""


class UnsupportedError(SoftpromptError, NotImplementedError):
    """A method, placement or format cannot be exact for this backbone, so it is refused."""


class ArtefactError(SoftpromptError, ValueError):
    """A stored folder or file is missing, truncated, foreign, or holds values that cannot be used."""


class MismatchError(ArtefactError):
    """A prompt was made for another backbone."""


class NonFiniteError(SoftpromptError, ArithmeticError):
    """A loss, gradient or stored value is NaN or infinite."""


class TrainingInterrupted(SoftpromptError):
    """Training was stopped from outside after it saved its state; the message says how to resume."""


class LostProcessError(SoftpromptError):
    """Another process of a training in several died or hangs; the message says which checkpoint is good."""


class MissingDependencyError(SoftpromptError, ImportError):
    """An optional library is needed; the message gives the command that installs it."""


class EngineClosedError(SoftpromptError):
    """An engine takes no further requests, or was closed before it had answered one."""


class QueueFullError(SoftpromptError):
    """Too many requests, or too many tokens, wait for an engine already; the same request may pass later."""


class ServerError(SoftpromptError):
    """A server cannot be reached, or fails."""


class UnreachableError(ServerError):
    """A server that another one asks does not answer at present; the same request may pass later."""


class RequestCancelled(SoftpromptError):
    """A request was cancelled before its answer was complete."""


class DeadlineError(SoftpromptError, TimeoutError):
    """A request's deadline passed before its answer was complete."""
