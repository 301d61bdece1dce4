"""What an engine is asked, what it answers, and the ticket between the two."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, final

from softprompt.conditioning.texts import Input
from softprompt.errors import ConfigError, DeadlineError, RequestCancelled
from softprompt.inference.prompt_cache import Lease
from softprompt.inference.ranking import Choice
from softprompt.inference.sampling import Chosen, Sampling

__all__ = ["Answer", "Completion", "Finish", "Piece", "Request", "Ticket"]

log = logging.getLogger(__name__)

Finish = Literal["stop", "length"]
"""Why an answer ended: by an end token or a stop text, or because it was as long as it might be."""

_MOST_ANSWERS = 64


@final
@dataclass(frozen=True, kw_only=True)
class Request:
    """One input and what is wanted of it.

    Attributes:
        input: A text, or the columns of a row by name; it fills the template that is stored with the prompt. Without
            one, also the turns of a conversation, each a role and a text, for the backbone's chat template.
        prompt: Name of a prompt or an ensemble, or a lease of one, whose very version answers; None for the bare
            backbone.
        candidates: What to choose from, with probabilities; text is generated where there are none.
        sampling: How text is generated.
        answers: How many texts.
        raw: Whether a text is taken as it is, without template.
        truncate: Whether an input that is too long is shortened; otherwise it is an error.
        max_input_tokens: Longest input, besides what the backbone allows.
        deadline_s: Seconds within which the answer has to be there; None waits.

    Raises:
        ConfigError: If a setting is out of range.
    """

    input: Input
    prompt: str | Lease | None = None
    candidates: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    answers: int = 1
    raw: bool = False
    truncate: bool = False
    max_input_tokens: int | None = None
    deadline_s: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.answers <= _MOST_ANSWERS:
            raise ConfigError(f"answers={self.answers}: expected 1 to {_MOST_ANSWERS}.")
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise ConfigError(f"deadline_s={self.deadline_s}: expected seconds above 0, or None.")


@final
@dataclass(frozen=True, kw_only=True)
class Completion:
    """One generated text.

    Attributes:
        text: Without special tokens, and without the stop text that ended it.
        finish: Why it ended.
        tokens: What was chosen at each step, the end token included; of prompts that vote, of the member whose text
            this is.
    """

    text: str
    finish: Finish
    tokens: tuple[Chosen, ...]


@final
@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an engine answers.

    Attributes:
        completions: The texts, where text was asked for.
        choice: What was chosen of the candidates, where there were any.
        version: Of the prompt that answered; None for the bare backbone.
        input_tokens: Tokens of the input, its template included.
        prompt_tokens: Virtual tokens, of all members of an ensemble.
        output_tokens: Tokens that were generated, or scored.
        prepare_s: Seconds in which the prompt was loaded and the input tokenized.
        wait_s: Seconds in the queue.
        run_s: Seconds from there to the answer.
    """

    completions: tuple[Completion, ...] = ()
    choice: Choice | None = None
    version: str | None
    input_tokens: int
    prompt_tokens: int
    output_tokens: int
    prepare_s: float = field(compare=False)
    wait_s: float = field(compare=False)
    run_s: float = field(compare=False)


@final
@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text as it grows.

    Attributes:
        index: Of which of the answers.
        text: What is new; may be empty, where a token shows nothing yet.
        tokens: What was chosen for it.
        finish: Why the text ends here; None if it goes on.
    """

    index: int
    text: str
    tokens: tuple[Chosen, ...]
    finish: Finish | None = None


@final
class Ticket:
    """A request that was taken: wait for its answer, read it as it grows, or cancel it. Threads may share it.

    Args:
        version: Of the prompt that answers; None for the bare backbone.
        wake: For the engine: called when it is cancelled.
        listener: Called in the engine's thread, which it must not hold up, with each piece, and with None when the
            answer, or an error, is there.
    """

    def __init__(
        self,
        version: str | None,
        wake: Callable[[], None],
        listener: Callable[[Piece | None], None] | None = None,
    ) -> None:
        self.version = version
        self._wake = wake
        self._listener = listener
        self._done = threading.Event()
        self._pieces: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        self._answer: Answer | None = None
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self.cancelled = False

    @property
    def done(self) -> bool:
        """Whether the answer, or an error, is there."""
        return self._done.is_set()

    @property
    def failed(self) -> bool:
        """Whether it ended in an error."""
        return self._error is not None

    def cancel(self) -> None:
        """Nobody waits for the answer any more: its place is free at the next step."""
        self.cancelled = True
        self._wake()

    def result(self, timeout: float | None = None) -> Answer:
        """The answer.

        Args:
            timeout: Seconds to wait for it; None waits until it is there. Waiting no longer does not cancel it.

        Raises:
            TimeoutError: If it is not there in time.
            RequestCancelled: If the request was cancelled, or the engine closed.
            DeadlineError: If its deadline passed.
            NonFiniteError: If its prompt led to logits that are NaN.
        """
        if not self._done.wait(timeout):
            raise TimeoutError(f"There is no answer after {timeout} seconds; wait longer, or cancel the request.")
        if self._error is not None:
            raise self._error
        assert self._answer is not None
        return self._answer

    def pieces(self) -> Iterator[Piece]:
        """The texts as they grow; each piece comes once. Of an ensemble that votes a text comes whole.

        Raises:
            RequestCancelled: As in `result`, and so are all others.
        """
        while (piece := self._pieces.get()) is not None:
            yield piece
        self._pieces.put(None)  # for who reads on
        if self._error is not None:
            raise self._error

    def add(self, piece: Piece) -> None:
        """For the engine: a part of a text is there."""
        self._pieces.put(piece)
        self._tell(piece)

    def finish(self, outcome: Answer | BaseException) -> None:
        """For the engine: the answer, or what prevents it, is there."""
        with self._lock:
            if self._done.is_set():
                return
            if isinstance(outcome, Answer):
                self._answer = outcome
            else:
                self._error = outcome
            self._done.set()
        self._pieces.put(None)
        self._tell(None)

    def _tell(self, piece: Piece | None) -> None:
        try:
            if self._listener is not None:
                self._listener(piece)
        except Exception:  # of a caller: nobody else's answer depends on it
            log.exception("A listener to a request failed.")

    def expired(self) -> None:
        """For the engine: the deadline has passed."""
        self.finish(
            DeadlineError(
                "The request's deadline passed before its answer was complete; give it more seconds, or ask for less."
            )
        )

    def abandoned(self) -> None:
        """For the engine: it was cancelled."""
        self.finish(RequestCancelled("The request was cancelled."))
