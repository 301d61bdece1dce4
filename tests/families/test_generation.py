"""`generate` is transformers' own, with prompts: greedy, beams, sampling, caches; alone and in a mixed batch."""

from __future__ import annotations

import functools

import pytest
import torch
from tests.families import batches, naive, zoo
from tests.families.batches import Batch
from tests.families.zoo import Family
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor
from transformers.generation import BaseStreamer

from softprompt.conditioning import Prompted

NEW = 5
GENERATORS = zoo.of_kind("decoder-only", "encoder-decoder")

every_family = pytest.mark.parametrize("family", GENERATORS, ids=str)


@functools.cache
def model(name: str, conditioning: str = "auto") -> tuple[Prompted, Batch]:
    prompts = batches.prompts(zoo.BY_NAME[name])
    return Prompted(zoo.backbone(name), prompts, conditioning=conditioning), batches.batch(list(prompts))


def generated(
    family: Family, prompted: Prompted, ids: Tensor, mask: Tensor | None, names, marks: Tensor, **options
) -> list[list[int]]:
    """The new tokens of each row, up to its end."""
    options = {"max_new_tokens": NEW, "do_sample": False, **options}
    made = prompted.generate(input_ids=ids, attention_mask=mask, prompts=names, marks=marks, **options)
    new = made[:, 1:] if family.kind == "encoder-decoder" else made[:, ids.shape[1] :]
    return [until_end(row) for row in new.tolist()]


def until_end(row: list[int]) -> list[int]:
    return row[: row.index(zoo.END) + 1] if zoo.END in row else row


def in_batch(family: Family, side: batches.Side = "right", conditioning: str = "auto", **options) -> list[list[int]]:
    prompted, batch = model(family.name, conditioning)
    return generated(family, prompted, *batch.padded(side), batch.names, batch.marks, **options)


def alone(family: Family, **options) -> list[list[int]]:
    prompted, batch = model(family.name)
    rows = zip(batch.rows, batch.names, batch.marks, strict=True)
    return [
        generated(family, prompted, ids[None], None, [name], marks[None], **options)[0] for ids, name, marks in rows
    ]


@functools.cache
def reference(name: str) -> list[list[int]]:
    family = zoo.BY_NAME[name]
    _, batch = model(name)
    prompts = batches.prompts(family)
    rows = zip(batch.rows, batch.names, batch.marks.tolist(), strict=True)
    return [naive.continuation(family, ids, prompts.get(key), NEW, marks=marks) for ids, key, marks in rows]


@every_family
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("conditioning", ["auto", "concatenation"])
def test_greedy_text_is_the_stock_models_argmax(family, side, conditioning):
    assert in_batch(family, side, conditioning) == reference(family.name)


@every_family
def test_rows_and_tokens_differ(family):
    """Otherwise the tests of generation would compare nothing."""
    made = reference(family.name)
    assert len({tuple(row) for row in made}) >= 3
    assert len({token for row in made for token in row}) >= 4


@every_family
def test_no_cache_changes_nothing(family):
    assert in_batch(family, use_cache=False) == reference(family.name)


@pytest.mark.parametrize("family", [f for f in GENERATORS if f.static_cache], ids=str)
@pytest.mark.parametrize("conditioning", ["auto", "concatenation"])
def test_a_static_cache_changes_nothing(family, conditioning):
    made = in_batch(family, conditioning=conditioning, cache_implementation="static", disable_compile=True)
    assert made == reference(family.name)


@every_family
def test_beams_find_alone_what_they_find_in_a_mixed_batch(family):
    options = {"num_beams": 3, "max_new_tokens": 4}
    assert in_batch(family, "left", **options) == alone(family, **options)


@every_family
def test_beams_are_the_stock_models(family):
    """For a prompt that stands in front, transformers can be given the joined embeddings of one row itself."""
    prompts = batches.prompts(family)
    _, batch = model(family.name)
    at = batch.names.index("short")
    stock = zoo.stock(family.name)
    embedded = stock.get_input_embeddings()(batch.rows[at]) * family.embedding_scale
    joined = torch.cat([prompts["short"]().rows, embedded])[None].detach()
    options = {"num_beams": 3, "max_new_tokens": 4, "do_sample": False}
    inputs = {"inputs_embeds": joined, "attention_mask": torch.ones(joined.shape[:2], dtype=torch.long)}
    if family.name == "mt5":
        options["use_cache"] = False  # transformers sizes the cache by the shallower encoder, and fails
    made = stock.generate(**inputs, **options)[0].tolist()
    want = until_end(made[1:] if family.kind == "encoder-decoder" else made)
    assert in_batch(family, **options)[at] == want


class Nudged(LogitsProcessor):
    """Adds the same noise to every row, by the number of tokens so far: sampling that all rows share."""

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.steps += 1
        noise = torch.rand(scores.shape[1], generator=torch.Generator().manual_seed(self.steps))
        return scores - (-noise.log()).log()


