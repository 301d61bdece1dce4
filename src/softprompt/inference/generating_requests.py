"""The part of an engine that generates: texts in running batches, into which requests come as there is room."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, final

from accelerate.utils.memory import should_reduce_batch_size

from softprompt.conditioning import Prompted
from softprompt.conditioning.decoding import Decoding, JoiningDecoding
from softprompt.conditioning.turns import TurnDecoding
from softprompt.inference.backlog import Backlog
from softprompt.inference.batching import BatchLimits
from softprompt.inference.jobs import Job, elected
from softprompt.inference.lanes import Lane, Voice

__all__ = ["RequestGenerator"]

log = logging.getLogger(__name__)

_TURNS, _PATIENCE = 4, 16
"""Where texts must begin together: how many batches run beside each other at most, and after how many steps of the
last one the next one begins; so that a short text does not wait for the end of a long one."""


@final
class RequestGenerator:
    """Generates the texts of requests, step by step.

    Args:
        backlog: Where they wait.
        way: `join` where texts come into a batch that runs, `turn` where they begin together.
        model: The backbone with its prompts.
        limits: How many rows and tokens there may be at once.
    """

    def __init__(self, backlog: Backlog, way: Literal["join", "turn"], model: Prompted, limits: BatchLimits) -> None:
        self._backlog = backlog
        self._way = way
        self._model = model
        self._limits = self._most = limits
        self._most_lanes = 1 if way == "join" else _TURNS
        self._lanes: list[Lane] = []

    def step(self) -> None:
        """A step of each running batch, with those that come in, and a new batch where one may begin."""
        for lane in list(self._lanes):
            if not lane.rests or lane is self._lanes[0]:
                self._turn(lane, self._admitted(lane) if self._way == "join" else [])
        if not self._lanes:
            self._limits = self._most
        last = self._lanes[-1].steps if self._lanes else _PATIENCE
        if len(self._lanes) < self._most_lanes and last >= _PATIENCE and self._backlog.first(self._way, 1):
            lane = Lane(self._model, self._begin)
            if admitted := self._admitted(lane):
                self._lanes.append(lane)
                self._turn(lane, admitted)

    def clear(self) -> None:
        """Forget all running batches."""
        self._lanes.clear()

    def _begin(self) -> Decoding:
        backbone = self._model.backbone
        return JoiningDecoding(backbone) if self._way == "join" else TurnDecoding(backbone)

    def _turn(self, lane: Lane, admitted: Sequence[Job]) -> None:
        new = [voice for job in admitted for voices in job.voices for voice in voices]
        for job in admitted:
            job.begun_at = time.monotonic()
        voices = [*lane.voices, *new]
        self._backlog.ran(sum(len(voice.names) for voice in voices))
        jobs = self._backlog.running_with(voices)
        try:
            lane.turn(new)
        except Exception as error:
            self._mend(lane, [voice for voice in voices if voice.goes_on], jobs, error)
        for job in jobs:
            if job.is_said and not job.ticket.done:
                job.finish(self._model, completions=tuple(elected(several) for several in job.voices))
            if job.ticket.done:
                self._backlog.settle(job)
        if lane in self._lanes and not lane.voices:
            self._lanes.remove(lane)

    def _mend(self, lane: Lane, voices: Sequence[Voice], jobs: Sequence[Job], error: Exception) -> None:
        """End a batch that failed; where memory ran out, its halves go on, one after the other."""
        halves: list[Lane] = []
        if len(voices) > 1 and should_reduce_batch_size(error):
            rows = sum(len(voice.names) for voice in voices)
            tokens = min(self._limits.tokens, max(1, rows * max(voice.width for voice in voices) // 2))
            self._limits = replace(self._limits, tokens=tokens)
            log.warning("Out of memory with %d rows; going on with %d tokens until these have ended.", rows, tokens)
            middle = len(voices) // 2
            halves = [Lane(self._model, self._begin, half) for half in (voices[:middle], voices[middle:])]
        else:
            for job in jobs:
                if not job.is_said:
                    job.fail(error)
        lane.end()
        place = self._lanes.index(lane)
        self._lanes[place : place + 1] = halves

    def _admitted(self, lane: Lane) -> list[Job]:
        """Requests that come into a batch now, in their order: as many as the limits allow, or one if none runs.

        None comes while texts rest, whose room it would take.
        """
        if any(one.rests for one in self._lanes):
            return []
        rows, width = lane.rows, lane.width
        others = [one for one in self._lanes if one is not lane]
        other_rows, other_tokens = sum(one.rows for one in others), sum(one.rows * one.width for one in others)

        def fits(job: Job) -> bool:
            more, wider = rows + job.rows, max(width, job.width)
            within = other_rows + more <= self._limits.rows and other_tokens + more * wider <= self._limits.tokens
            return within or not (rows or others)

        admitted: list[Job] = []
        while (job := self._backlog.take(self._way, fits)) is not None:
            admitted.append(job)
            rows, width = rows + job.rows, max(width, job.width)
        return admitted
