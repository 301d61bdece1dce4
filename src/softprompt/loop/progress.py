"""Progress of trainings: bars on a terminal, plain lines at a bounded pace elsewhere, always on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from io import TextIOBase
from types import TracebackType
from typing import IO, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

__all__ = ["Bar", "Progress"]


class Bar:
    """One row of a `Progress`: steps done out of a total, if that is known, with figures such as loss and rate."""

    def __init__(self, progress: Progress, name: str, total: int | None, done: int) -> None:
        self.name, self.total, self.done = name, total, done
        self._progress = progress
        self._first, self._start_s = done, progress.clock()
        self._figures: dict[str, float | str] = {}
        self._last_line_s = float("-inf")
        self._task = progress.bars.add_task(name, total=total, completed=done, figures="")

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        """Count steps, and show figures beside them; a figure stays until it is given anew."""
        self.done += steps
        self._figures.update(figures)
        text = "  ".join(f"{name} {_figure(value)}" for name, value in self._figures.items())
        self._progress.bars.update(self._task, completed=self.done, figures=text)
        now = self._progress.clock()
        finished = self.total is not None and self.done >= self.total
        if not self._progress.live and (finished or now - self._last_line_s >= self._progress.pace_s):
            self._last_line_s = now
            count = f"{self.done}" if self.total is None else f"{self.done}/{self.total}"
            self._progress.say("  ".join((self.name, count, text, self._pace(now))))

    def _pace(self, now: float) -> str:
        elapsed, taken = now - self._start_s, self.done - self._first
        if elapsed <= 0 or taken <= 0:
            return ""
        pace = f"{taken / elapsed:.3g} steps/s"
        if self.total is None:
            return pace
        return f"{pace}  {timedelta(seconds=round((self.total - self.done) * elapsed / taken))} left"


class Progress:
    """Bars for any number of trainings; use it as a context manager.

    Args:
        pace_s: Where there is no terminal, each bar prints a line at most this often, in seconds, and one at its end.
        stream: Where to write; standard error by default, so that standard output holds results alone.
        clock: Seconds from any fixed moment.
    """

    def __init__(
        self,
        *,
        pace_s: float = 30.0,
        stream: TextIOBase | TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pace_s, self.clock = pace_s, clock
        self._stream = sys.stderr if stream is None else stream
        console = Console(file=cast("IO[str]", self._stream))
        self.live = console.is_terminal
        self.bars = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not self.live,
        )

    def add(self, name: str, *, total: int | None, done: int = 0) -> Bar:
        """A new bar, `done` of its `total` steps taken before now; a total of None is unknown."""
        return Bar(self, name, total, done)

    def say(self, line: str) -> None:
        """Print a line, above the bars if there are any."""
        if self.live:
            self.bars.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=self._stream, flush=True)

    def __enter__(self) -> Progress:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()


def _figure(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
