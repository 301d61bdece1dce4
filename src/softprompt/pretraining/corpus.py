"""Text for pre-training: tokenised once, kept as one memory-mapped row of tokens.

Documents are packed: they follow each other, `</s>` after each, and training cuts the row into windows of equal
length, so that no token is padding.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from tokenizers import Tokenizer

from softprompt.errors import ArtefactError, DataError
from softprompt.pretraining.documents import read_documents
from softprompt.pretraining.tokenizer import EOS, tokenizer_digest

__all__ = ["Corpus", "PackedTokens", "file_digest", "prepare_corpus"]

_DOCUMENTS_PER_BATCH = 512
# Without text to hold out, every so many-th training document is held out.
_HELD_OUT_EVERY = 100
# Raised whenever the same files would give other tokens, so that an old cache is not taken for a new one.
_CACHE_VERSION = 2


@final
@dataclass(frozen=True, kw_only=True)
class PackedTokens:
    """Documents as one row of tokens, `</s>` after each."""

    tokens: np.ndarray
    """`[tokens]`, uint16, memory-mapped."""
    documents: int

    def windows(self, length: int) -> int:
        """How many windows of `length` tokens the row holds."""
        return len(self.tokens) // length

    def window(self, indices: np.ndarray, length: int) -> np.ndarray:
        """Windows by number: `[batch]` -> `[batch, length]`, int64."""
        starts = indices[:, None] * length
        return self.tokens[starts + np.arange(length)].astype(np.int64)  # [batch, length]


@final
@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Tokens to train on, and tokens held out to measure on."""

    train: PackedTokens
    held_out: PackedTokens
    sources: tuple[dict[str, str], ...]
    """Of each file: its name, its SHA-256, and whether it was trained on or held out."""


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file, as hexadecimal digits.

    Raises:
        DataError: If there is no such file.
    """
    if not Path(path).is_file():
        raise DataError(f"No text file at {path}; correct the path.")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prepare_corpus(
    train: Sequence[str | Path],
    held_out: Sequence[str | Path],
    tokenizer: Tokenizer,
    *,
    cache_dir: str | Path,
) -> Corpus:
    """Tokenise files, or take the tokens from the cache if the same files were tokenised the same way before.

    Args:
        train: Files to train on.
        held_out: Files to measure on; if there are none, every hundredth training document is held out.
        tokenizer: What splits the text; at most 65,536 entries.
        cache_dir: Where token folders are kept, one per content of the files and tokenizer.

    Raises:
        DataError: If a file cannot be read, or no document is left to train on or to hold out.
    """
    sources = [_source(path, "train") for path in train] + [_source(path, "held out") for path in held_out]
    folder, every = Path(cache_dir), None if held_out else _HELD_OUT_EVERY
    return Corpus(
        train=_packed(folder, train, tokenizer, keep_every=None, drop_every=every),
        held_out=_packed(folder, held_out or train, tokenizer, keep_every=every, drop_every=None),
        sources=tuple(sources),
    )


def _packed(
    cache: Path,
    paths: Sequence[str | Path],
    tokenizer: Tokenizer,
    *,
    keep_every: int | None,
    drop_every: int | None,
) -> PackedTokens:
    """The tokens of some files, from the cache if they are there: of all documents, of each n-th, or of the others."""
    digests = [file_digest(path) for path in paths]
    key = json.dumps([_CACHE_VERSION, tokenizer_digest(tokenizer), digests, keep_every, drop_every])
    folder = cache / f"tokens-{hashlib.sha256(key.encode()).hexdigest()[:20]}"
    if not (folder / "tokens.json").is_file():
        documents = itertools.chain.from_iterable(map(read_documents, paths))
        chosen = (
            text
            for number, text in enumerate(documents)
            if (keep_every is None or number % keep_every == 0) and (drop_every is None or number % drop_every)
        )
        _write_tokens(folder, chosen, tokenizer)
    tokens = _read_tokens(folder)
    if not tokens.documents:
        raise DataError(f"{', '.join(map(str, paths))}: no documents to train on or to hold out; give more text.")
    return tokens


def _source(path: str | Path, use: str) -> dict[str, str]:
    return {"file": Path(path).name, "sha256": file_digest(path), "use": use}


def _write_tokens(folder: Path, documents: Iterator[str], tokenizer: Tokenizer) -> None:
    """Write a token folder beside its place and rename it, so that it is complete or not there."""
    eos = tokenizer.token_to_id(EOS)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    count, tokens = 0, 0
    try:
        with open(draft / "tokens.bin", "wb") as file:
            while batch := list(itertools.islice(documents, _DOCUMENTS_PER_BATCH)):
                for encoding in tokenizer.encode_batch_fast(batch):
                    row = np.array([*encoding.ids, eos], dtype=np.uint16)
                    row.tofile(file)
                    tokens += len(row)
                count += len(batch)
            file.flush()
            os.fsync(file.fileno())
        facts = {"documents": count, "tokens": tokens}
        (draft / "tokens.json").write_text(json.dumps(facts), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(draft, folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _read_tokens(folder: Path) -> PackedTokens:
    facts = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
    file = folder / "tokens.bin"
    if not facts["tokens"]:
        tokens = np.zeros(0, dtype=np.uint16)
    elif file.is_file() and file.stat().st_size == 2 * facts["tokens"]:
        tokens = np.memmap(file, dtype=np.uint16, mode="r")  # [tokens]
    else:
        raise ArtefactError(f"{file} is truncated; remove the folder and it is made again.")
    return PackedTokens(tokens=tokens, documents=facts["documents"])
