"""A backbone's prompts: warned of, kept in float32 while they are computed, and replaced while others apply them."""

from __future__ import annotations

import copy
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tests.families import zoo
from torch import nn

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted, collection
from softprompt.conditioning.collection import PromptCollection
from softprompt.errors import ConfigError
from softprompt.loop.optimizers import build_optimizer, optimizer_names
from softprompt.prompts import PrefixTuning, PromptTuning, SoftPrompt
from softprompt.prompts.parameters import DirectRows

BACKBONE = zoo.backbone("gpt2")


def rows(value: float) -> SoftPrompt:
    """A prompt of one value, inserted as it is, so that what is applied tells which prompt it was."""
    method = PromptTuning(length=2, init="random", placement="append")
    return SoftPrompt(DirectRows(torch.full((2, BACKBONE.spec.dim), value)), method, method.build(BACKBONE).info)


def applied(prompts: PromptCollection) -> float:
    with torch.no_grad():
        (found,) = prompts.applied(["a"], checkpointing=False)
    assert found.rows is not None
    return found.rows[0, 0].item()


def collected(prompt: SoftPrompt) -> PromptCollection:
    prompts = PromptCollection(BACKBONE, "auto")
    prompts.add("a", prompt)
    return prompts


@pytest.fixture
def held(monkeypatch):
    """Holds a thread at its first casting of a prompt: it says when it is there, and waits to be let go."""
    there, go, casting = threading.Event(), threading.Event(), PromptCollection._cast

    def cast(self, tensors):
        if not there.is_set():
            there.set()
            assert go.wait(10)
        return casting(self, tensors)

    monkeypatch.setattr(PromptCollection, "_cast", cast)
    return there, go


def test_what_was_replaced_in_the_meantime_is_not_kept(held):
    """A thread that had begun with the old prompt stored it over the new one, or found nothing to return."""
    there, go = held
    prompts = collected(rows(1.0))
    with ThreadPoolExecutor(1) as pool:
        begun = pool.submit(applied, prompts)
        assert there.wait(10)
        prompts.add("a", rows(2.0))
        go.set()
        assert begun.result() == 1.0
    assert applied(prompts) == 2.0


def test_what_was_removed_in_the_meantime_is_still_applied(held):
    there, go = held
    prompts = collected(rows(1.0))
    with ThreadPoolExecutor(1) as pool:
        begun = pool.submit(applied, prompts)
        assert there.wait(10)
        prompts.remove("a")
        go.set()
        assert begun.result() == 1.0
    assert list(prompts) == []
    with pytest.raises(ConfigError, match="Unknown prompt 'a'"):
        applied(prompts)


def test_prompts_are_listed_while_others_come():
    prompts = collected(rows(1.0))
    listed = iter(prompts)
    prompts.add("b", rows(2.0))
    assert list(listed) == ["a"]
    assert list(prompts) == ["a", "b"]


def test_another_parameter_is_seen_whatever_its_address():
    """What was compiled was known by `id` and version, and a new parameter may get a freed one's address."""
    prompt = rows(1.0)
    prompts = collected(prompt)
    assert applied(prompts) == 1.0
    for value in (2.0, 3.0, 4.0):
        prompt.parametrization.rows = nn.Parameter(torch.full((2, BACKBONE.spec.dim), value))
        assert applied(prompts) == value


@pytest.mark.parametrize("name", optimizer_names())
def test_a_step_is_seen_whichever_optimizer_takes_it(name):
    """A fused optimizer writes without raising torch's version counter, and evaluations went on with old keys."""
    prompt = PrefixTuning(length=2, hidden=8).build(BACKBONE)
    prompts = collected(prompt)
    optimizer = build_optimizer(name, prompt.parameters(), learning_rate=0.5, weight_decay=0.0)
    for _ in range(3):
        with torch.no_grad():
            (kept,) = prompts.applied(["a"], checkpointing=False)
            (fresh,) = collected(prompt).applied(["a"], checkpointing=False)
        for site, pair in fresh.keys_values.items():
            torch.testing.assert_close(kept.keys_values[site], pair, rtol=0, atol=0)
        for parameter in prompt.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()


