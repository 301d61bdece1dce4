"""What `softprompt predict` writes for an input, as plain values."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from softprompt.cli.inputs import Input
from softprompt.conditioning import Prompted
from softprompt.errors import DataError, LengthError
from softprompt.inference import Query, classify, predict_texts
from softprompt.inference.batching import Progress
from softprompt.inference.encoding import encode

__all__ = ["answer_all"]


def answer_all(
    model: Prompted, inputs: Iterable[Input], question: Query, *, skip: bool, progress: Progress, **options: Any
) -> Iterator[dict[str, Any]]:
    """Answer inputs in their order.

    Args:
        model: The backbone with its prompt.
        inputs: Read as they are needed.
        question: What is asked of every input: where it has candidates they are ranked, else text is generated.
        skip: Whether an input that cannot be answered is written down with its `error`; otherwise it ends all.
        progress: Called with the number of inputs that are done.
        **options: What `classify` or `predict_texts` takes besides.

    Raises:
        DataError: At an input that cannot be answered, with its place.
    """
    waiting: deque[Input] = deque()

    def asked() -> Iterator[Query]:
        for one in inputs:
            query = replace(question, input=one.value)
            waiting.append(_checked(model, one, query))
            if (problem := waiting[-1].problem) is None:
                yield query
            elif skip:
                progress(1)
            else:
                remedy = "To write bad inputs down with their error and go on, give --on-bad-row=skip."
                raise DataError(f"{one.source}: {problem.rstrip('.')}. {remedy}")

    for answer in (_ranked if question.candidates else _generated)(model, asked(), progress=progress, **options):
        while waiting[0].problem is not None:
            yield _refused(waiting.popleft())
        yield {"input": waiting.popleft().value, **answer}
    yield from map(_refused, waiting)


def _checked(model: Prompted, one: Input, query: Query) -> Input:
    """The input, with what its encoding says against it, found out alone so that the others can go on."""
    try:
        if one.problem is None:
            encode(model, [query])
    except (DataError, LengthError) as error:
        return replace(one, problem=str(error))
    return one


def _refused(one: Input) -> dict[str, Any]:
    return {"input": one.value, "output": None, "error": one.problem}


def _ranked(model: Prompted, queries: Iterable[Query], **options: Any) -> Iterator[dict[str, Any]]:
    """The most probable candidate of each query, and the probability of each."""
    for choice in classify(model, queries, **options):
        yield {"output": choice.label, "probabilities": dict(choice.probabilities)}


def _generated(model: Prompted, queries: Iterable[Query], **options: Any) -> Iterator[dict[str, Any]]:
    """A text for each query."""
    for text in predict_texts(model, queries, **options):
        yield {"output": text}
