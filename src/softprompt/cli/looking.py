"""What `softprompt inspect` looks at, and how it shows it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import softprompt as sp
from softprompt.cli.data import TASK_FLAGS, read_task
from softprompt.cli.tables import print_table
from softprompt.config import to_mapping
from softprompt.errors import ArtefactError, ConfigError
from softprompt.inference import BatchLimits
from softprompt.inspection import Inspection, PromptMap, Table, map_prompts
from softprompt.inspection.whole import ASPECTS
from softprompt.loop.progress import Progress
from softprompt.prompts import Members
from softprompt.tasks import Task

__all__ = ["look_at_map", "look_at_prompt", "prompts_in", "show"]

_DATA = ("task", "data_dir", "validation_file")


def prompts_in(path: str) -> dict[str, sp.SoftPrompt]:
    """A prompt, the members of an ensemble, or the prompts in a folder, by their names.

    Raises:
        ArtefactError: If there is none, or one is damaged.
    """
    folder = Path(path)
    if (folder / "ensemble.json").is_file():
        return {f"member {place}": one for place, one in enumerate(Members.load(folder).prompts)}
    inner = sorted(one.parent for one in folder.glob("*/prompt.json"))
    if (folder / "prompt.json").is_file() or not inner:
        return {folder.name: sp.SoftPrompt.load(folder)}
    return {one.name: sp.SoftPrompt.load(one) for one in inner}


def look_at_map(backbone: sp.Backbone, prompts: Mapping[str, sp.SoftPrompt]) -> PromptMap:
    """Compare prompts; those of other backbones are an error.

    Raises:
        MismatchError: If one was made for another backbone.
        ConfigError: If no two can be compared.
    """
    sp.Prompted(backbone, prompts)
    return map_prompts(backbone, prompts)


def look_at_prompt(backbone: sp.Backbone, prompt: sp.SoftPrompt, settings: Mapping[str, Any]) -> Inspection:
    """Look at one prompt, as the command's flags say.

    Raises:
        MismatchError: If it was made for another backbone.
        ConfigError: If a flag contradicts another.
    """
    sp.Prompted(backbone, {"prompt": prompt})
    if settings["target"] is not None and settings["input"] is None:
        raise ConfigError("--target follows a text; give it with --input, or drop it.")
    task = _task(settings, prompt)
    with Progress() as progress:
        bar = progress.add("rows read", total=None) if task is not None else None
        return sp.inspection.inspect_prompt(
            backbone,
            prompt,
            what=settings["what"] or ASPECTS,
            task=task,
            split=settings["split"],
            text=settings["input"],
            target=settings["target"],
            rows=settings["rows"],
            count=settings["count"],
            common=settings["common"],
            parts=settings["leave_out"] or ("rows", "layers"),
            limits=BatchLimits(tokens=settings["batch_tokens"]),
            progress=None if bar is None else bar.advance,
        )


def _task(settings: Mapping[str, Any], prompt: sp.SoftPrompt) -> Task | None:
    given = {name: settings[name] for name in _DATA}
    if not any(given.values()):
        return None
    return read_task({**dict.fromkeys(TASK_FLAGS), "on_bad_row": "error", **given}, prompt.info)


def show(seen: Inspection | PromptMap, tables: Sequence[Table], output: str | None) -> None:
    """Print tables; what is left out goes to standard error, and everything to a file if there is one.

    Args:
        seen: What was seen.
        tables: The same for people.
        output: The file.

    Raises:
        ArtefactError: If the file cannot be written.
    """
    if output is not None:
        try:
            text = json.dumps(to_mapping(seen), indent=2, ensure_ascii=False, allow_nan=False)
            Path(output).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise ArtefactError(f"{output} cannot be written ({error}); choose another file.") from error
    for place, table in enumerate(tables):
        print(f"{'' if place == 0 else chr(10)}{table.title}\n")
        print_table(table.columns, table.rows)
    for name, reason in seen.left_out.items():
        print(f"{name} is left out: {reason}", file=sys.stderr)
