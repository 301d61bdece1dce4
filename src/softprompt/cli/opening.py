"""The engine that `softprompt serve` lets answer: the library's own, or one in front of a vLLM server."""

from __future__ import annotations

import os

import softprompt as sp
from softprompt.errors import DeadlineError, UnreachableError
from softprompt.inference import BatchLimits, Engine
from softprompt.serving.vllm import VllmEngine, VllmServer

__all__ = ["open_engine", "pass_once", "server_at"]


def server_at(url: str, model: str | None) -> VllmServer:
    """Where a vLLM server is; its key stands in the environment."""
    return VllmServer(url=url, model=model, key=os.environ.get("SOFTPROMPT_VLLM_KEY") or None)


def open_engine(
    backbone: sp.Backbone,
    prompts: str | None,
    behind: VllmServer | None,
    *,
    limits: BatchLimits,
    queue_requests: int,
    queue_tokens: int,
    cache_bytes: int,
) -> Engine | VllmEngine:
    """An engine over a folder of prompts. Where a vLLM server computes, `backbone` keeps no layers."""
    if behind is None:
        return Engine(
            backbone,
            prompts,
            limits=limits,
            queue_requests=queue_requests,
            queue_tokens=queue_tokens,
            cache_bytes=cache_bytes,
        )
    engine = VllmEngine(
        backbone, prompts, behind, most_requests=queue_requests, most_tokens=queue_tokens, cache_bytes=cache_bytes
    )
    backbone.drop_layers()
    return engine


def pass_once(engine: Engine | VllmEngine, within_s: float | None = None) -> None:
    """A first pass, which takes longest; an encoder has none.

    Args:
        engine: Passes.
        within_s: Seconds within which a vLLM server has to answer; None for an engine of this process.

    Raises:
        UnreachableError: If it does not.
    """
    first = sp.Request(input="a", sampling=sp.Sampling(max_new_tokens=2), deadline_s=within_s)
    try:
        engine.submit(first).result()
    except DeadlineError:
        raise UnreachableError(
            f"The vLLM server did not answer a first request of two tokens within {within_s:g} seconds; wait until it "
            "has less to do, or see its log, then start again."
        ) from None
    except sp.SoftpromptError:
        return
