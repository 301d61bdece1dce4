"""Experiment trackers, through accelerate: the figures of a training go to any number of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, TrackioTracker, WandBTracker

from softprompt.config import choose
from softprompt.errors import MissingDependencyError

__all__ = ["TRACKERS", "Trackers", "open_trackers"]

_PROJECT = "softprompt"

# From the name of a run and its folder to a tracker that has not started; each library names these in its own way.
TRACKERS: Mapping[str, Callable[[str, Path], GeneralTracker]] = MappingProxyType(
    {
        "mlflow": lambda name, directory: MLflowTracker(experiment_name=_PROJECT, run_name=name),
        "tensorboard": lambda name, directory: TensorBoardTracker("tensorboard", logging_dir=directory),
        "trackio": lambda name, directory: TrackioTracker(_PROJECT, name=name),
        "wandb": lambda name, directory: WandBTracker(_PROJECT, name=name, dir=str(directory)),
    }
)


class Trackers:
    """Started trackers; `open_trackers` makes it."""

    def __init__(self, started: Sequence[GeneralTracker]) -> None:
        self._started = started

    def log(self, step: int, values: Mapping[str, float | int | str]) -> None:
        """Send the figures of a step to every tracker."""
        for tracker in self._started:
            tracker.log(dict(values), step=step)

    def finish(self) -> None:
        """Write out what is left and close every tracker."""
        for tracker in self._started:
            tracker.finish()


def open_trackers(names: Sequence[str], directory: str | Path, config: Mapping[str, Any]) -> Trackers:
    """Start trackers, and give them the settings of the training.

    Args:
        names: Keys of `TRACKERS`; none is fine.
        directory: Folder of the training: its name becomes the run's, and trackers that write files write there.
        config: Settings; nested ones are named by their path, `a/b`.

    Raises:
        ConfigError: If a name is unknown.
        MissingDependencyError: If a tracker's library is not installed.
    """
    directory = Path(directory)
    for name in names:
        if name not in TRACKERS:
            raise choose("tracker", name, TRACKERS)
        if find_spec(name) is None:
            raise MissingDependencyError(f"The tracker {name!r} needs its library: pip install {name}")
    started = []
    for name in names:
        tracker = TRACKERS[name](directory.resolve().name, directory)
        tracker.start()
        tracker.store_init_configuration(_flat(config))
        started.append(tracker)
    return Trackers(started)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, bool | float | int | str]:
    """Nested settings as one level of plain values, which is all that TensorBoard takes."""
    flat: dict[str, bool | float | int | str] = {}
    for name, value in values.items():
        match value:
            case Mapping():
                flat.update(_flat(value, f"{prefix}{name}/"))
            case bool() | int() | float() | str():
                flat[f"{prefix}{name}"] = value
            case _:
                flat[f"{prefix}{name}"] = str(value)
    return flat
