"""`softprompt predict --server`: what it says is what the same prompt says in this process."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from email.message import Message

import pytest
from tests.serving.live import fill_some, serving

from softprompt.cli.remote import Remote
from softprompt.inference import Engine
from softprompt.prompts import SoftPrompt
from softprompt.serving import ServerSettings, add_key


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server with prompts of the tiny backbone on disk, and the folders of both."""
    from tests.models import tiny_backbone

    from softprompt.backbones import Backbone

    folder = tmp_path_factory.mktemp("served")
    tiny = tiny_backbone("decoder-only")
    tiny.model.save_pretrained(folder / "tiny")
    tiny.need_tokenizer().save_pretrained(folder / "tiny")
    backbone = Backbone.from_pretrained(folder / "tiny")
    (folder / "prompts").mkdir()
    with serving(backbone, fill_some(folder / "prompts", backbone)) as live:
        yield live, folder


def both(run, served, tmp_path, *options, prompt):
    live, folder = served
    here = ("--backbone", str(folder / "tiny"), "--prompt", str(folder / "prompts" / prompt))
    there = ("--server", live.url, "--prompt", prompt)
    answers = []
    for name, where in (("here", here), ("there", there)):
        output = tmp_path / f"{name}.jsonl"
        code, _, err = run("predict", *where, "--output", str(output), *options)
        assert code == 0, err
        answers.append([json.loads(line) for line in output.read_text().splitlines()])
    return answers


def test_answers_are_those_of_a_backbone_in_this_process(run, served, tmp_path):
    source = tmp_path / "in.txt"
    source.write_text("".join(f"the film was very {word}\n" for word in ("good", "bad", "long", "boring and sad") * 8))
    here, there = both(run, served, tmp_path, "--input", str(source), prompt="film")
    assert len(here) == 32
    for own, other in zip(here, there, strict=True):
        assert (own["input"], own["output"]) == (other["input"], other["output"])
        assert own["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
    (tmp_path / "text").mkdir()
    here, there = both(run, served, tmp_path / "text", "--input", str(source), "--max-new-tokens", "5", prompt="keys")
    assert here == there


@pytest.mark.parametrize("prompt", ["film", "keys"])
def test_a_prompt_that_is_replaced_on_the_way_ends_it(run, served, tmp_path, monkeypatch, prompt):
    """Answers of two prompts stood in one file, which named one."""
    live, folder = served
    soft, model = SoftPrompt.load(folder / "prompts" / prompt), Remote.model

    def replaced_behind(self, name):
        try:
            return model(self, name)
        finally:
            live.engine.folder.replace(name, soft.with_info(task="another"))

    monkeypatch.setattr(Remote, "model", replaced_behind)
    source, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("the film\n")
    command = ("predict", "--server", live.url, "--prompt", prompt, "--input", str(source), "--output", str(output))
    code, _, err = run(*command, *(("--max-new-tokens", "5") if prompt == "keys" else ()))
    live.engine.folder.replace(prompt, soft)
    assert code == 1
    assert "was replaced on the server on the way" in err
    assert "Start anew with another output" in err


def test_bad_inputs_are_named_or_written_down(run, served, tmp_path):
    live, _ = served
    source, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text(f"the film\n{'very ' * 200}\nthe book\n")
    command = ("predict", "--server", live.url, "--prompt", "keys", "--input", str(source), "--output", str(output),
               "--max-new-tokens", "5")  # fmt: skip
    code, _, err = run(*command)
    assert code == 1
    assert f"{source}:2: An input has 200 tokens" in err
    assert err.endswith("give --on-bad-row=skip.\n")
    assert run(*command, "--on-bad-row", "skip")[0] == 0  # goes on behind the first
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["output"] is None for row in rows] == [False, True, False]
    assert "200 tokens" in rows[1]["error"]


def test_it_goes_on_only_behind_answers_of_the_same_version(run, served, tmp_path):
    live, _ = served
    source, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("the film\n")
    command = ("predict", "--server", live.url, "--prompt", "rows", "--input", str(source), "--output", str(output),
               "--max-new-tokens", "5")  # fmt: skip
    assert run(*command)[0] == 0
    source.write_text("the film\nthe book\n")
    assert run(*command)[0] == 0
    assert len(output.read_text().splitlines()) == 2
    from softprompt.prompts import PromptTuning

    live.engine.folder.replace("rows", PromptTuning(length=2, init="vocab").build(live.engine.backbone, seed=9))
    code, _, err = run(*command)
    assert code == 2
    assert "made with another version" in err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--prompt", "nothing"), 2, "The server says: There is no "),
        ((), 2, "--server needs --prompt"),
        (("--prompt", "rows", "--dtype", "bfloat16"), 2, "--dtype is for a backbone in this process"),
        (("--prompt", "rows", "--by", "rank"), 2, "--by rank needs a prompt that was trained with label words"),
        (("--prompt", "rows", "--backbone", "bundled:gpt-mini"), 2, "either --backbone or --server"),
        (("--prompt", "rows", "--max-new-tokens", "5000"), 2, "The server says: max_tokens=5000 is more than"),
    ],
)
def test_what_is_asked_wrongly_is_said(run, served, tmp_path, options, code, message):
    live, _ = served
    source = tmp_path / "in.txt"
    source.write_text("the film\n")
    found, _, err = run("predict", "--server", live.url, "--input", str(source), *options)
    assert (found, message in err) == (code, True), err


