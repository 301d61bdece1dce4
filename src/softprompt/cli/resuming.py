"""Going on behind the answers that a file holds, if they are answers to the same question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from softprompt.cli.inputs import Input
from softprompt.linefile import LineFile, as_line

__all__ = ["skip_answered"]


def skip_answered(output: LineFile, inputs: Iterator[Input], made_with: Mapping[str, Any]) -> int:
    """Pass over the inputs that a file has answers to; a half-written last line of it is cut off.

    Args:
        output: The file, which need not exist.
        inputs: Read as far as there are answers.
        made_with: What the next answers are made with; plain values.

    Returns:
        The number of answers.

    Raises:
        ConfigError: If the answers are to other inputs, or were made with other settings.
    """
    if not output.keeps:
        return 0
    before = output.made_with()
    count = 0
    for count, line in output:
        if count == 1:
            output.check_made_with(before, made_with, "answers")
        if line is None:
            raise output.refused(f":{count} is no answer")
        asked = next(inputs, None)
        if asked is None:
            raise output.refused(f":{count} answers more than there are inputs")
        if as_line({"input": line["input"]}) != as_line({"input": asked.value}):
            raise output.refused(f":{count} answers another input than {asked.source}")
    output.cut()
    if count == 0:
        output.keep_made_with(made_with)
    return count
