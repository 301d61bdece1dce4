"""`softprompt serve` and `softprompt keys new`: what is said before anything listens."""

from __future__ import annotations

import logging

import pytest

from softprompt.cli import main
from softprompt.serving.keys import Keys


@pytest.fixture(autouse=True)
def log_stays_as_it_was():
    """The command makes the process's log its own."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


def test_a_key_is_made_and_told_once(tmp_path, capsys):
    path = tmp_path / "keys"
    assert main(["keys", "new", "--file", str(path), "--name", "alice"]) == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith("sp-")
    assert Keys(path).name_of(key) == "alice"
    assert key not in path.read_text(encoding="utf-8")
    assert main(["keys", "new", "--file", str(path), "--name", "alice"]) == 2
    assert "has a key 'alice' already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--host", "0.0.0.0"], "no keys are asked for"),
        (["--port", "70000"], "expected 0 to 65535"),
        (["--keys", "nowhere"], "no such file"),
        (["--max-texts", "0"], "expected at least 1"),
        (["--vllm-model", "other"], "say its address with vllm"),
        (["--vllm", "http://127.0.0.1:9", "--quantize", "int8"], "drop them, or vllm"),
        (["--vllm", "http://127.0.0.1:9", "--device", "cuda"], "drop them, or vllm"),
        (["--vllm", "http://127.0.0.1:9", "--batch-rows", "8"], "drop them, or vllm"),
        (["--vllm", "http://127.0.0.1:9", "--batch-tokens", "512"], "drop them, or vllm"),
        (["--vllm", "127.0.0.1:8001"], "no server's address"),
        (["--vllm", "http://127.0.0.1:abc"], "no server's address"),
        (["--replicas", "2"], "replicas: only with ray"),
        (["--most-replicas", "2", "--replica-gpus", "1"], "most_replicas, replica_gpus: only with ray"),
        (["--hub", "[me/one]"], "hub: only with ray"),
        (["--ray", "local", "--replicas", "0"], "0 replicas: expected at least 1"),
        (["--ray", "local", "--vllm", "http://127.0.0.1:9"], "nothing to replicate"),
        (["--ray", "local", "--port", "0"], "give one that is free"),
        (["--ray", "local", "--max-connections", "9"], "drop it, or ray"),
        (["--ray", "local", "--prompts", "x", "--hub", "[me/one]"], "not from both"),
    ],
)
def test_wrong_settings_are_told_before_a_backbone_is_read(options, told, capsys):
    assert main(["serve", "--backbone", "bundled:nowhere", *options]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("backbone", "address", "told"),
    [
        ("bundled:gpt-mini", "http://127.0.0.1:9", "cannot be reached"),
        ("bundled:t5-tiny", "http://127.0.0.1:9", "serve it without vLLM"),
    ],
)
def test_an_engine_behind_that_cannot_be_asked(backbone, address, told, capsys):
    assert main(["serve", "--backbone", backbone, "--vllm", address]) in (1, 2)
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "127.0.0.1:ray"])
def test_a_ray_that_is_not_there_is_told_at_once(address, capsys):
    """Ray itself tries for minutes."""
    assert main(["serve", "--backbone", "bundled:gpt-mini", "--ray", address]) == 1
    assert f"No Ray at '{address}'" in capsys.readouterr().err


def test_a_key_of_the_engine_behind_is_looked_at_and_not_told(monkeypatch, capsys):
    monkeypatch.setenv("SOFTPROMPT_VLLM_KEY", "secret\nword")
    assert main(["serve", "--backbone", "bundled:nowhere", "--vllm", "http://127.0.0.1:9"]) == 2
    told = capsys.readouterr().err
    assert "behind vLLM's --api-key" in told
    assert "secret" not in told


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert main(["serve", "--backbone", "bundled:t5-tiny", "--prompts", str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err
