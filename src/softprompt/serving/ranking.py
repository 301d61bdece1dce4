"""`/v1/classify` and `/v1/score`: which of several texts follows an input, and how likely each is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter, Request

from softprompt.inference import Answer, Lease
from softprompt.inference import Request as Question
from softprompt.serving.answering import while_connected
from softprompt.serving.failures import invalid
from softprompt.serving.service import Service
from softprompt.serving.shaping import each, usage_of
from softprompt.serving.wire import (
    Classified,
    ClassifyRequest,
    LabelShare,
    OneClassified,
    OneScored,
    RankRequest,
    Scored,
    ScoreRequest,
    TargetScore,
)

__all__ = ["routes"]


def routes(service: Service) -> APIRouter:
    """The routes of choosing and scoring."""
    router = APIRouter()

    @router.post("/v1/classify")
    async def classify(asked: ClassifyRequest, http: Request) -> Classified:
        """Choose a label for each input, with the probability of each label."""

        def labels_with(prompt: Lease | None) -> Sequence[str]:
            labels = asked.labels or _labels_of(prompt)
            if labels is None:
                raise invalid(f"{asked.model!r} was not trained with label words; give labels.", param="labels")
            return labels

        answers = await while_connected(http.receive, _ranked(service, asked, http, labels_with, "labels"))
        found = [answer.choice for answer in answers if answer.choice is not None]
        service.note_answers(http, [choice.label for choice in found])
        data = [
            OneClassified(
                index=index,
                label=choice.label,
                probabilities=[LabelShare(label=label, probability=p) for label, p in choice.probabilities.items()],
            )
            for index, choice in enumerate(found)
        ]
        return Classified(model=asked.model, version=answers[0].version, data=data, usage=usage_of(answers))

    @router.post("/v1/score")
    async def score(asked: ScoreRequest, http: Request) -> Scored:
        """Tell how likely each target is to follow each input."""
        targets = asked.targets
        answers = await while_connected(http.receive, _ranked(service, asked, http, lambda _: targets, "targets"))
        data = [
            OneScored(
                index=index,
                scores=[
                    TargetScore(target=target, logprob=value, probability=choice.probabilities[target])
                    for target, value in (choice.logprobs or {}).items()
                ],
            )
            for index, choice in enumerate(answer.choice for answer in answers)
            if choice is not None
        ]
        return Scored(model=asked.model, version=answers[0].version, data=data, usage=usage_of(answers))

    return router


def _labels_of(prompt: Lease | None) -> Sequence[str] | None:
    """The label words that a prompt was trained with."""
    form = None if prompt is None else prompt.format
    return form.labels if form else None


async def _ranked(
    service: Service,
    asked: RankRequest,
    http: Request,
    candidates_with: Callable[[Lease | None], Sequence[str]],
    field: str,
) -> list[Answer]:
    until = service.deadline()
    async with service.holding(asked.model, until) as prompt:
        questions = _questions(service, asked, prompt, candidates_with(prompt), field)
        service.note(http, asked.model, each(asked.input))
        return await service.answering.all(questions, until)


def _questions(
    service: Service, asked: RankRequest, prompt: Lease | None, candidates: Sequence[str], field: str
) -> list[Question]:
    if not all(candidates) or len(set(candidates)) < len(candidates):
        raise invalid(f"{field} should be different texts, none of them empty.", param=field)
    inputs = each(asked.input)
    if len(inputs) > service.settings.max_texts:
        raise invalid(
            f"{len(inputs)} inputs are more than the {service.settings.max_texts} that a request may have; send "
            "several requests.",
            param="input",
        )
    return [
        Question(
            input=one,
            prompt=prompt,
            candidates=tuple(candidates),
            raw=asked.raw,
            truncate=asked.truncate,
        )
        for one in inputs
    ]
