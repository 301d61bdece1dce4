"""Questions become token ids: templates, candidates, lengths."""

from __future__ import annotations

import pytest
from tests.models import PAD, POSITIONS, tiny_backbone, tiny_prompted

from softprompt.conditioning import Prompted
from softprompt.errors import ConfigError, DataError, LengthError
from softprompt.inference.encoding import encode_to_generate, encode_to_rank
from softprompt.inference.queries import Query, collate, make_queries
from softprompt.tasks import TextFormat

FORM = TextFormat(input="review : {text}", target="{label}")


@pytest.fixture
def model() -> Prompted:
    prompted = tiny_prompted("decoder-only")
    prompted.add("stored", prompted.prompts["rows"].with_info(format=FORM.to_mapping()))
    return prompted


def test_a_stored_template_is_taken_unless_inputs_are_raw(model):
    asked = [("good", "stored"), ("bad", None), ("sad", "keys")]
    assert [query.form for query in make_queries(model, asked)] == [FORM, None, None]
    assert [query.form for query in make_queries(model, asked, raw=True)] == [None, None, None]
    assert [query.prompt for query in make_queries(model, asked, truncate=True)] == ["stored", None, "keys"]


def test_queries_are_made_one_by_one(model):
    endless = (("good", "stored") for _ in iter(int, 1))
    assert next(make_queries(model, endless)).input == "good"


def test_a_filled_template_is_what_is_tokenized(model):
    (filled,) = encode_to_generate(model, list(make_queries(model, [("good", "stored")], max_new_tokens=8)))
    assert filled.input.ids == model.backbone.tokenize("review : good")


def test_what_a_row_takes_up_in_a_batch(model):
    (generated,) = encode_to_generate(model, [Query(input="good film", prompt="rows", max_new_tokens=8)])
    assert (generated.tokens, generated.room, generated.targets) == (2 + 3 + 8, 8, [])
    (ranked,) = encode_to_rank(model, [Query(input="good film", prompt=None, candidates=("bad", "city centre"))])
    assert (ranked.tokens, ranked.room) == (2 + 2 + 3, 3)
    assert [len(target) for target in ranked.targets] == [2, 3]


def test_a_batch_is_padded_on_the_right(model):
    rows = encode_to_generate(
        model, [Query(input=text, prompt=None, max_new_tokens=8) for text in ("good", "bad film plot")]
    )
    ids, mask, marks = collate(model, rows)
    assert ids[0].tolist() == [*rows[0].input.ids, PAD, PAD]
    assert mask.sum(-1).tolist() == [1, 3]
    assert marks.shape == (2, 0)


def test_the_mark_of_a_middle_placement_is_kept(model):
    form = TextFormat(input="review : {prompt} {text}", target="{label}")
    (row,) = encode_to_generate(model, [Query(input="good", prompt="rows", form=form, max_new_tokens=8)])
    assert row.input.marks == (len(model.backbone.tokenize("review :")),)


def test_long_inputs_are_refused_or_cut(model):
    long = "good " * POSITIONS
    for prompt, free in ((None, POSITIONS - 8), ("rows", POSITIONS - 8 - 3)):
        with pytest.raises(LengthError, match=f"only {free} fit"):
            encode_to_generate(model, [Query(input=long, prompt=prompt, max_new_tokens=8)])
        (cut,) = encode_to_generate(model, [Query(input=long, prompt=prompt, max_new_tokens=8, truncate=True)])
        assert len(cut.input.ids) == free
    bounded = Query(input=long, prompt=None, max_new_tokens=8, max_input_tokens=5, truncate=True)
    assert len(encode_to_generate(model, [bounded])[0].input.ids) == 5


@pytest.mark.parametrize("prompt", ["row", "Keys"])
def test_an_unknown_prompt_is_refused(model, prompt):
    for attempt in (
        lambda: list(make_queries(model, [("good", prompt)])),
        lambda: encode_to_generate(model, [Query(input="good", prompt=prompt)]),
    ):
        with pytest.raises(ConfigError, match=f"Unknown prompt '{prompt}'. Did you mean"):
            attempt()


@pytest.mark.parametrize("candidates", [(), ("good", "bad", "good")])
def test_candidates_are_there_and_different(model, candidates):
    with pytest.raises(ConfigError, match="needs different candidates"):
        encode_to_rank(model, [Query(input="good", prompt=None, candidates=candidates)])


def test_an_input_without_tokens_is_refused():
    model = Prompted(tiny_backbone("decoder-only"))
    with pytest.raises(DataError, match="has no tokens for tiny decoder-only"):
        encode_to_generate(model, [Query(input=" ", prompt=None, max_new_tokens=8)])


@pytest.mark.parametrize("setting", ["max_new_tokens", "max_input_tokens"])
def test_numbers_of_tokens_are_positive(setting):
    with pytest.raises(ConfigError, match=f"{setting}=0"):
        Query(input="good", prompt=None, **{setting: 0})
