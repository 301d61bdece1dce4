"""The running texts of an engine: each with its own settings, together in the model's batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from accelerate.utils.memory import should_reduce_batch_size
from jaxtyping import Float
from torch import Tensor

from softprompt.conditioning import Prompted
from softprompt.conditioning.decoding import Decoding
from softprompt.conditioning.texts import EncodedInput, collate_inputs
from softprompt.inference.finite import check_finite
from softprompt.inference.requests import Completion, Finish
from softprompt.inference.sampling import Chooser, Chosen
from softprompt.inference.streaming import GrowingText

__all__ = ["Lane", "Voice"]


@final
@dataclass(eq=False)
class Voice:
    """One text that is being generated, by a prompt or by several that choose each token together.

    Attributes:
        input: The input's ids and marks.
        names: The prompts, each of which has a row; None for the bare backbone.
        width: Most tokens that a row of it may have.
        chooser: Chooses its tokens.
        growing: Its text.
        ends: Token ids that end it.
        wanted: Whether somebody still waits for it; it leaves at the next step if not.
        report: Called after each token with the new text, and with why the text ends, if it does.
        fail: Called with what prevents the text.
        tokens: What was chosen so far.
        finish: Why it ended; None while it goes on.
    """

    input: EncodedInput
    names: tuple[str | None, ...]
    width: int
    chooser: Chooser
    growing: GrowingText
    ends: frozenset[int]
    wanted: Callable[[], bool]
    report: Callable[[Voice, str, Finish | None], None]
    fail: Callable[[Exception], None]
    tokens: list[Chosen] = field(default_factory=list)
    finish: Finish | None = None

    @property
    def goes_on(self) -> bool:
        """Whether it has not ended, and somebody waits for it."""
        return self.finish is None and self.wanted()

    def completion(self) -> Completion:
        """The finished text."""
        assert self.finish is not None
        return Completion(text=self.growing.text, finish=self.finish, tokens=tuple(self.tokens))

    def take(self, chosen: Chosen) -> None:
        """Go on by a token."""
        self.tokens.append(chosen)
        new = self.growing.add(chosen.token)
        if chosen.token in self.ends or self.growing.stopped:
            self.finish = "stop"
        elif len(self.tokens) >= self.chooser.sampling.max_new_tokens:
            self.finish = "length"
        if self.finish is not None:
            new += self.growing.finish()
        self.report(self, new, self.finish)


@final
class Lane:
    """A running batch and the texts in it.

    Args:
        model: The backbone with its prompts.
        begin: Makes an empty batch.
        voices: Texts that another batch had no memory for. They rest until the first turn, which reads them again as
            far as they have come.
    """

    def __init__(self, model: Prompted, begin: Callable[[], Decoding], voices: Sequence[Voice] = ()) -> None:
        self._model = model
        self._begin = begin
        self._decoding = begin()
        self.voices = list(voices)
        self.rests = bool(voices)
        self.steps = 0

    @property
    def rows(self) -> int:
        """Rows of the batch."""
        return sum(len(voice.names) for voice in self.voices)

    @property
    def width(self) -> int:
        """Most tokens that a row may have."""
        return max((voice.width for voice in self.voices), default=0)

    def turn(self, new: Sequence[Voice]) -> None:
        """One step of every text, and the first one of new texts; texts that end leave.

        Args:
            new: Texts to begin. One that the model cannot read fails, and no other.

        Raises:
            RuntimeError: If memory runs out, or a step fails otherwise; the texts are as they were before.
        """
        if self.rests:
            new = [*self._resume(), *new]
        self._leave()
        logits = []
        if self.voices:
            logits.append(self._step(self.voices, -1))
        if new:
            new, first = self._admit(new)
            logits += first
            self.voices.extend(new)
        if logits:
            self.steps += 1
            self._choose(torch.cat(logits))
            self._leave()

    def end(self) -> None:
        """Give its memory back."""
        self._decoding, self.voices = self._begin(), []

    def _resume(self) -> list[Voice]:
        """Read texts again as far as they have come, without choosing anew; those that have not begun are given."""
        torch.cuda.empty_cache()  # only now: the error held the tensors of the step that failed
        left = [voice for voice in self.voices if voice.goes_on]
        running: list[Voice] = []
        for missing in range(max((len(voice.tokens) for voice in left), default=0), 0, -1):
            if running:
                self._step(running, -missing - 1)
            if joining := [voice for voice in left if len(voice.tokens) == missing]:
                self._read(self._decoding, joining)
                running += joining
        self.voices, self.rests = running, False
        return [voice for voice in left if not voice.tokens]

    def _step(self, voices: Sequence[Voice], place: int) -> Float[Tensor, "rows vocab"]:
        """Read the token that each text has at a place, counted from its end."""
        tokens = [voice.tokens[place].token for voice in voices for _ in voice.names]
        return self._decoding.step(torch.tensor(tokens, device=self._model.backbone.device))

    def _admit(self, new: Sequence[Voice]) -> tuple[Sequence[Voice], list[Float[Tensor, "rows vocab"]]]:
        """Read new texts' inputs together; where that fails, those that can be read alone."""
        try:
            return new, [self._read(self._decoding, new)]
        except Exception as error:
            if should_reduce_batch_size(error):
                raise
            problem = error
        sound = []
        for voice in new:
            try:
                if len(new) == 1:
                    raise problem
                self._read(self._begin(), [voice])
                sound.append(voice)
            except Exception as error:
                voice.fail(error)
        return sound, [self._read(self._decoding, sound)] if sound else []

    def _read(self, decoding: Decoding, voices: Sequence[Voice]) -> Float[Tensor, "rows vocab"]:
        rows = [voice.input for voice in voices for _ in voice.names]
        ids, mask, marks = collate_inputs(self._model.backbone, rows)
        names = [name for voice in voices for name in voice.names]
        return self._model.admit(decoding, ids, mask, prompts=names, marks=marks)

    def _choose(self, logits: Float[Tensor, "rows vocab"]) -> None:
        highest, best = logits.max(-1)  # NaN is the highest of all
        sound, likeliest = highest.isfinite().tolist(), best.tolist()
        row = 0
        for voice in self.voices:
            rows = slice(row, row + len(voice.names))
            row = rows.stop
            if not voice.wanted():
                continue
            try:
                check_finite(self._model.backbone, voice.names, sound[rows])
                if len(voice.names) == 1 and voice.chooser.is_plain:
                    voice.take(voice.chooser.take(likeliest[rows.start]))
                else:
                    voice.take(voice.chooser.choose(logits[rows]))
            except Exception as error:
                voice.fail(error)

    def _leave(self) -> None:
        kept: list[Voice] = []
        rows: list[int] = []
        row = 0
        for voice in self.voices:
            count = len(voice.names)
            if voice.goes_on:
                kept.append(voice)
                rows += range(row, row + count)
            row += count
        if len(kept) < len(self.voices):
            self._decoding.keep(rows)
            self.voices = kept
