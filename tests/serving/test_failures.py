"""Whatever is sent, what comes back is an error in OpenAI's shape, without places, and the server goes on."""

from __future__ import annotations

import functools
import json
import logging
from pathlib import Path

import pytest
from tests.models import tiny_backbone
from tests.serving.live import backbone_of, fill_some, serving

from softprompt.errors import (
    ArtefactError,
    BackboneError,
    ConfigError,
    DataError,
    DeadlineError,
    EngineClosedError,
    LengthError,
    MismatchError,
    NonFiniteError,
    QueueFullError,
    RequestCancelled,
    UnknownPromptError,
    UnsupportedError,
)
from softprompt.serving import ServerSettings
from softprompt.serving.failures import Failure, failure_of, invalid

UP = ".."


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    folder = fill_some(tmp_path_factory.mktemp("prompts"), backbone_of("llama"))
    with serving(backbone_of("llama"), folder, ServerSettings(max_texts=8, max_new_tokens=16)) as live:
        yield live


def said(**more):
    return json.dumps({"model": "rows", "prompt": "good", "max_tokens": 2, **more}).encode()


BODIES = {
    "nothing": b"",
    "no json": b"{",
    "no text": b"\xff\xfe\x00{",
    "half a text": b'{"model": "rows", "prompt": "\xc3',
    "null": b"null",
    "a list": b"[1]",
    "a word": b'"rows"',
    "a number": b"1",
    "deep lists": b"[" * 100_000,
    "deep and whole": b"[" * 400 + b"]" * 400,
    "a deep field": b'{"model": "rows", "prompt": {"text": ' + b"[" * 400 + b"]" * 400 + b"}}",
    "a very deep field": b'{"model": "rows", "prompt": {"text": ' + b"[" * 90_000 + b"]" * 90_000 + b"}}",
    "deep metadata": b'{"model": "rows", "prompt": "a", "metadata": {"a": ' + b"[" * 5000 + b"]" * 5000 + b"}}",
    "half a character": b'{"model": "rows", "prompt": "\\ud800"}',
    "half a name": b'{"model": "\\ud800", "prompt": "a"}',
    "half a field": b'{"model": "rows", "prompt": "a", "\\udfff": 1}',
    "half a stop": said(stop=["\udc00"]),
    "half a column": b'{"model": "film", "prompt": {"text": "\\ud800"}}',
    "half a column's name": b'{"model": "film", "prompt": {"\\ud800": "a"}}',
    "NaN": b'{"model": "rows", "prompt": "a", "temperature": NaN}',
    "infinite": b'{"model": "rows", "prompt": "a", "temperature": 1e999}',
    "a huge number": b'{"model": "rows", "prompt": "a", "seed": ' + b"9" * 400 + b"}",
    "a number that is no number": b'{"model": "rows", "prompt": "a", "seed": ' + b"9" * 5000 + b"}",
    "a huge temperature": b'{"model": "rows", "prompt": "a", "temperature": ' + b"9" * 400 + b"}",
    "other kinds": said(max_tokens="2"),
    "half tokens": said(max_tokens=2.5),
    "true tokens": said(max_tokens=True),
    "no tokens": said(max_tokens=0),
    "many tokens": said(max_tokens=17),
    "more to say than there is room": said(min_tokens=9, max_tokens=3),
    "many texts": said(n=9),
    "an unknown field": said(suffix="a"),
    "a huge field": said(**{"x" * 100_000: 1}),
    "many fields": said(**{f"x{number}": 1 for number in range(5000)}),
    "penalties": said(frequency_penalty=0.5),
    "tokens instead of text": said(prompt=[1, 2, 3]),
    "no texts": said(prompt=[]),
    "many stops": said(stop=["a"] * 17),
    "an empty stop": said(stop=""),
    "fields without a template": said(prompt={"text": "a"}),
    "no model": b'{"prompt": "a"}',
    "an empty model": said(model=""),
    "a long model": said(model="a" * 300),
    "echo": said(echo=True),
    "beams": said(best_of=2),
    "a long input": said(prompt="good " * 200),
    "an empty input": said(prompt=""),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_wrong_body_is_the_clients_fault(live, name):
    for path in ("/v1/completions", "/v1/chat/completions", "/v1/classify", "/v1/score"):
        status, error = live.failure("POST", path, BODIES[name])
        assert status == 400, (path, error)
        assert error["type"] == "invalid_request_error"
        assert 5 < len(error["message"]) < 2100
        for place in ("/srv", "/tmp", ".py", "Traceback", "pydantic"):
            assert place not in error["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": {"text": float("nan")}, "model": "film"},
        {"prompt": {"text": 10**400}, "model": "film"},
        {"prompt": {"text": None}, "model": "film"},
        {"prompt": {"text": [["a"], {"b": 1}]}, "model": "film"},
        {"prompt": {"other": "a"}, "model": "film"},
        {"prompt": "{text} {0} {prompt} %s", "model": "film"},
        {"prompt": "a\0b\u2028\U0001f600"},
        {"stop": ["\0", "\u2028"]},
        {"metadata": {"a": [1, {"b": None}]}, "user": "me"},
        {"seed": -(2**63), "temperature": 1e-30},
        {"top_p": 1e-300, "temperature": 100},
        {"repetition_penalty": 1e-300},
        {"repetition_penalty": 100, "temperature": 0.01},
        {"logprobs": 20, "top_k": 1, "temperature": 1.0},
        {"logprobs": 20, "min_tokens": 2, "max_tokens": 3},
        {"logprobs": 0},
        {"stream_options": {"include_usage": True}},
    ],
)
def test_odd_requests_are_answered_or_refused(live, fields):
    """With `logprobs`, tokens that may not be chosen had none that JSON can hold."""
    asked = {"model": "rows", "prompt": "good", "max_tokens": 2, **fields}
    status, body, _ = live.ask("POST", "/v1/completions", asked)
    assert status in (200, 400), body
    if status == 200 and "logprobs" in fields:
        assert all(value <= 0 for top in body["choices"][0]["logprobs"]["top_logprobs"] for value in top.values())
    status, text, _ = live.ask("POST", "/v1/completions", {**asked, "stream": True})
    if status == 200:
        for line in text.strip().split("\n\n")[:-1]:
            assert "error" not in json.loads(line.removeprefix("data: "), parse_constant=pytest.fail)


