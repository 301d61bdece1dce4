"""What a session begins with: what each run trains, and what is refused before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.errors import ConfigError
from softprompt.inference.encoding import encode
from softprompt.inference.queries import EncodedQuery
from softprompt.prompts.registry import SharingMethod, brings_head
from softprompt.tasks import Task, compute_available
from softprompt.training.learners import Learner, PromptLearner, WeightLearner
from softprompt.training.member import Member
from softprompt.training.run import Run, TrainConfig
from softprompt.training.suitability import check_suits
from softprompt.training.weights import WeightMethod

__all__ = ["check_runs", "encode_evaluation", "make_learner"]


def check_runs(runs: Sequence[Run], config: TrainConfig) -> None:
    """Refuse runs that cannot be in one session.

    Raises:
        ConfigError: If there are none, names repeat, one that trains weights is not the only one, or the worse half is
            to be stopped of runs that cannot be compared.
    """
    names = [run.name for run in runs]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"train needs runs with names of their own; got {names}.")
    if len(runs) > 1 and any(isinstance(run.method, WeightMethod) for run in runs):
        raise ConfigError("A run that trains weights changes what others rely on; train it in a session of its own.")
    _check_halving(runs, config)


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
    if isinstance(run.method, SharingMethod):
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


def _check_halving(runs: Sequence[Run], config: TrainConfig) -> None:
    if not config.halve_at:
        return
    if len({run.watches for run in runs}) > 1:
        raise ConfigError(f"halve_at compares runs, but they watch {', '.join(sorted({run.watches for run in runs}))}.")
    if any(run.evaluate_every == 0 for run in runs):
        raise ConfigError("halve_at compares runs, but one has evaluate_every=0 and is never evaluated.")


def encode_evaluation(model: Prompted, member: Member, task: Task) -> tuple[list[EncodedQuery], dict[str, str]]:
    """What an evaluation of a run asks about one of its tasks, in tokens; what it would refuse is met here.

    Returns:
        What is asked, and by name the metrics that cannot be computed here, with the reason.

    Raises:
        ConfigError: If the run watches a score that the task does not give.
        MissingDependencyError: If it watches one that cannot be computed here.
        LengthError: If an input is too long and may not be cut.
    """
    job = member.job(task)
    examples = job.examples()
    asked = encode(model, job.queries(model.backbone, examples))
    scores, missing = compute_available(task.metrics, task.answers(examples[:1], examples[0].targets[:1]))
    member.run.check_watched(task, scores, missing)
    return asked, missing
