"""Training rows: what they hold, and in which order they come."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.models import END, PAD, POSITIONS, START, tiny_backbone
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.conditioning.losses import IGNORED
from softprompt.errors import DataError, LengthError
from softprompt.prompts import PrefixTuning, PromptTuning
from softprompt.tasks import Task
from softprompt.training import Run
from softprompt.training.data import Batches, TrainRow, collate, cut, digest, encode_rows, padded_tokens


def row(inputs: int, targets: int = 1, *, apart: bool = False) -> TrainRow:
    width = (inputs, targets) if apart else (inputs + targets, 0)
    return TrainRow(list(range(inputs)), list(range(targets)), (), width)


WIDTHS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=60)
LIMITS = st.fixed_dictionaries({"batch_size": st.integers(1, 9), "batch_tokens": st.none() | st.integers(1, 150)})


def epoch_of(batches: Batches) -> list[list[TrainRow]]:
    """The batches of the epoch that the next draw begins."""
    drawn = [batches.draw()]
    while batches.index < len(batches._order):
        drawn.append(batches.draw())
    return drawn


@given(WIDTHS, LIMITS, st.integers(-5, 2**40), st.booleans())
def test_an_epoch_holds_every_row_once_within_the_limits(widths, limits, seed, apart):
    rows = [row(*width, apart=apart) for width in widths]
    batches = Batches(rows, **limits, seed=seed)
    for _ in range(2):
        epoch = epoch_of(batches)
        assert sorted(map(id, itertools.chain.from_iterable(epoch))) == sorted(map(id, rows))
        for batch in epoch:
            tokens = padded_tokens([one.width for one in batch])
            assert len(batch) <= limits["batch_size"]
            assert limits["batch_tokens"] is None or len(batch) == 1 or tokens <= limits["batch_tokens"]


@given(WIDTHS, LIMITS, st.integers(0, 3), st.integers(0, 40), st.integers(0, 40))
def test_going_to_a_position_continues_as_if_never_stopped(widths, limits, seed, before, behind):
    rows = [row(*width) for width in widths]
    whole, again = (Batches(rows, **limits, seed=seed) for _ in range(2))
    for _ in range(before):
        whole.draw()
    again.go_to(whole.epoch, whole.index)
    for _ in range(behind):
        assert list(map(id, again.draw())) == list(map(id, whole.draw()))


def test_the_order_depends_on_seed_and_epoch():
    rows = [row(source) for source in range(1, 60)]

    def order(seed, epoch):
        batches = Batches(rows, batch_size=4, batch_tokens=None, seed=seed)
        batches.go_to(epoch, 0)
        return [[len(one.input) for one in batch] for batch in epoch_of(batches)]

    assert order(0, 0) == order(0, 0)
    assert len({str(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6


def test_little_is_padding_where_lengths_are_as_in_reviews():
    """2,000 rows of log-normal lengths around 24 tokens, 1 to 250: of batches of 32, 7.5 % is padding.

    Batches in the order of the shuffle alone would be more than half padding.
    """
    source = random.Random(0)
    rows = [row(min(250, max(1, round(source.lognormvariate(3.2, 0.7))))) for _ in range(2000)]

    def share(batches):
        real = sum(one.tokens for batch in batches for one in batch)
        return 1 - real / sum(padded_tokens([one.width for one in batch]) for batch in batches)

    shuffled = random.Random(1).sample(rows, len(rows))
    assert share([shuffled[i : i + 32] for i in range(0, 2000, 32)]) > 0.5
    assert share(epoch_of(Batches(rows, batch_size=32, batch_tokens=None, seed=0))) < 0.08


@given(WIDTHS, st.none() | st.integers(1, 7), st.none() | st.integers(1, 200))
def test_a_cut_keeps_the_order_and_is_as_full_as_it_may_be(widths, rows, tokens):
    batches = cut(widths, lambda width: width, rows=rows, tokens=tokens)
    assert list(itertools.chain.from_iterable(batches)) == widths

    def allowed(batch):
        return (rows is None or len(batch) <= rows) and (tokens is None or padded_tokens(batch) <= tokens)

    for batch in batches:
        assert len(batch) == 1 or allowed(batch)
    for batch, following in itertools.pairwise(batches):
        assert not allowed([*batch, following[0]])


def test_padding_counts_inputs_and_targets_apart():
    """A long input beside a long target pads both, as an encoder-decoder is given them."""
    assert padded_tokens([(20, 1), (1, 20)]) == 80
    assert padded_tokens([(21, 0), (21, 0)]) == 42


def test_a_digest_knows_every_part_of_a_row():
    rows = [TrainRow([1, 2], [3], (), (3, 0)), TrainRow([4], [5], (0,), (2, 0))]
    others = [
        rows[:1],
        rows[::-1],
        [dataclasses.replace(rows[0], input=[1]), rows[1]],
        [dataclasses.replace(rows[0], target=[4]), rows[1]],
        [rows[0], dataclasses.replace(rows[1], marks=(1,))],
    ]
    assert digest(rows) == digest(list(rows))
    assert len({digest(rows), *map(digest, others)}) == 6


def run_of(rows, method=None, **settings) -> Run:
    form = {key: settings.pop(key) for key in ("input", "target", "label_words", "chat") if key in settings}
    task = Task.from_rows({"train": rows, "validation": rows}, **{"input": "{text}", "target": "{said}", **form})
    return Run(name="a", method=method or PromptTuning(length=4, init="vocab"), task=task, **settings)


def encoded(kind, run, backbone=None, **settings):
    backbone = backbone or tiny_backbone(kind)
    return encode_rows(
        Prompted(backbone, {"a": run.method.build(backbone, run.task, 0)}, **settings), run, run.task, "a"
    )


def ids(text):
    return [tiny_backbone("decoder-only").tokenizer.get_vocab()[word] for word in text.split()]


ROW = {"text": "a good film", "said": ["great", "very good"]}


@pytest.mark.parametrize(
    ("kind", "inputs", "targets", "widths"),
    [
        ("decoder-only", ids("a good film"), [[*ids("great"), END], [*ids("very good"), END]], [(5, 0), (6, 0)]),
        (
            "encoder-decoder",
            [*ids("a good film"), END],
            [[*ids("great"), END], [*ids("very good"), END]],
            [(4, 2), (4, 3)],
        ),
    ],
)
def test_a_row_with_two_references_is_two(kind, inputs, targets, widths):
    rows = encoded(kind, run_of([ROW]))
    assert [one.input for one in rows] == [inputs, inputs]
    assert [one.target for one in rows] == targets
    assert [one.width for one in rows] == widths
    assert [one.marks for one in rows] == [(), ()]
    assert [one.tokens for one in rows] == [sum(width) for width in widths]


LABELLED = [{"text": "a good film", "said": "1"}, {"text": "bad", "said": "0"}]


def test_an_encoder_predicts_the_index_of_a_label():
    run = run_of(LABELLED, label_words={"0": "bad", "1": "good"})
    rows = encoded("encoder-only", run)
    assert [one.target for one in rows] == [[1], [0]]
    assert rows[1].input == [START, *ids("bad"), END]
    assert [one.width for one in rows] == [(5, 0), (3, 0)]


def test_marks_of_the_middle_placement_are_token_indices():
    run = run_of([ROW], PromptTuning(length=2, init="vocab", placement="middle"), input="review : {prompt} {text}")
    assert {one.marks for one in encoded("decoder-only", run)} == {(2,)}


def test_a_divided_prompts_marks_are_token_indices():
    method = PromptTuning(length=6, init="vocab", placement="template")
    rows = encoded("decoder-only", run_of([ROW], method, input="{soft:2} review : {soft:1} {text} {soft:3}"))
    assert {one.marks for one in rows} == {(0, 2, 5)}
    assert collate(tiny_backbone("decoder-only"), rows)["marks"].tolist() == [[0, 2, 5], [0, 2, 5]]


LONG = {"text": "film " * 200, "said": "good"}


def test_an_input_that_is_too_long_is_an_error():
    with pytest.raises(LengthError, match=rf"^train:1: An input has 200 tokens, but only {POSITIONS - 4 - 2} fit"):
        encoded("decoder-only", run_of([ROW, LONG]))


@pytest.mark.parametrize(
    ("kind", "method", "most"),
    [
        ("decoder-only", PromptTuning(length=4, init="vocab"), POSITIONS - 4 - 2),
        ("decoder-only", PrefixTuning(length=5, hidden=None), POSITIONS - 5 - 2),
        ("encoder-only", PromptTuning(length=4, init="vocab"), POSITIONS - 4),
        ("encoder-only", PrefixTuning(length=5, hidden=None), POSITIONS),
    ],
)
def test_inputs_are_cut_to_what_prompt_and_target_leave(kind, method, most):
    """A prefix takes no position in an encoder: as much of the input is trained on as will be read at inference."""
    run = run_of([LONG], method, label_words={"good": "good", "bad": "bad"}, truncate=True)
    [one] = encoded(kind, run)
    assert len(one.input) == most
    assert one.target == ([0] if kind == "encoder-only" else [*ids("good"), END])


def test_a_target_longer_than_the_decoders_positions_is_named():
    """It was found by the step that drew the row, which ended the whole session."""
    tiny = tiny_backbone("encoder-decoder")
    with torch.random.fork_rng():
        model = BartForConditionalGeneration(
            BartConfig(
                vocab_size=tiny.model.config.vocab_size, d_model=16, encoder_layers=1, decoder_layers=1,
                encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
                max_position_embeddings=12, pad_token_id=PAD, bos_token_id=START, eos_token_id=END,
                decoder_start_token_id=END, forced_eos_token_id=None,
            )
        )  # fmt: skip
    backbone = Backbone.from_model(model, tiny.tokenizer, name="short")
    fits = {"text": "good", "said": "film " * 11}
    assert [len(one.target) for one in encoded("encoder-decoder", run_of([fits]), backbone)] == [12]
    message = r"^train:1: the target has 13 tokens, but short has 12 positions; shorten it, or leave the row out\.$"
    with pytest.raises(LengthError, match=message):
        encoded("encoder-decoder", run_of([fits, {"text": "good", "said": "film " * 12}]), backbone)


def test_inputs_are_cut_to_a_bound_of_the_run():
    [one] = encoded("encoder-decoder", run_of([LONG], truncate=True, max_input_tokens=9))
    assert one.input == [*ids("film " * 8), END]
    with pytest.raises(LengthError, match=r"^train:0: An input has 201 tokens, but only 9 fit"):
        encoded("encoder-decoder", run_of([LONG], max_input_tokens=9))


def test_a_row_without_tokens_is_named():
    """A tokenizer may drop what it does not know, and a model may have no token that ends a text."""
    plain = tiny_backbone("decoder-only")
    known = [word for word in plain.tokenizer.get_vocab() if word != "<unk>"]
    model = models.WordLevel({word: index for index, word in enumerate(known)})
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("[^a-z:]"), "removed")]
    )
    endless = copy.deepcopy(plain.model)
    endless.generation_config.eos_token_id = None
    backbone = Backbone.from_model(endless, PreTrainedTokenizerFast(tokenizer_object=tokenizer), name="deaf")
    with pytest.raises(DataError, match=r"^train:1: the input has no tokens for deaf; give it a text\.$"):
        encoded("decoder-only", run_of([ROW, {"text": "7 + 8", "said": "good"}]), backbone)
    with pytest.raises(DataError, match=r"^train:0: the target has no tokens for deaf; give it a text\.$"):
        encoded("decoder-only", run_of([{"text": "good", "said": "15"}]), backbone)


def test_chat_templates_go_around_inputs():
    plain = tiny_backbone("decoder-only")
    tokenizer = type(plain.tokenizer)(tokenizer_object=plain.tokenizer.backend_tokenizer, eos_token="</s>")
    tokenizer.chat_template = "{% for m in messages %}| {{ m['content'] }} | Answer :{% endfor %}"
    backbone = Backbone.from_model(plain.model, tokenizer, name="chatty")
    rows = encoded("decoder-only", run_of([ROW], chat=True), backbone)
    assert rows[0].input == ids("| a good film | Answer :")
    assert rows[0].target == [*ids("great"), END]


def test_a_batch_of_a_decoder_has_targets_behind_inputs():
    rows = encoded("decoder-only", run_of([ROW, {"text": "bad", "said": "so sad"}]))
    batch = collate(tiny_backbone("decoder-only"), [rows[0], rows[2]])
    good, bad = ids("a good film great"), ids("bad so sad")
    assert batch["input_ids"].tolist() == [[*good, END], [*bad, END, PAD]]
    assert batch["attention_mask"].tolist() == [[True] * 5, [True] * 4 + [False]]
    assert batch["labels"].tolist() == [[IGNORED] * 3 + [good[3], END], [IGNORED, *bad[1:], END, IGNORED]]
    assert batch["marks"].shape == (2, 0)


def test_a_batch_of_an_encoder_decoder_pads_targets_apart():
    rows = encoded("encoder-decoder", run_of([ROW, {"text": "bad", "said": "so sad"}]))
    batch = collate(tiny_backbone("encoder-decoder"), [rows[0], rows[2]])
    assert batch["input_ids"].tolist() == [[*ids("a good film"), END], [*ids("bad"), END, PAD, PAD]]
    assert batch["labels"].tolist() == [[*ids("great"), END, IGNORED], [*ids("so sad"), END]]


def test_a_batch_of_an_encoder_has_classes():
    run = run_of(LABELLED, label_words={"0": "bad", "1": "good"})
    batch = collate(tiny_backbone("encoder-only"), encoded("encoder-only", run))
    assert torch.equal(batch["labels"], torch.tensor([[1], [0]]))
    assert batch["input_ids"].shape == (2, 5)
