"""Settings that check themselves: nobody beyond this machine gets in by an oversight."""

from __future__ import annotations

import dataclasses
import inspect
import socket
from typing import get_type_hints

import pytest
from tests.models import tiny_backbone

from softprompt.cli.serve import run_server
from softprompt.errors import ConfigError
from softprompt.inference import BatchLimits, Engine
from softprompt.serving import ServerSettings, add_key, serve


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_this_machine_needs_no_keys(host):
    assert ServerSettings(host=host).is_local


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "", "127.0.0.1.example.org"])
def test_others_do(host, tmp_path):
    with pytest.raises(ConfigError, match="no keys are asked for; make some with softprompt keys new"):
        ServerSettings(host=host)
    add_key(tmp_path / "keys", "one")
    assert not ServerSettings(host=host, keys=str(tmp_path / "keys")).is_local


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("max_body_bytes", 0, "expected at least 1"),
        ("max_prompt_bytes", -1, "expected at least 1"),
        ("max_connections", 0, "expected at least 1"),
        ("max_new_tokens", 0, "expected at least 1"),
        ("max_texts", 0, "expected at least 1"),
        ("body_timeout_s", 0.0, "expected seconds above 0"),
        ("request_timeout_s", float("nan"), "expected seconds above 0"),
        ("shutdown_timeout_s", -1.0, "expected seconds above 0"),
        ("watch_s", 0.0, "expected seconds above 0"),
        ("port", -1, "expected 0 to 65535"),
        ("port", 65536, "expected 0 to 65535"),
        ("keys", "nowhere", "no such file"),
        ("admin_keys", ".", "no such file"),
        ("tls_key", "nowhere", "no such file"),
    ],
)
def test_what_is_out_of_range(setting, value, told):
    with pytest.raises(ConfigError, match=f"{setting}=.*{told}"):
        ServerSettings(**{setting: value})


def test_every_setting_is_an_option_of_the_command():
    """By the same name, of the same type, with the same default, which stands in two places; the engine's likewise."""
    options, types = inspect.signature(run_server).parameters, get_type_hints(run_server)
    kinds = get_type_hints(ServerSettings)
    for field in dataclasses.fields(ServerSettings):
        assert types[field.name] == kinds[field.name], field.name
        assert options[field.name].default == field.default, field.name
    for name in ("queue_requests", "queue_tokens", "cache_bytes"):
        assert options[name].default == inspect.signature(Engine).parameters[name].default, name
    for field in dataclasses.fields(BatchLimits):
        assert options[f"batch_{field.name}"].default == field.default, field.name


def test_https_needs_both_files(tmp_path):
    (tmp_path / "key").touch()
    with pytest.raises(ConfigError, match="needs both"):
        ServerSettings(tls_key=str(tmp_path / "key"))


def test_an_address_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken, Engine(tiny_backbone("decoder-only")) as engine:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"Nothing can listen on 127.0.0.1:{port} .*another host or port"):
            serve(engine, ServerSettings(port=port))
