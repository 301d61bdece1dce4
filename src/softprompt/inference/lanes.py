"""The running texts of an engine: each with its own settings, together in the model's batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from softprompt.conditioning import Prompted
from softprompt.conditioning.decoding import Decoding
from softprompt.conditioning.texts import EncodedInput, collate_inputs
from softprompt.errors import NonFiniteError
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
    """

    def __init__(self, model: Prompted, begin: Callable[[], Decoding]) -> None:
        self._model = model
        self._begin = begin
        self._decoding = begin()
        self.voices: list[Voice] = []
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
        """
        self._leave()
        logits = []
        if self.voices:
            tokens = [voice.tokens[-1].token for voice in self.voices for _ in voice.names]
            logits.append(self._decoding.step(torch.tensor(tokens, device=self._model.backbone.device)))
        if new:
            new, first = self._admit(new)
            logits += first
            self.voices.extend(new)
        if logits:
            self.steps += 1
            self._choose(torch.cat(logits))
            self._leave()

    def _admit(self, new: Sequence[Voice]) -> tuple[Sequence[Voice], list[Float[Tensor, "rows vocab"]]]:
        """Read new texts' inputs together; where that fails, those that can be read alone."""
        try:
            return new, [self._read(self._decoding, new)]
        except Exception as error:
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
                if not all(sound[rows]):
                    raise _not_finite(voice, sound[rows])
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
            if voice.finish is None and voice.wanted():
                kept.append(voice)
                rows += range(row, row + count)
            row += count
        if len(kept) < len(self.voices):
            self._decoding.keep(rows)
            self.voices = kept


def _not_finite(voice: Voice, sound: Sequence[bool]) -> NonFiniteError:
    name = voice.names[sound.index(False)]
    return NonFiniteError(
        f"The logits that the prompt {name!r} leads to are not finite; it has diverged, or its values are too large for"
        " the backbone's dtype. Train it again with a lower rate."
    )
