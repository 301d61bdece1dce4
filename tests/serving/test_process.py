"""A server as a process of its own: what kills it, what ends it, what tries its patience."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import queue
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tests.serving.live import backbone_of, fill_some, serving

from softprompt.prompts import PromptTuning
from softprompt.serving import add_key

pytestmark = pytest.mark.slow

LONG = {"model": "rows", "prompt": "a good film", "max_tokens": 60, "min_tokens": 60}


class Process:
    """`softprompt serve` over a saved tiny backbone."""

    def __init__(self, folder, *options):
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
        self.errors = (folder / "log").open("w+", encoding="utf-8")
        self.run = subprocess.Popen(
            [
                *(sys.executable, "-m", "softprompt", "serve", "--backbone", str(folder / "backbone")),
                *("--prompts", str(folder / "prompts"), "--port", "0", *options),
            ],
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=env,
        )
        assert self.run.stdout is not None
        address = self.run.stdout.readline()
        assert " at http://127.0.0.1:" in address, self.log()
        self.port = int(address.rsplit(":", 1)[1])

    def log(self):
        self.errors.flush()
        return Path(self.errors.name).read_text(encoding="utf-8")

    def lines(self):
        return [json.loads(line) for line in self.log().splitlines() if line.startswith('{"time"')]

    def ask(self, method, path, body=None, headers=None, timeout_s=60):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)) as connection:
            raw = json.dumps(body).encode() if isinstance(body, dict) else body
            kind = {} if raw is None else {"Content-Type": "application/json"}
            connection.request(method, path, raw, {**kind, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def load(self):
        return self.ask("GET", "/v1/load")[1]["engine"]

    def end(self, number=signal.SIGTERM, timeout_s=60):
        self.run.send_signal(number)
        return self.run.wait(timeout_s)

    def close(self):
        if self.run.poll() is None:
            self.run.kill()
            self.run.wait(10)
        self.run.stdout.close()
        self.errors.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("process")
    backbone = backbone_of("llama")
    backbone.model.save_pretrained(folder / "backbone")
    backbone.need_tokenizer().save_pretrained(folder / "backbone")
    return folder


@pytest.fixture
def folder(world):
    """A fresh folder of prompts for the backbone as it is read from disk."""
    shutil.rmtree(world / "prompts", ignore_errors=True)
    (world / "prompts").mkdir()
    fill_some(world / "prompts", backbone_of("llama"))
    return world


@pytest.fixture(scope="module")
def shared(world, tmp_path_factory):
    """A server that several tests try, and the heads of requests that change it."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    headers = {"Authorization": f"Bearer {add_key(keys, 'admin')}"}
    (world / "prompts").mkdir(exist_ok=True)
    fill_some(world / "prompts", backbone_of("llama"))
    with process(world, "--body-timeout-s", "1", "--admin-keys", str(keys)) as server:
        yield server, headers


@contextlib.contextmanager
def process(folder, *options):
    one = Process(folder, *options)
    try:
        yield one
    finally:
        one.close()


def packed(folder):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for file in folder.iterdir():
            archive.add(file, file.name)
    return out.getvalue()


def test_a_server_that_is_told_to_stop_loses_nothing(folder):
    """Under load; whoever has sent a request gets the whole answer, others are not let in."""
    told, ends = threading.Event(), queue.SimpleQueue()

    def ask(stream):
        while not told.is_set():
            sent = time.monotonic()
            try:
                with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
                    body = json.dumps({**LONG, "stream": stream})
                    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
                    answer = connection.getresponse()
                    text = answer.read().decode()
                whole = text.endswith("data: [DONE]\n\n") if stream else "choices" in json.loads(text)
                ends.put((sent, answer.status, whole and '"error"' not in text))
            except OSError:
                ends.put((sent, None, False))

    with process(folder) as server:
        threads = [threading.Thread(target=ask, args=(number % 2 == 0,)) for number in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(3)
        before = time.monotonic()
        server.run.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        told.set()
        for thread in threads:
            thread.join()
        assert server.run.wait(60) == 0
        found = [ends.get() for _ in range(ends.qsize())]
        lines = [line for line in server.lines() if line["message"] == "request"]
    early = [(status, whole) for sent, status, whole in found if sent < before - 0.2]
    assert len(early) > 10
    assert set(early) == {(200, True)}
    answered = [whole for _, status, whole in found if status == 200]
    assert all(answered)
    assert {line["status"] for line in lines} <= {200, 503}
    assert len(answered) == sum(line["status"] == 200 for line in lines)  # nobody was answered in vain


def test_a_signal_right_after_the_address_ends_it(folder):
    """One that came before uvicorn heeded signals was lost, and the server ran for ever."""
    with process(folder) as server:
        assert server.end(signal.SIGINT) == 0


def test_what_takes_too_long_is_ended_with_the_server(folder):
    """Its clients got a text of the web server's, with status 500."""
    with process(folder, "--shutdown-timeout-s", "1", "--batch-rows", "1") as server:
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(server.ask("POST", "/v1/completions", {**LONG, "n": 64})))
            for _ in range(40)
        ]
        for thread in threads:
            thread.start()
        time.sleep(1)
        start = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - start < 15
        for thread in threads:
            thread.join()
    late = [body["error"]["code"] for status, body in found if status != 200]
    assert set(late) == {"shutting_down"}
    assert {status for status, _ in found} <= {200, 503}


