"""What every method of rows at the input embedding is set by: where they start, and where they stand."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from softprompt.config import check_lists, from_mapping
from softprompt.prompts.host import Host, LabelledTask
from softprompt.prompts.methods.building import check_placed, check_started
from softprompt.prompts.prompt import SoftPrompt

__all__ = ["RowsMethod"]


@dataclass(frozen=True, kw_only=True)
class RowsMethod(abc.ABC):
    """A method that gives rows, however it trains them.

    Attributes:
        length: Virtual tokens.
        init: Name of an initializer: `class_labels`, `vocab`, `normal`, `random`, `text`, `prompt`.
        text: The words to start from, for `init="text"`.
        source: Folder of the prompt to start from, for `init="prompt"`; of several, their mean.
        placement: Name of a placement: `prepend`, `middle`, `append`, or `template`, which divides the rows among the
            places `{soft:N}` of the task's template.
        segments: Rows at each place, for `placement="template"`; taken from the task if None.

    Raises:
        ConfigError: If a setting is unknown or out of range. `init` is looked up when a prompt is built: a trained one
            is read without the package that started it.
    """

    length: int = 100
    init: str = "vocab"
    text: str | None = None
    source: str | Sequence[str] | None = None
    placement: str = "prepend"
    segments: Sequence[int] | None = None

    def __post_init__(self) -> None:
        check_started(self)
        if self.segments is not None:
            object.__setattr__(self, "segments", tuple(self.segments))
        check_placed(self)

    @abc.abstractmethod
    def build(self, backbone: Host, task: LabelledTask | None = None, seed: int = 0) -> SoftPrompt:
        """Make an untrained prompt.

        Args:
            backbone: The frozen model that it is for.
            task: A task, whose label words `init="class_labels"` starts from.
            seed: Of everything random.

        Raises:
            ConfigError: If the initializer is unknown or lacks what it starts from, or the task's template divides
                another number of rows.
        """

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> RowsMethod:
        """Read the settings from plain values."""
        check_lists(cls, settings)
        return from_mapping(cls, settings)
