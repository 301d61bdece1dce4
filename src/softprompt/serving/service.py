"""What the routes of a server share."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, final

from fastapi import Request
from transformers import PreTrainedTokenizerBase

from softprompt.inference import Lease
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

    @contextlib.asynccontextmanager
    async def holding(self, model: str) -> AsyncIterator[Lease | None]:
        """Hold the prompt that a request names, so that one version gives its template, its labels and all answers.

        None stands for the bare backbone. What the engine has taken keeps the version by itself.

        Raises:
            UnknownPromptError: If there is none of that name.
            ArtefactError: If it cannot be used; further errors as of `PromptFolder.acquire`.
            FailureError: If it is called like the backbone.
        """
        name, folder = self.catalogue.prompt_of(model), self.answering.engine.folder
        if name is None or folder is None:
            yield None
            return
        lease = folder.find(name)
        if lease is None:  # to be read, which blocks
            lease = await self.answering.in_thread(lambda: folder.acquire(name))
        try:
            yield lease
        finally:
            folder.release(lease)

    def note(self, http: Request, model: str, inputs: Sequence[Any]) -> None:
        """Tell the log what a request asks; inputs only if the server was told to."""
        http.state.facts.update(model=model, inputs=len(inputs))
        if self.settings.log_inputs:
            http.state.facts["said"] = list(inputs)

    def note_answers(self, http: Request, answers: Sequence[str]) -> None:
        """Tell the log what was answered, if the server was told to."""
        if self.settings.log_inputs:
            http.state.facts["answered"] = list(answers)
