"""Evaluation of prompts, and of the bare backbone with or without a text prompt, on tasks."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.errors import ConfigError
from softprompt.evaluation.baselines import TextPrompt
from softprompt.evaluation.job import Job
from softprompt.evaluation.recording import PredictionFile, Said
from softprompt.evaluation.result import Evaluation, measure
from softprompt.evaluation.together import answer_together
from softprompt.evaluation.ways import By
from softprompt.inference import (
    BatchLimits,
    Choice,
    Ensemble,
    Query,
    Together,
    calibrated,
    classify,
    predict_texts,
)
from softprompt.loop.processes import Processes
from softprompt.prompts import Members, SoftPrompt
from softprompt.tasks import Example, Task

__all__ = ["evaluate", "evaluate_many"]

_CHUNK_ROWS = 256

Progress = Callable[[int], object]
Key = TypeVar("Key")


def evaluate(
    backbone: Backbone,
    prompt: SoftPrompt | Ensemble | TextPrompt | None,
    task: Task,
    split: str = "validation",
    by: By | None = None,
    *,
    rows: int | None = None,
    max_new_tokens: int | None = None,
    max_input_tokens: int | None = None,
    truncate: bool = False,
    calibrate: bool = False,
    seed: int = 0,
    output: str | Path | None = None,
    limits: BatchLimits | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Evaluation:
    """Evaluate a prompt on a task.

    Args:
        backbone: The frozen model.
        prompt: A soft prompt, an ensemble on the same backbone, a text prompt, or None for the bare backbone.
        task: What to evaluate on; its own format applies, whatever the prompt has stored.
        split: Which of its splits.
        by: `generate` scores text that is generated, or that an encoder's head over tokens reads off the input; `rank`
            chooses the most probable of the task's labels, of which class i of an encoder is label i; None ranks if the
            task has labels.
        rows: Evaluate that many rows only, drawn by the seed; None takes all.
        max_new_tokens: Longest text to generate; None leaves room for twice the longest label, or 128 tokens where
            targets are free text. Of an answer that an encoder finds, the longest; 30 tokens if None.
        max_input_tokens: Longest input, besides what the backbone allows.
        truncate: Whether an input that is too long is cut; otherwise it is an error.
        calibrate: As in `Job`.
        seed: Of the draw of rows and of the bootstrap.
        output: File to which predictions are appended as they are made, one JSON object per row; several tasks and
            splits may share it. What it holds of this split is not predicted again: an evaluation that was stopped
            goes on, and ends as if it had not been.
        limits: How large a batch may be.
        progress: Called after each batch with its number of rows; first with those that `output` holds.
        **options: What `Prompted.generate` takes besides, such as `num_beams`.

    Raises:
        ConfigError: If `prompt` is something else, labels are to be ranked and the task has none, an encoder-only
            model is to generate, or `output` holds something else than predictions of these rows by this prompt.
        DataError: If the split is empty.
        LengthError: If an input is too long and may not be cut.
        MismatchError: If the prompt was made for another backbone.
    """
    prompts: Mapping[str, SoftPrompt] = {}
    asked: str | Together | None = None
    text: TextPrompt | None = None
    match prompt:
        case None:
            pass
        case SoftPrompt():
            asked, prompts = "prompt", {"prompt": prompt}
        case Ensemble():
            asked, prompts = prompt.prompt, prompt.model.prompts
        case TextPrompt():
            text = prompt
        case _:
            raise ConfigError(
                "evaluate takes a SoftPrompt, an Ensemble, a TextPrompt, or None for the bare backbone, but got "
                f"{type(prompt).__name__}; load a folder with SoftPrompt.load(path), take a trained run's .prompt."
            )
    job = Job(
        task=task,
        split=split,
        prompt=asked,
        text=text,
        by=by,
        rows=rows,
        max_new_tokens=max_new_tokens,
        max_input_tokens=max_input_tokens,
        truncate=truncate,
        calibrate=calibrate,
        seed=seed,
    )
    model = Prompted(backbone, prompts)
    if output is None:
        return evaluate_many(model, {"": job}, limits=limits, progress=progress, **options)[""]
    return _evaluate_into(PredictionFile(output), model, job, limits=limits, progress=progress, **options)


def evaluate_many(
    model: Prompted,
    jobs: Mapping[Key, Job],
    *,
    limits: BatchLimits | None = None,
    progress: Progress | None = None,
    processes: Processes | None = None,
    **options: Any,
) -> dict[Key, Evaluation]:
    """Evaluate several prompts in batches that mix their rows; each result is what it would be alone.

    Args:
        model: The backbone with the prompts.
        jobs: What to evaluate, by names of your choice.
        limits: How large a batch may be.
        progress: Called after each batch with its number of rows.
        processes: Those that share the rows, each of which calls this, and gets the same scores.
        **options: What `Prompted.generate` takes besides, such as `num_beams`.

    Returns:
        The evaluations, by the jobs' names.

    Raises:
        ConfigError: If there is no prompt of a job's name, or an encoder-only model is to generate.
        DataError: If a split is empty.
        LengthError: If an input is too long and may not be cut.
    """
    start = time.perf_counter()
    examples = {name: job.examples() for name, job in jobs.items()}

    def answer(rows: Mapping[Key, Sequence[Example]]) -> dict[Key, list[Said]]:
        return _answer(model, jobs, rows, limits=limits, progress=progress, **options)

    if processes is None or processes.count == 1:
        said = answer(examples)
    else:
        said = answer_together(processes, answer, examples, sharded=model.backbone.sharded)
    seconds = time.perf_counter() - start

    def measured() -> dict[Key, Evaluation]:
        return {name: _measured(job, examples[name], said[name], seconds) for name, job in jobs.items()}

    return measured() if processes is None else processes.first_does(measured)


def _evaluate_into(
    file: PredictionFile,
    model: Prompted,
    job: Job,
    *,
    limits: BatchLimits | None,
    progress: Progress | None,
    **options: Any,
) -> Evaluation:
    """Evaluate in chunks of rows, each written when it is done; those that the file holds are not asked again."""
    start = time.perf_counter()
    examples = job.examples()
    made_with = {
        **model.backbone.identity,
        "prompt": _digest(model, job.prompt),
        "text": None if job.text is None else job.text.text,
        "by": job.evaluates_by,
        "format": job.task.format.to_mapping(),
        **{name: getattr(job, name) for name in ("max_new_tokens", "max_input_tokens", "truncate", "calibrate")},
        "options": options,
    }
    said = file.begin(job.task, job.split, examples, made_with)
    if progress is not None and said:
        progress(len(said))
    while len(said) < len(examples):
        chunk = examples[len(said) : len(said) + _CHUNK_ROWS]
        answers = _answer(model, {"": job}, {"": chunk}, limits=limits, progress=progress, **options)[""]
        file.add(job.task, job.split, chunk, answers)
        said += answers
    return _measured(job, examples, said, time.perf_counter() - start)


def _digest(model: Prompted, asked: str | Together | None) -> str | None:
    if isinstance(asked, Together):
        return Members([model.prompts[name] for name in asked.names], asked.combine).digest()
    return None if asked is None else model.prompts[asked].digest()


def _answer(
    model: Prompted,
    jobs: Mapping[Key, Job],
    examples: Mapping[Key, Sequence[Example]],
    *,
    limits: BatchLimits | None,
    progress: Progress | None,
    **options: Any,
) -> dict[Key, list[Said]]:
    """What is said of the rows of several jobs, in batches that mix them."""
    queries = {name: job.queries(model.backbone, examples[name]) for name, job in jobs.items()}

    def asked(by: str) -> list[Query]:
        return [query for name, job in jobs.items() if job.evaluates_by == by for query in queries[name]]

    generating, ranking = asked("generate"), asked("rank")
    made = predict_texts(model, generating, limits=limits, progress=progress, **options) if generating else ()
    texts = iter(list(made))
    choices = iter(list(classify(model, ranking, limits=limits, progress=progress)))
    said: dict[Key, list[Said]] = {}
    for name, job in jobs.items():
        count = len(examples[name])
        if job.evaluates_by == "generate":
            said[name] = [Said(text) for text in itertools.islice(texts, count)]
            continue
        chosen: list[Choice] = list(itertools.islice(choices, count))
        if job.calibrate:
            without = list(classify(model, job.without_content(), limits=limits))
            chosen = [calibrated(choice, without) for choice in chosen]
        said[name] = [Said(choice.label, choice.probabilities) for choice in chosen]
    return said


def _measured(job: Job, examples: Sequence[Example], said: Sequence[Said], seconds: float) -> Evaluation:
    return measure(
        job.task,
        job.split,
        examples,
        [one.text for one in said],
        by=job.evaluates_by,
        probabilities=[one.probabilities for one in said],
        seed=job.seed,
        seconds=seconds,
    )
