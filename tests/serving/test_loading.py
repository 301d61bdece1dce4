"""Prompts that are read while others are asked: nobody waits but who asked for them, and nobody for ever."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.serving.live import fill_some, llama, serving

from softprompt.errors import ArtefactError
from softprompt.inference import PromptFolder
from softprompt.inference.prompt_files import PromptFiles
from softprompt.prompts import PromptTuning
from softprompt.serving import ServerSettings
from softprompt.serving.loading import Loading

COLD = ["keys", "film", "both", "fourth", "fifth"]
ASKED = {"prompt": "good", "max_tokens": 2}


@pytest.fixture
def path(tmp_path):
    fill_some(tmp_path, llama())
    for name in ("fourth", "fifth"):
        shutil.copytree(tmp_path / "rows", tmp_path / name)
    return tmp_path


class Slow:
    """Files of prompts that are read, but not given before they are let go."""

    def __init__(self, monkeypatch):
        self.reads: list[str] = []
        self.begun, self.go = threading.Event(), threading.Event()
        read = PromptFiles.read

        def slowly(files, name):
            found = read(files, name)
            self.reads.append(name)
            self.begun.set()
            self.go.wait(10)
            return found

        monkeypatch.setattr(PromptFiles, "read", slowly)


def in_use(folder):
    return sum(one.in_use for one in folder.loaded())


def none_in_use(folder, within_s=5.0):
    until = time.monotonic() + within_s
    while in_use(folder) and time.monotonic() < until:
        time.sleep(0.01)
    return in_use(folder) == 0


def test_who_waits_for_a_cold_prompt_holds_nobody_else_up(path, monkeypatch):
    """Four requests for one prompt took all threads: a hot one waited until that was loaded."""
    with serving(llama(), path) as live, ThreadPoolExecutor(15) as clients:
        live.post("/v1/completions", model="rows", **ASKED)
        slow = Slow(monkeypatch)
        cold = [clients.submit(live.post, "/v1/completions", model=name, **ASKED) for name in COLD * 3]
        until = time.monotonic() + 5
        while len(slow.reads) < 4:  # as many as are read at a time
            assert time.monotonic() < until
            time.sleep(0.01)
        start = time.monotonic()
        assert live.post("/v1/completions", model="rows", **ASKED)["choices"]
        assert live.ask("GET", "/v1/models")[0] == 200
        assert time.monotonic() - start < 5  # half of what a read is held back
        assert not any(one.done() for one in cold)
        slow.go.set()
        assert all(one.result()["choices"] for one in cold)
        assert sorted(slow.reads) == sorted(COLD)
        assert none_in_use(live.engine.folder)


def test_the_wait_for_a_prompt_counts(path, monkeypatch):
    """The seconds of a request began when its prompt was there."""
    with serving(llama(), path, ServerSettings(request_timeout_s=0.3)) as live:
        slow = Slow(monkeypatch)
        for route, more in {
            "completions": {**ASKED},
            "chat/completions": {"messages": [{"role": "user", "content": "good"}], "stream": True},
            "classify": {"input": "good", "labels": ["bad", "good"]},
        }.items():
            start = time.monotonic()
            status, error = live.failure("POST", f"/v1/{route}", {"model": "keys", **more})
            assert (status, error["code"]) == (504, "deadline")
            assert time.monotonic() - start < 3
        slow.go.set()
        assert none_in_use(live.engine.folder)


def test_what_is_left_of_the_time_is_passed_on(path, monkeypatch):
    with serving(llama(), path, ServerSettings(request_timeout_s=10)) as live:
        slow, given, submit = Slow(monkeypatch), [], live.engine.submit
        monkeypatch.setattr(
            live.engine, "submit", lambda *asked: (given.append(asked[0].deadline_s), submit(*asked))[1]
        )
        threading.Timer(0.4, slow.go.set).start()
        live.post("/v1/completions", model="keys", **ASKED)
    assert 0 < given[0] < 9.7


def test_a_client_that_leaves_does_not_wait_for_its_prompt(path, monkeypatch):
    """It was waited for until the prompt was there, and answered in vain."""
    with serving(llama(), path) as live:
        slow = Slow(monkeypatch)
        raw = json.dumps({"model": "keys", **ASKED}).encode()
        head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with contextlib.closing(socket.create_connection(("127.0.0.1", live.port))) as connection:
            connection.sendall(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
            assert slow.begun.wait(5)
        until, left = time.monotonic() + 5, 'route="/v1/completions",status="499"'
        while left not in live.ask("GET", "/metrics")[1]:
            assert time.monotonic() < until
            time.sleep(0.02)
        assert live.engine.folder.loaded() == []
        slow.go.set()
        while not live.engine.folder.loaded():
            time.sleep(0.01)
        assert none_in_use(live.engine.folder)
        assert live.engine.counts().answered == 0


async def begun(slow):
    await asyncio.to_thread(slow.begun.wait, 10)
    await asyncio.sleep(0.05)


async def version_of(loading, name):
    async with loading.holding(name) as lease:
        await asyncio.sleep(0)
        return lease.version


@pytest.mark.parametrize("leaving", [(0,), (1,), (0, 1, 2)])
def test_who_is_cancelled_leaves_no_lease(path, monkeypatch, leaving):
    """A coroutine that was cancelled while its prompt was read held it for ever."""
    folder = PromptFolder(llama(), path, cache_bytes=1)
    loading, slow = Loading(folder), Slow(monkeypatch)

    async def ask():
        tasks = [asyncio.create_task(version_of(loading, "keys")) for _ in range(3)]
        await begun(slow)
        for place in leaving:
            tasks[place].cancel()
        await asyncio.wait([tasks[place] for place in leaving])
        slow.go.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert await asyncio.to_thread(none_in_use, folder)
        return found

    found = asyncio.run(ask())
    assert [isinstance(one, str) for one in found] == [place not in leaving for place in range(3)]
    assert slow.reads == ["keys"]
    assert folder.counts().loaded == 0


def test_who_asks_after_a_change_is_not_answered_by_what_was_read_before(path, monkeypatch):
    """Fails if all who wait for a read get what it gives."""
    folder = PromptFolder(llama(), path)
    loading, slow = Loading(folder), Slow(monkeypatch)

    async def ask():
        early = asyncio.create_task(version_of(loading, "rows"))
        await begun(slow)
        version = await loading.in_thread(
            lambda: folder.replace("rows", PromptTuning(length=2, init="random").build(llama(), seed=3))
        )
        late = asyncio.create_task(version_of(loading, "rows"))
        await asyncio.sleep(0.05)
        slow.go.set()
        return version, await early, await late

    version, early, late = asyncio.run(ask())
    assert late == version != early
    assert slow.reads == ["rows", "rows"]
    assert in_use(folder) == 0


def test_what_fails_is_told_to_all_who_wait(path, monkeypatch):
    """In two reads at most: one that began before a request came may have seen what is no longer there."""
    (path / "keys" / "prompt.safetensors").write_bytes(b"")
    folder = PromptFolder(llama(), path)
    loading, reads, need = Loading(folder), [], PromptFolder._load

    def load(self, name):
        reads.append(name)
        time.sleep(0.1)
        return need(self, name)

    monkeypatch.setattr(PromptFolder, "_load", load)

    async def ask():
        return await asyncio.gather(*(version_of(loading, "keys") for _ in range(5)), return_exceptions=True)

    assert [type(one) for one in asyncio.run(ask())] == [ArtefactError] * 5
    assert len(reads) == 2
    assert loading._reads == {}
