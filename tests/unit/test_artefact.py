"""Folders appear at once or not at all, and what is damaged is told."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softprompt import artefact
from softprompt.artefact import read_folder, read_metadata, write_folder
from softprompt.errors import ArtefactError

OLD, NEW = {"a": torch.ones(2)}, {"a": torch.zeros(2)}


def stored(path: Path) -> list[float]:
    return read_folder(path, "thing")[0]["a"].tolist()


def leftovers(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir() if file.name.startswith("."))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_what_is_written_is_read(tmp_path, dtype):
    tensor = torch.arange(6).view(2, 3).to(dtype)
    metadata = {"text": "ä", "number": 0.1, "nested": {"list": [1, None]}}
    folder = write_folder(tmp_path / "deep" / "t", "thing", {"a": tensor, "b": tensor.T}, metadata, {"README.md": "hi"})
    tensors, found = read_folder(folder, "thing")
    assert found == metadata
    assert tensors["a"].equal(tensor)
    assert tensors["b"].equal(tensor.T)
    assert (folder / "README.md").read_text() == "hi"
    assert folder.stat().st_mode & 0o777 == 0o755
    assert leftovers(tmp_path / "deep") == []


def test_shared_memory_is_stored_apart(tmp_path):
    whole = torch.arange(4.0)
    tensors, _ = read_folder(write_folder(tmp_path / "t", "thing", {"x": whole, "y": whole[1:]}, {}), "thing")
    assert tensors["y"].tolist() == [1, 2, 3]


@given(st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)))
def test_metadata_is_kept_exactly(tmp_path_factory, metadata):
    folder = write_folder(tmp_path_factory.mktemp("x") / "t", "thing", {}, metadata)
    assert read_metadata(folder, "thing") == metadata


class Crash(BaseException):
    """What a kill looks like from inside."""


@pytest.mark.parametrize(("where", "name"), [(artefact, "save_file"), (artefact.json, "dumps"), (os, "fsync")])
@pytest.mark.parametrize("there", [True, False])
def test_a_crash_while_writing_leaves_what_was_there(tmp_path, monkeypatch, where, name, there):
    if there:
        write_folder(tmp_path / "t", "thing", OLD, {})

    def crash(*_, **__):
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(where, name, crash)
        with pytest.raises(Crash):
            write_folder(tmp_path / "t", "thing", NEW, {})
    assert leftovers(tmp_path) == []
    assert (stored(tmp_path / "t") == [1, 1]) if there else not (tmp_path / "t").exists()


@pytest.mark.parametrize("fails_at", [0, 1])
def test_a_crash_while_replacing_leaves_the_old_one(tmp_path, monkeypatch, fails_at):
    write_folder(tmp_path / "t", "thing", OLD, {})
    calls, rename = [], os.rename

    def crash_once(*names):
        calls.append(names)
        if len(calls) - 1 == fails_at:
            raise Crash
        rename(*names)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", crash_once)
        with pytest.raises(Crash):
            write_folder(tmp_path / "t", "thing", NEW, {})
    assert stored(tmp_path / "t") == [1, 1]


def test_a_folder_is_replaced(tmp_path):
    write_folder(tmp_path / "t", "thing", OLD, {}, {"extra.txt": "old"})
    write_folder(tmp_path / "t", "thing", NEW, {}, {"extra.txt": "new"})
    assert stored(tmp_path / "t") == [0, 0]
    assert (tmp_path / "t" / "extra.txt").read_text() == "new"
    assert leftovers(tmp_path) == []


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "t").mkdir()
    assert stored(write_folder(tmp_path / "t", "thing", NEW, {})) == [0, 0]


@pytest.mark.parametrize("foreign", ["a file", "a folder"])
def test_what_is_not_ours_is_left_alone(tmp_path, foreign):
    path = tmp_path / "t"
    file = path if foreign == "a file" else path / "important.txt"
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    with pytest.raises(ArtefactError, match="exists and is not a thing folder; choose another path or remove it"):
        write_folder(path, "thing", NEW, {})
    assert file.read_text() == "mine"


def test_what_else_a_folder_holds_is_not_lost(tmp_path):
    """A clone of a repository on the hub is a folder like this: saving into it removed its `.git` and its notes."""
    path = write_folder(tmp_path / "t", "thing", OLD, {})
    (path / ".git").mkdir()
    (path / "notes.txt").write_text("mine")
    with pytest.raises(ArtefactError, match=r"t holds \.git, notes\.txt, which would be lost; choose another path"):
        write_folder(path, "thing", NEW, {})
    assert stored(path) == [1, 1]
    assert (path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_metadata_must_be_finite(tmp_path, value):
    with pytest.raises(ArtefactError, match=r"t/thing\.json cannot hold what .* not JSON compliant.*give finite plain"):
        write_folder(tmp_path / "t", "thing", NEW, {"score": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("files", [{}, {"README.md": "\udfff"}])
def test_text_must_be_of_whole_characters(tmp_path, files):
    """Half a character ended in an error that nobody expects, of the encoding."""
    with pytest.raises(ArtefactError, match=r"t/thing\.json cannot hold what .* and whole characters"):
        write_folder(tmp_path / "t", "thing", {}, {"task": "a" if files else "\ud800"}, files)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    """Who lists many folders catches what is wrong with one, and got an error of the system's."""
    write_folder(tmp_path / "t", "thing", {}, {})

    def refused(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(ArtefactError, match=r"thing\.json cannot be read \(Permission denied\); see to who may read"):
        read_metadata(tmp_path / "t", "thing")


def damage(path: Path, what: str) -> None:
    tensors, metadata = path / "thing.safetensors", path / "thing.json"
    if what == "no tensors":
        tensors.unlink()
    elif what == "truncated tensors":
        tensors.write_bytes(tensors.read_bytes()[:-3])
    elif what == "empty tensors":
        tensors.write_bytes(b"")
    elif what == "a pickle":
        tensors.write_bytes(pickle.dumps({"a": 1}))
    elif what == "no metadata":
        metadata.unlink()
    elif what == "truncated metadata":
        metadata.write_text(metadata.read_text()[:-3])
    elif what == "binary metadata":
        metadata.write_bytes(b"\xff\xfe")
    elif what == "a list":
        metadata.write_text(json.dumps([1]))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no tensors", r"has no thing\.safetensors: the folder is incomplete; copy it again"),
        ("truncated tensors", r"thing\.safetensors is truncated or not a safetensors file .*; copy it again"),
        ("empty tensors", r"thing\.safetensors is truncated or not a safetensors file"),
        ("a pickle", r"thing\.safetensors is truncated or not a safetensors file"),
        ("no metadata", r"is not a thing folder: it has no thing\.json"),
        ("truncated metadata", r"thing\.json is not valid JSON .*; copy the folder again"),
        ("binary metadata", r"thing\.json is not valid JSON"),
        ("a list", r"thing\.json should hold a mapping, but holds list"),
    ],
)
def test_damage_is_named(tmp_path, what, message):
    path = write_folder(tmp_path / "t", "thing", NEW, {"k": 1})
    damage(path, what)
    with pytest.raises(ArtefactError, match=message):
        read_folder(path, "thing")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_must_be_finite(tmp_path, value, dtype):
    path = write_folder(tmp_path / "t", "thing", {"a": torch.tensor([1.0, value]).to(dtype)}, {})
    with pytest.raises(ArtefactError, match=r"thing\.safetensors holds NaN or infinite values in 'a'"):
        read_folder(path, "thing")


@pytest.mark.parametrize("path", ["none", "file"])
def test_a_missing_folder_is_named(tmp_path, path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtefactError, match=f"{path} is not a thing folder"):
        read_folder(tmp_path / path, "thing")
