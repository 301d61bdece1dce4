"""The tokenizer gives every text back, and learns whole words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer, T5Config

from softprompt.errors import ArtefactError, ConfigError
from softprompt.pretraining.tokenizer import (
    EOS,
    PAD,
    SENTINELS,
    UNK,
    load_tokenizer,
    piece_bytes,
    save_tokenizer,
    special_ids,
    tokenizer_digest,
    train_tokenizer,
    transformers_tokenizer,
)

from .conftest import VOCABULARY

SPECIAL = (PAD, EOS, UNK, *SENTINELS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text() | st.text("a b\n\t.<0x4>▁é日"))
def test_every_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    """But for one that spells a special token, which is that token, as in every tokenizer with such tokens."""
    assume(not any(token in text for token in SPECIAL))
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.token_to_id(UNK) not in ids


@pytest.mark.parametrize(
    "text",
    ["", " ", "  two  spaces ", "\n\nlines\r\n", "▁ is no space", "<0xE2> is no byte", "日本語 🙂 é", "\x00\ufeff"],
)
def test_awkward_texts_come_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_vocabulary_is_laid_out_as_promised(tokenizer: Tokenizer) -> None:
    names = [tokenizer.id_to_token(index) for index in range(VOCABULARY)]
    assert tokenizer.get_vocab_size() == VOCABULARY == len(set(names))
    assert names[:3] == [PAD, EOS, UNK]
    assert names[-356:-100] == [f"<0x{value:02X}>" for value in range(256)]
    assert names[-1] == "<extra_id_0>"
    assert names[-100] == "<extra_id_99>"


def test_common_words_are_whole_wherever_they_stand() -> None:
    """Unigram training alone split " on" into a space and "on": one word in five, in the text that showed it."""
    texts = ["he sat on a chair and on a mat, on and off"] * 40 + [f"w{i}x{i * 7} on it" for i in range(400)]
    tokenizer = train_tokenizer(texts, size=600)
    assert tokenizer.encode("on and on").tokens == [" on", " and", " on"]


def test_frequent_pieces_come_first(tokenizer: Tokenizer, documents: list[str]) -> None:
    encoded = [index for text in documents for index in tokenizer.encode(text).ids]
    assert sum(index < 103 for index in encoded) > sum(103 <= index < 203 for index in encoded)


def test_a_sentinel_takes_the_spaces_around_it(tokenizer: Tokenizer, documents: list[str]) -> None:
    first, second = documents[0].split()[:2]
    tokens = tokenizer.encode(f"{first} <extra_id_0> {second}").tokens
    plain = tokenizer.encode(first).tokens, tokenizer.encode(second).tokens
    assert [token.strip() if "extra" in token else token for token in tokens] == [*plain[0], "<extra_id_0>", *plain[1]]


def test_special_ids(tokenizer: Tokenizer) -> None:
    special = special_ids(tokenizer)
    assert special.eos == 1
    assert special.sentinels == tuple(range(VOCABULARY - 1, VOCABULARY - 101, -1))


def test_pieces_know_their_bytes(tokenizer: Tokenizer) -> None:
    text = "Ba 日本 🙂."
    lengths = piece_bytes(tokenizer)
    assert lengths[tokenizer.encode(text).ids].sum() == len(text.encode()) + 1  # the space put before it
    assert lengths[[tokenizer.token_to_id(name) for name in SPECIAL]].sum() == 0


@pytest.mark.parametrize("append_eos", [True, False])
def test_it_loads_with_auto_tokenizer(tmp_path: Path, tokenizer: Tokenizer, append_eos: bool) -> None:
    """Also beside a T5 configuration, from which AutoTokenizer would otherwise take T5's own normalisation."""
    transformers_tokenizer(tokenizer, append_eos=append_eos, max_length=64).save_pretrained(tmp_path)
    T5Config().save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = " Two  spaces,\n日本 ▁ "
    ids = loaded(text)["input_ids"]
    assert ids == tokenizer.encode(text).ids + [1] * append_eos
    assert loaded.decode(ids, skip_special_tokens=True) == text
    assert (loaded.pad_token_id, loaded.eos_token_id, loaded.unk_token_id) == (0, 1, 2)
    assert loaded.model_max_length == 64
    assert len(loaded) == VOCABULARY
    assert loaded.decode(loaded("a<extra_id_3>b")["input_ids"], skip_special_tokens=True) == "a b"


def test_saved_and_loaded_it_is_the_same(tmp_path: Path, tokenizer: Tokenizer) -> None:
    save_tokenizer(tokenizer, tmp_path / "deep" / "tokenizer.json")
    assert tokenizer_digest(load_tokenizer(tmp_path / "deep" / "tokenizer.json")) == tokenizer_digest(tokenizer)


def test_the_digest_changes_with_the_pieces(tokenizer: Tokenizer, documents: list[str]) -> None:
    assert tokenizer_digest(train_tokenizer(documents, size=VOCABULARY - 1)) != tokenizer_digest(tokenizer)


def test_bad_sizes_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="A vocabulary of 400 is too small; give at least 549"):
        train_tokenizer(["text"], size=400)
    with pytest.raises(ConfigError, match=r"The texts yield \d+ pieces, not 7833: give more text or a smaller size"):
        train_tokenizer(["a few words of text"] * 10)
    with pytest.raises(ArtefactError, match="No tokenizer file at"):
        load_tokenizer(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ArtefactError, match="is not a tokenizer file"):
        load_tokenizer(tmp_path / "bad.json")


def test_a_foreign_tokenizer_is_refused(tmp_path: Path) -> None:
    from tokenizers import models

    Tokenizer(models.Unigram([("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)], unk_id=2)).save(str(tmp_path / "t.json"))
    with pytest.raises(ArtefactError, match="lacks <extra_id_99>; use one that `train_tokenizer` made"):
        load_tokenizer(tmp_path / "t.json")
