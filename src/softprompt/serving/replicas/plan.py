"""What is sent to each replica so that it makes its engine, and how many replicas there are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from softprompt.errors import ConfigError
from softprompt.inference import BatchLimits
from softprompt.serving.settings import ServerSettings

__all__ = ["EnginePlan", "Replicas"]

_REPOSITORY = re.compile(r"[\w.-]+/(?P<name>[A-Za-z0-9][\w.-]*)(@(?P<revision>[^@\s]+))?")


@final
@dataclass(frozen=True, kw_only=True)
class EnginePlan:
    """How a replica makes its engine and its server; places are on the replica's machine.

    Attributes:
        backbone: Hub id, folder, or `bundled:NAME`.
        prompts: The folder of prompts, the same for all replicas.
        hub: Prompts on the hub instead, `user/name` or `user/name@revision`, each a model by its `name`; every replica
            fetches them when it starts.
        settings: The server's. Host, port and https are those of Serve, which knows no `max_connections`.
        loading: Further arguments of `Backbone.from_pretrained`.
        limits: How large a batch may be.
        queue_requests: Most requests that wait for an engine.
        queue_tokens: Most tokens that wait for it.
        cache_bytes: Most bytes of prompts in its memory.

    Raises:
        ConfigError: If prompts come from both places, a repository's name is none, or two prompts have the same name.
    """

    backbone: str
    prompts: str | None = None
    hub: tuple[str, ...] = ()
    settings: ServerSettings = field(default_factory=ServerSettings)
    loading: Mapping[str, object] = field(default_factory=dict)
    limits: BatchLimits = field(default_factory=BatchLimits)
    queue_requests: int = 1024
    queue_tokens: int = 2**20
    cache_bytes: int = 2**30

    def __post_init__(self) -> None:
        if self.hub and self.prompts is not None:
            raise ConfigError("Prompts come from a folder (prompts) or from the hub (hub), not from both; drop one.")
        if self.hub and self.settings.admin_keys is not None:
            raise ConfigError(
                "Prompts from the hub are each replica's own, so a change would reach one replica alone; drop "
                "admin_keys, or give a folder that all replicas share as prompts."
            )
        if len(self.repositories()) < len(self.hub):
            raise ConfigError("Two prompts of hub have the same name; rename one of the repositories.")

    def repositories(self) -> dict[str, tuple[str, str | None]]:
        """By a prompt's name its repository on the hub and the revision, None for the main one.

        Raises:
            ConfigError: If a repository's name is none.
        """
        found = {}
        for text in self.hub:
            match = _REPOSITORY.fullmatch(text)
            if match is None:
                raise ConfigError(f"hub={text!r}: expected user/name or user/name@revision.")
            found[match["name"]] = (text.partition("@")[0], match["revision"])
        return found


@final
@dataclass(frozen=True, kw_only=True)
class Replicas:
    """How many replicas there are, and what each gets of a machine.

    Attributes:
        least: Replicas, at least.
        most: Replicas at most: Serve starts and stops them by how many requests are on their way; None keeps `least`.
        target_ongoing: Requests on their way to each replica that Serve aims at, with `most`.
        cpus: Processors of each, and threads of torch, if `OMP_NUM_THREADS` says nothing else.
        gpus: GPUs of each; a part of one lets several replicas share it.
        fronts: Processes before them, which hand out requests and ask again where a replica dies.

    Raises:
        ConfigError: If a number is out of range, or `target_ongoing` and `most` do not come together.
    """

    least: int = 1
    most: int | None = None
    target_ongoing: float | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    fronts: int = 1

    def __post_init__(self) -> None:
        for number, what in ((self.least, "replicas"), (self.fronts, "fronts")):
            if number < 1:
                raise ConfigError(f"{number} {what}: expected at least 1.")
        if self.most is not None and self.most <= self.least:
            raise ConfigError(f"At most {self.most} replicas, at least {self.least}: expected more at most.")
        if self.target_ongoing is not None and (self.most is None or not self.target_ongoing > 0):
            raise ConfigError(
                f"target_ongoing={self.target_ongoing}: expected a number above 0, and how many replicas there may be "
                "at most."
            )
        if not (self.cpus >= 0 and self.gpus >= 0 and self.cpus + self.gpus > 0):
            raise ConfigError(f"{self.cpus:g} processors and {self.gpus:g} GPUs: expected some of either.")
