"""What a server needs of what makes its answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from softprompt.backbones import Backbone
from softprompt.inference import Piece, PromptFolder, Request, Ticket
from softprompt.inference.backlog import EngineCounts

__all__ = ["AnsweringEngine"]


@runtime_checkable
class AnsweringEngine(Protocol):
    """An engine: `Engine`, whose model is here, or one that has another server compute.

    Attributes:
        backbone: The frozen model; its tokenizer and its facts are here in any case.
        folder: Its prompts; None for the bare backbone alone.
    """

    backbone: Backbone
    folder: PromptFolder | None

    @property
    def is_open(self) -> bool:
        """Whether it takes requests."""

    def is_reachable(self) -> bool:
        """Whether what computes its answers can be reached at this moment; may take seconds."""

    def check_number(self, requests: int) -> None:
        """Whether so many requests that belong together could ever be taken, as `Engine.check_number` does."""

    def submit(self, request: Request, listener: Callable[[Piece | None], None] | None = None) -> Ticket:
        """Take a request, as `Engine.submit` does."""

    def counts(self) -> EngineCounts:
        """What was done since the beginning, and what there is to do."""

    def close(self, timeout: float | None = None) -> bool:
        """Take no further requests and finish those that were taken; whether all were answered, within the timeout."""
