"""Prompts go to the hub and come back; a local server stands in for it."""

from __future__ import annotations

import pickle

import huggingface_hub
import pytest
from tests.unit.store import tiny
from tests.unit.store.hub_stand_in import OWNER_TOKEN, READER_TOKEN, Repository, running_hub

from softprompt.errors import ArtefactError
from softprompt.prompts import PromptTuning, SoftPrompt
from softprompt.store import pull_prompt, push_prompt

FILES = {"README.md", "prompt.json", "prompt.safetensors"}
REPO = "someone/mine"
UP = ".."


@pytest.fixture
def hub(monkeypatch):
    """A hub that huggingface_hub takes for its own."""
    with running_hub() as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.endpoint)
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        huggingface_hub.close_session()
        yield server
        huggingface_hub.close_session()


@pytest.fixture
def folder(tmp_path):
    prompt = PromptTuning(length=3, init="random").build(tiny.causal())
    return prompt.save(tmp_path / "sentiment")


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_prompt_goes_there_and_comes_back(hub, folder, tmp_path):
    address = push_prompt(folder, REPO, token=OWNER_TOKEN)
    assert address.startswith(f"{hub.endpoint}/{REPO}/commit/")
    assert hub.repositories[REPO].branches["main"] == contents(folder)
    pulled = pull_prompt(REPO, tmp_path / "pulled")
    assert contents(pulled) == contents(folder)
    assert tiny.same(SoftPrompt.load(pulled), SoftPrompt.load(folder))


def test_nothing_but_the_prompt_is_published(hub, folder):
    (folder / "notes.txt").write_text("private")
    (folder / "optimizer.bin").write_bytes(b"state")
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "prompt.json").write_text("{}")
    push_prompt(folder, REPO, token=OWNER_TOKEN)
    assert set(hub.repositories[REPO].branches["main"]) == FILES


@pytest.mark.parametrize("private", [True, False])
def test_a_new_repository_is_as_private_as_asked(hub, folder, private):
    push_prompt(folder, REPO, private=private, token=OWNER_TOKEN)
    assert hub.repositories[REPO].private == private


def test_an_existing_repository_gets_a_new_version(hub, folder):
    hub.repositories[REPO] = Repository(branches={"main": {"prompt.json": b"old", "LICENSE": b"mine"}})
    push_prompt(folder, REPO, token=OWNER_TOKEN)
    assert hub.repositories[REPO].branches["main"] == {**contents(folder), "LICENSE": b"mine"}


def test_a_branch_is_made_and_pulled(hub, folder, tmp_path):
    push_prompt(folder, REPO, revision="longer", token=OWNER_TOKEN)
    assert set(hub.repositories[REPO].branches) == {"main", "longer"}
    assert hub.repositories[REPO].branches["main"] == {}
    assert contents(pull_prompt(REPO, tmp_path / "pulled", revision="longer")) == contents(folder)
    push_prompt(folder, REPO, revision="longer", token=OWNER_TOKEN)  # the branch is there now


def test_what_is_no_prompt_is_not_published(hub, tmp_path):
    (tmp_path / "prompt.json").write_text("{}")
    with pytest.raises(ArtefactError, match=r"no prompt.safetensors"):
        push_prompt(tmp_path, REPO, token=OWNER_TOKEN)
    assert hub.requests == []


def test_a_pulled_prompt_replaces_an_older_one(hub, folder, tmp_path):
    push_prompt(folder, REPO, token=OWNER_TOKEN)
    older = PromptTuning(length=1, init="random").build(tiny.causal()).save(tmp_path / "pulled")
    assert contents(pull_prompt(REPO, older)) == contents(folder)


def test_a_card_is_not_needed(hub, folder, tmp_path):
    files = contents(folder)
    del files["README.md"]
    hub.repositories[REPO] = Repository(branches={"main": files})
    assert contents(pull_prompt(REPO, tmp_path / "pulled")) == files


