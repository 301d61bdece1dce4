"""From the flat settings of `softprompt train` to its runs."""

from __future__ import annotations

from typing import Any

import softprompt as sp
from softprompt.cli.data import TASK_FLAGS, read_tasks
from softprompt.config import choose
from softprompt.errors import ConfigError
from softprompt.prompts.registry import Method
from softprompt.tasks import Mixture, Task
from softprompt.training import Run, WeightMethod, find_method

__all__ = ["build_runs"]

_METHOD = ("length", "init", "text", "source", "placement", "hidden", "encoder", "cross", "decoder", "head")
_MIXING = {"mixing": "mixing", "mixing_temperature": "temperature", "mixing_limit": "limit"}
_SESSION = ("backbone", "output_dir", "dtype", "device", "classes", "revision", "trust_remote_code", "attention",
            "quantize", "sharded", "offload", "device_map", "precision", "conditioning", "gradient_checkpointing",
            "pass_tokens", "input_cache_bytes", "evaluation_tokens",
            "checkpoint_every", "keep_checkpoints", "trackers", "halve_at", "compare", "compare_seeds", "settings",
            "runs")  # fmt: skip


def build_runs(settings: dict[str, Any], read: Task | None = None) -> list[Run]:
    """The runs of a session.

    Args:
        settings: What the command was given. Each entry of `runs`, if there are any, is a run whose settings win
            over the others; runs on the same task share it.
        read: The task that the settings ask for, if it was read already.

    Raises:
        ConfigError: If a setting of a run is unknown, or a run has no task.
    """
    shared = {key: value for key, value in settings.items() if key not in _SESSION}
    tasks: dict[str, list[Task]] = {} if read is None else {_asked_task(settings): [read]}
    made = []
    for overrides in settings["runs"] or [{}]:
        for key in overrides:
            if key not in shared:
                raise choose("setting of a run", key, shared)
        made.append(_run({**shared, **overrides}, tasks))
    return made


def _run(settings: dict[str, Any], tasks: dict[str, list[Task]]) -> Run:
    """One run from flat settings; runs on the same tasks share them."""
    key = _asked_task(settings)
    if key not in tasks:
        tasks[key] = read_tasks(settings)
    own = (*TASK_FLAGS, *_METHOD, *_MIXING, "method", "method_options", "name")
    rest = {k: v for k, v in settings.items() if k not in own}
    for name in ("loss", "steps"):
        if rest[name] is None:  # neither said nor advised
            del rest[name]
    mixed = _mixed(tasks[key], settings)
    return sp.Run(name=settings["name"] or mixed.name, method=_method(settings), task=mixed, **rest)


def _mixed(tasks: list[Task], settings: dict[str, Any]) -> Task | Mixture:
    """The only task, or the mixture of several.

    Raises:
        ConfigError: If settings of a mixture are given for one task.
    """
    asked = {field: settings[flag] for flag, field in _MIXING.items()}
    if len(tasks) > 1:
        return Mixture(tasks, **{**asked, "mixing": asked["mixing"] or "proportional"})
    for flag in _MIXING:
        if settings[flag] is not None:
            raise ConfigError(f"--{flag} says how several tasks are mixed, but --task names one.")
    return tasks[0]


def _asked_task(settings: dict[str, Any]) -> str:
    return repr({key: settings[key] for key in TASK_FLAGS})


def _method(settings: dict[str, Any]) -> Method | WeightMethod:
    options = {key: settings[key] for key in _METHOD if settings[key] is not None}
    if "hidden" in options:
        options["hidden"] = options["hidden"] or None
    return find_method(settings["method"], {**options, **(settings["method_options"] or {})})
