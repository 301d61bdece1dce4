"""Prompts that come and go over HTTP while requests run; what is sent is looked at before it is kept."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import tarfile
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tests.serving.live import backbone_of, fill_some, serving

from softprompt.prompts import Members, PromptTuning, SoftPrompt
from softprompt.serving import ServerSettings, add_key

UP = ".."

TAR = {"Content-Type": "application/x-tar"}
ASKED = {"prompt": "a good film", "max_tokens": 4}


def packed(folder, prefix="./"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for file in sorted(folder.iterdir()):
            archive.add(file, f"{prefix}{file.name}")
    return out.getvalue()


def members(*entries, **options):
    """A tar file of `(TarInfo or name, content)`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **options) as archive:
        for entry, content in entries:
            info = tarfile.TarInfo(entry) if isinstance(entry, str) else entry
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


class Admin:
    def __init__(self, live, folder, key):
        self.live, self.folder = live, folder
        self.headers = {"Authorization": f"Bearer {key}"}

    def ask(self, method, path, body=None):
        status, answer, _ = self.live.ask(method, f"/admin{path}", body, {**self.headers, **TAR})
        return status, answer

    def put(self, name, body):
        status, answer = self.ask("PUT", f"/prompts/{name}", body)
        text = json.dumps(answer)
        assert str(self.folder) not in text
        assert "upload" not in text
        return status, answer

    def says(self, name):
        return self.live.post("/v1/completions", model=name, **ASKED)

    def left(self):
        return [path.name for path in self.folder.iterdir() if path.name.startswith(".")]


@pytest.fixture(scope="module")
def backbone():
    return backbone_of("llama")


@pytest.fixture
def admin(backbone, tmp_path):
    folder = tmp_path / "prompts"
    folder.mkdir()
    fill_some(folder, backbone)
    key = add_key(tmp_path / "keys", "admin")
    settings = ServerSettings(admin_keys=str(tmp_path / "keys"), max_prompt_bytes=200_000, watch_s=0.05)
    with serving(backbone, folder, settings) as live:
        yield Admin(live, folder, key)


@pytest.fixture
def other(backbone, tmp_path):
    return PromptTuning(length=5, init="vocab").build(backbone, seed=9).save(tmp_path / "other")


def test_a_prompt_comes_is_replaced_and_goes(admin, other):
    old = admin.says("rows")
    status, said = admin.put("rows", packed(other))
    assert status == 200
    new = admin.says("rows")
    assert new["system_fingerprint"] == said["version"] != old["system_fingerprint"]
    assert new["usage"]["prompt_tokens_details"] == {"virtual_tokens": 5}
    assert admin.put("fresh", packed(other, ""))[0] == 200
    assert admin.says("fresh")["choices"][0]["text"] == new["choices"][0]["text"]
    assert admin.put("third", packed(other, "a/b/"))[0] == 200
    assert admin.ask("DELETE", "/prompts/fresh") == (200, {"name": "fresh", "removed": True})
    assert admin.live.failure("POST", "/v1/completions", {"model": "fresh", **ASKED})[0] == 404
    assert admin.ask("DELETE", "/prompts/fresh")[0] == 404
    assert admin.left() == []


def test_the_backbones_name_is_no_prompts(admin, other):
    """It was taken, and from then on neither of the two could be asked for."""
    status, said = admin.put("tiny-llama", packed(other))
    assert status == 409
    assert "the backbone's own name" in said["error"]["message"]
    assert admin.says("tiny-llama")["system_fingerprint"] is None
    assert not (admin.folder / "tiny-llama").exists()


def test_half_a_character_in_a_card_is_the_senders_fault(admin, other):
    """It was a failure of the server's."""
    info = json.loads((other / "prompt.json").read_text())
    body = members(
        ("prompt.json", json.dumps({**info, "task": "\ud800"}).encode()),
        ("prompt.safetensors", (other / "prompt.safetensors").read_bytes()),
    )
    status, said = admin.put("fresh", body)
    assert status == 422
    assert "give finite plain values and whole characters" in said["error"]["message"]
    assert not (admin.folder / "fresh").exists()
    assert admin.left() == []


def test_an_ensemble_comes(admin, backbone, tmp_path):
    few = [PromptTuning(length=2, init="vocab").build(backbone, seed=seed) for seed in range(3)]
    Members(few, "vote").save(tmp_path / "several")
    assert admin.put("several", packed(tmp_path / "several"))[0] == 200
    assert admin.says("several")["usage"]["prompt_tokens_details"] == {"virtual_tokens": 6}
    status, said = admin.put("rows", packed(tmp_path / "several"))
    assert status == 422
    assert "another kind" in said["error"]["message"]


def test_what_is_in_memory(admin):
    assert admin.ask("GET", "/prompts")[1]["loaded"] == []
    status, said = admin.ask("POST", "/prompts/keys/load")
    assert status == 200
    (one,) = admin.ask("GET", "/prompts")[1]["loaded"]
    assert (one["name"], one["version"], one["in_use"], one["current"]) == ("keys", said["version"], 0, True)
    assert admin.ask("POST", "/prompts/keys/unload") == (200, {"name": "keys", "unloaded": True})
    assert admin.ask("POST", "/prompts/keys/unload") == (200, {"name": "keys", "unloaded": False})
    assert admin.ask("POST", "/prompts/nowhere/load")[0] == 404
    assert admin.says("keys")["system_fingerprint"] == said["version"]


