"""What is trained: a run is one training of one prompt; a session trains several runs on one backbone."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, get_args

from softprompt.config import check_types, choose, to_mapping
from softprompt.errors import ConfigError, MissingDependencyError
from softprompt.evaluation import By, choose_way
from softprompt.loop.optimizers import optimizer_names
from softprompt.loop.schedules import schedule_names
from softprompt.prompts.registry import Method, SharingMethod, name_of
from softprompt.tasks import Mixture, Task, TextFormat, get_scorer
from softprompt.training.weights import WeightMethod

__all__ = ["Loss", "Precision", "Run", "TrainConfig"]

Precision = Literal["float32", "bf16"]
Loss = Literal["likelihood", "rank"]
_MEAN = "mean"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training of one prompt, or of the model itself: what may differ between the runs of a session.

    The defaults are those of Lester et al. 2021, §3, at a tenth of their steps.

    Attributes:
        name: What results and folders call it: letters, digits, `_`, `.`, `-`.
        method: How the prompt is made; or a baseline that trains weights: `ModelTuning`, `LoRA`, `IA3`.
        task: What it learns; its `train` split is trained on. Several tasks are mixed in proportion to their rows, or
            as a `Mixture` says. A method of one prompt takes one task, or a mixture, which one prompt then learns.
        seed: Of the prompt's start and the order of the data.
        loss: `likelihood` of the target's tokens, as in both papers; or `rank`: of the target among the task's label
            words, by the scores that evaluation ranks them by (Schick and Schütze 2021, §3.1). An encoder-only model
            has its classes in its head and knows no other.
        optimizer: Name of an optimizer.
        learning_rate: Highest learning rate.
        weight_decay: Decoupled weight decay.
        schedule: Name of a schedule of the learning rate.
        warmup_steps: Steps of linear warm-up.
        clip_norm: Largest norm of the prompt's gradient; None does not clip.
        batch_size: Rows per batch.
        batch_tokens: Most tokens per batch, padding included, prompts not; None bounds batches by rows alone.
        accumulate: Batches per optimizer step.
        steps: Optimizer steps.
        evaluate_every: Steps between evaluations; None evaluates at the end only, 0 never.
        evaluate_rows: Most rows of the validation split to evaluate on; None takes all.
        by: How to evaluate: `rank` label words, or `generate`; None ranks if the task has label words.
        metric: Which metric chooses the best prompt; None takes the task's first. Of several tasks, it is the mean of
            what each of them watches.
        patience: Evaluations without improvement after which the run stops; None never stops early.
        truncate: Whether inputs that are too long are cut; otherwise they are an error.
        max_input_tokens: Longest input; None is bounded by the backbone alone.
        max_new_tokens: Longest text to generate in evaluation; None leaves room for any label, or 128 tokens.

    Raises:
        ConfigError: If a setting is unknown or out of range.
    """

    name: str
    method: Method | WeightMethod
    task: Task | Sequence[Task] | Mixture
    seed: int = 0
    loss: Loss = "likelihood"
    optimizer: str = "adafactor"
    learning_rate: float = 0.3
    weight_decay: float = 1e-5
    schedule: str = "constant"
    warmup_steps: int = 0
    clip_norm: float | None = None
    batch_size: int = 32
    batch_tokens: int | None = None
    accumulate: int = 1
    steps: int = 3000
    evaluate_every: int | None = None
    evaluate_rows: int | None = None
    by: By | None = None
    metric: str | None = None
    patience: int | None = None
    truncate: bool = False
    max_input_tokens: int | None = None
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        check_types(type(self), vars(self))
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"name={self.name!r}: expected letters, digits, '_', '.', '-', at most 100 of them.")
        _one_of("optimizer", self.optimizer, optimizer_names())
        _one_of("schedule", self.schedule, schedule_names())
        _one_of("loss", self.loss, get_args(Loss))
        _one_of("by", self.by, ("generate", "rank", None))
        for setting in ("batch_size", "batch_tokens", "accumulate", "steps", "evaluate_rows", "patience"):
            _at_least(setting, getattr(self, setting), 1)
        for setting in ("max_input_tokens", "max_new_tokens"):
            _at_least(setting, getattr(self, setting), 1)
        for setting in ("warmup_steps", "evaluate_every", "weight_decay"):
            _at_least(setting, getattr(self, setting), 0)
        for setting in ("learning_rate", "clip_norm"):
            value = getattr(self, setting)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{setting}={value}: expected a positive number.")
        if self.warmup_steps > self.steps:
            raise ConfigError(f"warmup_steps={self.warmup_steps} is more than steps={self.steps}.")
        if not isinstance(self.task, Task | Mixture):
            object.__setattr__(self, "task", tuple(self.task))
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"run {self.name!r} needs tasks with names of their own; got {names}.")
        for task in self.tasks:
            self._check_task(task)

    def _check_task(self, task: Task) -> None:
        for setting in ("by", "loss"):
            if getattr(self, setting) == "rank" and task.labels is None:
                raise ConfigError(f"run {self.name!r}: {setting}='rank' needs label words, which {task.name} has not.")
        needed = ("train",) if self.evaluate_every == 0 else ("train", "validation")
        if missing := [split for split in needed if split not in task.splits]:
            raise ConfigError(
                f"run {self.name!r}: the task {task.name} has no {missing[0]} split"
                + ("." if missing[0] == "train" else "; give it one, or set evaluate_every=0.")
            )
        if len(self.tasks) > 1 and not _NAME.fullmatch(task.name):
            raise ConfigError(
                f"run {self.name!r}: the task's name {task.name!r} is to name a folder; expected letters, digits, '_',"
                " '.', '-'."
            )

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it learns: one task, or several."""
        if isinstance(self.task, Task):
            return (self.task,)
        return tuple(self.task.tasks if isinstance(self.task, Mixture) else self.task)

    @property
    def mixture(self) -> Mixture:
        """Its tasks, and how they share the rows that it trains on."""
        return self.task if isinstance(self.task, Mixture) else Mixture(self.tasks)

    @property
    def learns_as_one(self) -> bool:
        """Whether one prompt learns all tasks of a mixture."""
        return isinstance(self.task, Mixture) and not isinstance(self.method, WeightMethod | SharingMethod)

    @property
    def learned_for(self) -> dict[str, TextFormat | None]:
        """What its results are for, with the format that is stored beside each: the tasks, or the mixture as one.

        A mixture has the format of its tasks if they have one in common, their labels in the same order.
        """
        if self.learns_as_one and len(self.tasks) > 1:
            form = self.tasks[0].format
            common = all(task.format == form and task.labels == form.labels for task in self.tasks)
            return {self.mixture.name: form if common else None}
        return {task.name: task.format for task in self.tasks}

    def evaluates_by(self, task: Task) -> By:
        """How it is evaluated on one of its tasks."""
        return choose_way(self.by, task.labels)

    @property
    def watches(self) -> str:
        """The score that chooses the best values: a metric's, or `mean` of several tasks."""
        return _MEAN if len(self.tasks) > 1 else self.watches_of(self.tasks[0])

    def watches_of(self, task: Task) -> str:
        """The score of one of its tasks that counts."""
        return self.metric or task.watched

    def scored(self, task: Task) -> Task:
        """One of its tasks as evaluations while training score it: without slow metrics, unless one of them counts."""
        watched = self.watches_of(task)
        scorers = {name: get_scorer(name) for name in task.metrics}
        kept = [name for name, scorer in scorers.items() if not scorer.slow or watched in scorer.scores]
        return replace(task, metrics=tuple(kept))

    def check_watched(self, task: Task, scores: Collection[str], missing: Mapping[str, str]) -> None:
        """Refuse to choose checkpoints by what cannot be computed, or by what counts errors.

        Args:
            task: One of its tasks.
            scores: The names of the scores that can be computed.
            missing: By metric, why others cannot.

        Raises:
            ConfigError: If the task has no such score, or less of it is better.
            MissingDependencyError: If its metric cannot be computed here.
        """
        watched = self.watches_of(task)
        for name in task.metrics:
            scorer = get_scorer(name)
            if watched in scorer.scores and name in missing:
                raise MissingDependencyError(f"run {self.name!r} is to be chosen by {watched!r}. {missing[name]}")
            if watched in scorer.scores and scorer.less_is_better:
                raise ConfigError(
                    f"run {self.name!r} is to be chosen by {watched!r}, but less of it is better; set metric to another"
                    " score of the task, or name another metric first."
                )
        if watched not in scores:
            raise choose(f"metric of run {self.name!r}", watched, scores)

    def combine(self, scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """The scores of its tasks as one mapping: as they are of one task, with the tasks' names and a mean of several.

        Args:
            scores: By the tasks' names.
        """
        if len(self.tasks) == 1:
            return dict(scores[self.tasks[0].name])
        named = {f"{task} {metric}": score for task, found in scores.items() for metric, score in found.items()}
        return {_MEAN: fmean(scores[task.name][self.watches_of(task)] for task in self.tasks), **named}

    def settings(self) -> dict[str, Any]:
        """Plain values: everything but the task's data, of which only counts are told."""
        plain = {key: value for key, value in vars(self).items() if key not in ("method", "task")}
        name = self.method.name if isinstance(self.method, WeightMethod) else name_of(self.method)
        method = {"name": name, **to_mapping(self.method)}
        tasks = [{"task": task.name, "data": task.report.counts()} for task in self.tasks]
        several = {"tasks": tasks, **(self.task.settings() if isinstance(self.task, Mixture) else {})}
        return to_mapping({**plain, "method": method, **(tasks[0] if len(tasks) == 1 else several)})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What the runs of a session share.

    Attributes:
        output_dir: Where prompts, histories and checkpoints go; None keeps everything in memory.
        precision: `bf16` computes the backbone's pass under autocast; prompts and optimizers stay float32.
        conditioning: Which pass to take; see `Prompted`.
        gradient_checkpointing: Whether layers are recomputed in the backward pass, to save memory.
        pass_tokens: Most tokens, padding and inserted prompts included, that go through the backbone at once; more
            are split up and their gradients added. Halved when memory runs out.
        input_cache_bytes: Most bytes of keys and values kept of inputs that stand before their prompts in a
            decoder-only model (`append`, `middle`), which are then read once and not in every epoch. 0 keeps none.
        checkpoint_every: Steps between checkpoints.
        keep_checkpoints: How many checkpoints to keep.
        resume: Whether to go on with the session in `output_dir`; if not, a session there is an error.
        trackers: Names of experiment trackers: `tensorboard`, `wandb`, `mlflow`, `trackio`.
        evaluation_tokens: Most tokens, padding included, of a batch in evaluation.
        halve_at: Steps after which the worse half of the runs that still train is stopped, by the metric they watch
            (successive halving, Jamieson and Talwalkar 2016). All are evaluated then.
        progress: Whether to show progress.

    Raises:
        ConfigError: If a setting is unknown or out of range.
    """

    output_dir: str | Path | None = None
    precision: Precision = "float32"
    conditioning: Literal["auto", "shared", "concatenation"] = "auto"
    gradient_checkpointing: bool = False
    pass_tokens: int = 16384
    input_cache_bytes: int = 0
    checkpoint_every: int = 200
    keep_checkpoints: int = 2
    resume: bool = True
    trackers: Sequence[str] = ()
    evaluation_tokens: int = 16384
    halve_at: Sequence[int] = ()
    progress: bool = True

    def __post_init__(self) -> None:
        check_types(type(self), vars(self))
        _one_of("precision", self.precision, ("float32", "bf16"))
        _one_of("conditioning", self.conditioning, ("auto", "shared", "concatenation"))
        for setting in ("pass_tokens", "checkpoint_every", "keep_checkpoints", "evaluation_tokens"):
            _at_least(setting, getattr(self, setting), 1)
        _at_least("input_cache_bytes", self.input_cache_bytes, 0)
        object.__setattr__(self, "trackers", tuple(self.trackers))
        object.__setattr__(self, "halve_at", tuple(self.halve_at))
        if any(first >= second for first, second in pairwise((0, *self.halve_at))):
            raise ConfigError(f"halve_at={list(self.halve_at)}: expected ascending steps from 1.")


def _one_of(setting: str, value: Any, known: Iterable[Any]) -> None:
    if value not in known:
        raise ConfigError(f"{setting}={value!r}: expected one of {', '.join(map(repr, known))}.")


def _at_least(setting: str, value: float | None, least: int) -> None:
    if value is not None and value < least:
        raise ConfigError(f"{setting}={value}: expected at least {least}.")
