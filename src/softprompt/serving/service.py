"""What the routes of a server share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from fastapi import Request
from transformers import PreTrainedTokenizerBase

from softprompt.serving.answering import Answering
from softprompt.serving.catalogue import Catalogue
from softprompt.serving.metrics import Metrics
from softprompt.serving.settings import ServerSettings

__all__ = ["Service"]


@final
@dataclass(frozen=True, kw_only=True)
class Service:
    """A server's parts.

    Attributes:
        answering: Asks the engine.
        catalogue: Knows the models.
        metrics: Counts.
        settings: Bounds.
    """

    answering: Answering
    catalogue: Catalogue
    metrics: Metrics
    settings: ServerSettings

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The backbone's."""
        return self.answering.engine.backbone.need_tokenizer()

    def note(self, http: Request, model: str, inputs: Sequence[Any]) -> None:
        """Tell the log what a request asks; inputs only if the server was told to."""
        http.state.facts.update(model=model, inputs=len(inputs))
        if self.settings.log_inputs:
            http.state.facts["said"] = list(inputs)

    def note_answers(self, http: Request, answers: Sequence[str]) -> None:
        """Tell the log what was answered, if the server was told to."""
        if self.settings.log_inputs:
            http.state.facts["answered"] = list(answers)
