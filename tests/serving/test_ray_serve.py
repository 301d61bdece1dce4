"""The engine on Ray Serve: two replicas of a tiny backbone, as `softprompt serve --ray local` starts them.

Every answer is compared with that of an engine in this process.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import io
import json
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.serving.live import ask, backbone_of, fill

from softprompt.backbones import Backbone
from softprompt.cli import main
from softprompt.inference import Engine, Request, Sampling
from softprompt.prompts import PromptTuning
from softprompt.serving import add_key

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]

TOKENS = 40
SAMPLING = Sampling(max_new_tokens=TOKENS, min_new_tokens=TOKENS)
JSON = {"Content-Type": "application/json"}
INPUTS = ("a good film", "the film was very long", "boring and sad", "the book")


class Cluster:
    """The command with its replicas, and an engine here that knows what they have to say."""

    def __init__(self, folder: Path):
        backbone = backbone_of("llama")
        backbone.model.save_pretrained(folder / "backbone")
        backbone.need_tokenizer().save_pretrained(folder / "backbone")
        self.prompts = folder / "prompts"
        self.prompts.mkdir()
        fill(self.prompts, backbone)
        self.backbone = Backbone.from_pretrained(folder / "backbone")
        self.engine = Engine(self.backbone, self.prompts)
        self.known: dict[Request, str] = {}
        self.admin = {"Authorization": f"Bearer {add_key(folder / 'keys', 'admin')}"}
        self.port = free_port()
        self.place = tempfile.TemporaryDirectory(prefix="ray-")  # sockets lie in it, whose paths have to be short
        self.errors = (folder / "log").open("w+", encoding="utf-8")
        self.run = subprocess.Popen(
            [
                *(sys.executable, "-m", "softprompt", "serve", "--ray", "local", "--replicas", "2"),
                *("--backbone", "backbone", "--prompts", "prompts", "--admin-keys", "keys", "--port", str(self.port)),
                *("--replica-cpus", "0.5", "--queue-requests", "16", "--batch-rows", "4", "--watch-s", "0.5"),
            ],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=environment(self.place.name),
        )

    def log(self) -> str:
        self.errors.flush()
        return Path(self.errors.name).read_text(encoding="utf-8")

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        """As of `live.ask`."""
        return ask(self.port, method, path, body, headers, timeout_s=60)

    def stream(self, prompt: str, text: str) -> tuple[list[str], str]:
        """The pieces of text that came, and what ended them."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request("POST", "/v1/completions", json.dumps(completion(prompt, text, stream=True)), JSON)
            response = connection.getresponse()
            said = response.read().decode()
        if response.status != 200:
            return [], json.loads(said)["error"]["code"]
        lines = [line[6:] for line in said.split("\n\n") if line]
        events = [json.loads(line) for line in lines if line != "[DONE]"]
        failed = [event["error"]["code"] for event in events if "error" in event]
        pieces = [event["choices"][0]["text"] for event in events if "error" not in event]
        return pieces, failed[0] if failed else lines[-1]

    def complete(self, prompt: str, text: str) -> tuple[int, Any, Mapping[str, str]]:
        return self.ask("POST", "/v1/completions", completion(prompt, text))

    def expected(self, prompt: str, text: str, sampling: Sampling = SAMPLING) -> str:
        asked = Request(input=text, prompt=prompt, sampling=sampling)
        if asked not in self.known:
            self.known[asked] = self.engine.answer(asked).completions[0].text
        return self.known[asked]

    def of_each(self, path: str) -> dict[str, Any]:
        """What each of the two replicas says at a path, by its name."""
        found: dict[str, Any] = {}
        until = time.monotonic() + 10
        while len(found) < 2 and time.monotonic() < until:
            _, said, headers = self.ask("GET", path)
            found[headers["x-replica"]] = said
        return found

    def loads(self) -> dict[str, Any]:
        return {replica: said["engine"] for replica, said in self.of_each("/v1/load").items()}

    def metrics(self) -> dict[str, dict[str, str]]:
        texts = self.of_each("/metrics")
        return {replica: dict(re.findall(r"^(\w+) (\S+)$", text, re.M)) for replica, text in texts.items()}

    def replicas(self) -> list[int]:
        """Their processes."""
        return [one for one in offspring(self.run.pid) if title(one).startswith("ray::ServeReplica:softprompt:engine")]

    def close(self) -> None:
        if self.run.poll() is None:
            self.run.kill()
            self.run.wait(30)
        self.engine.close()
        self.place.cleanup()
        self.errors.close()
        assert self.run.stdout is not None
        self.run.stdout.close()


