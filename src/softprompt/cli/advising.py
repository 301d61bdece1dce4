"""Recommended settings, as tables and as flags of `softprompt train`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from softprompt.backbones import Backbone
from softprompt.cli.tables import print_table
from softprompt.errors import ConfigError
from softprompt.studies import Advice, recommend, search_settings
from softprompt.training import Run, TrainConfig

__all__ = ["advised_settings", "print_advice"]


def print_advice(several: Sequence[Advice]) -> None:
    """Print settings with their reasons and sources."""
    print_table(
        ("setting", "value", "reason", "source"),
        [(one.setting, _spelled(one), one.reason, one.source) for one in several],
    )


def advised_settings(
    backbone: Backbone, made: Sequence[Run], given: Mapping[str, Any], changed: Sequence[str]
) -> dict[str, Any]:
    """The recommended flags that were not given, told on standard error.

    Args:
        backbone: The frozen model.
        made: The runs that the flags make.
        given: The flags of `softprompt train`.
        changed: Those that were given another value than their default.

    Raises:
        ConfigError: If there are several runs, or a method is given whose settings are to be found.
    """
    if len(made) > 1 or "method" in changed:
        raise ConfigError(
            f"--settings {given['settings']} finds method and settings of one run; drop --method and runs."
        )
    (run,) = made
    (task,) = run.tasks
    if given["settings"] == "search":
        config = TrainConfig(output_dir=Path(given["output_dir"]) / "search", pass_tokens=given["pass_tokens"])
        found = search_settings(backbone, task, steps=run.steps, seed=run.seed, config=config)
    else:
        found = recommend(backbone, task, steps=run.steps if "steps" in changed else None)
    taken = [one for one in found.advice if one.setting not in changed]
    for one in taken:
        print(f"{one.setting}: {_spelled(one)} ({one.reason}; {one.source})", file=sys.stderr)
    # a hidden width of 0 is how the flag spells none
    return {one.setting: 0 if one.setting == "hidden" and one.value is None else one.value for one in taken}


def _spelled(advice: Advice) -> str:
    return "none" if advice.value is None else str(advice.value)
