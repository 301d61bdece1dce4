"""Generated texts: mixed equals alone, in the order of the questions."""

from __future__ import annotations

import random

import pytest
from tests.models import WORDS, tiny_prompted, word_tokenizer

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.errors import ConfigError
from softprompt.inference import BatchLimits, Query, make_queries, predict_texts

DRAW = random.Random(3)
TEXTS = [" ".join(DRAW.choices(WORDS, k=DRAW.randint(1, 20))) for _ in range(12)]
NAMES = [("rows", None, "keys", "longer")[index % 4] for index in range(12)]
GENERATING = ("encoder-decoder", "decoder-only")


def queries(**settings):
    return [Query(input=text, prompt=name, **settings) for text, name in zip(TEXTS, NAMES, strict=True)]


@pytest.mark.parametrize("kind", GENERATING)
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_mixed_batches_give_what_each_row_gives_alone(kind, options):
    model = tiny_prompted(kind)
    asked = queries(max_new_tokens=6)
    mixed = list(predict_texts(model, asked, limits=BatchLimits(rows=5), **options))
    assert mixed == [next(predict_texts(model, [query], **options)) for query in asked]
    assert len(set(mixed)) > 6


@pytest.mark.parametrize("kind", GENERATING)
def test_buckets_give_what_one_call_of_the_model_gives(kind):
    model = tiny_prompted(kind)
    whole = model.generate(TEXTS, prompts=NAMES, max_new_tokens=6, do_sample=False)
    for limits in (BatchLimits(rows=4), BatchLimits(tokens=70)):
        assert list(predict_texts(model, queries(max_new_tokens=6), limits=limits)) == whole


@pytest.mark.parametrize("kind", GENERATING)
def test_each_query_has_its_own_room(kind):
    """A short answer is not longer because a long one was in the same call."""
    model = tiny_prompted(kind)
    asked = [Query(input=TEXTS[0], prompt="rows", max_new_tokens=room) for room in (2, 7, 2)]
    short, long, again = predict_texts(model, asked)
    assert short == again
    assert len(short.split()) <= 2 < len(long.split())
    assert long.startswith(short)


def test_windows_change_nothing_but_when_texts_come():
    model = tiny_prompted("decoder-only")
    done: list[int] = []
    texts = predict_texts(model, queries(max_new_tokens=4), window=5, progress=done.append)
    first = next(texts)
    assert sum(done) == 5
    assert [first, *texts] == list(predict_texts(model, queries(max_new_tokens=4)))


def test_a_text_ends_where_targets_end():
    """Targets close with the tokenizer's end token. Models whose settings name another one, or none, wrote on behind
    it, and as special tokens are not shown, what followed looked like a part of the answer."""
    model = tiny_prompted("decoder-only")
    settings, end = model.backbone.model.generation_config, model.backbone.end_id
    whole = list(predict_texts(model, queries(max_new_tokens=12)))
    assert any("good" in text.split()[1:-1] for text in whole)
    tokenizer = word_tokenizer("decoder-only", end="good")
    ended = Prompted(Backbone.from_model(model.backbone.model, tokenizer), model.prompts)
    for own in (end, [end], None):
        settings.eos_token_id = own
        try:
            found = list(predict_texts(ended, queries(max_new_tokens=12)))
        finally:
            settings.eos_token_id = end
        assert found == [text.partition("good")[0].strip() for text in whole]


def test_sampling_is_the_callers_wish_only():
    """A model's own settings may ask for sampling, which would make every prediction another one."""
    model = tiny_prompted("decoder-only")
    settings = model.backbone.model.generation_config
    settings.do_sample = True
    try:
        assert list(predict_texts(model, queries(max_new_tokens=6))) == list(
            predict_texts(model, queries(max_new_tokens=6))
        )
    finally:
        settings.do_sample = False


def test_an_encoder_only_model_generates_nothing():
    with pytest.raises(ConfigError, match="tiny encoder-only is encoder-only; say by='rank'"):
        list(predict_texts(tiny_prompted("encoder-only"), queries()))


def test_one_text_per_input():
    model = tiny_prompted("decoder-only")
    with pytest.raises(ConfigError, match="num_return_sequences"):
        predict_texts(model, make_queries(model, [("good", None)]), num_return_sequences=2)
