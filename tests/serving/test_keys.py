"""Keys: several, changed while the server runs, and nobody without one gets further than the door."""

from __future__ import annotations

import hmac
import os
import stat

import pytest
from tests.models import tiny_backbone
from tests.serving.live import fill_some, serving

from softprompt.errors import ArtefactError, ConfigError
from softprompt.serving import ServerSettings, add_key
from softprompt.serving.keys import Keys

UP = ".."


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys"


def test_a_key_has_an_owner(path):
    alice, bob = add_key(path, "alice"), add_key(path, "bob")
    keys = Keys(path)
    assert (keys.name_of(alice), keys.name_of(bob)) == ("alice", "bob")
    for other in ("", alice[:-1], alice + "a", alice.upper(), "alice", "\ud800", "ü", path.read_text().split(":")[-1]):
        assert keys.name_of(other) is None
    assert alice not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_of_keys_may_have_comments(path):
    key = add_key(path, "alice")
    path.write_text(f"# ours\n\n  {path.read_text().strip()}  # since May\n", encoding="utf-8")
    assert Keys(path).name_of(key) == "alice"
    path.write_text("# none\n", encoding="utf-8")
    assert Keys(path).name_of("") is None


def test_a_name_has_one_key(path):
    add_key(path, "alice")
    with pytest.raises(ConfigError, match="has a key 'alice' already"):
        add_key(path, "alice")
    for name in ("", "-a", "a b", "a\nb sha256:00", "a" * 65, "ü"):
        with pytest.raises(ConfigError, match="cannot name a key"):
            add_key(path, name)


def test_a_file_without_an_end_of_line_is_gone_on_with(path):
    first = add_key(path, "a")
    path.write_text(path.read_text().rstrip("\n"), encoding="utf-8")
    second = add_key(path, "b")
    keys = Keys(path)
    assert (keys.name_of(first), keys.name_of(second)) == ("a", "b")


@pytest.mark.parametrize("text", ["alice", "alice sha256:12", "alice md5:" + "0" * 64, "a b sha256:" + "0" * 64])
def test_what_is_no_file_of_keys(path, text):
    path.write_text(f"\n{text}\n", encoding="utf-8")
    with pytest.raises(ArtefactError, match=":2 is no key"):
        Keys(path)
    with pytest.raises(ArtefactError, match=":2 is no key"):
        add_key(path, "new")


def test_a_file_that_is_not_there_or_no_text(path):
    with pytest.raises(ArtefactError, match="cannot be read"):
        Keys(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ArtefactError, match="cannot be read"):
        Keys(path)


def test_keys_change_with_their_file(path, caplog):
    old = add_key(path, "old")
    keys = Keys(path)
    new = add_key(path, "new")
    assert (keys.name_of(old), keys.name_of(new)) == ("old", "new")
    fresh = path.with_suffix(".fresh")
    fresh.write_text(path.read_text().splitlines()[1], encoding="utf-8")
    os.replace(fresh, path)
    assert (keys.name_of(old), keys.name_of(new)) == (None, "new")
    path.write_text("broken\n", encoding="utf-8")
    assert (keys.name_of(old), keys.name_of(new)) == (None, "new")
    assert "those known before stay" in caplog.text
    path.unlink()
    assert keys.name_of(new) == "new"
    last = add_key(path, "last")
    assert (keys.name_of(new), keys.name_of(last)) == (None, "last")


def test_every_key_is_compared_with_all(path, monkeypatch):
    """How long it takes tells nothing: no comparison ends early, and none is left out."""
    keys = [add_key(path, f"k{number}") for number in range(5)]
    known = Keys(path)
    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: (compared.append(len(a) == len(b)), compare(a, b))[1])
    for key in (keys[0], keys[4], "no key"):
        compared.clear()
        known.name_of(key)
        assert compared == [True] * 5


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    keys = {name: add_key(folder / name, "one") for name in ("user", "admin")}
    (folder / "prompts").mkdir()
    fill_some(folder / "prompts", tiny_backbone("decoder-only"))
    settings = ServerSettings(keys=str(folder / "user"), admin_keys=str(folder / "admin"))
    with serving(tiny_backbone("decoder-only"), folder / "prompts", settings) as live:
        yield live, keys


LOCKED = [
    "/v1/models",
    "/v1/models/rows",
    "/v1/load",
    "/metrics",
    "/openapi.json",
    "/nowhere",
    "/v1/completions",
    "/docs",
]


@pytest.mark.parametrize("path", LOCKED)
def test_nothing_is_told_without_a_key(world, path):
    live, keys = world
    for given in (None, "", "Bearer", "Bearer ", f"Basic {keys['user']}", "Bearer sp-wrong", f"Bearer {keys['admin']}"):
        status, error = live.failure("GET", path, headers={} if given is None else {"Authorization": given})
        assert (status, error["code"], error["type"]) == (401, "invalid_api_key", "authentication_error")
        assert "sp-" not in error["message"]
    status, _, _ = live.ask("GET", path, headers={"Authorization": f"bearer  {keys['user']} "})
    assert status != 401


def test_what_is_open_to_all(world):
    live, _ = world
    for path in ("/", "/health/live", "/health/ready", "/page/index.html"):
        assert live.ask("GET", path)[0] == 200
    for path in (
        f"/page/{UP}/v1/models",
        f"/health/{UP}/v1/models",
        "/page/..%2fv1/models",
        "//v1/models",
        "/V1/models",
    ):
        assert live.ask("GET", path)[0] in (401, 404), path
        assert "rows" not in str(live.ask("GET", path)[1])


def test_those_who_ask_cannot_change(world):
    live, keys = world
    for method, path in (("GET", "/admin/prompts"), ("DELETE", "/admin/prompts/rows"), ("POST", "/admin/reload")):
        for key in ("", keys["user"]):
            assert live.failure(method, path, headers={"Authorization": f"Bearer {key}"})[0] == 401
    headers = {"Authorization": f"Bearer {keys['admin']}"}
    assert live.ask("GET", "/admin/prompts", headers=headers)[0] == 200
    assert "rows" in live.engine.folder.files


def test_a_large_body_without_a_key_is_told_so(world):
    live, _ = world
    status, error = live.failure("POST", "/v1/completions", b"x" * 900_000)
    assert (status, error["code"]) == (401, "invalid_api_key")


def test_without_admin_keys_nothing_can_be_changed(tmp_path):
    with serving(tiny_backbone("decoder-only"), fill_some(tmp_path, tiny_backbone("decoder-only"))) as live:
        for method, path in (("GET", "/admin/prompts"), ("DELETE", "/admin/prompts/rows"), ("PUT", "/admin/x")):
            status, error = live.failure(method, path)
            assert (status, error["code"]) == (403, "admin_off")
