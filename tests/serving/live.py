"""Servers of tiny backbones that listen on a free port of this machine, for as long as a block lasts."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as tf
import uvicorn
from tests.models import END, PAD, SPECIAL, WORDS, tiny_backbone, word_tokenizer

from softprompt.backbones import Backbone
from softprompt.inference import Engine
from softprompt.prompts import Members, PrefixTuning, PromptTuning, SoftPrompt
from softprompt.serving import ServerSettings, create_app
from softprompt.serving.running import protocol
from softprompt.tasks import TextFormat

FILM = TextFormat(
    input="film : {text} | the film is", target="{label}", label_words={0: "bad", 1: "good", 2: "so boring"}
)
ROWS = 20


@functools.cache
def llama() -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        config = tf.LlamaConfig(
            vocab_size=len(SPECIAL + WORDS),
            hidden_size=24,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=96,
            pad_token_id=PAD,
            bos_token_id=END,
            eos_token_id=END,
        )
        model = tf.LlamaForCausalLM(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.35)
    return Backbone.from_model(model, word_tokenizer("decoder-only"), name="/srv/models/tiny-llama")


def backbone_of(shape: str) -> Backbone:
    return llama() if shape == "llama" else tiny_backbone("encoder-decoder")


def fill(folder: Path, backbone: Backbone) -> dict[str, SoftPrompt]:
    """20 prompts of both methods, every fourth with a template, and an ensemble of two."""
    prompts = {}
    for number in range(ROWS):
        method = (
            PromptTuning(length=1 + number % 7, init="random")
            if number % 2
            else PrefixTuning(length=1 + number % 5, hidden=None, init="random")
        )
        prompt = method.build(backbone, seed=number)
        if number % 4 == 0:
            prompt = prompt.with_info(format=FILM.to_mapping(), task="films", metrics={"test": {"accuracy": 0.5}})
        prompts[f"task-{number}"] = prompt
        prompt.save(folder / f"task-{number}")
    Members([prompts["task-1"], prompts["task-2"]], "mean").save(folder / "both")
    return prompts


def fill_some(folder: Path, backbone: Backbone) -> Path:
    """`rows` and `keys` of the two methods, `film` with a template, and the ensemble `both`."""
    rows = PromptTuning(length=3, init="vocab").build(backbone, seed=5)
    keys = PrefixTuning(length=4, hidden=None, init="vocab").build(backbone, seed=5)
    rows.save(folder / "rows")
    keys.save(folder / "keys")
    info = {"format": FILM.to_mapping(), "task": "films", "metrics": {"test": {"accuracy": 0.5}}}
    rows.with_info(**info).save(folder / "film")
    Members([rows, keys], "mean").save(folder / "both")
    return folder


def ask(
    port: int, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout_s: float = 30
) -> tuple[int, Any, Mapping[str, str]]:
    """Status, body and headers; a mapping is sent as JSON, bytes as they are, and what is no JSON comes as text."""
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)) as connection:
        kind = {} if raw is None else {"Content-Type": "application/json"}
        connection.request(method, path, raw, {**kind, **(headers or {})})
        answer = connection.getresponse()
        text = answer.read().decode()
        found = {name.lower(): value for name, value in answer.getheaders()}
    is_json = found.get("content-type", "").startswith("application/json")
    return answer.status, json.loads(text) if is_json else text, found


@dataclass(frozen=True)
class Live:
    """A server that listens."""

    port: int
    engine: Engine

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self, timeout_s: float = 30) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        """As of `ask`."""
        return ask(self.port, method, path, body, headers)

    def post(self, path: str, **fields: Any) -> Any:
        status, body, _ = self.ask("POST", path, fields)
        assert status == 200, body
        return body

    def failure(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Status and error of a request that fails, in OpenAI's shape."""
        status, answer, _ = self.ask(method, path, body, headers)
        assert set(answer) == {"error"}, answer
        assert set(answer["error"]) == {"message", "type", "param", "code"}
        return status, answer["error"]

    def idle(self, within_s: float = 5.0) -> bool:
        """Whether nothing waits or runs any more."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            counts = self.engine.counts()
            if (counts.waiting, counts.running) == (0, 0):
                return True
            time.sleep(0.02)
        return False


@contextlib.contextmanager
def serving(backbone: Backbone, folder: Path | None, settings: ServerSettings | None = None, **engine: Any):
    """A server in a thread, as `softprompt serve` runs it but for its signals."""
    settings = settings or ServerSettings()
    with Engine(backbone, folder, **engine) as running, listening(create_app(running, settings), settings) as port:
        yield Live(port, running)


@contextlib.contextmanager
def listening(app: Any, settings: ServerSettings) -> Iterator[int]:
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            port=0,
            http=protocol(settings.body_timeout_s),
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="on",
            limit_concurrency=settings.max_connections,
            timeout_graceful_shutdown=5,
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
