"""Fixtures in the formats of SuperGLUE and GLUE, and what tests of their tasks share."""

from __future__ import annotations

from pathlib import Path

from softprompt.tasks import load_task

FIXTURES = Path(__file__).parents[2] / "fixtures" / "tasks"
SUPERGLUE = {
    "boolq": "BoolQ",
    "cb": "CB",
    "copa": "COPA",
    "multirc": "MultiRC",
    "record": "ReCoRD",
    "rte": "RTE",
    "wic": "WiC",
    "wsc": "WSC",
}
GLUE = {"mrpc": "MRPC", "qqp": "QQP"}


def folder_of(name: str) -> Path:
    return FIXTURES / ("superglue" if name in SUPERGLUE else "glue")


def texts(name: str, split: str = "train", folder: Path | None = None) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.input, one.targets) for one in load_task(name, folder or folder_of(name)).examples(split)]
