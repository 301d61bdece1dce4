"""A small grid over tiny backbones in folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.training.sessions import calm_backbone, sentiment

from softprompt.studies import Grid


def stored_backbone(folder: Path, kind: str = "decoder-only") -> str:
    """A tiny model with its tokenizer in a folder."""
    calm = calm_backbone(kind)
    calm.model.save_pretrained(folder)
    calm.need_tokenizer().save_pretrained(folder)
    return str(folder)


def stored_task(folder: Path) -> dict[str, Any]:
    """Files of a task, as a grid names them."""
    task = sentiment(rows=40)
    folder.mkdir(parents=True, exist_ok=True)
    for split in task.splits:
        lines = [json.dumps(dict(example.columns)) for example in task.examples(split)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {
        "train": "{data}/train.jsonl",
        "validation": "{data}/validation.jsonl",
        "input": "review : {text}",
        "target": "{label}",
        "label_words": {"0": "bad", "1": "good"},
        "validation_rows": 8,
    }


def small_grid(folder: Path, **changes: Any) -> Grid:
    """Two methods, three rates in all, two seeds: six runs of a few steps."""
    settings: dict[str, Any] = {
        "name": "small",
        "backbones": [stored_backbone(folder / "tiny")],
        "tasks": {"reviews": stored_task(folder / "data")},
        "methods": {
            "prompt tuning": {"method": "prompt_tuning", "length": 3, "init": "vocab", "learning_rate": [0.1, 0.3]},
            "model tuning": {"method": "model_tuning", "learning_rate": 0.01},
        },
        "seeds": [0, 1],
        "run": {"optimizer": "adamw", "batch_size": 4, "steps": 4},
        "session": {"progress": False},
        "runs_per_session": 3,
    }
    return Grid(**{**settings, **changes}).with_data(folder / "data")
