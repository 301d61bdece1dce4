"""The tokenizer of a bundled backbone: unigram pieces with byte fallback, exact on every text.

Spaces stay spaces: there is no stand-in character that a text could also contain. Every text is given one leading
space, which decoding takes away again, so that a word is the same piece at the start of a target as inside a
sentence; the label words of a task are then pieces that pre-training has seen in place.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from softprompt.errors import ArtefactError, ConfigError
from softprompt.pretraining.objectives import SpecialIds

__all__ = [
    "EOS",
    "PAD",
    "SENTINELS",
    "UNK",
    "load_tokenizer",
    "piece_bytes",
    "save_tokenizer",
    "special_ids",
    "tokenizer_digest",
    "train_tokenizer",
    "transformers_tokenizer",
]

PAD, EOS, UNK = "<pad>", "</s>", "<unk>"
# T5's order: the first sentinel is the vocabulary's last entry.
SENTINELS = tuple(f"<extra_id_{i}>" for i in reversed(range(100)))
_BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
_ASCII = frozenset(map(chr, range(32, 127)))
_CHARACTER_COVERAGE = 0.9995
# Bytes are reached as the fallback of an unknown character, sentinels as added tokens: the split below never leaves a
# spelled-out `<0x41>` whole, and a score far below any learned one would keep another split from using it.
_NEVER_BY_SPELLING = -1000.0
# GPT-2's split into words, numbers, punctuation and white space, a word taking the space before it.
_SPLIT = r"'(?:s|t|re|ve|m|ll|d)| ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"


def train_tokenizer(texts: Sequence[str], *, size: int = 8192) -> Tokenizer:
    """Learn unigram pieces from texts.

    The vocabulary is `<pad> </s> <unk>`, the learned pieces from common to rare, the 256 bytes, and the sentinels
    `<extra_id_99>` to `<extra_id_0>`. Characters beyond the most common 99.95 % are left to the bytes.

    Args:
        texts: Documents.
        size: Entries of the whole vocabulary.

    Returns:
        A tokenizer without post-processing; `transformers_tokenizer` dresses it for an architecture.

    Raises:
        ConfigError: If `size` leaves no room for pieces, or the texts hold too little to learn that many.

    References:
        Kudo 2018, "Subword Regularization", §3.2; Raffel et al. 2020, §2.1 and §3.1.4 (sentinels).
    """
    fixed = 3 + len(_BYTES) + len(SENTINELS)
    wanted = size - fixed
    if wanted < 2 * len(_ASCII):
        raise ConfigError(f"A vocabulary of {size} is too small; give at least {fixed + 2 * len(_ASCII)}.")
    draft = _bare(models.Unigram())
    rare = _rare_characters(texts)
    trainer = trainers.UnigramTrainer(
        vocab_size=wanted + 1, special_tokens=[UNK], unk_token=UNK, initial_alphabet=sorted(_ASCII), show_progress=False
    )
    draft.train_from_iterator((text.translate(rare) for text in texts), trainer)
    learned = {piece: score for piece, score in json.loads(draft.to_str())["model"]["vocab"] if piece != UNK}
    pieces = _with_whole_words(learned, _count_words(draft, texts), wanted)
    if len(pieces) < wanted:
        raise ConfigError(f"The texts yield {len(pieces)} pieces, not {wanted}: give more text or a smaller size.")
    vocab = [(PAD, 0.0), (EOS, 0.0), (UNK, 0.0), *pieces]
    vocab += [(name, _NEVER_BY_SPELLING) for name in (*_BYTES, *SENTINELS)]
    tokenizer = _bare(models.Unigram(vocab, unk_id=2, byte_fallback=True))
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in (PAD, EOS, UNK)])
    # A sentinel takes the spaces around it, as it does where span corruption puts it between two pieces.
    tokenizer.add_special_tokens(
        [AddedToken(name, normalized=False, special=True, lstrip=True, rstrip=True) for name in SENTINELS]
    )
    return tokenizer


def transformers_tokenizer(tokenizer: Tokenizer, *, append_eos: bool, max_length: int) -> PreTrainedTokenizerFast:
    """Dress a trained tokenizer for transformers.

    Args:
        tokenizer: From `train_tokenizer`.
        append_eos: Whether every encoded text ends with `</s>`, as T5 expects; a decoder-only model adds nothing.
        max_length: Positions of the model, in tokens.

    Returns:
        A tokenizer that `AutoTokenizer` loads after `save_pretrained`.
    """
    dressed = Tokenizer.from_str(tokenizer.to_str())
    eos = dressed.token_to_id(EOS)
    template = f"$A {EOS}" if append_eos else "$A"
    pair = f"$A {EOS} $B {EOS}" if append_eos else "$A $B"
    dressed.post_processor = processors.TemplateProcessing(single=template, pair=pair, special_tokens=[(EOS, eos)])
    return PreTrainedTokenizerFast(
        tokenizer_object=dressed,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        extra_special_tokens=list(reversed(SENTINELS)),
        model_max_length=max_length,
        padding_side="right" if append_eos else "left",
        clean_up_tokenization_spaces=False,
    )


def special_ids(tokenizer: Tokenizer) -> SpecialIds:
    """The tokens that objectives insert."""
    vocab = tokenizer.get_vocab()
    return SpecialIds(eos=vocab[EOS], sentinels=tuple(vocab[name] for name in reversed(SENTINELS)))


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """SHA-256 of everything that decides how a text is split, as hexadecimal digits."""
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()


def save_tokenizer(tokenizer: Tokenizer, path: str | Path) -> None:
    """Write a trained tokenizer to one JSON file, which appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    tokenizer.save(str(draft))
    draft.replace(path)


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Read what `save_tokenizer` wrote.

    Raises:
        ArtefactError: If there is no such file, or it is no tokenizer with `</s>` and sentinels.
    """
    if not Path(path).is_file():
        raise ArtefactError(f"No tokenizer file at {path}; train one first or correct the path.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for every kind of bad file
        raise ArtefactError(f"{path} is not a tokenizer file ({error}); train it again.") from None
    if missing := [name for name in (PAD, EOS, UNK, *SENTINELS) if tokenizer.token_to_id(name) is None]:
        raise ArtefactError(f"The tokenizer {path} lacks {missing[0]}; use one that `train_tokenizer` made.")
    return tokenizer


def piece_bytes(tokenizer: Tokenizer | PreTrainedTokenizerBase) -> np.ndarray:
    """UTF-8 bytes that each vocabulary entry stands for: `[vocab]`, int64; 0 for special tokens."""
    special = {PAD, EOS, UNK, *SENTINELS}
    lengths = np.zeros(len(tokenizer.get_vocab()), dtype=np.int64)  # [vocab]
    for piece, index in tokenizer.get_vocab().items():
        lengths[index] = 0 if piece in special else 1 if piece in _BYTES else len(piece.encode())
    return lengths


def _rare_characters(texts: Sequence[str]) -> dict[int, str]:
    """A translation that turns each character outside the most common 99.95 % into a line break."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    allowed = counts.total() * (1 - _CHARACTER_COVERAGE)
    rare, dropped = {}, 0
    for character, count in reversed(counts.most_common()):
        dropped += count
        if dropped > allowed:
            break
        if character not in _ASCII:
            rare[ord(character)] = "\n"
    return rare


def _count_words(tokenizer: Tokenizer, texts: Sequence[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(f" {text}"))
    return counts


def _with_whole_words(learned: Mapping[str, float], words: Counter[str], wanted: int) -> list[tuple[str, float]]:
    """The `wanted` likeliest pieces, common words among them, from common to rare.

    Unigram training drops a word as short as " on" when a space and "on" are likely by themselves. A word that is
    more common than the pieces which it would replace is put back whole, with its own likelihood.
    """
    total = words.total()
    whole = {word: math.log(count / total) for word, count in words.most_common(wanted // 2)}
    scores = {**whole, **learned}
    kept = [piece for piece in scores if piece in _ASCII]
    others = sorted((piece for piece in scores if piece not in _ASCII), key=lambda piece: -scores[piece])
    # Rounded, so that scores survive the file format and a loaded tokenizer has the digest of the saved one.
    chosen = [(piece, round(scores[piece], 6)) for piece in kept + others[: wanted - len(kept)]]
    return sorted(chosen, key=lambda entry: -entry[1])


def _bare(model: models.Model) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_SPLIT), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return tokenizer
