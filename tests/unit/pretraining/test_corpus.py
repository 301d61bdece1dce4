"""Text files become packed tokens, once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from softprompt.errors import ArtefactError, DataError
from softprompt.pretraining import corpus as corpus_module
from softprompt.pretraining.corpus import prepare_corpus
from softprompt.pretraining.tokenizer import train_tokenizer


def lines(*texts: str) -> str:
    return "\n".join(json.dumps({"id": index, "text": text}) for index, text in enumerate(texts)) + "\n"


@pytest.fixture
def files(tmp_path: Path, documents: list[str]) -> tuple[Path, Path]:
    train, held_out = tmp_path / "train.jsonl", tmp_path / "held.jsonl"
    train.write_text(lines(*documents[:50]), encoding="utf-8")
    held_out.write_text(lines(*documents[50:55]), encoding="utf-8")
    return train, held_out


def unpack(tokens: np.ndarray, tokenizer: Tokenizer) -> list[str]:
    ends = np.flatnonzero(tokens == 1)
    return [tokenizer.decode(part[part != 1].tolist()) for part in np.split(tokens, ends + 1)[:-1]]


def test_tokens_are_the_documents(
    tmp_path: Path, files: tuple[Path, Path], tokenizer: Tokenizer, documents: list[str]
) -> None:
    corpus = prepare_corpus([files[0]], [files[1]], tokenizer, cache_dir=tmp_path / "cache")
    assert unpack(corpus.train.tokens, tokenizer) == documents[:50]
    assert unpack(corpus.held_out.tokens, tokenizer) == documents[50:55]
    assert corpus.train.tokens.dtype == np.uint16
    assert (corpus.train.documents, corpus.held_out.documents) == (50, 5)
    assert [(source["file"], source["use"]) for source in corpus.sources] == [
        ("train.jsonl", "train"),
        ("held.jsonl", "held out"),
    ]


def test_windows_tile_the_tokens(tmp_path: Path, files: tuple[Path, Path], tokenizer: Tokenizer) -> None:
    packed = prepare_corpus([files[0]], [files[1]], tokenizer, cache_dir=tmp_path / "cache").train
    count = packed.windows(7)
    assert count == len(packed.tokens) // 7
    windows = packed.window(np.arange(count), 7)
    assert windows.dtype == np.int64
    assert windows.ravel().tolist() == packed.tokens[: count * 7].tolist()
    assert packed.window(np.array([2, 0]), 7).tolist() == windows[[2, 0]].tolist()


def test_without_held_out_files_every_nth_document_is_held_out(
    tmp_path: Path,
    files: tuple[Path, Path],
    tokenizer: Tokenizer,
    documents: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(corpus_module, "_HELD_OUT_EVERY", 10)
    corpus = prepare_corpus(list(files), [], tokenizer, cache_dir=tmp_path / "cache")
    assert unpack(corpus.held_out.tokens, tokenizer) == documents[:55][::10]
    assert unpack(corpus.train.tokens, tokenizer) == [text for i, text in enumerate(documents[:55]) if i % 10]


def test_the_same_content_is_tokenised_once(
    tmp_path: Path,
    files: tuple[Path, Path],
    tokenizer: Tokenizer,
    documents: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = tmp_path / "cache"
    first = prepare_corpus([files[0]], [files[1]], tokenizer, cache_dir=cache)
    made = set(cache.iterdir())
    elsewhere = files[0].rename(tmp_path / "renamed.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(corpus_module, "read_documents", lambda path: pytest.fail("tokenised again"))
        second = prepare_corpus([elsewhere], [files[1]], tokenizer, cache_dir=cache)
    assert second.train.tokens.tolist() == first.train.tokens.tolist()
    elsewhere.write_text(lines(*documents[:49]), encoding="utf-8")
    assert prepare_corpus([elsewhere], [files[1]], tokenizer, cache_dir=cache).train.documents == 49
    prepare_corpus([elsewhere], [files[1]], train_tokenizer(documents, size=690), cache_dir=cache)
    assert len(set(cache.iterdir()) - made) == 3  # the changed file, and both files with the other tokenizer


def test_an_interrupted_tokenisation_leaves_no_cache(
    tmp_path: Path, files: tuple[Path, Path], tokenizer: Tokenizer, documents: list[str]
) -> None:
    whole = files[0].read_text()
    files[0].write_text(whole + "{\n")
    with pytest.raises(DataError, match="row 51"):
        prepare_corpus([files[0]], [files[1]], tokenizer, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_damaged_cache_is_named(tmp_path: Path, files: tuple[Path, Path], tokenizer: Tokenizer) -> None:
    corpus = prepare_corpus([files[0]], [files[1]], tokenizer, cache_dir=tmp_path / "cache")
    del corpus
    for file in (tmp_path / "cache").rglob("tokens.bin"):
        file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(ArtefactError, match=r"tokens\.bin is truncated; remove the folder and it is made again"):
        prepare_corpus([files[0]], [files[1]], tokenizer, cache_dir=tmp_path / "cache")


def test_missing_and_empty_files_are_refused(tmp_path: Path, files: tuple[Path, Path], tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"No text file at .*none\.txt; correct the path"):
        prepare_corpus([tmp_path / "none.txt"], [files[1]], tokenizer, cache_dir=tmp_path / "cache")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match=r"empty\.txt: no documents to train on or to hold out; give more text"):
        prepare_corpus([tmp_path / "empty.txt"], [files[1]], tokenizer, cache_dir=tmp_path / "cache")
