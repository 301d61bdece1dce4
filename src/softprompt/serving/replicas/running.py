"""Replicas on a Ray that is started for them, or that runs already, until the process is told to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from softprompt.errors import ConfigError, ServerError
from softprompt.loop.ray_cluster import LOCAL, check_listening, join_ray
from softprompt.serving.replicas.deployment import application
from softprompt.serving.replicas.plan import EnginePlan, Replicas
from softprompt.serving.settings import ServerSettings

__all__ = ["http_options", "serve_on_ray"]

_APPLICATION = "softprompt"
_LOOK_S, _ENDING_S = 0.2, 10.0


def serve_on_ray(
    plan: EnginePlan, replicas: Replicas, address: str, *, started: Callable[[str], None] | None = None
) -> None:
    """Serve replicas until the process is told to stop (SIGTERM, Ctrl-C); then take them away.

    Requests on their way are finished then, within the plan's `shutdown_timeout_s`.

    Args:
        plan: How each replica makes its engine.
        replicas: How many there are.
        address: Of the Ray, as `ray.init` takes it, or `local`.
        started: Called with the server's address, once all replicas answer.

    Raises:
        ConfigError: If Serve runs there already, this machine has less than the replicas need, or another program
            listens where they would.
        UnreachableError: If no Ray is at the address.
        ServerError: If the replicas do not start.
        MissingDependencyError: If Ray Serve is not installed.
    """
    check_listening(address)
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # requests make lines that are alike; read when Ray is imported
    deployed = application(plan, replicas)
    import ray
    from ray import serve

    with _connected(address), _told_to_stop() as stop:
        if serve.status().proxies:
            raise ConfigError(
                "Serve runs on this Ray already, and listens where it was told to when it was started; deploy "
                "softprompt.serving.replicas.application there with `serve run`, or end it with `serve shutdown`."
            )
        if address == LOCAL:
            _check_room(replicas, ray.cluster_resources())
        try:
            _listen(plan.settings)
            if _start(deployed, stop) and started is not None:
                settings = plan.settings
                scheme = "https" if settings.tls_certificate else "http"
                host = f"[{settings.host}]" if ":" in settings.host else settings.host
                started(f"{scheme}://{host}:{settings.port}")
            stop.wait()
        finally:
            _take_away(plan.settings.shutdown_timeout_s)


def http_options(settings: ServerSettings) -> dict[str, Any]:
    """Where and how Serve's proxies listen, one on each machine."""
    return {
        "host": settings.host,
        "port": settings.port,
        "ssl_keyfile": settings.tls_key,
        "ssl_certfile": settings.tls_certificate,
    }


def _listen(settings: ServerSettings) -> None:
    """Start Serve.

    Raises:
        ConfigError: If its proxies cannot listen.
    """
    from ray import serve
    from ray.exceptions import RayTaskError

    try:
        serve.start(proxy_location="EveryNode", http_options=http_options(settings))
    except RayTaskError as error:
        raise ConfigError(
            f"Serve cannot listen on {settings.host}:{settings.port} ({str(error).strip().splitlines()[-1]}); give "
            "another host or port."
        ) from None


def _start(deployed: Any, stop: threading.Event) -> bool:
    """Deploy, and wait until all replicas answer; False if the process is told to stop before.

    Raises:
        ServerError: If they do not start.
    """
    from ray import serve
    from ray.serve.schema import ApplicationStatus

    serve.run_many([serve.RunTarget(deployed, name=_APPLICATION)], wait_for_applications_running=False)
    while not stop.wait(_LOOK_S):
        found = serve.status().applications[_APPLICATION]
        if found.status == ApplicationStatus.RUNNING:
            return True
        if found.status == ApplicationStatus.DEPLOY_FAILED:
            lines = [line.strip() for one in found.deployments.values() for line in one.message.splitlines()]
            reasons = [line for line in lines if line] or [found.message]
            raise ServerError(f"The replicas did not start: {reasons[-1]}")
    return False


def _take_away(within_s: float) -> None:
    """Let replicas finish what they have, within some seconds, and end Serve."""
    from ray import serve

    serve.delete(_APPLICATION, _blocking=False)
    until = time.monotonic() + within_s + _ENDING_S
    while _APPLICATION in serve.status().applications and time.monotonic() < until:
        time.sleep(_LOOK_S)
    serve.shutdown()


@contextlib.contextmanager
def _connected(address: str) -> Iterator[None]:
    """A Ray for a block.

    Raises:
        UnreachableError: If there is none at the address.
    """
    import ray

    join_ray(address)
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """Set once the process is told to stop."""
    told = threading.Event()
    before = {number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_room(replicas: Replicas, there: dict[str, float]) -> None:
    """Refuse what a machine without further ones never has room for, and would be waited for.

    Raises:
        ConfigError: If it does not.
    """
    for what, each in (("CPU", replicas.cpus), ("GPU", replicas.gpus)):
        if replicas.least * each > there.get(what, 0.0):
            raise ConfigError(
                f"{replicas.least} replicas of {each:g} {what} each need more than the {there.get(what, 0.0):g} of "
                "this machine; take fewer, or give each less."
            )
