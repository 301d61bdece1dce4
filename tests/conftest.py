"""What every test stands on: no network, one thread, checked shapes, repeatable hypothesis runs."""

from __future__ import annotations

import ipaddress
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import jaxtyping
import pytest
from hypothesis import settings
from tests.checking import checked

# Read when torch and the Hugging Face libraries are first imported, so set before any test module is.
HUB_CACHE = tempfile.TemporaryDirectory(prefix="softprompt-tests-")
os.environ["HF_HOME"] = HUB_CACHE.name
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"

# Shapes and types are checked in tests only.
jaxtyping.jaxtyped = checked
jaxtyping.install_import_hook("softprompt", "tests.checking.typed")

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


class OutsideConnectionError(RuntimeError):
    """A test tried to reach another machine."""


OUTSIDE: list[str] = []
HOST_ARGUMENT = {"socket.connect": 1, "socket.sendto": 1, "socket.getaddrinfo": 0, "socket.gethostbyname": 0}


def is_loopback(host: str | bytes | None) -> bool:
    """True for this machine's own names and addresses; the empty host and None mean all of its interfaces."""
    name = host.decode() if isinstance(host, bytes) else host or "localhost"
    if name in {"localhost", "0.0.0.0", "::"}:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def refuse_outside_connections(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: raise on a connection or a name lookup beyond loopback.

    Libraries catch errors of the network and go on, so each attempt is kept too and fails its test at the end.
    """
    if event not in HOST_ARGUMENT:
        return
    address = arguments[HOST_ARGUMENT[event]]
    if event in {"socket.connect", "socket.sendto"}:
        if not isinstance(address, tuple):
            return  # a socket of this machine's file system
        address = address[0]
    if not is_loopback(address):
        OUTSIDE.append(f"{event} {address}")
        raise OutsideConnectionError(f"Tests reach no network, but {event} was asked for {address!r}; use a stand-in.")


sys.addaudithook(refuse_outside_connections)


@pytest.fixture(autouse=True)
def outside_connections() -> Iterator[list[str]]:
    """Fail a test that tried to reach another machine, also when the code under test caught the error."""
    yield OUTSIDE
    attempts, OUTSIDE[:] = list(OUTSIDE), []
    assert not attempts, f"Tests reach no network, but these were tried: {', '.join(attempts)}."


def pytest_unconfigure() -> None:
    HUB_CACHE.cleanup()
