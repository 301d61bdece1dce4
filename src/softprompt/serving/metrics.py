"""What Prometheus reads: requests by route, latency by stage, and what the engine and its folder count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from softprompt.inference import Answer
from softprompt.serving.engines import AnsweringEngine

__all__ = ["ENGINE_COUNTS", "FOLDER_COUNTS", "Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

ENGINE_COUNTS = {
    "waiting": ("gauge", "requests_waiting", "Requests that wait."),
    "waiting_tokens": ("gauge", "tokens_waiting", "Tokens that these take up."),
    "running": ("gauge", "texts_running", "Texts that are being generated."),
    "answered": ("counter", "requests_answered", "Requests that were answered."),
    "failed": ("counter", "requests_failed", "Requests that failed, were cancelled or came too late."),
    "input_tokens": ("counter", "input_tokens", "Tokens of answered requests."),
    "output_tokens": ("counter", "output_tokens", "Tokens that were generated or scored for them."),
    "passes": ("counter", "passes", "Steps of generation and batches of ranked inputs."),
    "rows": ("counter", "pass_rows", "Rows in these; by passes, how full batches are."),
}
"""By an engine's count: its kind, what it is called, and what it means."""

FOLDER_COUNTS = {
    "loaded": ("gauge", "prompts_loaded", "Prompts in memory."),
    "bytes": ("gauge", "prompt_bytes", "Bytes of these."),
    "hits": ("counter", "prompt_hits", "How often a prompt was in memory when it was asked for."),
    "misses": ("counter", "prompt_misses", "How often it had to be read."),
    "evictions": ("counter", "prompt_evictions", "How often one made room for another."),
    "load_seconds": ("counter", "prompt_load_seconds", "Spent on reading, checking and computing prompts."),
}
"""Likewise, of a folder."""


@final
class Metrics:
    """A server's metrics. No label names a prompt or a key: there may be any number of these.

    Args:
        engine: Whose counts are shown.
    """

    def __init__(self, engine: AnsweringEngine) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Counts(engine))
        self._requests = Counter(
            "softprompt_http_requests", "Requests by route and status.", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "softprompt_http_seconds",
            "From a request's head to its answer's end.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._stages = Histogram(
            "softprompt_stage_seconds",
            "Of answered requests: loading and tokenizing (prepare), in the queue (wait), in the model (run).",
            ["stage"],
            buckets=_SECONDS,
            registry=self._registry,
        )

    def requested(self, route: str, status: int, seconds: float) -> None:
        """Count a request of a route, as the application spells it."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def answered(self, answer: Answer) -> None:
        """Count where an answer's time went."""
        for stage, seconds in (("prepare", answer.prepare_s), ("wait", answer.wait_s), ("run", answer.run_s)):
            self._stages.labels(stage).observe(seconds)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self._registry)


@final
class _Counts(Collector):
    def __init__(self, engine: AnsweringEngine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """The engine's and the folder's counts of this moment."""
        folder = self._engine.folder
        for table, counts in ((ENGINE_COUNTS, self._engine.counts()), (FOLDER_COUNTS, folder and folder.counts())):
            if counts is None:
                continue
            for attribute, (kind, name, help_text) in table.items():
                family = GaugeMetricFamily if kind == "gauge" else CounterMetricFamily
                metric = family(f"softprompt_{name}", help_text)
                metric.add_metric([], getattr(counts, attribute))
                yield metric