class Trap:
    """Leaves a file behind if it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_listed_file_cannot_leave_the_folder(hub, folder, tmp_path):
    """A repository may list any name; only the three of a prompt are ever asked for, and nothing else is written."""
    trap = pickle.dumps(Trap(tmp_path / "opened"))
    names = [f"{UP}/{UP}/escaped.json", f"{UP}/prompt.json", f"sub/{UP}/{UP}/prompt.json", f"prompt.json/{UP}/{UP}/x",
             "prompt.bin", "nested/prompt.safetensors", "/prompt.json", "C:\\prompt.json"]  # fmt: skip
    hub.repositories[REPO] = Repository(branches={"main": {**contents(folder), **dict.fromkeys(names, trap)}})
    before = set(tmp_path.iterdir())
    pulled = pull_prompt(REPO, tmp_path / "pulled")
    assert contents(pulled) == contents(folder)
    assert set(tmp_path.iterdir()) - before == {pulled}
    asked = {request.rpartition("/")[2] for request in hub.requests if "/resolve/" in request}
    assert asked == FILES
    assert len([request for request in hub.requests if "/resolve/" in request]) == 2 * len(FILES)


def test_a_damaged_prompt_leaves_nothing_behind(hub, folder, tmp_path):
    files = contents(folder)
    hub.repositories[REPO] = Repository(branches={"main": {**files, "prompt.safetensors": files["prompt.json"]}})
    with pytest.raises(ArtefactError, match="truncated or not a safetensors file"):
        pull_prompt(REPO, tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()


def test_a_repository_of_something_else(hub, tmp_path):
    hub.repositories[REPO] = Repository(branches={"main": {"adapter_config.json": b"{}", "prompt.json": b"{}"}})
    with pytest.raises(ArtefactError, match=r"someone/mine holds no prompt: .* missing prompt.safetensors. A PEFT"):
        pull_prompt(REPO, tmp_path / "pulled")


def test_an_empty_repository(hub, tmp_path):
    hub.repositories[REPO] = Repository()
    with pytest.raises(ArtefactError, match=r"missing prompt.safetensors, prompt.json"):
        pull_prompt(REPO, tmp_path / "pulled")


def test_a_private_repository_needs_a_token(hub, folder, tmp_path):
    push_prompt(folder, REPO, private=True, token=OWNER_TOKEN)
    with pytest.raises(ArtefactError, match=r"Cannot pull from someone/mine: there is no such .* or it is private"):
        pull_prompt(REPO, tmp_path / "pulled")
    assert contents(pull_prompt(REPO, tmp_path / "pulled", token=READER_TOKEN)) == contents(folder)


def test_a_gated_repository_needs_access(hub, folder, tmp_path):
    hub.repositories[REPO] = Repository(gated=True, branches={"main": contents(folder)})
    with pytest.raises(ArtefactError, match="Cannot pull from someone/mine: ask for access on its page"):
        pull_prompt(REPO, tmp_path / "pulled", token=READER_TOKEN)


def test_no_such_repository(hub, tmp_path):
    with pytest.raises(ArtefactError, match="Cannot pull from someone/mine: there is no such repository"):
        pull_prompt(REPO, tmp_path / "pulled")


def test_no_such_revision(hub, folder, tmp_path):
    push_prompt(folder, REPO, token=OWNER_TOKEN)
    with pytest.raises(ArtefactError, match="Cannot pull from someone/mine: it has no revision 'v2'"):
        pull_prompt(REPO, tmp_path / "pulled", revision="v2")


@pytest.mark.parametrize("exists", [True, False])
def test_no_permission_to_push(hub, folder, exists):
    if exists:
        hub.repositories[REPO] = Repository()
    with pytest.raises(ArtefactError, match="Cannot push to someone/mine: the hub answered 403; pass token="):
        push_prompt(folder, REPO, token=READER_TOKEN)


def test_a_broken_hub(hub, tmp_path):
    hub.repositories[REPO], hub.broken = Repository(), True
    with pytest.raises(ArtefactError, match="Cannot pull from someone/mine: the hub answered 500"):
        pull_prompt(REPO, tmp_path / "pulled")


@pytest.mark.parametrize("name", ["a/b/c", f"{UP}/mine", "some one/mine"])
def test_no_name_of_a_repository(hub, folder, tmp_path, name):
    with pytest.raises(ArtefactError, match=r"is no name of a repository .*expected 'user/name'"):
        pull_prompt(name, tmp_path / "pulled")
    with pytest.raises(ArtefactError, match="is no name of a repository"):
        push_prompt(folder, name, token=OWNER_TOKEN)
    assert hub.requests == []


def test_nobody_answers(hub, folder, tmp_path):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(ArtefactError, match=r"Cannot push to someone/mine: the hub cannot be reached \(ConnectError\)"):
        push_prompt(folder, REPO, token=OWNER_TOKEN)
    with pytest.raises(
        ArtefactError, match=r"Cannot pull from someone/mine: the hub cannot be reached \(ConnectError\)"
    ):
        pull_prompt(REPO, tmp_path / "pulled")


def test_offline_mode(folder, tmp_path):
    """Tests run with HF_HUB_OFFLINE=1."""
    with pytest.raises(ArtefactError, match=r"reached \(OfflineModeIsEnabled\); check the .* HF_HUB_OFFLINE"):
        pull_prompt(REPO, tmp_path / "pulled")
    with pytest.raises(ArtefactError, match=r"reached \(OfflineModeIsEnabled\)"):
        push_prompt(folder, REPO, token=OWNER_TOKEN)