def test_a_key_is_sent_and_a_server_that_is_not_there_is_said(run, served, tmp_path, monkeypatch):
    live, folder = served
    key = add_key(tmp_path / "keys", "me")
    source = tmp_path / "in.txt"
    source.write_text("the film\n")
    settings = ServerSettings(keys=str(tmp_path / "keys"))
    with serving(live.engine.backbone, folder / "prompts", settings) as locked:
        command = ("predict", "--server", locked.url, "--prompt", "film", "--input", str(source))
        code, _, err = run(*command)
        assert (code, "needs a key" in err) == (2, True)
        monkeypatch.setenv("SOFTPROMPT_API_KEY", key)
        assert run(*command)[0] == 0
    code, _, err = run(*command)
    assert (code, "No answer from http" in err) == (1, True)
    code, _, err = run("predict", "--server", "localhost:1", "--prompt", "keys", "--input", str(source))
    assert (code, "is no server's address" in err) == (2, True)


def test_a_full_server_is_asked_again(run, served, tmp_path, monkeypatch):
    live, _ = served
    from softprompt.cli import remote
    from softprompt.errors import QueueFullError

    monkeypatch.setattr(remote, "_RETRY_S", 0.01)
    source = tmp_path / "in.txt"
    source.write_text("the film\n" * 20)
    refusals = iter([True, False, True, True] * 5)
    submit = Engine.submit

    def sometimes(self, *given):
        if next(refusals, False):
            raise QueueFullError("try again later")
        return submit(self, *given)

    monkeypatch.setattr(Engine, "submit", sometimes)
    output = tmp_path / "out.jsonl"
    command = ("--server", live.url, "--prompt", "film", "--input", str(source), "--output", str(output))
    assert run("predict", *command)[0] == 0
    assert len(output.read_text().splitlines()) == 20
    assert next(refusals, None) is None


@pytest.mark.parametrize(("breaks", "code"), [(4, 0), (5, 1)])
def test_a_request_that_breaks_off_is_sent_again(run, served, tmp_path, monkeypatch, breaks, code):
    """As behind Ray Serve, whose proxy says 500 in a word when a replica dies with a request, or dies itself."""
    live, _ = served
    from softprompt.cli import remote

    monkeypatch.setattr(remote, "_RETRY_S", 0.01)
    ends = [
        lambda: urllib.error.HTTPError(live.url, 500, "Internal Server Error", Message(), io.BytesIO(b"Internal")),
        lambda: http.client.RemoteDisconnected("no answer"),
    ]
    sent, send = [], urllib.request.urlopen

    def sometimes(request, **options):
        if "classify" not in request.full_url:
            return send(request, **options)
        sent.append(request.full_url)
        if len(sent) <= breaks:
            raise ends[len(sent) % 2]()
        return send(request, **options)

    monkeypatch.setattr(urllib.request, "urlopen", sometimes)
    source = tmp_path / "in.txt"
    source.write_text("the film\n")
    found, _, err = run("predict", "--server", live.url, "--prompt", "film", "--input", str(source))
    assert (found, len(sent)) == (code, 5), err


def test_a_prompt_that_cannot_be_used_is_asked_for_once(run, served, tmp_path):
    """It was asked for a minute long, as if it were a full queue."""
    live, _ = served
    fill_some(tmp_path, live.engine.backbone)
    weights = tmp_path / "keys" / "prompt.safetensors"
    weights.write_bytes(weights.read_bytes()[:-20])
    source = tmp_path / "in.txt"
    source.write_text("the film\n")
    start = time.monotonic()
    with serving(live.engine.backbone, tmp_path) as damaged:
        code, _, err = run("predict", "--server", damaged.url, "--prompt", "keys", "--input", str(source))
    assert (code, "The prompt cannot be used at present" in err) == (1, True)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("said", "told", "times"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n", "No answer from {}", 1),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{", "{} hangs up", 5),
        (b"", "{} hangs up", 5),
    ],
)
def test_what_is_no_server_or_ends_in_the_middle_is_said(run, tmp_path, monkeypatch, said, told, times):
    """It ended in a trace."""
    monkeypatch.setattr("softprompt.cli.remote._RETRY_S", 0.01)
    source, asked = tmp_path / "in.txt", []
    source.write_text("the film\n")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            for _ in range(times):
                connection, _ = listener.accept()
                with connection:
                    asked.append(connection.recv(65536))
                    connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        code, _, err = run("predict", "--server", address, "--prompt", "keys", "--input", str(source))
        thread.join()
    assert (code, told.format(address) in err) == (1, True), err
    assert len(asked) == times
