"""Trackers through accelerate."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.tracking import GeneralTracker

from softprompt.errors import ConfigError, MissingDependencyError
from softprompt.loop import trackers
from softprompt.loop.trackers import open_trackers


def test_no_tracker_writes_nothing(tmp_path: Path) -> None:
    opened = open_trackers((), tmp_path, {"rate": 0.1})
    opened.log(1, {"loss": 2.0})
    opened.finish()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_receives_figures_and_settings(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    opened = open_trackers(["tensorboard"], tmp_path, {"rate": 0.1, "runs": {"a": {"seed": 3, "init": None}}})
    opened.log(1, {"a/loss": 2.0})
    opened.log(2, {"a/loss": 1.5})
    opened.finish()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("a/loss")] == [(1, 2.0), (2, 1.5)]
    [settings] = (tmp_path / "tensorboard").rglob("hparams.yml")
    assert settings.read_text().split() == ["rate:", "0.1", "runs/a/init:", "None", "runs/a/seed:", "3"]


def test_every_tracker_gets_every_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []

    class Recorder(GeneralTracker):
        def __init__(self, name: str, directory: Path) -> None:
            super().__init__(_blank=True)
            self.run = (name, directory.name)

        def start(self) -> None:
            calls.append(("start", self.run))

        def store_init_configuration(self, values: object) -> None:
            calls.append(("settings", values))

        def log(self, values: object, step: int) -> None:
            calls.append(("log", step, values))

        def finish(self) -> None:
            calls.append(("finish",))

    monkeypatch.setattr(trackers, "TRACKERS", {"json": Recorder, "csv": Recorder})
    opened = open_trackers(["json", "csv"], tmp_path / "night", {"steps": 2})
    opened.log(4, {"loss": 1.0})
    opened.finish()
    started = [("start", ("night", "night")), ("settings", {"steps": 2})]
    assert calls == [*started, *started, *[("log", 4, {"loss": 1.0})] * 2, *[("finish",)] * 2]


def test_an_unknown_tracker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Unknown tracker 'wanb'\. Did you mean 'wandb'"):
        open_trackers(["wanb"], tmp_path, {})


@pytest.mark.parametrize("name", sorted(trackers.TRACKERS))
def test_a_missing_library_is_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda library: None)
    with pytest.raises(MissingDependencyError, match=f"'{name}' needs its library: pip install {name}"):
        open_trackers([name], tmp_path, {})
