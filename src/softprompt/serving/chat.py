"""`/v1/chat/completions`: the next turn of a conversation."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from transformers import PreTrainedTokenizerBase

from softprompt.inference import Lease
from softprompt.inference import Request as Question
from softprompt.inference.sampling import Chosen
from softprompt.serving.answering import while_connected
from softprompt.serving.events import STREAMED, event_stream
from softprompt.serving.failures import invalid
from softprompt.serving.service import Service
from softprompt.serving.shaping import frame_of, generating, token_text, usage_of
from softprompt.serving.wire import ChatRequest

__all__ = ["routes"]


def routes(service: Service) -> APIRouter:
    """The route of chat."""
    router = APIRouter()

    @router.post("/v1/chat/completions", response_model=None, responses=STREAMED)
    async def chat(asked: ChatRequest, http: Request) -> Response | dict[str, Any]:
        """Generate the assistant's next turn."""
        if asked.top_logprobs is not None and not asked.logprobs:
            raise invalid("top_logprobs needs logprobs: true.", param="top_logprobs")
        return await while_connected(http.receive, _answered(service, asked, http))

    return router


async def _answered(service: Service, asked: ChatRequest, http: Request) -> Response | dict[str, Any]:
    longest = asked.max_tokens if asked.max_completion_tokens is None else asked.max_completion_tokens
    logprobs = (asked.top_logprobs or 0) if asked.logprobs else None
    until = service.deadline()
    async with service.holding(asked.model, until) as prompt:
        value = _input(service, asked, prompt)
        questions = generating(asked, [value], prompt, service.settings, max_tokens=longest, logprobs=logprobs)
        service.note(http, asked.model, [turn.text for turn in asked.messages])
        if asked.stream:
            return await event_stream(http, _grow(service, asked, questions, until), lambda: service.catalogue.hidden)
        answers = await service.answering.all(questions, until)
    choices = [
        {
            "index": number,
            "message": {"role": "assistant", "content": said.text, "refusal": None},
            "finish_reason": said.finish,
            "logprobs": _logprobs(service.tokenizer, said.tokens) if asked.logprobs else None,
        }
        for number, said in enumerate(answers[0].completions)
    ]
    service.note_answers(http, [said.text for said in answers[0].completions])
    frame = frame_of("chat.completion", "chatcmpl", asked.model, answers[0].version)
    return {**frame, "choices": choices, "usage": usage_of(answers).model_dump()}


def _input(service: Service, asked: ChatRequest, prompt: Lease | None) -> Any:
    """What the engine is asked: the turns, where the backbone has a chat template, or what the one user says.

    A prompt with a template of its own puts its words around one input; other turns have no place in it.
    """
    templated = not asked.raw and prompt is not None and prompt.format is not None
    if not templated and service.tokenizer.chat_template is not None:
        return tuple((turn.role, turn.text) for turn in asked.messages)
    if [turn.role for turn in asked.messages] != ["user"]:
        why = "fills its template with one input" if templated else "has no chat template"
        raise invalid(
            f"{asked.model!r} {why}: send one message of the user, not {len(asked.messages)} of "
            f"{', '.join(turn.role for turn in asked.messages[:5])}.",
            param="messages",
        )
    return asked.messages[0].text


async def _grow(
    service: Service, asked: ChatRequest, questions: Sequence[Question], until: float
) -> AsyncGenerator[dict[str, Any], None]:
    """The opening of each turn, a chunk for each piece of text, and one with the usage if that is wanted."""
    async with service.answering.asking(questions, until) as running:
        frame = frame_of("chat.completion.chunk", "chatcmpl", asked.model, running.tickets[0].version)
        for index in range(asked.n or 1):
            delta: dict[str, Any] = {"role": "assistant", "content": ""}
            yield {**frame, "choices": [{"index": index, "delta": delta, "finish_reason": None, "logprobs": None}]}
        async for _, piece in running.pieces():
            logprobs = _logprobs(service.tokenizer, piece.tokens) if asked.logprobs else None
            choice = {"index": piece.index, "delta": {"content": piece.text}, "logprobs": logprobs}
            yield {**frame, "choices": [{**choice, "finish_reason": piece.finish}]}
        answers = running.answers()
    service.answering.count(answers)
    if asked.stream_options is not None and asked.stream_options.include_usage:
        yield {**frame, "choices": [], "usage": usage_of(answers).model_dump()}


def _logprobs(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[Chosen]) -> dict[str, Any]:
    """Log-probabilities as chat has them."""

    def one(token: int, logprob: float | None) -> dict[str, Any]:
        text = token_text(tokenizer, token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    content = [
        {**one(chosen.token, chosen.logprob), "top_logprobs": [one(token, value) for token, value in chosen.top]}
        for chosen in tokens
    ]
    return {"content": content, "refusal": None}
