"""The engine as a deployment of Ray Serve: each replica loads the backbone and answers by an engine of its own.

The task's name stays in the body. Serve's multiplexing by a header would send each prompt's requests to a replica of
its own and take mixed batches apart, and `@serve.batch` would make batches that no new request can join.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from softprompt.backbones import Backbone
from softprompt.errors import EngineClosedError, MissingDependencyError, SoftpromptError
from softprompt.inference import Engine, Request, Sampling
from softprompt.serving.app import create_app
from softprompt.serving.bodies import Message
from softprompt.serving.replicas.front import Front
from softprompt.serving.replicas.gauges import Reporter
from softprompt.serving.replicas.plan import EnginePlan, Replicas
from softprompt.serving.replicas.proxied import answered
from softprompt.serving.running import SWITCH_S, log_to_stderr
from softprompt.store import pull_prompt

__all__ = ["Replica", "application", "completed", "front_options", "options", "pull_all"]

_WATCH_S = 5.0
"""A prompt is replaced through one replica; the others see it on disk."""
_BESIDE = 256
"""Requests on their way besides those that an engine has: bodies that are read, prompts that are loaded, health."""
_GENERATORS = 3
"""Of an engine, each with a batch: texts that join, texts that take turns, labels."""
_TRIES = 3
_RETRY_S = 1.0
_TARGET_ONGOING = 32.0


def application(plan: EnginePlan, replicas: Replicas | None = None) -> Any:
    """An application for `ray.serve.run`: the whole server, once in each replica, and one door before them.

    Args:
        plan: How each replica makes its engine.
        replicas: How many there are.

    Raises:
        MissingDependencyError: If Ray Serve is not installed.
    """
    try:
        from ray import serve
    except ImportError as error:
        raise MissingDependencyError(
            f"Replicas need Ray Serve, which needs {error.name}: pip install 'softprompt[ray,serve]'"
        ) from None
    replicas = replicas or Replicas()
    engine = serve.deployment(Replica, **options(plan, replicas)).bind(completed(plan, replicas))
    return serve.deployment(serve.ingress()(Front), **front_options(plan, replicas)).bind(engine, plan.settings)


def completed(plan: EnginePlan, replicas: Replicas) -> EnginePlan:
    """A plan with what it leaves open: how soon replicas see a replaced prompt; without a GPU they compute on CPUs."""
    if plan.prompts is not None and plan.settings.watch_s is None:
        plan = replace(plan, settings=replace(plan.settings, watch_s=_WATCH_S))
    if not replicas.gpus and plan.loading.get("device", "auto") == "auto":  # Ray does not keep it from the first GPU
        plan = replace(plan, loading={**plan.loading, "device": "cpu"})
    return plan


def options(plan: EnginePlan, replicas: Replicas) -> dict[str, Any]:
    """What Serve is told of a deployment.

    A replica may have more requests than its engine takes, so that the engine is what refuses them.
    """
    number: dict[str, Any] = {"num_replicas": replicas.least}
    if replicas.most is not None:
        number = {
            "autoscaling_config": {
                "min_replicas": replicas.least,
                "max_replicas": replicas.most,
                "target_ongoing_requests": replicas.target_ongoing or _TARGET_ONGOING,
            }
        }
    return {
        **number,
        "name": "engine",
        "ray_actor_options": {"num_cpus": replicas.cpus, "num_gpus": replicas.gpus},
        "max_ongoing_requests": plan.queue_requests + _GENERATORS * plan.limits.rows + _BESIDE,
        "max_queued_requests": plan.queue_requests + _BESIDE,
        "graceful_shutdown_timeout_s": plan.settings.shutdown_timeout_s,
        "max_constructor_retry_count": _TRIES,
        "logging_config": {"enable_access_log": False},  # the server has its own
    }


def front_options(plan: EnginePlan, replicas: Replicas) -> dict[str, Any]:
    """What Serve is told of the door before the replicas: it takes more than they and their queue, and so refuses."""
    most = replicas.most or replicas.least
    engine = options(plan, replicas)
    return {
        "name": "front",
        "num_replicas": replicas.fronts,
        "ray_actor_options": {"num_cpus": 0},
        "max_ongoing_requests": most * engine["max_ongoing_requests"] + engine["max_queued_requests"] + _BESIDE,
        "max_queued_requests": _BESIDE,
        "backpressure_config": {"status_code": 429, "retry_after_s": _RETRY_S},
        "graceful_shutdown_timeout_s": plan.settings.shutdown_timeout_s,
        "max_constructor_retry_count": _TRIES,
        "logging_config": {"enable_access_log": False},
    }


@final
class Replica:
    """A process with the backbone, an engine and its server.

    Args:
        plan: How they are made.

    Raises:
        SoftpromptError: If one of them cannot be.
    """

    def __init__(self, plan: EnginePlan) -> None:
        from ray import serve

        log_to_stderr()
        sys.setswitchinterval(SWITCH_S)
        self._ending = contextlib.ExitStack()
        self._name = serve.get_replica_context().replica_tag
        pulled = self._ending.enter_context(tempfile.TemporaryDirectory(prefix="softprompt-prompts-"))
        prompts = pull_all(plan, Path(pulled)) if plan.hub else plan.prompts
        self._engine = Engine(
            Backbone.from_pretrained(plan.backbone, **plan.loading),  # type: ignore[arg-type]
            prompts,
            limits=plan.limits,
            queue_requests=plan.queue_requests,
            queue_tokens=plan.queue_tokens,
            cache_bytes=plan.cache_bytes,
        )
        self._ending.callback(self._engine.close, timeout=plan.settings.shutdown_timeout_s)
        with contextlib.suppress(SoftpromptError):  # the first pass takes longest; an encoder has none
            self._engine.answer(Request(input="a", sampling=Sampling(max_new_tokens=2)))
        self._ending.callback(Reporter(self._engine).close)
        self._app = create_app(self._engine, plan.settings)
        self._living: Any = None

    async def answer(self, head: Message, body: bytes) -> AsyncGenerator[Message, None]:
        """The messages of an answer as they come, of a request's ASGI scope and its body."""
        await self._begin()
        async with contextlib.aclosing(answered(self._app, head, body, self._name)) as messages:
            async for message in messages:
                yield message

    async def _begin(self) -> None:
        """Begin what the application does besides answering; it has nothing to do before the first request."""
        if self._living is None:
            from uvicorn import Config
            from uvicorn.lifespan.on import LifespanOn

            self._living = LifespanOn(Config(self._app, lifespan="on", log_config=None, log_level="warning"))
            await self._living.startup()

    def check_health(self) -> None:
        """Serve asks every few seconds, and puts another replica in the place of one that fails.

        Raises:
            EngineClosedError: If the engine takes no requests.
        """
        if not self._engine.is_open:
            raise EngineClosedError("The engine of this replica takes no requests any more; its log says why.")

    async def __del__(self) -> None:  # called by Serve, after requests on their way have been answered
        if self._living is not None:
            await self._living.shutdown()
        self._ending.close()


def pull_all(plan: EnginePlan, folder: Path) -> Path:
    """Fetch a plan's prompts from the hub into a folder, each under its name.

    Raises:
        ArtefactError: If one cannot be fetched, or is none.
    """
    for name, (repository, revision) in plan.repositories().items():
        pull_prompt(repository, folder / name, revision=revision)
    return folder
