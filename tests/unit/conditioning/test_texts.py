"""From texts to token ids."""

from __future__ import annotations

import copy

import pytest
from tests.families import zoo

from softprompt.backbones import Backbone
from softprompt.conditioning.texts import encode_input, encode_target, render_input
from softprompt.errors import ConfigError, DataError, LengthError
from softprompt.tasks import PROMPT_MARK, TextFormat

DECODER, TRANSLATOR, CLASSIFIER = (zoo.backbone(name) for name in ("gpt2", "t5", "bert"))
CHAT = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"


def words(backbone: Backbone, ids: list[int]) -> str:
    return backbone.need_tokenizer().decode(ids)


@pytest.mark.parametrize(
    ("backbone", "lead", "tail"),
    [(DECODER, [], []), (TRANSLATOR, [], [zoo.END]), (CLASSIFIER, [zoo.START], [zoo.END])],
)
def test_an_input_gets_what_the_tokenizer_adds(backbone, lead, tail):
    body = backbone.tokenize("the best film")
    got = encode_input(backbone, "the best film")
    assert (got.ids, got.mark) == ([*lead, *body, *tail], -1)


def test_a_decoders_input_stays_open():
    assert encode_input(DECODER, "the best film  ").ids == DECODER.tokenize("the best film")
    assert encode_input(DECODER, "the best film  ", chat=True).ids == DECODER.tokenize("the best film  ")


@pytest.mark.parametrize(("backbone", "lead"), [(DECODER, 0), (TRANSLATOR, 0), (CLASSIFIER, 1)])
def test_a_mark_is_a_place_between_tokens(backbone, lead):
    got = encode_input(backbone, f"the best{PROMPT_MARK} film")
    head = backbone.tokenize("the best")
    assert got.mark == lead + len(head)
    assert got.ids[lead : lead + len(head)] == head
    assert got.ids == encode_input(backbone, "the best film").ids


@pytest.mark.parametrize("backbone", [DECODER, TRANSLATOR, CLASSIFIER])
def test_too_long_an_input_is_an_error_or_cut(backbone):
    whole = encode_input(backbone, "the best film of the year").ids
    assert encode_input(backbone, "the best film of the year", max_tokens=len(whole)).ids == whole
    with pytest.raises(LengthError, match=rf"An input has {len(whole)} tokens, but only {len(whole) - 1} fit beside"):
        encode_input(backbone, "the best film of the year", max_tokens=len(whole) - 1)
    cut = encode_input(backbone, "the best film of the year", max_tokens=len(whole) - 1, truncate=True).ids
    ends = len(backbone.special_ends[1]) if backbone is not DECODER else 0
    assert len(cut) == len(whole) - 1
    assert cut[: len(cut) - ends] == whole[: len(cut) - ends]
    assert cut[len(cut) - ends :] == whole[len(whole) - ends :]


def test_a_mark_that_is_cut_off_stands_at_the_end():
    got = encode_input(DECODER, f"the best film of{PROMPT_MARK} the year", max_tokens=3, truncate=True)
    assert (len(got.ids), got.mark) == (3, 3)


def test_an_input_is_not_cut_to_nothing():
    with pytest.raises(LengthError, match="but only 1 fit beside the prompt"):
        encode_input(TRANSLATOR, "the best film", max_tokens=1, truncate=True)


@pytest.mark.parametrize("end", [True, False])
def test_targets_continue_inputs(end):
    tail = [zoo.END] if end else []
    assert encode_target(TRANSLATOR, "any", "good film", end=end) == [*TRANSLATOR.tokenize("good film"), *tail]
    blank = encode_target(DECODER, "any", "good film", end=end)
    assert blank == [*DECODER.tokenize(" good film"), *tail]
    for text, chat in (("any\n", False), ("any", True)):
        got = encode_target(DECODER, text, "good film", chat=chat, end=end)
        assert got == [*DECODER.tokenize("good film"), *tail] != blank


def test_input_and_target_are_the_tokens_of_the_whole():
    """What a decoder-only model was trained to read: the same pieces as in running text."""
    ids = [*encode_input(DECODER, "the film is ").ids, *encode_target(DECODER, "the film is", "good", end=False)]
    assert ids == DECODER.tokenize("the film is good")
    assert words(DECODER, ids) == "the film is good"


def test_rendering():
    form = TextFormat(input="film: {text}", target="{label}")
    assert render_input(DECODER, None, "as it is") == "as it is"
    assert render_input(DECODER, form, "dull") == render_input(DECODER, form, {"text": "dull"}) == "film: dull"
    with pytest.raises(DataError, match="Without a stored template an input is a text, but got dict"):
        render_input(DECODER, None, {"text": "dull"})


def test_a_chat_template_goes_around():
    form = TextFormat(input="film: {text}", target="{label}", chat=True)
    with pytest.raises(ConfigError, match="asks for a chat template, but tiny gpt2 has none; set chat=False"):
        render_input(DECODER, form, "dull")
    tokenizer = copy.deepcopy(zoo.tokenizer("decoder-only"))
    tokenizer.chat_template = CHAT
    chatting = Backbone.from_model(copy.deepcopy(zoo.stock("gpt2")), tokenizer)
    assert render_input(chatting, form, "dull") == "<s>film: dull</s><s>"
