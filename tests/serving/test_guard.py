"""What is let in, how much of it, how slowly; and what is told of what is not."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import time

import pytest
from tests.models import tiny_backbone
from tests.serving.live import fill_some, serving

from softprompt.serving import ServerSettings, add_key
from softprompt.serving.running import JsonLines

ASKED = {"model": "rows", "prompt": "a good film", "max_tokens": 2}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill_some(tmp_path_factory.mktemp("prompts"), tiny_backbone("decoder-only"))


@pytest.fixture(scope="module")
def live(folder):
    settings = ServerSettings(max_body_bytes=4000, body_timeout_s=0.5, max_texts=8, max_new_tokens=64)
    with serving(tiny_backbone("decoder-only"), folder, settings) as live:
        yield live


def raw(live, sent, wait_s=5.0):
    """All that comes back for bytes, until the server closes or waits."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", live.port))) as connection:
        connection.settimeout(wait_s)
        connection.sendall(sent)
        found = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while part := connection.recv(65536):
                found += part
    return found


def dribbled(connection, parts, every_s):
    """How many parts could be sent until the server hung up."""
    for number, part in enumerate(parts):
        try:
            connection.sendall(part)
        except ConnectionError:
            return number
        time.sleep(every_s)
    return len(parts)


def head(length=None, host="127.0.0.1", **headers):
    lines = [f"Host: {host}", "Content-Type: application/json", "Connection: close"]
    lines += [] if length is None else [f"Content-Length: {length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("POST /v1/completions HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "[::2]:80", ""])
def test_other_names_of_this_machine_are_not_answered(live, host):
    """A page of another site may have its own name point here (DNS rebinding)."""
    status, error = live.failure("GET", "/v1/models", headers={"Host": host})
    assert (status, error["code"]) == (403, "wrong_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:80"])
def test_own_names_are(live, host):
    assert live.ask("GET", "/v1/models", headers={"Host": host})[0] == 200


def test_a_server_on_another_loopback_address_has_that_name_too(folder):
    """It was refused under the very address that it listened on."""
    with serving(tiny_backbone("decoder-only"), folder, ServerSettings(host="127.0.0.5")) as live:
        assert live.ask("GET", "/health/live", headers={"Host": "127.0.0.5:80"})[0] == 200
        assert live.ask("GET", "/health/live", headers={"Host": "127.0.0.6:80"})[0] == 403


def test_a_body_is_bounded_by_what_it_says_of_itself(live):
    """The connection was closed while the client still sent, which was then reset and never read why."""
    status, error = live.failure("POST", "/v1/completions", {**ASKED, "prompt": "good " * 1000})
    assert (status, error["code"]) == (413, "body_too_large")
    assert "4000 bytes" in error["message"]
    status, error = live.failure("POST", "/v1/completions", {**ASKED, "prompt": "good " * 2_000_000})
    assert status == 413


def test_a_body_is_bounded_in_chunks_too(live):
    def chunks():
        for _ in range(2000):
            yield b"x" * 1000

    with contextlib.closing(live.connect()) as connection:
        connection.request("POST", "/v1/completions", chunks(), JSON, encode_chunked=True)
        answer = connection.getresponse()
        assert answer.status == 413
        assert json.loads(answer.read())["error"]["code"] == "body_too_large"


def test_what_never_ends_is_not_taken_for_ever(live):
    """A client that goes on sending after its refusal is hung up on."""
    start = time.monotonic()
    with contextlib.closing(socket.create_connection(("127.0.0.1", live.port))) as connection:
        connection.sendall(head(Transfer_Encoding="chunked"))
        sent = dribbled(connection, [b"400\r\n" + b"x" * 1024 + b"\r\n"] * 20_000, 0.001)
    assert sent < 20_000
    assert time.monotonic() < start + 10


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 30, "9" * 5000, "²", "0x10", "4, 5"])
def test_lengths_that_are_none(live, length):
    assert raw(live, head(length)).split()[1] in (b"400", b"413")


def test_a_length_that_is_too_much_is_refused_before_anything_is_sent(live):
    found = raw(live, head(10**9, Expect="100-continue"))
    assert b"413" in found.split(b"\r\n")[0]
    assert b"100 Continue" not in found


@pytest.mark.parametrize(
    "sent", [b"GET / HT TP\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n", head("4, 5"), head("-1")]
)
def test_what_is_no_http_is_told_so_in_the_same_shape(live, sent):
    """It was told as a plain text."""
    found, _, body = raw(live, sent).partition(b"\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 400 Bad Request")
    assert b"content-type: application/json" in found
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_http")