def test_what_changed_on_disk_is_seen(admin, other):
    old = admin.says("rows")["system_fingerprint"]
    SoftPrompt.load(other).save(admin.folder / "rows")
    until = time.monotonic() + 10
    while admin.says("rows")["system_fingerprint"] == old:
        assert time.monotonic() < until
        time.sleep(0.02)
    admin.says("keys")
    SoftPrompt.load(other).save(admin.folder / "keys")
    status, said = admin.ask("POST", "/reload")
    assert status == 200
    assert said["changed"] in (["keys"], [])  # [] where the watch came first
    assert admin.says("keys")["usage"]["prompt_tokens_details"] == {"virtual_tokens": 5}


def spoilt(folder, change):
    tensors = {name: value.clone() for name, value in load_file(folder / "prompt.safetensors").items()}
    change(next(iter(tensors.values())))
    save_file(tensors, folder / "prompt.safetensors")
    return packed(folder)


def cases(other):
    info, weights = (other / "prompt.json").read_bytes(), (other / "prompt.safetensors").read_bytes()
    hole = tarfile.TarInfo("prompt.json")
    return {
        "nothing": b"",
        "no tar": b"x" * 3000,
        "an empty tar": members(),
        "half a tar": packed(other)[:700],
        "one file": members(("prompt.json", info)),
        "no json": members(("prompt.json", b"{"), ("prompt.safetensors", weights)),
        "a list": members(("prompt.json", b"[]"), ("prompt.safetensors", weights)),
        "deep json": members(("prompt.json", b"[" * 90_000), ("prompt.safetensors", weights)),
        "no text": members(("prompt.json", b"\xff\xfe"), ("prompt.safetensors", weights)),
        "an empty mapping": members(("prompt.json", b"{}"), ("prompt.safetensors", weights)),
        "truncated": members(("prompt.json", info), ("prompt.safetensors", weights[:-8])),
        "a pickle": members(("prompt.json", info), ("prompt.safetensors", b"\x80\x04cos\nsystem\n.")),
        "a huge header": members(("prompt.json", info), ("prompt.safetensors", b"\xff" * 8 + weights[8:])),
        "both kinds": members(
            *((f"{kind}.{end}", b"{}") for kind in ("prompt", "ensemble") for end in ("json", "safetensors"))
        ),
        "links": members(
            (link("prompt.json", tarfile.SYMTYPE), b""), (link("prompt.safetensors", tarfile.LNKTYPE), b"")
        ),
        "a device": members((link("prompt.json", tarfile.CHRTYPE), b""), ("prompt.safetensors", weights)),
        "packed": gzip.compress(members(("prompt.json", info), ("prompt.safetensors", weights))),
        "a hole": holes(hole),
    }


