"""Text that grows token by token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from softprompt.backbones import Backbone
from softprompt.inference.streaming import GrowingText, overlap


@pytest.fixture(scope="module")
def tokenizer():
    return Backbone.from_pretrained("bundled:gpt-mini").need_tokenizer()


def pieces(tokenizer, text, stop=()):
    growing = GrowingText(tokenizer, stop)
    given = [growing.add(token) for token in tokenizer(text, add_special_tokens=False).input_ids]
    return growing, [*given, growing.finish()]


@pytest.mark.parametrize("text", ["The film is a delight.", "naïve café 東京 🙂 end", "🙂🙂", "a  b\n\nc", ""])
def test_the_pieces_are_the_text_and_no_character_is_cut(tokenizer, text):
    growing, given = pieces(tokenizer, text)
    whole = tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids).removeprefix(" ")
    assert "".join(given) == growing.text == whole
    assert "\ufffd" not in "".join(given[:-1])
    if "🙂" in text:
        assert len(tokenizer(text).input_ids) > len(text)  # bytes, of which none is shown alone


@pytest.mark.parametrize(
    ("text", "stop", "want"),
    [
        ("one two three four", ("three",), "one two "),
        ("one two three four", ("four", "two"), "one "),
        ("one two\nQuestion: what", ("\nQuestion",), "one two"),
        ("one two three", ("nothing",), "one two three"),
        ("aaab", ("aab",), "a"),
    ],
)
def test_a_text_ends_before_a_stop_text_of_which_nothing_is_shown(tokenizer, text, stop, want):
    growing, given = pieces(tokenizer, text, stop)
    assert "".join(given) == growing.text == want
    assert growing.stopped == (want != text)


@pytest.mark.parametrize("stop", [("hree f", "two th"), ("two th", "hree f")])
def test_of_stop_texts_that_overlap_the_first_in_the_text_counts(tokenizer, stop, monkeypatch):
    """It was the first in the request, where both came with one token."""
    monkeypatch.setattr(type(tokenizer), "decode", lambda self, ids, **options: "one two three four")
    growing = GrowingText(tokenizer, stop)
    assert growing.add(0) == growing.text == "one "


def test_what_may_become_a_stop_text_waits(tokenizer):
    growing, given = pieces(tokenizer, "it is nothing like that", ("nothing else",))
    assert "".join(given) == "it is nothing like that"
    seen = ""
    for piece in given[:-1]:
        seen += piece
        assert not seen.endswith("nothing")
    assert not growing.stopped


def test_a_stop_text_of_several_bytes_a_character_is_held_back_whole():
    """A stop text that begins before an unfinished character was given out, and then not in the text."""
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    letters = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    letters.pre_tokenizer, letters.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    growing, given = pieces(PreTrainedTokenizerFast(tokenizer_object=letters), "Hi\n用户: x", ("\n用户:",))
    assert "".join(given) == growing.text == "Hi"


@pytest.mark.parametrize("text", ["🙂🙂", "a🙂é", "用户用户用户"])
def test_what_was_given_stays_when_a_character_is_cut(tokenizer, text):
    """Bytes without an end made a tokenizer take characters back that had been given."""
    ids = tokenizer(text, add_special_tokens=False).input_ids
    for cut in range(1, len(ids)):
        growing = GrowingText(tokenizer)
        given = [growing.add(token) for token in ids[:cut]]
        assert "".join([*given, growing.finish()]) == growing.text


def test_a_long_text_is_not_decoded_from_its_start_each_time(tokenizer, monkeypatch):
    text = " ".join(["The palace is a very good place, said the naïve child, 🙂 and left."] * 20)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    lengths = []
    decode = tokenizer.decode
    monkeypatch.setattr(
        type(tokenizer), "decode", lambda self, ids, **options: (lengths.append(len(ids)), decode(ids, **options))[1]
    )
    growing = GrowingText(tokenizer)
    given = "".join([growing.add(token) for token in ids])
    assert max(lengths) < 60 < len(ids)
    assert given + growing.finish() == growing.text == decode(ids).removeprefix(" ")


@given(text=st.text("ab", max_size=12), stop=st.text("ab", min_size=1, max_size=8))
def test_what_may_begin_a_stop_text_is_held_back(text, stop):
    """No more than may, and no less."""
    sizes = [size for size in range(min(len(text), len(stop) - 1) + 1) if text.endswith(stop[:size])]
    assert overlap(text, stop) == max(sizes)
