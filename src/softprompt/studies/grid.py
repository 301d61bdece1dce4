"""A grid: backbones x tasks x methods x settings x seeds, from a YAML file to its cells."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from softprompt.backbones import Backbone
from softprompt.config import check_types, choose, plain_values
from softprompt.errors import ConfigError
from softprompt.studies.cells import ONLY_ON, TEXT_PROMPT, Cell, comparable, digest, trains_prompt
from softprompt.studies.claims import read_claims
from softprompt.studies.measures import MEASURES, applied
from softprompt.studies.sources import as_told, check_sources, find_alone, find_source, kept_methods
from softprompt.studies.task_settings import OPTIONAL, OWN_RUN, PATHS, TESTED_ON, without_paths
from softprompt.training import TrainConfig

__all__ = ["OPTIONAL", "OWN_RUN", "TESTED_ON", "TEXT_PROMPT", "Cell", "Grid", "digest"]

_DATA = "{data}"
_SESSION = {f.name for f in dataclasses.fields(TrainConfig)} - {"output_dir", "resume"}
_LOADING = tuple(
    name for name in inspect.signature(Backbone.from_pretrained).parameters if name not in ("name", "device")
)
_OUTSIDE_NAMES = re.compile(r"[^A-Za-z0-9_.]+")
# Settings of a session that change nothing that a run learns or scores.
_COSMETIC = ("checkpoint_every", "keep_checkpoints", "trackers", "progress")


@final
@dataclass(frozen=True, kw_only=True)
class Grid:
    """What a study compares; a setting with a list of values is an axis.

    Attributes:
        name: What tables and reports call it.
        backbones: Hub ids, folders, or `bundled:NAME`.
        loading: Settings of `Backbone.from_pretrained` for all of them, such as `classes`; float32 without a dtype.
        tasks: By label, settings of a task: `task` (a name) or `train`, `validation`, `test` (files) and
            `Task.from_files`' own; besides, `validation_rows`: so many training inputs validate, and the validation
            split is the test, where there is no test split with labels; `train_rows`: so many are trained on;
            `tested_on`: by label, settings of further tasks that whatever was learned is scored on too. They have the
            task's own settings but for what they set, and `split` for another one than the grid's; `run`: settings
            of its runs, over the grid's; `optional`: without its files the task is left out.
        methods: By label, settings of a method and its runs; `method` is its name, or `model_tuning`, `lora`, `ia3`; or
            `text_prompt`, with `text`, `shots` and `calibrate`, which is not trained. `train_rows` here, or among the
            settings of every run, draws so many training rows by each run's seed. `only_on` names the tasks that a
            method is run on. With `starts_from: {task, method}` runs start from the prompt of the run of that method,
            on that task, that has their seed (soft prompt transfer, Vu et al. 2022). The method `ensemble` (Lester et
            al. 2021, §6) has `of`, `members` and `combine`: draw d of the seeds is of the prompts of N runs of the
            method `of`, those with seeds d·N to d·N + N - 1.
        seeds: Of the runs.
        run: Settings of every run.
        session: Settings of every session.
        tune: Axes whose value is chosen by the validation score, for each line of the summary by itself.
        tune_seeds: Seeds that every value of these axes is run with; the chosen one is then run with the others. None
            runs all values with all seeds.
        runs_per_session: Most runs of a session; tuned models are always alone.
        methods_apart: Whether a session holds runs of one method on one task alone, so that its time and memory are
            that method's; otherwise sessions are as full as they can be.
        split: The split that results are reported on.
        rows: Most rows of it; None takes all.
        measures: Names of looks at what was trained, such as `labels`; their values stand in the rows of prompts. Rows
            that were made without them are made again.
        question: What it asks, in a sentence or two; reports begin with it.
        claims: What is held to the results: settings of `Claim`. They change nothing that is run.

    Raises:
        ConfigError: If there is nothing to compare, or a setting is unknown.
    """

    name: str
    backbones: Sequence[str]
    tasks: Mapping[str, Mapping[str, Any]]
    methods: Mapping[str, Mapping[str, Any]]
    seeds: Sequence[int] = (0, 1, 2)
    run: Mapping[str, Any] = field(default_factory=dict)
    session: Mapping[str, Any] = field(default_factory=dict)
    loading: Mapping[str, Any] = field(default_factory=dict)
    tune: Sequence[str] = ("learning_rate",)
    tune_seeds: Sequence[int] | None = None
    runs_per_session: int = 8
    methods_apart: bool = False
    split: str = "test"
    rows: int | None = None
    measures: Sequence[str] = ()
    question: str = ""
    claims: Sequence[Mapping[str, Any]] = ()

    def __post_init__(self) -> None:
        check_types(type(self), vars(self))
        for what in ("backbones", "seeds", "tune", "tune_seeds", "measures"):
            if isinstance(getattr(self, what), str | int):
                raise ConfigError(f"{what} of the grid {self.name!r} is a list; put the single value into one.")
        for name, value in vars(self).items():  # so that it equals what is read back from a file
            plain = plain_values(value)
            object.__setattr__(self, name, tuple(plain) if isinstance(plain, list) else plain)
        for what in ("backbones", "tasks", "methods", "seeds"):
            if not getattr(self, what):
                raise ConfigError(f"The grid {self.name!r} has no {what}; name at least one.")
        known = set(self.run).union(*self.methods.values(), *(task.get(OWN_RUN) or {} for task in self.tasks.values()))
        for name in self.tune:
            if name not in known and name != "learning_rate":
                raise choose(f"setting to tune in the grid {self.name!r}", name, known)
        if self.rows is not None and self.rows < 1:
            raise ConfigError(f"rows={self.rows}: expected at least 1, or none for all.")
        if self.tune_seeds is not None and not self.tune_seeds:
            raise ConfigError(f"tune_seeds of the grid {self.name!r} is empty; name a seed, or leave it out for all.")
        for name in self.session:
            if name not in _SESSION:
                raise choose(f"setting of a session in the grid {self.name!r}", name, _SESSION)
        for name in self.loading:
            if name not in _LOADING:
                raise choose(f"setting of loading in the grid {self.name!r}", name, _LOADING)
        for label, method in self.methods.items():
            if "method" not in method:
                raise ConfigError(f"methods.{label} of the grid {self.name!r} lacks method: NAME.")
            self._check_own(f"methods.{label}", {**self.run, **method})
            self._check_tasks(label, method)
        for label, task in self.tasks.items():
            self._check_own(f"tasks.{label}", task.get(OWN_RUN) or {})
        if unknown := set(self.tune_seeds or ()) - set(self.seeds):
            raise ConfigError(f"tune_seeds of the grid {self.name!r}: {min(unknown)} is none of its seeds.")
        if self.runs_per_session < 1:
            raise ConfigError(f"runs_per_session={self.runs_per_session}: expected at least 1.")
        for name in self.measures:
            MEASURES.get(name)
        read_claims(self.claims)
        check_sources(self)

    def _check_own(self, where: str, settings: Mapping[str, Any]) -> None:
        for name in ("seed", "task"):
            if name in settings:
                raise ConfigError(f"{name} of {where}: the grid {self.name!r} lists {name}s itself.")

    def _check_tasks(self, label: str, method: Mapping[str, Any]) -> None:
        if (only := method.get(ONLY_ON)) is None:
            return
        if not isinstance(only, list | tuple) or not only:
            raise ConfigError(f"{ONLY_ON} of methods.{label} is {only!r}; expected a list of tasks' labels.")
        for task in only:
            if task not in self.tasks:
                raise choose(f"task in {ONLY_ON} of methods.{label}", str(task), self.tasks)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The labels of each task and each method that is run on it."""
        pairs = itertools.product(self.tasks, self.methods)
        return [(task, method) for task, method in pairs if task in (self.methods[method].get(ONLY_ON) or self.tasks)]

    def settings(self, task: str, method: str) -> dict[str, Any]:
        """Settings of a method's runs on a task, by their labels; those with several values are axes."""
        own = {name: value for name, value in self.methods[method].items() if name != ONLY_ON}
        return {**self.run, **(self.tasks[task].get(OWN_RUN) or {}), **own}

    def axes(self, task: str, method: str) -> dict[str, Sequence[Any]]:
        """The settings of a method's runs on a task that have several values and are not tuned, with their values."""
        return {
            name: value
            for name, value in self.settings(task, method).items()
            if isinstance(value, list | tuple) and len(value) > 1 and name not in self.tune
        }

    def cells(self) -> list[Cell]:
        """Every run that there may be: backbone by backbone, task by task, method by method, seeds side by side."""
        return list(self._cells())

    def _cells(self) -> Iterator[Cell]:
        decisive = {name: value for name, value in self.session.items() if name not in _COSMETIC}
        measured = {"split": self.split, "rows": self.rows, **decisive, **self.loading}
        words = {label: without_paths(task) for label, task in self.tasks.items()}
        for backbone, (task, method) in itertools.product(self.backbones, self.pairs):
            settings = self.settings(task, method)
            axes = {name: value for name, value in settings.items() if isinstance(value, list | tuple)}
            for values in itertools.product(*axes.values()):
                chosen = {**settings, **{name: comparable(value) for name, value in zip(axes, values, strict=True)}}
                told = as_told(chosen)
                looks = sorted(applied(self.measures, told)) if trains_prompt(told) else []
                looked = {"measures": looks} if looks else {}
                for seed in self.seeds:
                    yield Cell(
                        backbone=backbone,
                        task=task,
                        words=words[task],
                        method=method,
                        settings=told,
                        seed=seed,
                        measured={**measured, **looked},
                        title=_title([task, method, *(told[name] for name in axes), f"seed{seed}"]),
                        source=find_source(self, task, chosen, seed),
                        alone=find_alone(self, task, chosen, seed),
                    )

    def narrowed(
        self,
        *,
        backbones: Sequence[str] | None = None,
        tasks: Sequence[str] | None = None,
        methods: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Grid:
        """The same grid on other backbones, on some of its tasks, with some of its methods, or with other seeds.

        Args:
            backbones: Instead of the grid's.
            tasks: Labels of those that stay.
            methods: Labels of those that stay.
            seeds: Instead of the grid's; those among them that tune go on tuning, or the first where none does.

        Raises:
            ConfigError: If the grid has no such task or method.
        """
        changes: dict[str, Any] = {}
        if backbones:
            changes["backbones"] = tuple(backbones)
        for what, chosen in (("tasks", tasks), ("methods", methods)):
            if chosen:
                known = getattr(self, what)
                for label in chosen:
                    if label not in known:
                        raise choose(f"{what[:-1]} of the grid {self.name!r}", label, known)
                changes[what] = {label: settings for label, settings in known.items() if label in chosen}
        if "tasks" in changes:
            changes["methods"] = kept_methods(changes.get("methods", self.methods), changes["tasks"])
        if seeds:
            tuning = tuple(seed for seed in self.tune_seeds or () if seed in seeds) or tuple(seeds[:1])
            changes |= {"seeds": tuple(seeds), "tune_seeds": tuning if self.tune_seeds else None}
        return dataclasses.replace(self, **changes)

    def with_data(self, folder: str | Path | None) -> Grid:
        """The same grid with a folder in place of `{data}` in the paths of its tasks.

        Raises:
            ConfigError: If a task says `{data}` and there is no folder.
        """

        def placed(label: str, task: Mapping[str, Any]) -> dict[str, Any]:
            return {key: value_of(label, key, value) for key, value in task.items()}

        def value_of(label: str, key: str, value: Any) -> Any:
            if key == TESTED_ON and isinstance(value, Mapping):
                return {other: placed(other, settings or {}) for other, settings in value.items()}
            if key not in PATHS or not isinstance(value, str) or _DATA not in value:
                return value
            if folder is None:
                raise ConfigError(f"The task {label!r} of the grid {self.name!r} needs data: give data_dir.")
            return value.replace(_DATA, str(folder))

        return dataclasses.replace(self, tasks={label: placed(label, task) for label, task in self.tasks.items()})


def _title(parts: Sequence[Any]) -> str:
    """Parts as a run's name may spell them."""
    return "-".join(_OUTSIDE_NAMES.sub("_", str(part)).strip("_") or "_" for part in parts)[:80]
