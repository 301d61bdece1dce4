"""What a session shows while it trains: a bar or lines for each run, and figures for trackers."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from types import TracebackType

from softprompt.config import to_mapping
from softprompt.loop.progress import Progress
from softprompt.loop.trackers import open_trackers
from softprompt.training.member import Member
from softprompt.training.run import TrainConfig

__all__ = ["Reports"]


class Reports:
    """Use it as a context manager; trackers are closed at its end, however the session ends.

    Args:
        config: The session's settings.
        members: Its runs.

    Raises:
        ConfigError: If a tracker is unknown.
        MissingDependencyError: If a tracker's library is not installed.
    """

    def __init__(self, config: TrainConfig, members: Sequence[Member]) -> None:
        settings = {member.run.name: member.run.settings() for member in members}
        directory = config.output_dir or "."
        self._trackers = open_trackers(config.trackers, directory, {**to_mapping(config), "runs": settings})
        self._progress = Progress(stream=sys.stderr if config.progress else io.StringIO())
        self._bars = {m.run.name: self._progress.add(m.run.name, total=m.run.steps, done=m.step) for m in members}

    def say(self, line: str) -> None:
        """Tell the user something."""
        self._progress.say(line)

    def step(self, step: int, member: Member) -> None:
        """Show the step that a run has just taken.

        Args:
            step: The session's step.
            member: The run.
        """
        name, latest = member.run.name, member.history[-1]
        shown = {key: value for key, value in latest.items() if key in ("loss", member.run.watches)}
        self._bars[name].advance(1, **shown)
        self._trackers.log(step, {f"{name}/{key}": value for key, value in latest.items() if key != "step"})

    def __enter__(self) -> Reports:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)
        self._trackers.finish()
