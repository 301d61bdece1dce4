"""A small invented language: text enough to learn a tokenizer from, the same at every run."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from softprompt.pretraining.tokenizer import save_tokenizer, train_tokenizer

VOCABULARY = 700


def _documents(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    syllables = [a + b for a in "bcdfglmnprstv" for b in ("a", "e", "i", "o", "u", "an", "er", "is")]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(400)]
    return [
        ". ".join(" ".join(rng.choices(words, k=8)).capitalize() for _ in range(rng.randint(2, 6))) + "."
        for _ in range(count)
    ]


@pytest.fixture(scope="session")
def documents() -> list[str]:
    return _documents(300, seed=1)


@pytest.fixture(scope="session")
def tokenizer(documents: list[str]) -> Tokenizer:
    return train_tokenizer(documents, size=VOCABULARY)


@pytest.fixture(scope="session")
def corpus_dir(tmp_path_factory: pytest.TempPathFactory, documents: list[str], tokenizer: Tokenizer) -> Path:
    """A folder with `train.jsonl`, `held_out.jsonl` and `tokenizer.json`."""
    directory = tmp_path_factory.mktemp("corpus")
    for name, part in (("train", documents[:250]), ("held_out", documents[250:])):
        lines = [json.dumps({"text": text}) for text in part]
        (directory / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    save_tokenizer(tokenizer, directory / "tokenizer.json")
    return directory