@every_family
def test_sampling_alone_is_sampling_in_a_mixed_batch(family):
    """Gumbel noise that all rows share makes an argmax of each row a draw from its own distribution."""
    prompted, batch = model(family.name)
    lone = [
        generated(family, prompted, ids[None], None, [name], marks[None], logits_processor=[Nudged()])[0]
        for ids, name, marks in zip(batch.rows, batch.names, batch.marks, strict=True)
    ]
    assert in_batch(family, "left", logits_processor=[Nudged()]) == lone
    assert lone != reference(family.name)


@every_family
def test_several_samples_of_each_row(family):
    prompted, batch = model(family.name)
    ids, mask = batch.padded()

    def samples(seed: int) -> Tensor:
        torch.manual_seed(seed)
        options = {"do_sample": True, "num_return_sequences": 3, "max_new_tokens": NEW}
        return prompted.generate(input_ids=ids, attention_mask=mask, prompts=batch.names, marks=batch.marks, **options)

    made = samples(0)
    assert made.shape[0] == 3 * len(ids)
    assert made.equal(samples(0))
    assert not made.equal(samples(1))
    if family.kind == "decoder-only":
        for i, row in enumerate(batch.rows):  # inputs stand in front, padded on the left, three times each
            assert all(sample[ids.shape[1] - len(row) : ids.shape[1]].equal(row) for sample in made[3 * i : 3 * i + 3])


@pytest.mark.parametrize("family", zoo.of_kind("decoder-only"), ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {"no_repeat_ngram_size": 1, "bad_words_ids": [[zoo.PAD]]},
        {"repetition_penalty": 3.0, "num_beams": 2},
    ],
    ids=str,
)
def test_what_reads_tokens_reads_the_inputs_whatever_the_pass(family, options):
    """A penalty alone, beside rows whose prompts are inserted, and where every prompt is.

    transformers gives processors no input ids beside embeddings, and rows would depend on their neighbours' prompts.
    """
    lone = alone(family, **options)
    assert lone != reference(family.name)
    assert in_batch(family, **options) == lone
    assert in_batch(family, conditioning="concatenation", **options) == lone


@every_family
@pytest.mark.parametrize("conditioning", ["auto", "concatenation"])
@pytest.mark.parametrize("inside", [False, True])
def test_lengths_count_the_ids_and_no_virtual_tokens(family, conditioning, inside):
    """transformers subtracts inserted prompts from `max_length`: the longest of a batch shortened every row."""
    prompted, batch = model(family.name, conditioning)
    ids, mask = batch.padded()
    begun = 1 if family.kind == "encoder-decoder" else ids.shape[1]
    lengths = {"max_length": begun + 4, "min_length": begun + 4}
    options = {"generation_config": GenerationConfig(**lengths)} if inside else lengths
    made = prompted.generate(
        input_ids=ids, attention_mask=mask, prompts=batch.names, marks=batch.marks, do_sample=False, **options
    )
    assert made.shape[1] == begun + 4
    same = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    assert made.equal(
        prompted.generate(input_ids=ids, attention_mask=mask, prompts=batch.names, marks=batch.marks, **same)
    )


@every_family
def test_settings_may_come_as_a_generation_config(family):
    prompted, batch = model(family.name)
    config = GenerationConfig(max_new_tokens=NEW, do_sample=False)
    ids, mask = batch.padded()
    made = prompted.generate(
        input_ids=ids, attention_mask=mask, prompts=batch.names, marks=batch.marks, generation_config=config
    )
    new = made[:, 1:] if family.kind == "encoder-decoder" else made[:, ids.shape[1] :]
    assert [until_end(row) for row in new.tolist()] == reference(family.name)
    assert config.eos_token_id is None  # the caller's own is left alone


class Heard(BaseStreamer):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.given: list[Tensor] = []
        self.ended = False

    def put(self, value: Tensor) -> None:
        self.given.append(value)

    def end(self) -> None:
        self.ended = True


@every_family
@pytest.mark.parametrize("name", ["short", "behind", None])
def test_tokens_are_streamed_as_they_come(family, name):
    """First what the sequence begins with, without virtual tokens, and then each new token."""
    prompted, batch = model(family.name)
    row = batch.rows[batch.names.index(name)]
    streamer = Heard()
    made = prompted.generate(
        input_ids=row[None], prompts=[name], max_new_tokens=NEW, do_sample=False, streamer=streamer
    )
    assert streamer.ended
    first, *following = streamer.given
    assert first.tolist() == (made[:, :1] if family.kind == "encoder-decoder" else row[None]).tolist()
    assert torch.cat(following).tolist() == made[0, first.shape[1] :].tolist()
    assert len(following) > 1