@pytest.mark.parametrize("labels", [[], ["a", "a"], [""], ["\ud800"], "good", [1], None, ["good"] * 2000])
def test_wrong_labels(live, labels):
    for path, field in (("/v1/classify", "labels"), ("/v1/score", "targets")):
        body = json.dumps({"model": "rows", "input": "good", field: labels}).encode()
        status, error = live.failure("POST", path, body)
        assert (status, error["param"].partition(".")[0]) == (400, field), error


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/score"])
def test_half_a_character_in_a_column_is_refused(live, path):
    for value in ("\ud800", {"\ud800": 1}, ["\ud800"]):
        body = {"model": "film", "input": {"text": value}, ("labels" if "class" in path else "targets"): ["good"]}
        status, error = live.failure("POST", path, body)
        assert status == 400, error


@pytest.mark.parametrize(
    "turns",
    [
        [],
        [{"role": "user"}],
        [{"role": "robot", "content": "a"}],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}],
        [{"role": "user", "content": "a"}] * 300,
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        "good",
    ],
)
def test_wrong_turns(live, turns):
    status, error = live.failure("POST", "/v1/chat/completions", {"model": "rows", "messages": turns})
    assert status == 400
    assert error["param"].startswith("messages")


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        f"{UP}/rows",
        "/etc/passwd",
        "rows/",
        "rows\0",
        ".rows",
        f"rows/{UP}/rows",
        "%2e%2e",
        "ａ",
        "\udcff",
        "~",
        "a" * 200,
    ],
)
def test_names_cannot_leave_the_folder(live, name):
    for path in ("/v1/completions", "/v1/classify"):
        body = {"model": name, ("prompt" if "comp" in path else "input"): "good"}
        status, error = live.failure("POST", path, json.dumps(body).encode())
        assert (status, error["code"]) in ((404, "model_not_found"), (400, "invalid_value")), error
        assert "root:" not in error["message"]


@pytest.mark.parametrize(
    "path",
    [
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "%00",
        "rows%2f..%2frows",
        "%ff",
        "a" * 5000,
        "%F0%9F%98%80",
        "rows%0d%0aX:y",
    ],
)
def test_paths_cannot_leave_the_folder(live, path):
    for start in ("/v1/models/", "/page/", "/page/..%2f..%2f"):
        status, error = live.failure("GET", start + path)
        assert status == 404
        assert "/" not in error["message"].replace("GET /openapi.json", "").replace("GET /v1/models", "").replace(
            path, ""
        )


def test_what_is_not_there_and_how_not_to_ask(live):
    status, error = live.failure("GET", "/nowhere")
    assert (status, error["code"]) == (404, "not_found")
    status, body, headers = live.ask("GET", "/v1/completions")
    assert (status, body["error"]["code"], headers["allow"]) == (405, "refused", "POST")
    assert live.ask("GET", "/health/live")[0] == 200


