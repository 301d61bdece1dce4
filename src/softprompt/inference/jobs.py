"""A request on its way through an engine."""

from __future__ import annotations

import functools
import itertools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, final

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.errors import SoftpromptError
from softprompt.inference.lanes import Voice
from softprompt.inference.prompt_cache import Lease
from softprompt.inference.queries import EncodedQuery, names_of
from softprompt.inference.ranking import Choice
from softprompt.inference.requests import Answer, Completion, Finish, Piece, Request, Ticket
from softprompt.inference.sampling import Chooser
from softprompt.inference.streaming import GrowingText
from softprompt.inference.together import Together, majority

__all__ = ["Job", "Way", "by_name", "elected"]

log = logging.getLogger(__name__)

Way = Literal["rank", "join", "turn"]
"""How a request is answered: in a single pass, by texts that join those that run, or by texts that begin together."""


@final
@dataclass(eq=False, kw_only=True)
class Job:
    """A request on its way.

    Attributes:
        request: What is asked.
        ticket: What its answer comes by.
        encoded: Its input as tokens.
        lease: Holds its prompt.
        deadline: When it is too late, by the monotonic clock; None if never.
        way: How it is answered.
        asked_at: When it was asked.
        queued_at: When it was put into the queue.
        begun_at: When the model began with it.
        voices: By answer, the texts that are generated for it: one, or that of each prompt that votes.
    """

    request: Request
    ticket: Ticket
    encoded: EncodedQuery
    lease: Lease | None
    deadline: float | None
    way: Way
    asked_at: float
    queued_at: float
    begun_at: float = 0.0
    voices: list[list[Voice]] = field(default_factory=list)

    @property
    def open(self) -> bool:
        """Whether somebody waits for its answer."""
        return not (self.ticket.done or self.ticket.cancelled)

    @property
    def rows(self) -> int:
        """Rows of a batch that it takes up."""
        return len(self.encoded.names) * self.request.answers

    @property
    def width(self) -> int:
        """Most tokens that one of these may have."""
        return self.encoded.tokens // len(self.encoded.names)

    @property
    def tokens(self) -> int:
        """Tokens that it takes up in a batch."""
        return self.encoded.tokens * self.request.answers

    def finish(
        self, model: Prompted, *, completions: tuple[Completion, ...] = (), choice: Choice | None = None
    ) -> None:
        """Answer it."""
        names = self.encoded.names
        made = sum(len(one.tokens) * len(one.names) for several in self.voices for one in several)
        self.ticket.finish(
            Answer(
                completions=completions,
                choice=choice,
                version=self.ticket.version,
                input_tokens=len(self.encoded.input.ids),
                prompt_tokens=sum(0 if name is None else model.prompts[name].length for name in names),
                output_tokens=made + sum(map(len, self.encoded.targets)) * len(names),
                prepare_s=self.queued_at - self.asked_at,
                wait_s=self.begun_at - self.queued_at,
                run_s=time.monotonic() - self.begun_at,
            )
        )

    def fail(self, error: Exception) -> None:
        """End it."""
        if not isinstance(error, SoftpromptError):
            log.error("A request failed.", exc_info=error)
        self.ticket.finish(by_name(error, self.lease))

    def prepare_voices(self, model: Prompted, ends: frozenset[int]) -> None:
        """Make ready what will generate its texts.

        Args:
            model: The backbone with its prompts.
            ends: Token ids that end a text.
        """
        asked = self.encoded.prompt
        votes = isinstance(asked, Together) and asked.combine == "vote"
        groups = [(name,) for name in names_of(asked)] if votes else [names_of(asked)]
        self.voices = [
            [self._voice(model.backbone, ends, names, number) for names in groups]
            for number in range(self.request.answers)
        ]

    def _voice(self, backbone: Backbone, ends: frozenset[int], names: tuple[str | None, ...], number: int) -> Voice:
        sampling = self.request.sampling
        return Voice(
            input=self.encoded.input,
            names=names,
            width=self.width,
            chooser=Chooser(backbone, sampling, self.encoded.input.ids, number),
            growing=GrowingText(backbone.need_tokenizer(), sampling.stop),
            ends=ends,
            wanted=lambda: self.open,
            report=functools.partial(self._report, number),
            fail=self.fail,
        )

    def _report(self, number: int, voice: Voice, new: str, finish: Finish | None) -> None:
        """Tell who waits what is new; of prompts that vote, at the last one's end, what most of them said."""
        voices = self.voices[number]
        if len(voices) == 1:
            self.ticket.add(Piece(number, new, (voice.tokens[-1],), finish))
        elif all(one.finish is not None for one in voices):
            said = elected(voices)
            self.ticket.add(Piece(number, said.text, said.tokens, said.finish))

    @property
    def is_said(self) -> bool:
        """Whether all its texts are complete."""
        return all(voice.finish is not None for voice in itertools.chain(*self.voices))


def elected(voices: Sequence[Voice]) -> Completion:
    """The text that most prompts say; one's own text where there is but one."""
    texts = [voice.growing.text for voice in voices]
    return voices[texts.index(majority(texts))].completion()


def by_name(error: Exception, lease: Lease | None) -> Exception:
    """An error of its own for each request, which names the prompt as the request does, not as the model knows it."""
    if not isinstance(error, SoftpromptError):
        return RuntimeError(f"The model failed, {type(error).__name__}: {error}")
    if lease is None:
        return type(error)(str(error))
    # the last first: a member's number begins with that of another
    keys = [name for name in reversed(names_of(lease.prompt)) if name is not None]
    return type(error)(functools.reduce(lambda text, key: text.replace(key, lease.name), keys, str(error)))