def test_a_kill_while_prompts_are_replaced_leaves_a_folder_that_loads(folder, tmp_path):
    key = add_key(tmp_path / "keys", "admin")
    headers = {"Authorization": f"Bearer {key}"}
    bodies = []
    for seed in range(2):
        PromptTuning(length=3 + seed, init="vocab").build(backbone_of("llama"), seed=seed).save(tmp_path / f"p{seed}")
        bodies.append(packed(tmp_path / f"p{seed}"))
    with process(folder, "--admin-keys", str(tmp_path / "keys")) as server:
        count = 0

        def replace():
            nonlocal count
            with contextlib.suppress(OSError, http.client.HTTPException):
                while True:
                    status, said = server.ask("PUT", "/admin/prompts/rows", bodies[count % 2], headers)
                    assert status == 200, said
                    count += 1

        thread = threading.Thread(target=replace)
        thread.start()
        time.sleep(1.5)
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
        thread.join()
    assert count > 3
    with serving(backbone_of("llama"), folder / "prompts") as live:
        assert live.post("/v1/completions", **{**LONG, "model": "keys"})["choices"]
        assert live.post("/v1/completions", **LONG)["choices"]  # also if the kill was between two renames


@pytest.mark.parametrize("stream", [False, True])
def test_clients_that_leave_take_their_requests_with_them(shared, stream):
    server, _ = shared
    short = {**LONG, "max_tokens": 2, "min_tokens": 0}
    raw = json.dumps({**LONG, "n": 4, "stream": stream}).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    assert server.ask("POST", "/v1/completions", short)[0] == 200
    connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
    for connection in connections:
        connection.sendall(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
    time.sleep(0.3)
    for connection in connections:
        connection.close()
    start = time.monotonic()
    assert server.ask("POST", "/v1/completions", short)[0] == 200
    took_s = time.monotonic() - start
    until = time.monotonic() + 5
    while (load := server.load())["waiting"] + load["running"] and time.monotonic() < until:
        time.sleep(0.05)
    assert took_s < 5
    assert (load["waiting"], load["waiting_tokens"], load["running"]) == (0, 0, 0)
    assert load["failed"] > 0
    assert "Traceback" not in server.log()


def test_slow_heads_do_not_keep_others_out(shared):
    server, _ = shared
    connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
    for connection in connections:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nX-A: ")
    assert server.ask("GET", "/health/live")[0] == 200
    closed = 0
    for connection in connections:
        connection.settimeout(5)
        try:
            closed += connection.recv(1) == b""
        except ConnectionError:
            closed += 1
        connection.close()
    assert closed == 200
    assert server.ask("POST", "/v1/completions", LONG)[0] == 200


def test_a_prompt_on_disk_that_is_not_finite(shared, world):
    server, _ = shared
    PromptTuning(length=2, init="random").build(backbone_of("llama"), seed=1).save(world / "prompts" / "spoilt")
    weights = world / "prompts" / "spoilt" / "prompt.safetensors"
    tensors = {name: value.clone() for name, value in load_file(weights).items()}
    next(iter(tensors.values()))[0] = float("nan")
    save_file(tensors, weights)
    status, said = server.ask("POST", "/v1/completions", {**LONG, "model": "spoilt"})
    assert (status, said["error"]["code"]) == (503, "prompt_unusable")
    assert str(world) not in said["error"]["message"]
    assert server.ask("POST", "/v1/completions", {**LONG, "model": "keys"})[0] == 200
    reasons = [line["reason"] for line in server.lines() if line["message"] == "a request failed"]
    assert any("NaN" in reason for reason in reasons)


def test_a_disk_without_room(shared, world, tmp_path):
    """A file may not grow beyond two kilobytes here, as on a disk that is full."""
    server, headers = shared
    PromptTuning(length=60, init="random").build(backbone_of("llama"), seed=1).save(tmp_path / "large")
    before = server.ask("POST", "/v1/completions", LONG)[1]
    drafts = hidden(world)
    limit(server.run.pid, 2000)  # the log cannot grow either
    status, said = server.ask("PUT", "/admin/prompts/rows", packed(tmp_path / "large"), headers)
    limit(server.run.pid, resource.RLIM_INFINITY)
    assert (status, said["error"]["code"]) == (507, "storage")
    after = server.ask("POST", "/v1/completions", LONG)[1]
    assert after["choices"] == before["choices"]
    assert hidden(world) == drafts
    assert server.ask("PUT", "/admin/prompts/rows", packed(tmp_path / "large"), headers)[0] == 200


def hidden(world):
    return {path.name for path in (world / "prompts").iterdir() if path.name.startswith(".")}


def limit(process_id, most_bytes):
    resource.prlimit(process_id, resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
