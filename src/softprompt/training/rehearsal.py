"""A session without values: its own code takes its largest passes on tensors that have shapes alone."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch

from softprompt.backbones import Backbone
from softprompt.backbones.allocations import Allocations
from softprompt.backbones.weightless import Weightless
from softprompt.conditioning import Prompted
from softprompt.conditioning.collection import PassTaken
from softprompt.conditioning.probe import probe
from softprompt.conditioning.splitting import start_cost
from softprompt.evaluation.together import share_of
from softprompt.inference import BatchLimits
from softprompt.inference.batching import plan_batches
from softprompt.inference.queries import EncodedQuery
from softprompt.training.answer_peak import answer_peak
from softprompt.training.data import TrainRow, encode_rows, padded_tokens
from softprompt.training.learners import Learner, WeightLearner
from softprompt.training.member import Member
from softprompt.training.passes import NamedRow, cut_passes, widths
from softprompt.training.run import Run, TrainConfig
from softprompt.training.starting import encode_evaluation, make_learner
from softprompt.training.step import backward, holds_prompts, own_passes
from softprompt.training.weights import WeightMethod

__all__ = ["Pass", "Rehearsal"]

_ROWS = 1_000_000
"""Rows after which no further steps are looked at."""
_CUT = 4
"""How many of those with rows of about one length are cut into passes: the ones with most tokens."""

Step = Mapping[str, Sequence[TrainRow]]


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One pass forward and backward, and what it takes.

    Attributes:
        longest: Rows of up to so many columns, a power of two.
        rows: Its rows.
        tokens: Tokens that go through the backbone, padding and inserted prompts included.
        peak_bytes: The most that its activations, and those of the prompts that its step holds, take at once.
    """

    longest: int
    rows: int
    tokens: int
    peak_bytes: int


