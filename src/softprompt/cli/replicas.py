"""`softprompt serve --ray`: what the command line says of replicas, as the library takes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from softprompt.errors import ConfigError

__all__ = ["ALONE", "check_alone", "serve_replicas"]

ALONE: Mapping[str, object] = {
    "hub": None,
    "replicas": 1,
    "most_replicas": None,
    "target_ongoing": None,
    "replica_cpus": 1.0,
    "replica_gpus": 0.0,
    "fronts": 1,
}
"""What a server without Ray has of the options that are about it."""

_FILES = ("keys", "admin_keys", "tls_certificate", "tls_key")


def check_alone(given: Mapping[str, Any]) -> None:
    """Refuse options about replicas where there are none.

    Raises:
        ConfigError: With those that were given.
    """
    if wrong := [name for name, value in ALONE.items() if given[name] != value]:
        raise ConfigError(f"{', '.join(wrong)}: only with ray, which gives the address of a Ray, or local.")


def serve_replicas(given: Mapping[str, Any], settings: Any, most_connections: int) -> None:
    """Serve on Ray what the command line asks for.

    Args:
        given: The options of `softprompt serve` by name.
        settings: The `ServerSettings` that they make.
        most_connections: `max_connections` if nothing is said.

    Raises:
        ConfigError: If an option says nothing on Ray; further errors as of `serve_on_ray`.
    """
    from softprompt.cli.loading import loading_options
    from softprompt.inference import BatchLimits
    from softprompt.serving.replicas import EnginePlan, Replicas, serve_on_ray

    if given["vllm"] is not None:
        raise ConfigError("Behind vLLM there is nothing to replicate here, whose server has replicas itself; drop ray.")
    if given["port"] == 0:
        raise ConfigError("port=0: on Ray every machine listens on the same port; give one that is free.")
    if given["max_connections"] != most_connections:
        raise ConfigError("max_connections: Ray Serve bounds requests, not connections; drop it, or ray.")
    replicas = Replicas(
        least=given["replicas"],
        most=given["most_replicas"],
        target_ongoing=given["target_ongoing"],
        cpus=given["replica_cpus"],
        gpus=given["replica_gpus"],
        fronts=given["fronts"],
    )
    plan = EnginePlan(
        backbone=_place(given["backbone"]) if Path(given["backbone"]).is_dir() else given["backbone"],
        prompts=None if given["prompts"] is None else _place(given["prompts"]),
        hub=tuple(given["hub"] or ()),
        settings=dataclasses.replace(settings, **{name: _place(given[name]) for name in _FILES if given[name]}),
        loading=loading_options(given),
        limits=BatchLimits(rows=given["batch_rows"], tokens=given["batch_tokens"]),
        queue_requests=given["queue_requests"],
        queue_tokens=given["queue_tokens"],
        cache_bytes=given["cache_bytes"],
    )
    number = "one replica" if replicas.least == 1 else f"{replicas.least} replicas"
    serve_on_ray(
        plan,
        replicas,
        given["ray"],
        started=lambda address: print(f"{plan.backbone} in {number} at {address}", flush=True),
    )


def _place(path: str) -> str:
    """A path as a replica finds it, which runs in another folder."""
    return str(Path(path).resolve())