def test_a_refused_body_that_breaks_off_is_no_failure_of_the_server(live, caplog):
    """A second answer was begun, behind the refusal, which ended in a trace in the log."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", live.port))) as connection:
        connection.settimeout(5)
        connection.sendall(head(Transfer_Encoding="chunked") + b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
        found = connection.recv(65536)
        connection.sendall(b"no length\r\n")
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                found += part
    assert found.startswith(b"HTTP/1.1 413")
    assert found.count(b"HTTP/1.1") == 1
    assert "Fatal error" not in caplog.text


def test_connections_are_bounded(folder):
    """What came beyond was told a plain text, and so was the last one that should have been let in."""
    with serving(tiny_backbone("decoder-only"), folder, ServerSettings(max_connections=3)) as live:
        kept = [live.connect() for _ in range(3)]
        for connection in kept:
            connection.request("GET", "/health/live")
            assert connection.getresponse().read() == b'{"status":"live"}'
        status, body, headers = live.ask("POST", "/v1/completions", {**ASKED, "prompt": "good " * 50_000})
        assert (status, body["error"]["code"], headers["retry-after"]) == (503, "too_many_connections", "1")
        kept.pop().close()
        until = time.monotonic() + 10
        while (status := live.ask("POST", "/v1/completions", ASKED)[0]) == 503 and time.monotonic() < until:
            time.sleep(0.02)
        assert status == 200
        for connection in kept:
            connection.close()


def test_a_slow_body_ends(live):
    start = time.monotonic()
    found = raw(live, head(100) + b'{"model":')
    assert found.startswith(b"HTTP/1.1 408")
    assert b"body_too_slow" in found
    assert time.monotonic() - start < 4


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-A: b"])
def test_a_slow_head_is_hung_up_on(live, sent):
    start = time.monotonic()
    assert raw(live, sent) == b""
    assert time.monotonic() - start < 4


def test_a_slow_second_head_is_hung_up_on(live):
    """Only the first head of a connection was waited for with a limit, so that a second one held it for ever."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", live.port))) as connection:
        connection.settimeout(5)
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        start = time.monotonic()
        sent = dribbled(connection, [b"G", b"E", b"T", b" ", *[b"/"] * 200], 0.05)
    assert sent < 200
    assert time.monotonic() - start < 4


def test_a_kept_connection_is_not_hung_up_on(live):
    with contextlib.closing(live.connect()) as connection:
        for _ in range(3):
            connection.request("POST", "/v1/completions", json.dumps(ASKED), JSON)
            answer = connection.getresponse()
            assert answer.status == 200
            answer.read()
            time.sleep(0.3)


def test_who_does_not_read_is_hung_up_on(live):
    """A client that asked for much and read nothing held its connection for ever."""
    with contextlib.closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect(("127.0.0.1", live.port))
        connection.settimeout(10)
        one = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert dribbled(connection, [one * 50] * 20_000, 0) < 20_000


def test_other_kinds_of_bodies_are_refused(live):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        status, error = live.failure("POST", "/v1/completions", json.dumps(ASKED).encode(), {"Content-Type": kind})
        assert (status, error["code"]) == (415, "wrong_content_type"), kind
    status, body, _ = live.ask(
        "POST", "/v1/completions", json.dumps(ASKED).encode(), {"Content-Type": "Application/JSON; charset=utf-8"}
    )
    assert status == 200, body


def test_a_request_has_an_id_and_no_one_keeps_its_answer(live):
    for given in ("my-id.1", "x" * 65, "a b", "ü"):
        _, _, headers = live.ask("GET", "/health/live", headers={"X-Request-Id": given.encode("latin-1")})
        if given == "my-id.1":
            assert headers["x-request-id"] == given
        else:
            assert headers["x-request-id"].startswith("req-")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_the_log_says_who_asked_what_but_not_the_words(folder, tmp_path, caplog):
    key = add_key(tmp_path / "keys", "alice")
    secret = "terrible funny"
    for told in (False, True):
        caplog.clear()
        settings = ServerSettings(keys=str(tmp_path / "keys"), log_inputs=told)
        with caplog.at_level(logging.INFO), serving(tiny_backbone("decoder-only"), folder, settings) as live:
            headers = {"Authorization": f"Bearer {key}", "X-Request-Id": "mine"}
            said = live.ask("POST", "/v1/completions", {**ASKED, "prompt": secret}, headers)[1]
            live.ask("POST", "/v1/classify", {"model": "rows", "input": secret, "labels": ["bad"]}, headers)
            live.ask("POST", "/v1/completions", {**ASKED, "prompt": secret, "secret": secret}, headers)
            live.ask("POST", "/v1/completions", b'{"prompt": "terrible funny', headers)
        lines = [json.loads(JsonLines().format(record)) for record in caplog.records]
        (line,) = [one for one in lines if one.get("status") == 200 and one.get("route") == "/v1/completions"]
        assert (line["request_id"], line["key"], line["model"], line["method"]) == ("mine", "alice", "rows", "POST")
        assert line["seconds"] >= 0
        text = json.dumps(lines)
        assert key not in text
        assert (secret in text) is told
        assert ("answered" in line) is told
        if told:
            assert line["said"] == [secret]
            assert line["answered"] == [said["choices"][0]["text"]]


def test_a_line_of_the_log_is_json_whatever_happened():
    try:
        raise ValueError("a\nb")
    except ValueError as error:
        record = logging.getLogger("x").makeRecord(
            "x", logging.ERROR, "file.py", 1, "it\nfailed %s", ("\ud800",), (ValueError, error, error.__traceback__)
        )
    line = JsonLines().format(record)
    assert "\n" not in line
    assert "ValueError" in json.loads(line)["error"]
