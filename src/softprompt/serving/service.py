"""What the routes of a server share."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, final

from fastapi import Request
from transformers import PreTrainedTokenizerBase

from softprompt.inference import Lease
from softprompt.serving.answering import Answering, within
from softprompt.serving.catalogue import Catalogue
from softprompt.serving.loading import Loading
from softprompt.serving.metrics import Metrics
from softprompt.serving.settings import ServerSettings

__all__ = ["Service"]


@final
@dataclass(frozen=True, kw_only=True)
class Service:
    """A server's parts.

    Attributes:
        answering: Asks the engine.
        loading: Reads its prompts; None if it has no folder of them.
        catalogue: Knows the models.
        metrics: Counts.
        settings: Bounds.
    """

    answering: Answering
    loading: Loading | None
    catalogue: Catalogue
    metrics: Metrics
    settings: ServerSettings

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The backbone's."""
        return self.answering.engine.backbone.need_tokenizer()

    def deadline(self) -> float:
        """When a request that comes now has to be answered, by the monotonic clock."""
        return time.monotonic() + self.settings.request_timeout_s

    @contextlib.asynccontextmanager
    async def holding(self, model: str, until: float) -> AsyncIterator[Lease | None]:
        """Hold the prompt that a request names, so that one version gives its template, its labels and all answers.

        None stands for the bare backbone. What the engine has taken keeps the version by itself.

        Args:
            model: As the request names it.
            until: When the answer has to be there, as of `deadline`.

        Raises:
            DeadlineError: If the prompt is not read by then.
            UnknownPromptError: If there is none of that name.
            ArtefactError: If it cannot be used; further errors as of `PromptFolder.acquire`.
            FailureError: If it is called like the backbone.
        """
        name = self.catalogue.prompt_of(model)
        if name is None or self.loading is None:
            yield None
            return
        async with contextlib.AsyncExitStack() as held:
            async with within(until):
                lease = await held.enter_async_context(self.loading.holding(name))
            yield lease

    def note(self, http: Request, model: str, inputs: Sequence[Any]) -> None:
        """Tell the log what a request asks; inputs only if the server was told to."""
        http.state.facts.update(model=model, inputs=len(inputs))
        if self.settings.log_inputs:
            http.state.facts["said"] = list(inputs)

    def note_answers(self, http: Request, answers: Sequence[str]) -> None:
        """Tell the log what was answered, if the server was told to."""
        if self.settings.log_inputs:
            http.state.facts["answered"] = list(answers)
