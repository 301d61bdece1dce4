"""Recommended settings, as tables and as flags of `softprompt train`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from softprompt.backbones import Backbone
from softprompt.cli.data import read_task
from softprompt.cli.runs import build_runs
from softprompt.cli.tables import print_table
from softprompt.errors import ConfigError
from softprompt.studies import Advice, recommend, search_settings
from softprompt.training import Run, TrainConfig

__all__ = ["print_advice", "take_advice"]

_SESSION = (
    "precision",
    "conditioning",
    "gradient_checkpointing",
    "pass_tokens",
    "input_cache_bytes",
    "evaluation_tokens",
)
_FIXED = (
    *(field.name for field in dataclasses.fields(Run) if field.name not in ("name", "method", "task", "seed", "steps")),
    *("length", "init", "text", "source", "placement", "head"),
)


def print_advice(several: Sequence[Advice]) -> None:
    """Print settings with their reasons and sources."""
    print_table(
        ("setting", "value", "reason", "source"),
        [(one.setting, _spelled(one), one.reason, one.source) for one in several],
    )


def take_advice(
    backbone: Backbone, given: Mapping[str, Any], changed: Sequence[str]
) -> tuple[dict[str, Any], list[Run]]:
    """The flags of a training with what is recommended where none was given, told on standard error; and its run.

    Args:
        backbone: The frozen model.
        given: The flags of `softprompt train`.
        changed: Those that were given another value than their default; they hold.

    Raises:
        ConfigError: If runs are given, or a method whose settings are to be found; or a search has no budget.
    """
    if unwanted := [name for name in ("method", "method_options", "hidden", "runs") if name in changed]:
        raise ConfigError(f"--settings {given['settings']} finds method and settings of one run; drop --{unwanted[0]}.")
    task = read_task(given)
    if given["settings"] == "search":
        if given["steps"] is None:
            raise ConfigError("A search needs a budget: give --steps, of the candidate that is trained to its end.")
        session = {name: given[name] for name in _SESSION}
        found = search_settings(
            backbone,
            task,
            steps=given["steps"],
            seed=given["seed"],
            fixed={name: given[name] for name in changed if name in _FIXED},
            config=TrainConfig(output_dir=Path(given["output_dir"]) / "search", **session),
        )
    else:
        found = recommend(backbone, task, steps=given["steps"], length=given["length"])
    taken = {one.setting: one for one in found.advice if one.setting not in changed}
    for one in taken.values():
        print(f"{one.setting}: {_spelled(one)} ({one.reason}; {one.source})", file=sys.stderr)
    values = {name: one.value for name, one in taken.items()}
    if "hidden" in values:
        values["hidden"] = values["hidden"] or 0  # as the flag spells none
    flags = {**given, **values, "settings": "given"}
    return flags, build_runs(flags, task)


def _spelled(advice: Advice) -> str:
    return "none" if advice.value is None else str(advice.value)
