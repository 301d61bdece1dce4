"""One tree of errors, whose leaves are also what Python programmers expect."""

from __future__ import annotations

import pytest

from softprompt import errors
from softprompt.errors import SoftpromptError

KINDS = {
    "ArtefactError": ValueError, "BackboneError": ValueError, "ConfigError": ValueError, "DataError": ValueError,
    "DeadlineError": TimeoutError, "EngineClosedError": SoftpromptError, "LengthError": ValueError,
    "LostProcessError": SoftpromptError,
    "MismatchError": errors.ArtefactError, "MissingDependencyError": ImportError,
    "MissingFileError": errors.DataError, "NonFiniteError": ArithmeticError, "QueueFullError": SoftpromptError,
    "RequestCancelled": SoftpromptError, "ServerError": SoftpromptError, "ShapeError": ValueError,
    "SoftpromptError": Exception, "TrainingInterrupted": SoftpromptError, "UnknownPromptError": errors.ConfigError,
    "UnreachableError": errors.ServerError, "UnsupportedError": NotImplementedError,
}  # fmt: skip


def test_all_are_listed():
    assert errors.__all__ == sorted(KINDS)
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined == set(KINDS)


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_one_except_catches_them_all(name, kind):
    assert issubclass(getattr(errors, name), SoftpromptError)
    assert issubclass(getattr(errors, name), kind)


def test_a_stop_from_outside_is_no_bad_value():
    assert not issubclass(errors.TrainingInterrupted, ValueError)