def test_a_prompt_is_compiled_once(monkeypatch):
    prompts, calls = collected(rows(1.0)), []
    casting = PromptCollection._cast
    monkeypatch.setattr(PromptCollection, "_cast", lambda *given: calls.append(1) or casting(*given))
    assert [applied(prompts) for _ in range(3)] == [1.0] * 3
    assert len(calls) == 1


def test_many_prompts_are_compiled_in_passes_of_a_bounded_size(monkeypatch):
    """A thousand prompts were one pass, whose memory nothing bounded, and each part of it kept the whole alive."""
    bound, record, sizes, made = 24, Backbone.record, [], []

    def recording(self, embeddings, mask, **options):
        assert not any(whole() is not None for whole in made)  # that of the pass before was given back
        found = record(self, embeddings, mask, **options)
        sizes.append(mask.numel())
        made.extend(weakref.ref(keys.untyped_storage()) for keys, _ in found.values())
        return found

    lengths = {f"p{place}": length for place, length in enumerate((3, 9, 2, 5, 30, 4, 9, 2))}
    prompts = {name: PromptTuning(length=n, init="vocab").build(BACKBONE, seed=n) for name, n in lengths.items()}
    whole, cut = Prompted(BACKBONE, prompts), Prompted(BACKBONE, prompts)
    whole.compile()
    monkeypatch.setattr(collection, "_MOST_COMPILED", bound)
    monkeypatch.setattr(Backbone, "record", recording)
    cut.compile()
    assert sizes == [4 * 4, 2 * 9, 9, 30]
    ids = torch.arange(5, 9).expand(len(prompts), -1)
    with torch.no_grad():
        got, want = (model(ids, prompts=list(prompts)).logits for model in (cut, whole))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", [PromptTuning(length=2, init="vocab"), PrefixTuning(length=2, hidden=8)])
def test_a_prompt_is_computed_in_float32_under_autocast(monkeypatch, method):
    """The prefix's MLP ran in bfloat16 while it was trained, and in float32 wherever it was used."""
    prompt, found = method.build(BACKBONE, seed=1), []
    casting = PromptCollection._cast

    def cast(self, tensors):
        found.append(tensors.named())
        return casting(self, tensors)

    model, want = Prompted(BACKBONE, {"a": prompt}), prompt().named()
    monkeypatch.setattr(PromptCollection, "_cast", cast)
    ids = torch.tensor([[5, 6, 7]])
    with torch.autocast("cpu", torch.bfloat16):
        model(input_ids=ids, labels=ids).loss.backward()
    (got,) = found
    assert {name: value.dtype for name, value in got.items()} == dict.fromkeys(want, torch.float32)
    assert all(got[name].equal(want[name]) for name in want)
    assert all(parameter.grad is not None for parameter in prompt.parameters())


@pytest.mark.parametrize(
    ("change", "warns"),
    [
        (lambda tokenizer: tokenizer.add_tokens(["softly"]), True),
        (lambda tokenizer: setattr(tokenizer, "chat_template", "{{ messages[0].content }}"), True),
        (lambda tokenizer: None, False),
    ],
    ids=["vocabulary", "chat template", "the same"],
)
def test_another_tokenizer_is_warned_of(change, warns):
    """Its digest was stored with every prompt, and never looked at."""
    tokenizer = zoo.tokenizer("decoder-only")
    made = PromptTuning(length=2, init="vocab").build(Backbone.from_model(zoo.stock("gpt2"), tokenizer, name="before"))
    changed = copy.deepcopy(tokenizer)
    change(changed)
    now = Backbone.from_model(zoo.stock("gpt2"), changed, name="now")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Prompted(now).add("mine", made)
    message = "The prompt 'mine' was made with another tokenizer or chat template than now has: texts will not"
    assert [str(one.message).startswith(message) for one in caught] == [True] * warns


def test_no_tokenizer_is_no_other_tokenizer():
    """Who passes token ids needs none, and is not warned."""
    made = PromptTuning(length=2, init="vocab").build(BACKBONE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = Prompted(Backbone.from_model(zoo.stock("gpt2")), {"mine": made})
    assert caught == []
    assert list(model.prompts) == ["mine"]