def completion(prompt: str, text: str, **further: Any) -> dict[str, Any]:
    return {"model": prompt, "prompt": text, "max_tokens": TOKENS, "min_tokens": TOKENS, **further}


def free_port() -> int:
    """One below those that a system gives to whoever asks for any, such as Ray, until Serve listens to it."""
    for port in random.sample(range(20000, 32000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


def title(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text(encoding="utf-8")
    return ""


def offspring(process: int) -> list[int]:
    """A process's children and theirs, as Linux tells them."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                found += [child, *offspring(child)]
    return found


def packed(folder: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("prompt.json", "prompt.safetensors"):
            archive.add(folder / name, name)
    return out.getvalue()


def environment(place: str) -> dict[str, str]:
    """For the command with a Ray of its own, whose sockets lie in a folder."""
    ray = {"RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_TMPDIR": place}
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **ray}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    one = Cluster(tmp_path_factory.mktemp("ray"))
    try:
        assert f"in 2 replicas at http://127.0.0.1:{one.port}" in one.run.stdout.readline(), one.log()
        yield one
        with ThreadPoolExecutor(1) as pool:  # whoever has been let in gets the whole answer
            body = completion("task-6", INPUTS[0], n=32)
            asking = pool.submit(one.ask, "POST", "/v1/completions", body)
            while not (asking.done() or any(load["running"] for load in one.loads().values())):
                time.sleep(0.02)
            one.run.send_signal(signal.SIGTERM)
            status, said, _ = asking.result()
        assert (status, len(said["choices"])) == (200, 32)
        assert {choice["text"] for choice in said["choices"]} == {one.expected("task-6", INPUTS[0])}
        assert one.run.wait(60) == 0, one.log()
    finally:
        one.close()


def test_batches_are_mixed_in_both_replicas_and_every_answer_is_the_library_s(cluster):
    """A task has one request on its way at a time, so whatever shares a pass is of different tasks."""
    before = cluster.metrics()

    def ask(name):
        return [(name, text, *cluster.complete(name, text)) for text in INPUTS]

    names = [f"task-{number}" for number in range(8)]
    with ThreadPoolExecutor(len(names)) as pool:
        found = [one for some in pool.map(ask, names) for one in some]
    for name, text, status, said, _ in found:
        assert (status, said["choices"][0]["text"]) == (200, cluster.expected(name, text))
    assert {headers["x-replica"] for *_, headers in found} == set(before)
    for replica, now in cluster.metrics().items():
        names = ("softprompt_passes_total", "softprompt_pass_rows_total")
        passes, rows = (float(now[name]) - float(before[replica][name]) for name in names)
        assert rows > 1.5 * passes, (replica, rows, passes)


def test_a_stream_comes_in_pieces_and_ends_where_its_client_leaves(cluster):
    pieces, end = cluster.stream("task-1", INPUTS[0])
    assert ("".join(pieces), end) == (cluster.expected("task-1", INPUTS[0]), "[DONE]")
    assert len(pieces) > 10
    failed = sum(load["failed"] for load in cluster.loads().values())
    streams = [http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=60) for _ in range(8)]
    for stream in streams:
        stream.request("POST", "/v1/completions", json.dumps(completion("task-1", INPUTS[1], stream=True, n=8)), JSON)
    streams[0].getresponse().close()  # has begun
    for stream in streams:
        stream.close()
    until = time.monotonic() + 10
    while any(load["waiting"] + load["running"] for load in cluster.loads().values()) and time.monotonic() < until:
        time.sleep(0.1)
    assert all(load["waiting"] + load["running"] == 0 for load in cluster.loads().values())
    assert sum(load["failed"] for load in cluster.loads().values()) > failed
    texts = cluster.of_each("/metrics").values()
    assert not any(re.search(r'route="/v1/completions",status="5', text) for text in texts)


def test_what_is_too_much_is_refused_by_the_engines(cluster):
    """Ray Serve would have said 503 in a word, or let them wait in its proxy."""

    def ask(_):
        return cluster.complete("task-2", INPUTS[1])

    with ThreadPoolExecutor(60) as pool:
        found = list(pool.map(ask, range(60)))
    assert {status for status, *_ in found} == {200, 429}
    for status, said, headers in found:
        if status == 429:
            assert (said["error"]["code"], headers["retry-after"]) == ("queue_full", "1")
        else:
            assert said["choices"][0]["text"] == cluster.expected("task-2", INPUTS[1])


def test_a_prompt_is_replaced_under_load_and_each_answer_is_that_of_its_version(cluster, tmp_path):
    texts, bodies = [], []
    for seed in range(2):
        PromptTuning(length=3 + seed, init="vocab").build(cluster.backbone, seed=seed).save(tmp_path / f"seed-{seed}")
        bodies.append(packed(tmp_path / f"seed-{seed}"))
    with Engine(cluster.backbone, tmp_path) as known:
        for seed in range(2):
            answer = known.answer(Request(input=INPUTS[0], prompt=f"seed-{seed}", sampling=SAMPLING))
            texts.append(answer.completions[0].text)
    assert texts[0] != texts[1]

    def put(turn):
        status, said, headers = cluster.ask("PUT", "/admin/prompts/task-3", bodies[turn % 2], cluster.admin)
        assert status == 200, said
        return said["version"], headers["x-replica"]

    versions = [put(turn)[0] for turn in range(2)]
    time.sleep(1)  # until both replicas have seen the second
    by_version = dict(zip(versions, texts, strict=True))
    ended, found, writers = threading.Event(), [], set()

    def ask():
        while not ended.is_set():
            found.append(cluster.complete("task-3", INPUTS[0]))

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        for turn in range(8):
            writers.add(put(turn)[1])
            time.sleep(0.3)
        time.sleep(1.5)
        told = len(found) + 4  # four were asked before
        until = time.monotonic() + 30
        while len(found) <= told and time.monotonic() < until:
            time.sleep(0.05)
        ended.set()
        for one in asking:
            one.result()
    for status, said, _ in found:
        assert (status, said["choices"][0]["text"]) == (200, by_version[said["system_fingerprint"]])
    assert {said["system_fingerprint"] for _, said, _ in found} == set(versions)
    assert {said["system_fingerprint"] for _, said, _ in found[told:]} == {versions[1]}


def test_a_replica_that_is_killed_loses_no_answer_and_gives_no_wrong_one(cluster, tmp_path):
    """Whoever waits for it is answered by the other one, and notices nothing; another one takes its place."""
    source, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("".join(f"{text}\n" for text in INPUTS * 15))
    ended, found, streamed = threading.Event(), [], []

    def ask(text):
        while not ended.is_set():
            found.append((text, *cluster.complete("task-5", text)))

    def stream(text):
        while not ended.is_set():
            streamed.append((text, *cluster.stream("task-4", text)))

    there = cluster.replicas()
    assert len(there) == 2
    command = ["predict", "--server", f"http://127.0.0.1:{cluster.port}", "--prompt", "task-7", "--input", str(source)]
    with ThreadPoolExecutor(2 * len(INPUTS) + 1) as pool:
        asking = [pool.submit(what, text) for what in (ask, stream) for text in INPUTS]
        predicting = pool.submit(main, [*command, "--output", str(output), "--max-new-tokens", str(TOKENS)])
        while not predicting.done() and (not output.exists() or output.read_text(encoding="utf-8").count("\n") < 5):
            time.sleep(0.02)
        os.kill(there[0], signal.SIGKILL)
        code = predicting.result()
        ended.set()
        for one in asking:
            one.result()
    assert code == 0
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len(INPUTS) * 15
    for row in rows:
        assert row["output"] == cluster.expected("task-7", row["input"], Sampling(max_new_tokens=TOKENS))
    assert '"asked_again": true' in cluster.log()
    assert {status for _, status, *_ in found} <= {200, 429}
    answers = [(text, said["choices"][0]["text"]) for text, status, said, _ in found if status == 200]
    assert len(answers) > 10
    for text, answer in answers:
        assert answer == cluster.expected("task-5", text)
    assert {"[DONE]"} <= {end for *_, end in streamed} <= {"[DONE]", "replica_lost", "queue_full"}
    for text, pieces, end in streamed:
        answer, expected = "".join(pieces), cluster.expected("task-4", text)
        assert answer == expected if end == "[DONE]" else expected.startswith(answer)
    until = time.monotonic() + 60
    while len(cluster.loads()) < 2 and time.monotonic() < until:
        time.sleep(0.5)
    assert len(cluster.loads()) == 2


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken, tempfile.TemporaryDirectory(prefix="ray-") as place:
        port = taken.getsockname()[1]
        command = ["serve", "--ray", "local", "--replica-cpus", "0.5", "--backbone", "b", "--port", str(port)]
        run = subprocess.run(
            [sys.executable, "-m", "softprompt", *command],
            capture_output=True,
            text=True,
            timeout=120,
            env=environment(place),
            check=False,
        )
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith(f"softprompt: Serve cannot listen on 127.0.0.1:{port} (")
