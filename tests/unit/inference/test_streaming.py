"""Text that grows token by token."""

from __future__ import annotations

import pytest

from softprompt.backbones import Backbone
from softprompt.inference.streaming import GrowingText


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


def test_what_may_become_a_stop_text_waits(tokenizer):
    growing, given = pieces(tokenizer, "it is nothing like that", ("nothing else",))
    assert "".join(given) == "it is nothing like that"
    seen = ""
    for piece in given[:-1]:
        seen += piece
        assert not seen.endswith("nothing")
    assert not growing.stopped
