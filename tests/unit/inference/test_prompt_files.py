"""What a kill leaves between the two renames of a replacement, and what files tell of a change."""

from __future__ import annotations

import os
import shutil
import threading
import time

import pytest

from softprompt.errors import ArtefactError, UnknownPromptError
from softprompt.inference import prompt_files
from softprompt.inference.prompt_files import PromptFiles


@pytest.fixture
def files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for end in ("json", "safetensors"):
            (tmp_path / name / f"prompt.{end}").write_text(name)
    return PromptFiles(tmp_path, 100)


def killed(files, name, age_s=0.0):
    """Leave a prompt as a kill between the two renames of its replacement does."""
    left = files.path / f".{name}.old.x"
    left.mkdir()
    (files.path / name).rename(left / name)
    when_s = time.time() - age_s
    os.utime(left, (when_s, when_s))


def hidden(files):
    return [one.name for one in files.path.iterdir() if one.name.startswith(".")]


@pytest.mark.parametrize("age_s", [0.8, 3.0])
def test_what_a_kill_left_is_put_back_when_it_is_asked_for(files, age_s):
    """It was at the next start alone, and not if that came within a second."""
    killed(files, "a", age_s)
    assert files.need("a") == "prompt"
    assert (files.path / "a" / "prompt.json").read_text() == "a"
    assert hidden(files) == []


def test_what_a_kill_left_is_put_back_when_all_are_listed(files):
    killed(files, "a", 3.0)
    killed(files, "b")  # somebody may still be at it
    assert files.names() == ["a"]
    assert hidden(files) == [".b.old.x"]


def test_several_who_put_it_back_do_not_disturb_each_other(files):
    killed(files, "a", 0.95)
    found = []
    threads = [threading.Thread(target=lambda: found.append(files.need("a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["prompt"] * 8


def test_what_was_removed_does_not_come_back(files):
    """A kill's remains beside a prompt that had come back in another way would have become it after its removal."""
    shutil.copytree(files.path / "a", files.path / ".a.old.x" / "a")
    os.utime(files.path / ".a.old.x", (1, 1))
    shutil.rmtree(files.hide("a"))
    with pytest.raises(UnknownPromptError):
        files.need("a")
    assert files.names() == ["b"]


@pytest.mark.parametrize("age_s", [3.0, -3600.0])
def test_remains_of_nothing_are_not_waited_for_for_ever(files, monkeypatch, age_s):
    """-3600: a clock that was set back."""
    monkeypatch.setattr(prompt_files, "_BETWEEN_S", 0.1)
    killed(files, "a", age_s)
    if age_s > 0:
        shutil.rmtree(files.path / ".a.old.x" / "a")
    start = time.monotonic()
    with pytest.raises(UnknownPromptError):
        files.need("a")
    assert time.monotonic() - start < 2


def test_a_stamp_is_of_both_files(files):
    before = files.stamp_now("a")
    assert before == files.stamp_now("a")
    os.utime(files.path / "a" / "prompt.safetensors", (1, 1))
    assert files.stamp_now("a") != before
    (files.path / "a" / "prompt.json").unlink()
    assert files.stamp_now("a") is None


def test_files_that_may_not_be_read_are_told(files, monkeypatch):
    """Who asked was told of a failure of the server's."""

    def refused(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.open", refused)
    with pytest.raises(
        ArtefactError, match=r"The files of the prompt 'a' cannot be read \(Permission denied\); see to"
    ):
        files.read("a")
    assert files.version_now("a") is None
