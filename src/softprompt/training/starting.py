"""What a session begins with: what each run trains, and whether runs can be compared."""

from __future__ import annotations

from collections.abc import Sequence

from softprompt.backbones import Backbone
from softprompt.errors import ConfigError
from softprompt.prompts import MultitaskPrompt
from softprompt.prompts.registry import brings_head
from softprompt.training.learners import Learner, PromptLearner, WeightLearner
from softprompt.training.run import Run, TrainConfig
from softprompt.training.suitability import check_suits
from softprompt.training.weights import WeightMethod

__all__ = ["check_halving", "make_learner"]


def make_learner(backbone: Backbone, run: Run) -> Learner:
    """What a run trains, at its start.

    Raises:
        ConfigError: If its method does not learn its tasks.
        UnsupportedError: If the backbone cannot take its method, or has no head for its tasks.
    """
    several = len(run.tasks) > 1
    if run.learns_as_one and several and not isinstance(run.method, WeightMethod) and brings_head(run.method):
        raise ConfigError(
            f"run {run.name!r}: a head has the classes of one task; train the prompt of a mixture without, or a run for"
            " each task."
        )
    for task in run.tasks:
        check_suits(backbone, run.method, task)
    if isinstance(run.method, WeightMethod):
        return WeightLearner(backbone, run.method, run.seed)
    if run.learns_as_one:
        prompt = run.method.build(backbone, run.mixture if several else run.tasks[0], run.seed)
        return PromptLearner(run.name, {next(iter(run.learned_for)): prompt})
    if isinstance(run.method, MultitaskPrompt):
        return PromptLearner(
            run.name, run.method.build_all(backbone, {task.name: task for task in run.tasks}, run.seed)
        )
    if several:
        raise ConfigError(
            f"run {run.name!r}: a prompt of {type(run.method).__name__} learns one task, not {len(run.tasks)}; use"
            " MultitaskPrompt, a Mixture for one prompt of all, or a run for each task."
        )
    (task,) = run.tasks
    return PromptLearner(run.name, {task.name: run.method.build(backbone, task, run.seed)})


def check_halving(runs: Sequence[Run], config: TrainConfig) -> None:
    """Refuse to stop the worse half of runs that cannot be compared.

    Raises:
        ConfigError: If they watch different scores, or one is never evaluated.
    """
    if not config.halve_at:
        return
    if len({run.watches for run in runs}) > 1:
        raise ConfigError(f"halve_at compares runs, but they watch {', '.join(sorted({run.watches for run in runs}))}.")
    if any(run.evaluate_every == 0 for run in runs):
        raise ConfigError("halve_at compares runs, but one has evaluate_every=0 and is never evaluated.")
