"""A tiny backbone and a small task on disk, and the command line called in this process."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.films import TEMPLATES
from tests.models import tiny_backbone

from softprompt.cli import main


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny decoder-only model with its tokenizer."""
    folder = tmp_path_factory.mktemp("backbones") / "tiny"
    tiny = tiny_backbone("decoder-only")
    tiny.model.save_pretrained(folder)
    tiny.need_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Train and validation files of film reviews."""
    return write_films(tmp_path)


def write_films(folder: Path) -> dict[str, str]:
    """Reviews of films, books and songs, labelled good or bad: the file of each split."""
    draw = random.Random(0)

    def rows(count: int) -> list[dict[str, str]]:
        good, bad = ["good", "great", "funny", "happy"], ["bad", "terrible", "boring", "sad"]
        return [
            {"text": f"the {draw.choice(['film', 'book', 'song'])} was very {draw.choice(words)}", "label": label}
            for _ in range(count // 2)
            for label, words in (("0", bad), ("1", good))
        ]

    paths = {}
    for split, count in (("train", 24), ("validation", 8)):
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows(count)), encoding="utf-8")
        paths[split] = str(path)
    return paths


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Call the command line: exit code, standard output, standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def session(backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a session with one run, trained once for all tests."""
    folder = tmp_path_factory.mktemp("trained")
    files, out, table, err = write_films(folder), folder / "session", io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(table), contextlib.redirect_stderr(err):
        code = main(
            ("train", "--backbone", backbone, "--output_dir", str(out), "--name", "film", *TEMPLATES,
             "--train_file", files["train"], "--validation_file", files["validation"],
             "--length", "4", "--steps", "6", "--batch_size", "4", "--learning_rate", "0.5")
        )  # fmt: skip
    assert code == 0, err.getvalue()
    assert "film" in table.getvalue()
    assert "accuracy" in table.getvalue()
    return out


@pytest.fixture
def trained(session: Path, tmp_path: Path) -> Path:
    """A copy of the session's folder, which a test may change."""
    return shutil.copytree(session, tmp_path / "session")


@pytest.fixture
def as_one_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that launchers set, in the first of two processes; the other never comes."""
    launched = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "none"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
