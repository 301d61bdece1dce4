"""An engine's counts among Ray's own metrics, which the agent of each node hands to Prometheus, by replica."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, final

from softprompt.serving.engines import AnsweringEngine
from softprompt.serving.metrics import ENGINE_COUNTS, FOLDER_COUNTS

__all__ = ["Reporter", "ray_series"]

_EVERY_S = 5.0


@final
class Reporter:
    """A thread that tells Ray an engine's and its folder's counts every few seconds, in a replica.

    Args:
        engine: Whose counts these are.
    """

    def __init__(self, engine: AnsweringEngine) -> None:
        self._engine = engine
        self._told: dict[str, Callable[[float], None]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._report, name="softprompt counts", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Tell them for the last time, and end."""
        self._ended.set()
        self._thread.join()

    def _report(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self._tell()
        self._tell()

    def _tell(self) -> None:
        folder = self._engine.folder
        for table, counts in ((ENGINE_COUNTS, self._engine.counts()), (FOLDER_COUNTS, folder and folder.counts())):
            if counts is None:
                continue
            for attribute, (kind, name, help_text) in table.items():
                if name not in self._told:
                    self._told[name] = _series(kind, f"softprompt_{name}", help_text)
                self._told[name](getattr(counts, attribute))


def _series(kind: str, name: str, help_text: str) -> Callable[[float], None]:
    """What tells Ray a count's value; a counter of Ray's takes what came since."""
    series = ray_series(kind)(name, description=help_text)
    if kind == "gauge":
        return series.set
    before = 0.0

    def tell(value: float) -> None:
        nonlocal before
        if value > before:
            series.inc(value - before)
            before = value

    return tell


def ray_series(kind: str) -> Any:
    """Ray Serve's class of a kind of count; it labels each value with the replica."""
    from ray.serve.metrics import Counter, Gauge

    return Gauge if kind == "gauge" else Counter