def link(name, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def holes(info, size=2**40):
    """A GNU sparse file that says of itself that it is a terabyte of zeros."""
    info.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[386:398], head[398:410] = b"00000000000\0", b"00000000000\0"  # one piece, of no bytes
    head[483:495] = b"\x80" + size.to_bytes(11, "big")
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + b"\0" * 1024


def test_what_is_no_prompt_is_refused_and_changes_nothing(admin, other):
    before = admin.says("rows")
    for name, body in cases(other).items():
        tracemalloc.start()
        status, said = admin.put("rows", body)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert status in (400, 422), (name, said)
        assert said["error"]["type"] == "invalid_request_error", name
        assert peak_bytes < 50e6, name
        assert admin.left() == [], name
    after = admin.says("rows")
    assert after["choices"] == before["choices"]
    assert after["system_fingerprint"] == before["system_fingerprint"]


def test_a_packed_body_is_not_unpacked(admin):
    """A gzipped tar of zeros was read in full: a few kilobytes filled the memory."""
    bomb = gzip.compress(members(("prompt.json", b"\0" * 60_000_000)))
    assert len(bomb) < 100_000
    tracemalloc.start()
    status, _ = admin.put("rows", bomb)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert status == 400
    assert peak_bytes < 20e6


def test_values_that_are_not_finite(admin, other):
    for value in (float("nan"), float("inf")):
        status, said = admin.put("rows", spoilt(other, lambda rows, value=value: rows[0].fill_(value)))
        assert status == 422
        assert "NaN" in said["error"]["message"]


def test_a_prompt_of_another_backbone(admin, backbone, tmp_path):
    PromptTuning(length=5, init="vocab").build(backbone_of("t5"), seed=9).save(tmp_path / "foreign")
    status, said = admin.put("rows", packed(tmp_path / "foreign"))
    assert (status, said["error"]["code"]) == (422, "prompt_unusable")


def test_a_prompt_that_is_too_large(admin, other):
    weights = (other / "prompt.safetensors").read_bytes()
    body = members(
        ("prompt.json", (other / "prompt.json").read_bytes()), ("prompt.safetensors", weights + b"0" * 200_000)
    )
    status, said = admin.put("rows", body)
    assert (status, said["error"]["code"]) == (413, "body_too_large")


def test_names_in_a_tar_lead_nowhere(admin, other, tmp_path):
    """Of a name only its last part counts, and only where it is one of ours."""
    info, weights = (other / "prompt.json").read_bytes(), (other / "prompt.safetensors").read_bytes()
    seen = set(tmp_path.iterdir())
    body = members(
        (f"/{tmp_path}/outside", b"a"),
        (f"{UP}/outside", b"a"),
        (f"{UP}/{UP}/prompt.json", info),
        ("/etc/prompt.safetensors", weights),
        (link("outside", tarfile.SYMTYPE), b""),
    )
    assert admin.put("rows", body)[0] == 200
    assert sorted(file.name for file in (admin.folder / "rows").iterdir()) == [
        "README.md",
        "prompt.json",
        "prompt.safetensors",
    ]
    assert set(tmp_path.iterdir()) == seen
    assert not Path("/etc/prompt.safetensors").exists()


WRONG_NAMES = (
    "..%2frows",
    "%2e%2e",
    "..",
    ".hidden",
    "a%2fb",
    "%2fetc%2fx",
    "a" * 3000,
    "%F0%9F%98%80",
    "%00",
    "a%20b",
    "-a",
)


def test_names_in_an_address_lead_nowhere(admin, other, tmp_path):
    seen, body = sorted(tmp_path.rglob("*")), packed(other)
    for name in WRONG_NAMES:
        status, _ = admin.put(name, body)
        assert status in (400, 404, 405, 413, 415), name
        for method, path in (("DELETE", f"/prompts/{name}"), ("POST", f"/prompts/{name}/load")):
            assert admin.ask(method, path)[0] in (404, 405), name
        assert admin.ask("POST", f"/prompts/{name}/unload")[0] in (200, 404, 405), name
        assert sorted(tmp_path.rglob("*")) == seen


def test_a_link_in_the_folder_is_no_prompt(admin, other):
    os.symlink(other, admin.folder / "linked")
    assert admin.live.failure("POST", "/v1/completions", {"model": "linked", **ASKED})[0] == 404
    status, said = admin.put("linked", packed(other))
    assert status == 422
    assert "is a link" in said["error"]["message"]
    assert admin.ask("DELETE", "/prompts/linked")[0] == 404


def test_a_full_disk_is_told_and_changes_nothing(admin, other, monkeypatch):
    before = admin.says("rows")["system_fingerprint"]
    write = Path.write_bytes

    def full(self, data):
        if self.name == "prompt.safetensors":
            raise OSError(28, "No space left on device", str(self))
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    status, said = admin.put("rows", packed(other))
    assert (status, said["error"]["code"]) == (507, "storage")
    assert "No space left on device" in said["error"]["message"]
    monkeypatch.undo()
    assert admin.says("rows")["system_fingerprint"] == before
    assert admin.left() == []
    monkeypatch.setattr("softprompt.artefact.save_file", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    status, said = admin.put("rows", packed(other))
    assert status in (422, 507), said
    monkeypatch.undo()
    assert admin.says("rows")["system_fingerprint"] == before
    assert admin.put("rows", packed(other))[0] == 200
    assert admin.left() == []


def test_a_stream_ends_with_the_prompt_that_it_began_with(admin, other):
    asked = {"model": "rows", "prompt": "a good film", "max_tokens": 40, "min_tokens": 40, "stream": True}
    whole = admin.live.post("/v1/completions", **{**asked, "stream": False})
    with contextlib.closing(admin.live.connect()) as connection:
        connection.request("POST", "/v1/completions", json.dumps(asked), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        first = answer.readline()
        assert admin.put("rows", packed(other))[0] == 200
        rest = first + answer.read()
    chunks = [json.loads(line.removeprefix("data: ")) for line in rest.decode().strip().split("\n\n")[:-1]]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"]
    assert {chunk["system_fingerprint"] for chunk in chunks} == {whole["system_fingerprint"]}
    assert admin.says("rows")["system_fingerprint"] != whole["system_fingerprint"]


def test_many_change_and_ask_at_once(admin, backbone, tmp_path):
    bodies, versions = [], {}
    for seed in range(3):
        PromptTuning(length=2 + seed, init="vocab").build(backbone, seed=seed).save(tmp_path / f"p{seed}")
        bodies.append(packed(tmp_path / f"p{seed}"))
        version = admin.put("hot", bodies[seed])[1]["version"]
        versions[version] = admin.says("hot")["choices"][0]["text"]
    stop, wrong = threading.Event(), []

    def change():
        for number in range(12):
            status, said = admin.put("hot", bodies[number % 3])
            if status != 200:
                wrong.append(said)
        stop.set()

    def ask():
        while not stop.is_set():
            said = admin.says("hot")
            if versions[said["system_fingerprint"]] != said["choices"][0]["text"]:
                wrong.append(said)

    threads = [threading.Thread(target=one) for one in (change, ask, ask)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
