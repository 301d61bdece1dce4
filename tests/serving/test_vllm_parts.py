"""Parts of the way to a vLLM server by themselves: what is asked for candidates, and what is believed of answers."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from tests.models import tiny_backbone, tiny_prompted

from softprompt.conditioning import Prompted
from softprompt.errors import ConfigError, NonFiniteError, ServerError, UnsupportedError
from softprompt.inference import Sampling
from softprompt.prompts import PromptTuning
from softprompt.serving.vllm import VllmServer
from softprompt.serving.vllm.beginnings import beginnings, summed, tokens_sent
from softprompt.serving.vllm.bodies import asked_at, chosen_in
from softprompt.serving.vllm.fitting import check_finite, check_settings, unfit

BACKBONE = tiny_backbone("decoder-only")


MANY = [[token % 300, token % 7] for token in range(600)]  # more next tokens at one place than are told at once


@example(MANY, 5)
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=12),
    st.sampled_from([0, 7, 3000, 9000]),
)
def test_every_token_of_every_candidate_is_asked_for_within_the_bounds(targets, before):
    """Fails if what is counted before is not what is sent, or one request holds more inputs than it may."""
    parts = beginnings(targets, before)
    sizes = [[before + len(begun) for begun in part.ids] for part in parts]
    assert sum(map(sum, sizes)) == tokens_sent(targets, before)
    assert all(sum(size) <= 8192 or len(size) == 1 for size in sizes)
    known = {(begun, token): 0.5 + token for part in parts for begun in part.ids for token in part.tokens}
    assert all(len(part.tokens) <= 128 for part in parts)
    assert all(len(set(part.ids)) == len(part.ids) for part in parts)
    want = [sum(0.5 + token for token in target) for target in targets]
    assert summed(targets, known)[0].tolist() == pytest.approx(want)


def test_few_candidates_are_one_request_with_each_beginning_once():
    (part,) = beginnings([[4, 5, 1], [4, 6, 1], [7, 1]], 10)
    assert set(part.ids) == {(), (4,), (4, 5), (4, 6), (7,)}
    assert set(part.tokens) == {4, 5, 6, 7, 1}


@pytest.mark.parametrize(
    "event",
    [
        "no json",
        "[]",
        "{}",
        '{"choices": [{"index": 0, "text": "a"}]}',
        '{"choices": [{"token_ids": ["5"]}]}',
        '{"choices": [{"token_ids": [true]}]}',
        '{"choices": [{"token_ids": [40]}]}',
        '{"choices": [{"token_ids": [-1]}]}',
        '{"choices": [{"token_ids": [5], "logprobs": null}]}',
        '{"choices": [{"token_ids": [5], "logprobs": {"token_logprobs": [], "top_logprobs": []}}]}',
        '{"choices": [{"token_ids": [5], "logprobs": {"token_logprobs": [-1], "top_logprobs": [{"a": -1}]}}]}',
        '{"choices": [{"token_ids": [5], "logprobs": {"token_logprobs": [NaN], "top_logprobs": [{}]}}]}',
        '{"choices": [{"token_ids": [5], "logprobs": {"token_logprobs": [-1], "top_logprobs": [{"1": -1e999}]}}]}',
        '{"choices": [{"token_ids": [5], "logprobs": {"token_logprobs": ["10.0.0.7"], "top_logprobs": [{}]}}]}',
        '{"choices": [{"token_ids": [5]}, {"token_ids": [6]}]}',
        '{"error": {"message": "10.0.0.7"}}',
    ],
)
def test_nonsense_is_not_believed(event, caplog):
    """Nor is any of it told to a client; the log has it."""
    with pytest.raises(ServerError, match="The engine behind this server") as told:
        chosen_in(event, vocab=40, logprobs=1)
    assert "10.0.0.7" not in str(told.value)
    if "error" not in event:
        assert [record.said for record in caplog.records] == [event]


def test_tokens_come_with_what_was_asked_of_them():
    told = {"token_logprobs": [-2.0], "top_logprobs": [{"token_id:5": -2.0, "token_id:8": -0.5, "token_id:9": -1.0}]}
    event = json.dumps({"choices": [{"token_ids": [5], "logprobs": told}]})
    (one,) = chosen_in(event, vocab=40, logprobs=2)
    assert (one.token, one.logprob, one.top) == (5, -2.0, ((8, -0.5), (9, -1.0)))
    (bare,) = chosen_in(event, vocab=40, logprobs=None)
    assert (bare.token, bare.logprob) == (5, None)
    assert chosen_in('{"choices": []}', vocab=40, logprobs=None) == []


def test_scores_are_taken_by_the_inputs_numbers():
    choices = [{"index": place, "logprobs": {"top_logprobs": [{"token_id:3": -float(place)}]}} for place in (1, 0)]
    assert asked_at({"choices": choices}, 2, [3]) == [{3: 0.0}, {3: -1.0}]
    nan = [{"index": 0, "logprobs": {"top_logprobs": [{"token_id:3": float("nan")}]}}]
    endless = [{"index": float("inf"), "logprobs": {}}]
    for answer, inputs, tokens in (
        ({"choices": choices}, 3, [3]),
        ({"choices": choices}, 2, [4]),
        ({"choices": nan}, 1, [3]),
        ({"choices": endless}, 1, [3]),
        (None, 1, [3]),
    ):
        with pytest.raises(ServerError, match="The engine behind this server"):
            asked_at(answer, inputs, tokens)


def test_rows_alone_fit():
    rows = torch.zeros(2, 3)
    assert unfit({"rows": rows}, torch.float32) is None
    assert "a prefix" in (unfit({"keys_values.decoder": rows}, torch.float32) or "")
    assert "a head" in (unfit({"rows": rows, "head.weight": rows}, torch.float32) or "")
    assert "an ensemble" in (unfit({"0.rows": rows, "1.rows": rows}, torch.float32) or "")


def test_temperatures_that_vllm_would_lift_are_refused():
    """It computes whatever lies between 0 and 0.01 as 0.01."""
    for temperature in (0, 0.01, 1):
        check_settings(BACKBONE, Sampling(temperature=temperature), [5])
    for temperature in (1e-6, 0.0099):
        with pytest.raises(UnsupportedError, match=r"which vLLM computes as 0\.01; send 0"):
            check_settings(BACKBONE, Sampling(temperature=temperature), [5])


@pytest.mark.parametrize(
    ("value", "dtype", "fits"),
    [
        (65504.0, torch.float32, True),
        (1e5, torch.float32, False),
        (65510.0, torch.bfloat16, False),  # 65536 there
        (65510.0, torch.float32, True),
        (float("nan"), torch.float32, True),  # damaged, and refused with every engine
    ],
)
def test_rows_fit_that_float16_can_hold_as_they_are_sent(value, dtype, fits):
    rows = torch.zeros(2, 3)
    rows[1, 2] = value
    assert (unfit({"rows": rows}, dtype) is None) == fits


def test_a_value_that_becomes_infinite_in_float16_is_not_sent():
    """In bfloat16, 65504 and 65536 are one number, so that a comparison of the two told nothing."""
    check_finite(torch.tensor([[65280.0]], dtype=torch.bfloat16), "p")
    for value in (65536.0, float("nan"), float("-inf")):
        with pytest.raises(NonFiniteError, match="'p' has values that are NaN, or larger than the 65504"):
            check_finite(torch.tensor([[value]], dtype=torch.bfloat16), "p")


@pytest.mark.parametrize(
    "url", ["localhost:8000", "http://", "http://127.0.0.1:abc", "http://[::1", "http://h:99999", "http://a\nb", ""]
)
def test_what_is_no_address_is_told_so(url):
    with pytest.raises(ConfigError, match="no server's address; give one such as"):
        VllmServer(url=url)


@pytest.mark.parametrize("key", ["secret\n", "sec ret", "secr\u00e9t", "secret\x00", ""])
def test_a_key_that_cannot_be_sent_is_refused_without_being_told(key):
    """A line end of the file that it was read from would fail at every request, with the key in the log."""
    with pytest.raises(ConfigError, match="stands behind vLLM's --api-key") as told:
        VllmServer(url="http://127.0.0.1:9", key=key)
    assert "sec" not in str(told.value)
    assert VllmServer(url="http://[::1]:9/v1", key="sk-Aa0_~!").key == "sk-Aa0_~!"


@pytest.mark.parametrize("placement", ["prepend", "append", "middle"])
def test_embeddings_are_what_the_model_reads(placement):
    """Rows of different lengths, padded: continued by the bare model as the prompts continue their inputs."""
    prompts = {
        name: PromptTuning(length=length, init="vocab", placement=placement).build(BACKBONE, seed=length)
        for name, length in (("a", 2), ("b", 5))
    }
    model = Prompted(BACKBONE, prompts, conditioning="concatenation")
    ids, mask = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    names = ["a", "b"]
    read = model.embed_ids(ids, mask, prompts=names)
    assert [len(one) for one in read] == [6, 7]
    for row, name in enumerate(names):
        alone = ids[row : row + 1, : int(mask[row].sum())]
        want = Prompted(BACKBONE, prompts)(alone, prompts=name).logits[0, -1]
        got = BACKBONE.model(inputs_embeds=read[row][None]).logits[0, -1]
        if placement == "append":  # behind the last token stand its rows
            (want,) = Prompted(BACKBONE, prompts).score_ids(alone, torch.ones_like(alone), [[[4], [8]]], prompts=name)
            got = got.log_softmax(-1)[[4, 8]]
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)
    assert torch.equal(model.embed_ids(ids[:1], prompts=[None])[0], BACKBONE.embed(ids[0]))


def test_keys_and_values_have_no_embeddings():
    model = tiny_prompted("decoder-only")
    for name in ("keys", "rows"):  # the rows of the latter are recorded
        with pytest.raises(UnsupportedError, match="keys and values to layers"):
            model.embed_ids(torch.tensor([[5, 6]]), prompts=name)
