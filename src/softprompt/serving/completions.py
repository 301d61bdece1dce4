"""`/v1/completions`: texts that follow texts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from transformers import PreTrainedTokenizerBase

from softprompt.inference import Request as Question
from softprompt.inference.sampling import Chosen
from softprompt.serving.answering import while_connected
from softprompt.serving.events import STREAMED, event_stream
from softprompt.serving.service import Service
from softprompt.serving.shaping import each, frame_of, generating, token_text, usage_of
from softprompt.serving.wire import CompletionRequest

__all__ = ["routes"]


def routes(service: Service) -> APIRouter:
    """The route of completions."""
    router = APIRouter()

    @router.post("/v1/completions", response_model=None, responses=STREAMED)
    async def complete(asked: CompletionRequest, http: Request) -> Response | dict[str, Any]:
        """Generate texts that follow the given ones."""
        return await while_connected(http.receive, _answered(service, asked, http))

    return router


async def _answered(service: Service, asked: CompletionRequest, http: Request) -> Response | dict[str, Any]:
    until = service.deadline()
    async with service.holding(asked.model, until) as prompt:
        questions = generating(
            asked,
            each(asked.prompt),
            prompt,
            service.settings,
            max_tokens=asked.max_tokens,
            logprobs=asked.logprobs,
        )
        service.note(http, asked.model, each(asked.prompt))
        if asked.stream:
            return await event_stream(http, _grow(service, asked, questions, until), lambda: service.catalogue.hidden)
        answers = await service.answering.all(questions, until)
    choices = [
        {
            "index": index * (asked.n or 1) + number,
            "text": said.text,
            "finish_reason": said.finish,
            "logprobs": _logprobs(service.tokenizer, said.tokens, 0) if asked.logprobs is not None else None,
        }
        for index, answer in enumerate(answers)
        for number, said in enumerate(answer.completions)
    ]
    service.note_answers(http, [said.text for answer in answers for said in answer.completions])
    frame = frame_of("text_completion", "cmpl", asked.model, answers[0].version)
    return {**frame, "choices": choices, "usage": usage_of(answers).model_dump()}


async def _grow(
    service: Service, asked: CompletionRequest, questions: Sequence[Question], until: float
) -> AsyncGenerator[dict[str, Any], None]:
    """A chunk for each piece of text, and one with the usage at the end if that is wanted."""
    told: dict[int, int] = {}  # by choice, characters that were sent
    async with service.answering.asking(questions, until) as running:
        frame = frame_of("text_completion", "cmpl", asked.model, running.tickets[0].version)
        async for number, piece in running.pieces():
            index = number * (asked.n or 1) + piece.index
            logprobs = None
            if asked.logprobs is not None:
                logprobs = _logprobs(service.tokenizer, piece.tokens, told.get(index, 0))
            told[index] = told.get(index, 0) + len(piece.text)
            choice = {"index": index, "text": piece.text, "finish_reason": piece.finish, "logprobs": logprobs}
            yield {**frame, "choices": [choice]}
        answers = running.answers()
    service.answering.count(answers)
    if asked.stream_options is not None and asked.stream_options.include_usage:
        yield {**frame, "choices": [], "usage": usage_of(answers).model_dump()}


def _logprobs(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[Chosen], offset: int) -> dict[str, Any]:
    """Log-probabilities as completions have them; `text_offset` counts the tokens' own characters."""
    texts = [token_text(tokenizer, chosen.token) for chosen in tokens]
    offsets = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    return {
        "tokens": texts,
        "token_logprobs": [chosen.logprob for chosen in tokens],
        "top_logprobs": [{token_text(tokenizer, one): value for one, value in chosen.top} for chosen in tokens],
        "text_offset": offsets,
    }
