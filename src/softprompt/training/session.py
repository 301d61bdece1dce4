"""Training: K runs of prompts on one frozen backbone, or one of the model itself, in one session.

Each step draws a mini-batch for every live run, joins the rows into one forward and backward pass, and lets each
run's own optimizer take a step. A run ends as if it had been trained alone, to rounding; the backbone is in memory
once, and small batches of many runs fill the machine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from softprompt.backbones import Backbone
from softprompt.backbones.launch import lost_one
from softprompt.conditioning import Prompted
from softprompt.config import to_mapping
from softprompt.errors import LostProcessError, NonFiniteError, TrainingInterrupted
from softprompt.evaluation import evaluate_many
from softprompt.inference import BatchLimits
from softprompt.loop.checkpoints import latest_checkpoint
from softprompt.loop.interrupts import Interrupts
from softprompt.loop.processes import Processes
from softprompt.training.agreement import check_agreement
from softprompt.training.data import TrainRow, digest, encode_rows
from softprompt.training.folder import SessionFolder
from softprompt.training.learners import Learned, WeightLearner, on_cpu
from softprompt.training.member import Member
from softprompt.training.reports import Reports
from softprompt.training.results import RunResult, TrainResult
from softprompt.training.run import Run, TrainConfig
from softprompt.training.starting import check_runs, encode_evaluation, make_learner
from softprompt.training.step import backward_in_memory
from softprompt.training.summing import sum_step

__all__ = ["train"]

# What processes need not agree on.
_OWN = ("output_dir", "progress", "trackers")


def train(backbone: Backbone, runs: Sequence[Run], config: TrainConfig | None = None) -> TrainResult:
    """Train prompts, or the baseline that they are measured against.

    Started by `accelerate launch` or `torchrun`, several processes share each step's rows: every one calls this with
    the same runs, and gets the same result. The first one alone writes.

    Args:
        backbone: The frozen model, which all runs share; a run of a `WeightMethod` trains a copy of it.
        runs: What to train, each under a name of its own.
        config: What the runs share.

    Returns:
        By run, its best prompt (or tuned model), scores and history. A run that failed is among them with its reason.

    Raises:
        ConfigError: If there are no runs, names repeat, one that trains weights is not the only one, `output_dir`
            holds another session, or processes were given different runs.
        UnsupportedError: If the backbone cannot take a run's method, or has no head for its tasks.
        MissingDependencyError: If a run is to be chosen by a metric that cannot be computed here.
        TrainingInterrupted: After Ctrl-C or SIGTERM; the state is saved, and the message says how to go on.
        NonFiniteError: If every run ended with a NaN or infinite loss or score.
        ArtefactError: If a run's folder cannot be written, or what `output_dir` holds is damaged.
        LostProcessError: If another of several processes died or hangs; the message names the last checkpoint.
    """
    config = config or TrainConfig()
    check_runs(runs, config)
    session = _Session(backbone, runs, config)
    result = session.run()
    if all(member.status == "failed" for member in session.members):
        raise NonFiniteError("; ".join(member.reason for member in session.members))
    return result


class _Session:
    def __init__(self, backbone: Backbone, runs: Sequence[Run], config: TrainConfig) -> None:
        self.config = config
        self.processes = Processes()
        learners = {run.name: make_learner(backbone, run) for run in runs}
        tuned = [one for one in learners.values() if isinstance(one, WeightLearner)]
        self.model = Prompted(
            tuned[0].backbone if tuned else backbone,
            {name: prompt for one in learners.values() for name, prompt in one.prompts.items()},
            conditioning=config.conditioning,
            gradient_checkpointing=config.gradient_checkpointing,
            input_cache_bytes=config.input_cache_bytes,
        )
        rows = {
            run.name: {
                task.name: encode_rows(self.model, run, task, learners[run.name].asked_as(task.name))
                for task in run.tasks
            }
            for run in runs
        }
        self.left_out = {run.name: _targets(run) - sum(map(len, rows[run.name].values())) for run in runs}
        self.members = [Member(run, learners[run.name], rows[run.name]) for run in runs]
        self.pass_tokens = config.pass_tokens
        self.step = 0
        self.step_seconds = 0.0
        identity = {
            "backbone": backbone.fingerprint.to_mapping(),
            "precision": config.precision,
            **({"halve_at": list(config.halve_at)} if config.halve_at else {}),
            "runs": {run.name: {**run.settings(), "data": _digest(rows[run.name])} for run in runs},
        }
        kept = config.output_dir is not None and self.processes.first
        self.folder = SessionFolder(config, identity) if kept else None
        self.given = _given(identity, config)
        self.missing: dict[str, str] = {}
        for member in self.members:
            self._check_evaluation(member)

    def _check_evaluation(self, member: Member) -> None:
        """Meet what evaluation would refuse now, not after the training."""
        run = member.run
        for task in map(run.scored, run.tasks if run.evaluate_every != 0 else ()):
            if self.processes.count > 1:
                rows = [(example.input, example.targets) for example in member.job(task).examples()]
                self.given[f"the rows that {task.name!r} is scored on"] = rows
            _, missing = encode_evaluation(self.model, member, task)
            self.missing |= missing

    def run(self) -> TrainResult:
        """Take every step that is left."""
        try:
            return self._run()
        except RuntimeError as error:
            if self.processes.count == 1 or not lost_one(error):
                raise
            raise LostProcessError(self._loss_of_another()) from error

    def _run(self) -> TrainResult:
        self._begin()
        start_s = time.perf_counter()
        with Interrupts() as interrupts, self._reports() as reports:
            for name, reason in self.missing.items():
                reports.say(f"{name} is left out: {reason}")
            for name, count in self.left_out.items():
                if count:
                    reports.say(f"run {name!r}: {count} rows are left out: their targets are not in what is read.")
            while any(member.live for member in self.members):
                self._step(reports)
                if self.processes.any(interrupts.requested):
                    self._interrupt()
                if self.folder is not None and self.step % self.config.checkpoint_every == 0:
                    self.folder.save(self.step, self._state())
        if self.folder is not None:
            self.folder.save(self.step, self._state())
        result = self._result(time.perf_counter() - start_s)
        self.processes.wait()  # one that ends first may take others with it
        return result

    def _reports(self) -> Reports:
        """What the first process shows, once its trackers are open; others show nothing."""
        made: list[Reports] = []
        self.processes.first_does(lambda: made.append(Reports(self.config, self.members)))
        return made[0] if made else Reports(replace(self.config, progress=False, trackers=()), self.members)

    def _begin(self) -> None:
        """Go on from what the folder holds; or begin, in all processes with what the first one begins with."""
        check_agreement(self.processes, self.given)
        state = self.processes.first_does(lambda: None if self.folder is None else self.folder.open())
        if state is not None:
            self._load(state)
        elif self.processes.count > 1:
            begun = self.processes.from_first([on_cpu(member.learner.values()) for member in self.members])
            for member, values in zip(self.members, begun, strict=True):
                member.learner.restore(values)

    def _step(self, reports: Reports) -> None:
        start_s = time.perf_counter()
        live = [member for member in self.members if member.live]
        losses, self.pass_tokens = backward_in_memory(
            self.model,
            {member.run.name: member.draw() for member in live},
            precision=self.config.precision,
            pass_tokens=self.pass_tokens,
            say=reports.say,
            count=self.processes.count,
            index=self.processes.index,
        )
        losses = sum_step(self.processes, [p for member in live for p in member.parameters], losses)
        self.step += 1
        for member in live:
            try:
                member.advance(losses[member.run.name])
            except NonFiniteError as error:
                self._fail(member, error, reports)
        self.step_seconds += time.perf_counter() - start_s
        halving = self.step in self.config.halve_at
        self._evaluate([member for member in live if member.live and (member.due or halving)], reports)
        if halving:
            self._halve(reports)
        for member in live:
            member.finish()
            if member.status != "failed":
                reports.step(self.step, member)

    def _evaluate(self, due: Sequence[Member], reports: Reports) -> None:
        """Evaluate several runs in mixed batches; if one of them gives NaN, each by itself."""
        if not due:
            return
        jobs = {
            (member.run.name, task.name): member.job(member.run.scored(task))
            for member in due
            for task in member.run.tasks
        }
        try:
            limits = BatchLimits(tokens=self.config.evaluation_tokens)
            scores = evaluate_many(self.model, jobs, limits=limits, processes=self.processes)
        except NonFiniteError as error:
            if len(due) > 1:
                for member in due:
                    self._evaluate([member], reports)
                return
            self._fail(due[0], error, reports)
            return
        for member in due:
            try:
                found = {task.name: scores[member.run.name, task.name] for task in member.run.tasks}
                member.judge(member.run.combine(found))
            except NonFiniteError as error:
                self._fail(member, error, reports)

    def _halve(self, reports: Reports) -> None:
        """Stop the worse half of the runs that still train; of equally good ones, the later."""
        live = [member for member in self.members if member.live and member.step == self.step]
        ranked = sorted(live, key=lambda member: member.history[-1][member.run.watches], reverse=True)
        for member in ranked[(len(ranked) + 1) // 2 :]:
            member.stop(f"among the worse half after step {self.step}")
            reports.say(f"run {member.run.name!r} is stopped: {member.reason}.")

    def _fail(self, member: Member, error: NonFiniteError, reports: Reports) -> None:
        member.fail(error)
        reports.say(f"{error} It keeps its last good state; other runs go on.")

    def _interrupt(self) -> None:
        if self.config.output_dir is None:
            raise TrainingInterrupted("Stopped. Nothing was kept, because the session has no output_dir.")
        if self.folder is not None:
            self.folder.save(self.step, self._state())
        self.processes.wait()  # one that ends first may take the one that saves with it
        raise TrainingInterrupted(
            f"Stopped after step {self.step}; the state is saved in {self.config.output_dir}. To go on, run the same "
            "command, or call train with the same settings, again."
        )

    def _loss_of_another(self) -> str:
        lost = f"Another of {self.processes.count} processes died or hangs after step {self.step}."
        if self.config.output_dir is None:
            return f"{lost} Nothing was kept, because the session has no output_dir."
        newest = latest_checkpoint(Path(self.config.output_dir) / "checkpoints")
        kept = "There is no checkpoint yet" if newest is None else f"The last checkpoint is good: {newest}"
        return f"{lost} {kept}. To go on, in as many processes as you like, run the same command again."

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "pass_tokens": self.pass_tokens,
            "random": torch.get_rng_state(),
            "runs": {member.run.name: member.state_dict() for member in self.members},
        }

    def _load(self, state: dict[str, Any]) -> None:
        self.step, self.pass_tokens = state["step"], min(state["pass_tokens"], self.pass_tokens)
        torch.set_rng_state(state["random"])
        for member in self.members:
            member.load_state_dict(state["runs"][member.run.name])

    def _result(self, seconds: float) -> TrainResult:
        learned = {member.run.name: member.result() for member in self.members}
        paths = self.processes.first_does(lambda: self._written(learned))
        results = {
            member.run.name: RunResult(
                learned=learned[member.run.name],
                trained=member.num_trained,
                shares=member.shares if len(member.run.tasks) > 1 else {},
                metrics=member.metrics,
                history=member.history,
                best_step=member.result_step,
                status=member.status,
                reason=member.reason,
                path=paths.get(member.run.name),
            )
            for member in self.members
        }
        return TrainResult(results, seconds=seconds, step_seconds=self.step_seconds, steps=self.step)

    def _written(self, learned: Mapping[str, Learned]) -> dict[str, Path]:
        """The folders of what was learned, once they are written."""
        if self.folder is None:
            return {}
        for member in self.members:
            self.folder.keep_history(member.run.name, member.history)
        trained = {m.run.name: _as_one(m.told()) for m in self.members if m.result_step > 0}
        return self.folder.keep_learned({name: (learned[name], told) for name, told in trained.items()})


def _given(identity: Mapping[str, Any], config: TrainConfig) -> dict[str, Any]:
    """What every process has to be given alike."""
    runs = {f"run {name!r}": run for name, run in identity["runs"].items()}
    settings = {name: value for name, value in to_mapping(config).items() if name not in _OWN}
    return {"the backbone": identity["backbone"], "the settings": settings, **runs}


def _targets(run: Run) -> int:
    return sum(len(example.targets) for task in run.tasks for example in task.examples("train"))


def _as_one(told: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What is told of the only task, or of several by their names."""
    return told if len(told) > 1 else next(iter(told.values()))


def _digest(rows: Mapping[str, Sequence[TrainRow]]) -> str:
    return digest([row for several in rows.values() for row in several])
