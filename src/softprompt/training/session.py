"""Training: K runs of prompts on one frozen backbone, in one session.

Each step draws a mini-batch for every live run, joins the rows into one forward and backward pass, and lets each
run's own optimizer take a step. A run ends as if it had been trained alone, to rounding; the backbone is in memory
once, and small batches of many runs fill the machine.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.config import to_mapping
from softprompt.errors import ConfigError, NonFiniteError, TrainingInterrupted
from softprompt.evaluation import Job, evaluate_many
from softprompt.inference import BatchLimits
from softprompt.loop.interrupts import Interrupts
from softprompt.loop.progress import Bar, Progress
from softprompt.loop.trackers import open_trackers
from softprompt.training.data import TrainRow, digest, encode_rows
from softprompt.training.folder import SessionFolder
from softprompt.training.member import Member
from softprompt.training.results import RunResult, TrainResult
from softprompt.training.run import Run, TrainConfig
from softprompt.training.step import backward, with_halving

__all__ = ["train"]


def train(backbone: Backbone, runs: Sequence[Run], config: TrainConfig | None = None) -> TrainResult:
    """Train prompts.

    Args:
        backbone: The frozen model, which all runs share.
        runs: What to train, each under a name of its own.
        config: What the runs share.

    Returns:
        By run, its best prompt, scores and history. A run that failed is among them with its reason.

    Raises:
        ConfigError: If there are no runs, names repeat, or `output_dir` holds another session.
        TrainingInterrupted: After Ctrl-C or SIGTERM; the state is saved, and the message says how to go on.
        NonFiniteError: If every run ended with a NaN or infinite loss.
    """
    config = config or TrainConfig()
    names = [run.name for run in runs]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"train needs runs with names of their own; got {names}.")
    session = _Session(backbone, runs, config)
    result = session.run()
    if all(member.status == "failed" for member in session.members):
        raise NonFiniteError("; ".join(member.reason for member in session.members))
    return result


class _Session:
    def __init__(self, backbone: Backbone, runs: Sequence[Run], config: TrainConfig) -> None:
        self.backbone, self.config = backbone, config
        rows = {run.name: self._rows(run) for run in runs}
        self.members = [
            Member(run, run.method.build(backbone, run.task, run.seed).to(backbone.device), rows[run.name])
            for run in runs
        ]
        self.model = Prompted(
            backbone,
            {member.run.name: member.prompt for member in self.members},
            conditioning=config.conditioning,
            gradient_checkpointing=config.gradient_checkpointing,
        )
        self.pass_tokens = config.pass_tokens
        self.step = 0
        identity = {
            "backbone": backbone.fingerprint.to_mapping(),
            "precision": config.precision,
            "runs": {run.name: {**run.settings(), "data": digest(rows[run.name])} for run in runs},
        }
        self.folder = SessionFolder(config, identity) if config.output_dir is not None else None

    def _rows(self, run: Run) -> list[TrainRow]:
        rows = encode_rows(self.backbone, run)
        if not rows:
            raise ConfigError(f"run {run.name!r}: the train split of {run.task.name} has no rows.")
        return rows

    def run(self) -> TrainResult:
        """Take every step that is left."""
        if self.folder is not None and (state := self.folder.open()) is not None:
            self._load(state)
        start_s = time.perf_counter()
        settings = {member.run.name: member.run.settings() for member in self.members}
        directory = self.config.output_dir or "."
        trackers = open_trackers(self.config.trackers, directory, {**to_mapping(self.config), "runs": settings})
        stream = sys.stderr if self.config.progress else io.StringIO()
        with Interrupts() as interrupts, Progress(stream=stream) as progress:
            bars = {m.run.name: progress.add(m.run.name, total=m.run.steps, done=m.step) for m in self.members}
            while any(member.live for member in self.members):
                self._step(progress, bars, trackers)
                if interrupts.requested:
                    self._interrupt()
                if self.folder is not None and self.step % self.config.checkpoint_every == 0:
                    self.folder.save(self.step, self._state())
        trackers.finish()
        if self.folder is not None:
            self.folder.save(self.step, self._state())
        return self._result(time.perf_counter() - start_s)

    def _step(self, progress: Progress, bars: dict[str, Bar], trackers: Any) -> None:
        live = [member for member in self.members if member.live]
        batches = {member.run.name: member.draw() for member in live}

        def forget() -> None:
            for member in live:
                member.forget_gradients()

        losses, self.pass_tokens = with_halving(
            lambda tokens: backward(self.model, batches, precision=self.config.precision, pass_tokens=tokens),
            self.pass_tokens,
            longest=max(member.longest for member in live),
            is_out_of_memory=should_reduce_batch_size,
            undo=forget,
            say=progress.say,
        )
        self.step += 1
        for member in live:
            try:
                member.advance(losses[member.run.name])
            except NonFiniteError as error:
                member.fail(error)
                progress.say(f"{error} It keeps its last good prompt; other runs go on.")
        self._evaluate([member for member in live if member.live and member.due])
        for member in live:
            member.finish()
            if member.history:
                name, latest = member.run.name, member.history[-1]
                shown = {key: value for key, value in latest.items() if key in ("loss", member.run.watches)}
                bars[name].advance(0 if member.status == "failed" else 1, **shown)
                trackers.log(self.step, {f"{name}/{key}": value for key, value in latest.items() if key != "step"})

    def _evaluate(self, due: Sequence[Member]) -> None:
        """Evaluate several runs in mixed batches; if one of them gives NaN, each by itself."""
        if not due:
            return
        jobs = {member.run.name: _job(member.run) for member in due}
        limits = BatchLimits(tokens=self.config.evaluation_tokens)
        try:
            scores = evaluate_many(self.model, jobs, limits=limits)
        except NonFiniteError as error:
            if len(due) > 1:
                for member in due:
                    self._evaluate([member])
                return
            due[0].fail(error)
            return
        for member in due:
            member.judge(scores[member.run.name])

    def _interrupt(self) -> None:
        if self.folder is None:
            raise TrainingInterrupted("Stopped. Nothing was kept, because the session has no output_dir.")
        self.folder.save(self.step, self._state())
        raise TrainingInterrupted(
            f"Stopped after step {self.step}; the state is saved in {self.config.output_dir}. Run the same command "
            "again to go on."
        )

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "pass_tokens": self.pass_tokens,
            "random": torch.get_rng_state(),
            "runs": {member.run.name: member.state_dict() for member in self.members},
        }

    def _load(self, state: dict[str, Any]) -> None:
        self.step, self.pass_tokens = state["step"], state["pass_tokens"]
        torch.set_rng_state(state["random"])
        for member in self.members:
            member.load_state_dict(state["runs"][member.run.name])

    def _result(self, seconds: float) -> TrainResult:
        results = {}
        for member in self.members:
            run = member.run
            prompt = member.result().with_info(
                task=run.task.name,
                format=run.task.format.to_mapping(),
                run=run.settings(),
                metrics={"validation": member.metrics} if member.metrics else {},
            )
            path = self.folder.keep(run.name, prompt, member.history) if self.folder is not None else None
            results[run.name] = RunResult(
                prompt=prompt,
                metrics=member.metrics,
                history=member.history,
                best_step=member.best_step or member.step,
                status=member.status,
                reason=member.reason,
                path=path,
            )
        return TrainResult(results, seconds=seconds, steps=self.step)


def _job(run: Run) -> Job:
    return Job(
        task=run.task,
        prompt=run.name,
        by=run.evaluates_by,
        rows=run.evaluate_rows,
        max_new_tokens=run.max_new_tokens,
        max_input_tokens=run.max_input_tokens,
        truncate=run.truncate,
    )