KINDS = {
    UnknownPromptError: 404,
    LengthError: 400,
    DataError: 400,
    ConfigError: 400,
    UnsupportedError: 400,
    QueueFullError: 429,
    DeadlineError: 504,
    EngineClosedError: 503,
    RequestCancelled: 499,
    MismatchError: 503,
    ArtefactError: 503,
    NonFiniteError: 503,
    BackboneError: 500,
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_error_has_its_status(kind):
    failure = failure_of(
        kind("see /srv/prompts/rows, at /srv/prompts"), [("/srv/prompts/", ""), ("/srv/prompts", "it")]
    )
    assert failure.status == KINDS[kind]
    assert "/srv" not in failure.message
    assert ("Retry-After" in failure.headers) is (failure.status in (429, 503))


def test_who_runs_the_server_is_told_what_is_wrong_with_a_prompt():
    error = ArtefactError("rows is truncated")
    assert "truncated" not in failure_of(error).message
    assert failure_of(error, admin=True).message == "rows is truncated"
    assert failure_of(error, admin=True).status == 422


def test_other_errors_tell_nothing():
    for error in (OSError(28, "No space left on device", "/srv/secret"), KeyError("secret"), RuntimeError("secret")):
        for admin in (False, True):
            failure = failure_of(error, admin=admin)
            assert (failure.status, failure.code) == (500, "internal_error")
            assert "secret" not in failure.message
    assert failure_of(invalid("no", param="n")).param == "n"


def test_a_message_is_text_of_a_bounded_length():
    """A field's name came back as it was sent, and half a character in it made an error of the error."""
    body = Failure(status=400, message="a\ud800" * 10_000, code="x", param="\udfff").body()
    text = json.dumps(body, ensure_ascii=False).encode()
    assert len(text) < 20_000
    assert body["error"]["param"] == "\\udfff"


def test_a_failure_of_the_server_is_told_in_the_log_alone(live, monkeypatch, caplog):
    monkeypatch.setattr(type(live.engine), "submit", lambda *_: 1 / 0)
    with caplog.at_level(logging.ERROR):
        status, body, headers = live.ask("POST", "/v1/completions", said())
    assert (status, body["error"]["code"]) == (500, "internal_error")
    assert "zero" not in body["error"]["message"]
    (record,) = [one for one in caplog.records if one.getMessage() == "a request failed"]
    assert record.request_id == headers["x-request-id"]
    assert "ZeroDivisionError" in caplog.text


ODD = {
    "half a character": {"task": "\ud800"},
    "deep": {"metrics": functools.reduce(lambda inner, _: [inner], range(300), 1)},
}


@pytest.mark.parametrize("what", [*ODD, "unreadable"])
def test_an_odd_card_spoils_no_others(tmp_path, monkeypatch, what):
    """One prompt's card that could not be written made an error of the whole list, for everybody."""
    backbone = tiny_backbone("decoder-only")
    folder = fill_some(tmp_path, backbone)
    file = folder / "rows" / "prompt.json"
    if what in ODD:
        file.write_text(json.dumps({**json.loads(file.read_text()), **ODD[what]}))
    opening = Path.open

    def opened(self, *mode, **more):
        if what == "unreadable" and self.samefile(file):
            raise PermissionError(13, "Permission denied", str(self))
        return opening(self, *mode, **more)

    with serving(backbone, folder) as live:
        monkeypatch.setattr(Path, "open", opened)
        status, said, _ = live.ask("GET", "/v1/models")
        assert status == 200
        kinds = {one["id"]: one["kind"] for one in said["data"]}
        assert kinds.pop("rows") == "damaged"
        assert set(kinds.values()) == {"backbone", "prompt", "ensemble"}
        assert live.ask("GET", "/v1/models/rows")[0] == 200
        if what == "unreadable":
            status, error = live.failure("POST", "/v1/completions", {"model": "rows", "prompt": "good"})
            assert (status, error["code"]) == (503, "prompt_unusable")


def test_a_damaged_prompt_fails_its_own_requests_only(tmp_path, caplog):
    backbone = tiny_backbone("decoder-only")
    folder = fill_some(tmp_path, backbone)
    weights = folder / "keys" / "prompt.safetensors"
    weights.write_bytes(weights.read_bytes()[:-20])
    (folder / "film" / "prompt.json").write_text("[", encoding="utf-8")
    with serving(backbone, folder) as live:
        for name in ("keys", "film"):
            status, error = live.failure("POST", "/v1/completions", said(model=name))
            assert (status, error["code"]) == (503, "prompt_unusable")
            assert str(folder) not in error["message"]
        assert live.post("/v1/completions", model="rows", prompt="good", max_tokens=2)["choices"]
        kinds = {one["id"]: one["kind"] for one in live.ask("GET", "/v1/models")[1]["data"]}
    assert kinds["film"] == "damaged"
    assert kinds["rows"] == "prompt"
    assert "truncated" in str([vars(record).get("reason") for record in caplog.records])
