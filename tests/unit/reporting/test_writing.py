"""A file of a report is the older one until the newer one is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from softprompt.reporting import write_text


def test_a_file_is_written_with_its_folder(tmp_path):
    target = tmp_path / "figures" / "a.svg"
    assert write_text(target, "é → ü\n") == target
    assert target.read_text(encoding="utf-8") == "é → ü\n"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("step", ["write_text", "replace"])
def test_a_file_that_cannot_be_finished_leaves_the_older_one(tmp_path, monkeypatch, step):
    """Whether the disk is full in the middle of the text, or the process stops once all of it is there."""
    target = write_text(tmp_path / "report.md", "the older report")
    whole = Path.write_text

    def stopped(self, given, **options):
        if step == "write_text":
            whole(self, given[:5], **options)
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, step, stopped)
        with pytest.raises(OSError, match="no space left"):
            write_text(target, "the newer report")
    assert target.read_text(encoding="utf-8") == "the older report"
    write_text(target, "the newer report")
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["the newer report"]
