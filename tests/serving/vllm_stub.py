"""A vLLM server as far as a gateway knows it: it decodes what really comes, and answers with transformers' generate.

Fields, answers and events are those of vLLM 0.32 (`CompletionRequest`, `prompt_embeds`). Nothing here is softprompt.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import io
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import torch
import transformers as tf
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

FIELDS = {
    "model", "prompt", "prompt_embeds", "max_tokens", "min_tokens", "temperature", "top_k", "top_p", "min_p", "seed",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "ignore_eos", "stop_token_ids", "logprobs",
    "logprob_token_ids", "stream", "return_token_ids", "return_tokens_as_token_ids",
}  # fmt: skip


class Stub:
    """What the server has and how it behaves.

    Attributes:
        model: A causal model of transformers.
        trouble: What it does to every request instead of answering, or None.
        bodies: What was asked.
        given: The inputs that came, as embeddings.
        left: How many streams ended because nobody read on.
        most: Longest sequence that it lists.
    """

    def __init__(self, model: tf.PreTrainedModel, most: int = 96) -> None:
        self.model = copy.deepcopy(model).eval()
        self.model.set_attn_implementation("sdpa")
        self.trouble: str | None = None
        self.bodies: list[dict[str, Any]] = []
        self.given: list[torch.Tensor] = []
        self.left = 0
        self.most: int | None = most
        self.lock = threading.Lock()

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/health")
        async def health() -> Any:
            return Response(status_code=503 if self.trouble == "starting" else 200)

        @app.get("/v1/models")
        async def models() -> Any:
            return {"object": "list", "data": [{"id": "behind", "object": "model", "max_model_len": self.most}]}

        @app.post("/v1/completions")
        async def complete(body: dict[str, Any]) -> Any:
            self.bodies.append(body)
            match self.trouble:
                case "busy":
                    return JSONResponse({"error": {"message": "10.0.0.7 is busy"}}, status_code=429)
                case "starting":
                    return JSONResponse({"error": {"message": "10.0.0.7 sleeps"}}, status_code=503)
                case "refused":
                    return JSONResponse({"error": {"message": "10.0.0.7 says no"}}, status_code=400)
                case "plain" if "prompt_embeds" in body:  # started without the flag
                    return JSONResponse({"error": {"message": "10.0.0.7 takes none"}}, status_code=400)
                case "failed":
                    return PlainTextResponse("trace of 10.0.0.7", status_code=500)
                case "page":
                    return PlainTextResponse("data: <html>hello</html>\n\n")
            if unknown := body.keys() - FIELDS:
                return JSONResponse({"error": {"message": f"no such fields: {unknown}"}}, status_code=400)
            try:
                rows = [self.decoded(one) for one in self.inputs(body)]
            except ValueError as error:
                return JSONResponse({"error": {"message": str(error)}}, status_code=400)
            self.given += rows
            if not body.get("stream"):
                return await asyncio.to_thread(self.ranked, body, rows)
            (one,) = rows
            return StreamingResponse(self.events(body, one), media_type="text/event-stream")

        return app

    def inputs(self, body: dict[str, Any]) -> list[Any]:
        given = body.get("prompt_embeds", body.get("prompt"))
        return given if isinstance(given, list) and not isinstance(given[0], int) else [given]

    def decoded(self, given: Any) -> torch.Tensor:
        """The embeddings of an input `[seq, dim]`, decoded as vLLM does."""
        if isinstance(given, list):
            return self.model.get_input_embeddings()(torch.tensor(given)).detach()
        rows = torch.load(io.BytesIO(base64.b64decode(given, validate=True)), weights_only=True)
        if rows.ndim != 2 or rows.shape[1] != self.model.config.hidden_size:
            raise ValueError(f"`prompt_embeds` of shape {tuple(rows.shape)} does not match the model's hidden_size")
        return rows.to(self.model.dtype)

    def generated(self, body: dict[str, Any], rows: torch.Tensor) -> tuple[list[int], torch.Tensor]:
        """Tokens, and of each place the log-probabilities `[places, vocab]`."""
        ends = body.get("stop_token_ids") or None
        least = {"min_new_tokens": body["min_tokens"]} if body.get("min_tokens") else {}
        heat = body["temperature"] and max(body["temperature"], 0.01)  # as vLLM lifts it
        draw = {"do_sample": True, "temperature": heat} if heat else {"do_sample": False}
        with self.lock, torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(body.get("seed") or 0)
            made = self.model.generate(
                inputs_embeds=rows[None],
                attention_mask=torch.ones(1, len(rows), dtype=torch.long),
                max_new_tokens=body["max_tokens"],
                eos_token_id=ends,
                pad_token_id=0,
                return_dict_in_generate=True,
                output_logits=True,
                **least,
                **draw,
            )
        return made.sequences[0].tolist(), torch.cat(made.logits).float().log_softmax(-1)

    def logprobs(self, body: dict[str, Any], ids: list[int], said: torch.Tensor) -> dict[str, Any]:
        """As vLLM writes them: the chosen token, and the likeliest ones or those that were asked for."""
        tops = []
        for token, row in zip(ids, said, strict=False):
            some = body.get("logprob_token_ids") or row.topk(body["logprobs"]).indices.tolist()
            tops.append({f"token_id:{one}": float(row[one]) for one in [token, *some]})
        return {
            "text_offset": [0] * len(ids),
            "tokens": [f"token_id:{token}" for token in ids],
            "token_logprobs": [float(row[token]) for token, row in zip(ids, said, strict=False)],
            "top_logprobs": tops,
        }

    def ranked(self, body: dict[str, Any], inputs: list[torch.Tensor]) -> Any:
        choices = []
        for index, rows in enumerate(inputs):
            ids, said = self.generated(body, rows)
            told = self.logprobs(body, ids, said)
            choices.append({"index": index, "text": "", "token_ids": ids, "logprobs": told, "finish_reason": "length"})
        if self.trouble == "short":
            choices = choices[:-1]
        return {"object": "text_completion", "choices": choices[::-1]}

    async def events(self, body: dict[str, Any], rows: torch.Tensor) -> AsyncIterator[str]:
        ids, said = await asyncio.to_thread(self.generated, body, rows)
        complete = False
        try:
            for place, token in enumerate(ids):
                if self.trouble == "slow" or (self.trouble == "stuck" and place):
                    await asyncio.sleep(0.2)
                if self.trouble == "broken" and place:
                    raise RuntimeError("cut")
                if self.trouble == "error" and place:
                    yield 'data: {"error": {"message": "10.0.0.7 is out of memory", "code": 500}}\n\n'
                    break
                if self.trouble == "ended" and place:
                    break
                told = self.logprobs(body, [token], said[place : place + 1]) if body["logprobs"] is not None else None
                one = {"index": 0, "text": "\u2028?\x85", "token_ids": [token], "logprobs": told, "finish_reason": None}
                if self.trouble == "foreign":
                    one["token_ids"] = [self.model.config.vocab_size]
                yield f"data: {json.dumps({'choices': [one]}, ensure_ascii=False)}\n\n"
            complete = True
            yield "data: [DONE]\n\n"
        finally:
            self.left += not complete


@contextlib.contextmanager
def running(stub: Stub) -> Iterator[str]:
    """The address of the server, for as long as the block lasts."""
    server = uvicorn.Server(uvicorn.Config(stub.app(), port=0, log_config=None, access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(20)
        assert not thread.is_alive()
