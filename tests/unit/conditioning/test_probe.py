"""The probe sees what makes a pass inexact, and keeps what it found."""

from __future__ import annotations

import copy
from importlib import import_module

import pytest
import torch
import transformers
from tests.families import zoo

from softprompt.backbones import Backbone
from softprompt.backbones import attention as attention_module
from softprompt.conditioning.decoding import may_join
from softprompt.conditioning.probe import Verdict, probe

probe_module = import_module("softprompt.conditioning.probe")  # the package's own name is the function's


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    monkeypatch.setattr(probe_module, "_VERDICTS", {})


def changed(name: str, **settings: object) -> Backbone:
    """A model of the zoo with another configuration; attention as stock."""
    config = copy.deepcopy(zoo.stock(name).config)
    for key, value in settings.items():
        setattr(config, key, value)
    torch.manual_seed(0)
    return Backbone.from_model(zoo.AUTO[zoo.BY_NAME[name].kind].from_config(config))


def test_a_window_far_longer_than_the_probes_rows_is_a_window():
    assert probe(changed("mistral", sliding_window=4096)).shared is None


def test_chunks_far_longer_than_the_probes_rows_are_seen():
    """In a short batch chunked attention looks like full attention."""
    verdict = probe(changed("llama4", attention_chunk_size=8192))
    assert verdict.shared == verdict.prefix == "its attention is cut into chunks"


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3", "opt"])
def test_wrong_positions_are_seen(monkeypatch, name):
    """As the widely used library has it: tokens counted from 0 behind a prompt of keys and values."""
    joined = probe_module.join

    def wrong(backbone, prompts, rows, **options):
        made = joined(backbone, prompts, rows, **options)
        if made.injection is not None:
            made.model_inputs["position_ids"] = (made.model_inputs["position_ids"] - 1).clamp(min=0)
        return made

    monkeypatch.setattr(probe_module, "join", wrong)
    verdict = probe(zoo.fresh(name))
    assert "differs from the concatenation pass by" in verdict.shared
    assert verdict.prefix == verdict.shared


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gpt2", "with right padding, it differs from the concatenation pass by"),
        ("t5", "only 6 of 7 attention layers read what they are given"),
        ("bert", "only 2 of 3 attention layers read what they are given"),
    ],
)
def test_a_layer_that_does_not_read_is_seen(monkeypatch, name, reason):
    backbone = zoo.fresh(name)
    deaf = list(backbone.sites)[-1]
    inject = attention_module._inject

    def skipping(load, module, key, value, mask, options):
        if module is deaf:
            return key, value, mask[..., load.injection.columns.shape[1] :], options
        return inject(load, module, key, value, mask, options)

    monkeypatch.setattr(attention_module, "_inject", skipping)
    assert probe(backbone).prefix.startswith(reason)


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_a_pass_that_fails_is_not_used(monkeypatch, name):
    def fails(*_, **__):
        raise RuntimeError("out of order")

    monkeypatch.setattr(probe_module, "_run", fails)
    assert probe(zoo.fresh(name)).prefix == "it fails in the probe: out of order"


def test_memory_that_runs_out_is_no_verdict(monkeypatch):
    """It was cached as a reason to refuse every prefix for the rest of the process."""

    def fails(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    backbone = zoo.fresh("gpt2")
    with monkeypatch.context() as patched:
        patched.setattr(probe_module, "_run", fails)
        with pytest.raises(torch.OutOfMemoryError):
            probe(backbone)
    assert probe(backbone) == Verdict(shared=None, prefix=None, stored=True, joins=True)


@pytest.mark.parametrize(("name", "joins"), [("gpt2", True), ("llama", True), ("gemma3", False), ("t5", False)])
def test_whether_rows_may_join_is_part_of_the_verdict(monkeypatch, name, joins):
    """A cache was built to find out, for each request."""
    backbone = zoo.fresh(name)
    assert probe(backbone).joins is joins
    monkeypatch.setattr(transformers.DynamicCache, "__init__", lambda *_, **__: pytest.fail("built again"))
    assert may_join(backbone, []) is joins


def test_a_verdict_is_kept_for_the_same_model(monkeypatch):
    verdict = probe(zoo.fresh("llama"))
    monkeypatch.setattr(probe_module, "_find_out", lambda backbone: pytest.fail("asked again"))
    assert probe(zoo.fresh("llama")) is verdict


def test_another_dtype_is_probed_again(monkeypatch):
    probe(zoo.fresh("llama"))
    asked = []

    def find_out(backbone: Backbone) -> Verdict:
        asked.append(backbone.dtype)
        return Verdict(shared=None, prefix=None)

    monkeypatch.setattr(probe_module, "_find_out", find_out)
    probe(Backbone.from_model(copy.deepcopy(zoo.stock("llama")).to(torch.bfloat16)))
    assert asked == [torch.bfloat16]


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gemma3", "mistral"])
def test_bfloat16_is_exact_too(name):
    """Its rounding is far larger than any bound for float32, and far smaller than a prompt moved by a position."""
    assert probe(Backbone.from_model(copy.deepcopy(zoo.stock(name)).to(torch.bfloat16))).shared is None
