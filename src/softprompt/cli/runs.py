"""From the flat settings of `softprompt train` to its runs."""

from __future__ import annotations

from typing import Any

import softprompt as sp
from softprompt.config import choose
from softprompt.errors import ConfigError
from softprompt.prompts import registry
from softprompt.prompts.registry import Method
from softprompt.tasks import Task
from softprompt.training import Run

__all__ = ["build_runs"]

_TASK = ("task", "data_dir", "train_file", "validation_file", "test_file", "input", "target", "label_words", "metrics",
         "chat", "on_bad_row")  # fmt: skip
_METHOD = ("method", "length", "init", "text", "source", "placement", "hidden")
_SESSION = ("backbone", "output_dir", "dtype", "device", "attention", "precision", "conditioning",
            "gradient_checkpointing", "pass_tokens", "checkpoint_every", "trackers", "runs")  # fmt: skip


def build_runs(settings: dict[str, Any]) -> list[Run]:
    """The runs of a session.

    Args:
        settings: What the command was given. Each entry of `runs`, if there are any, is a run whose settings win
            over the others; runs on the same task share it.

    Raises:
        ConfigError: If a setting of a run is unknown, or a run has no task.
    """
    shared = {key: value for key, value in settings.items() if key not in _SESSION}
    tasks: dict[str, Task] = {}
    made = []
    for overrides in settings["runs"] or [{}]:
        for key in overrides:
            if key not in shared:
                raise choose("setting of a run", key, shared)
        made.append(_run({**shared, **overrides}, tasks))
    return made


def _run(settings: dict[str, Any], tasks: dict[str, Task]) -> Run:
    """One run from flat settings; runs on the same task share it."""
    wanted = {key: settings.get(key) for key in _TASK}
    key = repr(wanted)
    if key not in tasks:
        tasks[key] = _task(wanted)
    rest = {k: v for k, v in settings.items() if k not in (*_TASK, *_METHOD, "name")}
    return sp.Run(name=settings["name"] or tasks[key].name, method=_method(settings), task=tasks[key], **rest)


def _method(settings: dict[str, Any]) -> Method:
    options = {key: settings[key] for key in _METHOD[1:] if settings[key] is not None}
    if "hidden" in options:
        options["hidden"] = options["hidden"] or None
    return registry.find(settings["method"]).from_settings(options)


def _task(wanted: dict[str, Any]) -> Task:
    if (wanted["task"] is None) == (wanted["train_file"] is None):
        raise ConfigError("Give either --task NAME, or --train_file FILE with --input and --target.")
    if wanted["task"] is not None:
        return sp.load_task(wanted["task"], wanted["data_dir"], on_bad_row=wanted["on_bad_row"])
    if wanted["input"] is None or wanted["target"] is None:
        raise ConfigError('Files need templates over their columns: --input "{text}" --target "{label}".')
    return sp.Task.from_files(
        train=wanted["train_file"],
        validation=wanted["validation_file"],
        test=wanted["test_file"],
        **{key: wanted[key] for key in ("input", "target", "label_words", "metrics", "chat", "on_bad_row")},
    )
