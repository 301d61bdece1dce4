"""Meeting a Ray cluster: one that runs, or one of this machine that ends with the process."""

from __future__ import annotations

import os
import socket

from softprompt.errors import UnreachableError

__all__ = ["LOCAL", "check_listening", "join_ray"]

LOCAL = "local"
"""Stands for a Ray that is started on this machine and ends with the process."""

_REACH_S = 5.0
_STORE_BYTES = 2**27
"""Of the object store of a local Ray, through which nothing large goes."""


def join_ray(address: str, *, logging_level: str = "info") -> None:
    """Connect this process to a Ray; `ray.shutdown()` leaves it.

    Args:
        address: Of the Ray, as `ray.init` takes it, or `LOCAL`.
        logging_level: Of Ray's messages here.

    Raises:
        UnreachableError: If there is none.
    """
    check_listening(address)
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    begun = {"include_dashboard": False, "object_store_memory": _STORE_BYTES} if address == LOCAL else {}
    try:
        ray.init(address=address, logging_level=logging_level, **begun)
    except (ray.exceptions.RayError, OSError, ValueError, RuntimeError) as error:
        raise _none_at(address, error) from None


def check_listening(address: str) -> None:
    """Find out at once what Ray itself would try for many minutes, and before it is imported.

    Raises:
        UnreachableError: If nothing listens at the address.
    """
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon:  # a word such as `auto`
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()
    except (OSError, ValueError) as error:
        raise _none_at(address, error) from None


def _none_at(address: str, error: Exception) -> UnreachableError:
    return UnreachableError(
        f"No Ray at {address!r} ({error}); start one with `ray start --head`, or give {LOCAL!r}. One that asks for a "
        "token needs RAY_AUTH_MODE=token here, too."
    )