@final
class Rehearsal:
    """What runs on one backbone would do, on copies without values.

    Attributes:
        model: The copy, with the runs' prompts.
        trained_bytes: What the runs learn, the copies that are kept of it, and of a run that trains weights its model.
        state_bytes: What optimizers keep; known after `optimize`.
        cached_bytes: What comes to be kept of inputs that stand before their prompts, at most.

    Args:
        backbone: The real one, of which a little is asked.
        runs: What is to be trained.
        config: What the runs share.
        processes: How many would share it.
        sharded: Whether they would share the backbone's weights, too.

    Raises:
        ConfigError: As `train` does.
        UnsupportedError: As `train` does, or if a backbone cannot be copied without its values.
    """

    def __init__(
        self,
        backbone: Backbone,
        runs: Sequence[Run],
        config: TrainConfig,
        *,
        processes: int = 1,
        sharded: bool = False,
    ) -> None:
        self._config = config
        self._processes = processes
        self._count = Allocations(backbone.device)
        weightless = Weightless()
        copied = weightless.copy_backbone(backbone)
        copied.sharded = sharded  # passes are then cut and computed as by processes that gather the weights
        with self._count:
            learners = {run.name: _learner(backbone, weightless, run, sharded=sharded) for run in runs}
            tuned = [one.backbone for one in learners.values() if isinstance(one, WeightLearner)]
            self.model = Prompted(
                tuned[0] if tuned else copied,
                {name: prompt for one in learners.values() for name, prompt in one.prompts.items()},
                conditioning=config.conditioning,
                gradient_checkpointing=config.gradient_checkpointing,
            )
            rows = {run.name: self._rows(run, learners[run.name]) for run in runs}
            self._members = [Member(run, learners[run.name], rows[run.name]) for run in runs]
        self.trained_bytes = self._count.live_bytes + sum(map(self._kept_bytes, self._members))
        self.cached_bytes = self._cached_bytes([row for own in rows.values() for few in own.values() for row in few])
        self.state_bytes = 0
        self._steps = list(self._drawn())

    def _rows(self, run: Run, learner: Learner) -> dict[str, list[TrainRow]]:
        return {task.name: encode_rows(self.model, run, task, learner.asked_as(task.name)) for task in run.tasks}

    def _kept_bytes(self, member: Member) -> int:
        """The best values, and those of a checkpoint that is written."""
        on_device = member.learner.undoes_steps or self.model.backbone.device.type == "cpu"
        copies = (member.run.evaluate_every != 0) + (self._config.output_dir is not None)
        return copies * sum(p.nbytes for p in member.parameters) if on_device else 0

    def _cached_bytes(self, rows: Sequence[TrainRow]) -> int:
        """As much as is allowed, or all inputs if they are less."""
        spec, dtype = self.model.backbone.spec, self.model.backbone.dtype
        if not self._config.input_cache_bytes or spec.kind != "decoder-only" or self.model.reads_whole:
            return 0
        behind = {name for name, prompt in self.model.prompts.items() if prompt.placement != "prepend"}
        inputs = {tuple(row.input) for row in rows if row.prompt in behind}
        token = sum(2 * stack.layers * stack.kv_heads * stack.head_dim for stack in spec.stacks.values())
        return min(self._config.input_cache_bytes, sum(map(len, inputs)) * token * dtype.itemsize)

    def passes_taken(self) -> dict[str, PassTaken]:
        """Which way each prompt takes."""
        return {name: self.model.pass_of(name) for name in self.model.prompts}

    def _drawn(self) -> Iterator[Step]:
        """The steps that are looked at: of rows of about one length, those with most tokens."""
        found: dict[int, list[tuple[int, int, Step]]] = {}
        looked_at = 0
        for step in range(max(member.run.steps for member in self._members)):
            rows = {member.run.name: member.draw() for member in self._members if step < member.run.steps}
            columns = widths(self.model, _named(rows))
            most = found.setdefault(_bucket(columns), [])
            heapq.heappush(most, (padded_tokens(columns), step, rows))
            if len(most) > _CUT:
                heapq.heappop(most)
            looked_at += len(columns)
            if looked_at >= _ROWS:
                break
        for most in found.values():
            yield from (rows for _, _, rows in sorted(most, reverse=True))

    def passes(self, pass_tokens: int | None = None) -> list[Pass]:
        """The pass that takes most for each length of rows that occurs, shortest first.

        Args:
            pass_tokens: Most tokens of a pass; the configuration's if None.
        """
        most = pass_tokens or self._config.pass_tokens
        chosen: dict[int, tuple[int, list[NamedRow], list[NamedRow], bool]] = {}
        for rows in map(_named, self._steps):
            hold = holds_prompts(self.model, [row.prompt for _, row in rows], most)
            for index in range(self._processes):
                own = own_passes(self.model, rows, most, count=self._processes, index=index)
                step = [named for part in own for named in part]
                for part in own:
                    columns = widths(self.model, part)
                    size = self._size(padded_tokens(columns), sum(row.terms for _, row in part))
                    longest = _bucket(columns)
                    if longest not in chosen or size > chosen[longest][0]:
                        chosen[longest] = size, part, step, hold
        return [
            self._pass(longest, part, step, hold, most) for longest, (_, part, step, hold) in sorted(chosen.items())
        ]

    def _size(self, tokens: int, terms: int) -> int:
        """By what passes of rows of like length are compared: values of hidden states, and of logits."""
        spec = self.model.backbone.spec
        layers = sum(stack.layers for stack in spec.stacks.values())
        return tokens * spec.dim * max(layers, 1) + terms * spec.vocab

    def _pass(self, longest: int, part: list[NamedRow], step: list[NamedRow], hold: bool, pass_tokens: int) -> Pass:
        """A pass of one process, and what it takes beside those of the process's other rows of the step."""
        # prompts of the step's other rows are held too: a row of each is enough
        here = {row.prompt for _, row in part}
        others = {row.prompt: (name, row) for name, row in step if row.prompt not in here}
        besides = cut_passes(self.model, list(others.values()), pass_tokens) if others and hold else []
        with self._count:
            before = self._count.live_bytes
            if len(part) < len(step):
                self._stand_gradients(hold)
            self._count.begin_peak()
            backward(self.model, [part, *besides], precision=self._config.precision, hold=hold)
            peak = self._count.peak_bytes - before
        self._forget_gradients()
        return Pass(longest=longest, rows=len(part), tokens=padded_tokens(widths(self.model, part)), peak_bytes=peak)

    def _stand_gradients(self, hold: bool) -> None:
        """Those of the step's earlier passes: of prompts that are held, there are none before its end."""
        for member in self._members:
            if not hold or isinstance(member.learner, WeightLearner):
                for parameter in member.parameters:
                    parameter.grad = torch.zeros_like(parameter)

    def _forget_gradients(self) -> None:
        for member in self._members:
            member.learner.module.zero_grad(set_to_none=True)

    def optimize(self) -> int:
        """Take a step of every run's optimizer; the most that gradients, states and what is computed of them take."""
        with self._count:
            before = self._count.live_bytes
            self._count.begin_peak()
            for member in self._members:
                for parameter in member.parameters:
                    parameter.grad = torch.zeros_like(parameter)
            for member in self._members:
                member.advance(0.0)
            self.state_bytes = self._count.live_bytes - before
            return self._count.peak_bytes - before

    @torch.no_grad()
    def evaluation(self, evaluation_tokens: int | None = None) -> int:
        """The most that the largest batch of an evaluation takes; 0 if there is none.

        Args:
            evaluation_tokens: Most tokens of a batch; the configuration's if None.
        """
        limits = BatchLimits(tokens=evaluation_tokens or self._config.evaluation_tokens)
        start = start_cost(self.model.backbone.device)
        peaks = [0]
        for shares in self._queries():
            batches = [
                [rows[index] for index in batch]
                for rows in shares
                for batch in plan_batches(rows, range(len(rows)), limits, start=start)
            ]
            largest = max(batches, key=lambda batch: len(batch) * max(row.tokens for row in batch))
            with self._count:
                peaks.append(answer_peak(self.model, self._count, largest))
        return max(peaks)

    def _queries(self) -> list[list[list[EncodedQuery]]]:
        """What each process asks in an evaluation of all runs: what is ranked, and what is generated."""
        count = 1 if self.model.backbone.sharded else self._processes
        found: dict[str, list[list[EncodedQuery]]] = {}
        for member in self._members:
            for task in map(member.run.scored, member.run.tasks if member.run.evaluate_every != 0 else ()):
                asked, _ = encode_evaluation(self.model, member, task)
                shares = found.setdefault(member.run.evaluates_by(task), [[] for _ in range(count)])
                for index, share in enumerate(shares):
                    share.extend(share_of(asked, count, index))
        return list(found.values())


def _learner(backbone: Backbone, weightless: Weightless, run: Run, *, sharded: bool) -> Learner:
    """What a run trains, without values; a prompt begins with real ones, which its initializer may look at."""
    if not isinstance(run.method, WeightMethod):
        _ = probe(backbone)  # the copy believes its answer
        return weightless.copy(make_learner(backbone, run))
    # so that nothing is left to cast; what is quantised is refused
    trained = weightless.copy_backbone(backbone, None if backbone.quantized else torch.float32)
    trained.sharded = sharded
    with weightless.copying():
        learner = make_learner(trained, run)
    assert isinstance(learner, WeightLearner)
    # what is found out on the copy must not be believed of the backbone
    learner.backbone.fingerprint = replace(trained.fingerprint, architecture=f"{id(learner)}")
    return learner


def _named(step: Step) -> list[NamedRow]:
    return [(name, row) for name, rows in step.items() for row in rows]


def _bucket(columns: Sequence[tuple[int, int]]) -> int:
    longest: Any = max(map(sum, columns))
    return 1 << (longest - 1).bit_length()
