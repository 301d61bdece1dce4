"""Going on behind the answers that a file holds, if they are answers to the same question."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from softprompt.cli.inputs import Input
from softprompt.errors import ConfigError

__all__ = ["as_line", "digest_prompt", "skip_answered"]


def as_line(values: Mapping[str, Any]) -> str:
    """A line of the output file; what JSON does not know becomes text."""
    return json.dumps(values, ensure_ascii=False, default=str) + "\n"


def digest_prompt(path: str | Path) -> str:
    """SHA-256 of a prompt's two files."""
    files = (Path(path) / name for name in ("prompt.json", "prompt.safetensors"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def skip_answered(output: Path, inputs: Iterator[Input], settings: Mapping[str, Any]) -> int:
    """Pass over the inputs that a file has answers to; a half-written last line of it is cut off.

    What the answers were made with stands beside the file, in `NAME.settings.json`.

    Args:
        output: The file, which need not exist.
        inputs: Read as far as there are answers.
        settings: What the next answers are made with; plain values.

    Returns:
        The number of answers.

    Raises:
        ConfigError: If the answers are to other inputs, or were made with other settings.
    """
    if output.exists() and not output.is_file():  # a pipe or a device holds no answers
        return 0
    count, size = 0, 0
    if output.exists():
        with output.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                if count == 0:
                    _check_settings(output, settings)
                count, size = count + 1, size + len(line)
                _check_input(output, count, line, next(inputs, None))
        os.truncate(output, size)
    if count == 0:
        _beside(output).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return count


def _beside(output: Path) -> Path:
    return output.with_name(f"{output.name}.settings.json")


def _check_settings(output: Path, settings: Mapping[str, Any]) -> None:
    beside = _beside(output)
    if not beside.is_file():
        raise ConfigError(f"{output} exists, but not {beside.name} beside it; choose another --output, or remove it.")
    made_with = json.loads(beside.read_text(encoding="utf-8"))
    if differing := [name for name in settings if made_with.get(name) != settings[name]]:
        raise ConfigError(
            f"{output} holds answers that were made with another {' and '.join(differing)}; choose another --output, "
            "or remove it."
        )


def _check_input(output: Path, number: int, line: bytes, asked: Input | None) -> None:
    try:
        answered = json.loads(line)["input"]
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{output}:{number} is no answer; choose another --output, or remove it.") from None
    if asked is None:
        raise ConfigError(
            f"{output}:{number} answers more than there are inputs; choose another --output, or remove it."
        )
    if answered != json.loads(as_line({"input": asked.value}))["input"]:
        raise ConfigError(
            f"{output}:{number} answers another input than {asked.source}; choose another --output, or remove it."
        )
