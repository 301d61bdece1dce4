"""Attention onto prompts: the weights are the model's own, and so are the sums over them."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tests.families import zoo
from tests.inspection.prompts import FAMILIES, METHODS, made, samples

from softprompt.backbones import attention
from softprompt.backbones.carrying import Onlooker, Site, carried, looked_on
from softprompt.errors import DataError, UnsupportedError
from softprompt.inspection import attention_mass
from softprompt.inspection.attention import watched_batches
from softprompt.prompts import PrefixTuning, PromptTuning

STACKS = {"attentions": "decoder", "encoder_attentions": "encoder", "cross_attentions": "cross"}


@pytest.mark.parametrize("family", [*FAMILIES, "gemma2", "mistral", "gpt-bigcode"])
def test_weights_are_what_transformers_tells_with_its_eager_kernel(family):
    """Without a prompt; gemma2 caps its logits, mistral has a window, llama and gpt-bigcode share keys among heads."""
    backbone = zoo.backbone(family)
    stock = copy.deepcopy(zoo.stock(family))
    stock.set_attn_implementation("eager")
    ids = torch.randint(4, zoo.VOCAB, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if backbone.spec.kind == "encoder-decoder":
        inputs["decoder_input_ids"] = ids[:, :4]
    told = stock(**inputs, output_attentions=True)
    want = {}
    for name in ("attentions", "encoder_attentions", "cross_attentions", "decoder_attentions"):
        stack = "encoder" if backbone.spec.kind == "encoder-only" else STACKS.get(name, "decoder")
        want |= {Site(stack, layer): weights for layer, weights in enumerate(getattr(told, name, None) or ())}
    found = {}
    with torch.no_grad(), looked_on(Onlooker(watch=lambda module, w: found.update({backbone.sites[module]: w}))):
        backbone.call(**inputs)
    assert set(found) == set(want)
    for site, weights in found.items():
        looks = mask.bool() if weights.shape[2] == 9 else torch.ones(2, 4, dtype=torch.bool)
        assert torch.allclose(weights.transpose(1, 2)[looks], want[site].transpose(1, 2)[looks], atol=1e-5)
    quiet = list(found)
    backbone.call(**inputs)
    assert list(found) == quiet


@pytest.mark.parametrize(
    ("family", "method"),
    [*((family, method) for family in FAMILIES for method in ("rows", "prefix")), ("gpt2", "behind"), ("t5", "inside")],
)
def test_weights_times_values_are_what_the_layer_goes_on_with(family, method, monkeypatch):
    """With a prompt: the kernel's own output, from the values that it was given and the weights that were told."""
    given, backbone = {}, zoo.backbone(family)

    def spy(kernel):
        def run(module, query, key, value, mask, **options):
            out = kernel(module, query, key, value, mask, **options)
            if value.shape[-1] != value.shape[-2] or not torch.equal(value[0, 0], torch.eye(value.shape[-1])):
                given[backbone.sites[module]] = (value, out[0])
            return out

        return run

    real = attention._attend
    monkeypatch.setattr(attention, "_attend", lambda kernel, *args, **options: real(spy(kernel), *args, **options))
    checked = 0
    for _, _, weights in watched_batches(backbone, made(family, method), samples(family)):
        for site, found in weights.items():
            value, out = given[site]
            value = value.repeat_interleave(found.shape[1] // value.shape[1], dim=1)
            assert torch.allclose((found @ value).transpose(1, 2), out, atol=1e-5)
            assert torch.allclose(found.sum(-1), torch.ones(()), atol=1e-5)
            checked += 1
    assert checked == len(backbone.sites)


@pytest.mark.parametrize("family", FAMILIES)
def test_mass_is_the_sum_over_the_prompts_columns(family):
    """Row by row without padding, with the columns counted by hand."""
    backbone = zoo.backbone(family)
    causal = backbone.spec.kind == "decoder-only"
    for method, length in (("rows", 5), ("prefix", 4)):
        prompt = made(family, method)
        found = attention_mass(backbone, prompt, samples(family))
        sums: dict[tuple[Site, str], list[torch.Tensor]] = {}
        for sample in samples(family):
            for _, _, weights in watched_batches(backbone, prompt, [sample], conditioning="concatenation"):
                for site, one in weights.items():
                    cls = 1 if backbone.spec.kind == "encoder-only" and method == "rows" else 0
                    on = one[0, :, :, cls : cls + length].sum(-1)  # [heads, seq]
                    if method == "rows" and site.stack != "cross":
                        on = torch.cat([on[:, :cls], on[:, cls + length :]], dim=1)
                    if method == "rows" and site.stack == "decoder" and not causal:
                        continue
                    split = (
                        len(sample.input.ids) if site.stack != "cross" and (causal or site.stack == "encoder") else 0
                    )
                    sums.setdefault((site, "input"), []).append(on[:, :split])
                    sums.setdefault((site, "target"), []).append(on[:, split:])
        want = {key: torch.cat(parts, dim=1).mean(1) for key, parts in sums.items() if sum(p.shape[1] for p in parts)}
        assert {(Site(one.stack, one.layer), one.looker) for one in found} == set(want)
        for one in found:
            assert one.mass == pytest.approx(want[Site(one.stack, one.layer), one.looker].tolist(), abs=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_both_passes_give_the_same(family):
    backbone, prompt = zoo.backbone(family), made(family, "rows")
    shared = attention_mass(backbone, prompt, samples(family), conditioning="shared")
    joined = attention_mass(backbone, prompt, samples(family), conditioning="concatenation")
    for one, other in zip(shared, joined, strict=True):
        assert one.mass == pytest.approx(other.mass, abs=1e-5)
        assert one.spread == pytest.approx(other.spread, abs=1e-5)
        assert one.text_distance == pytest.approx(other.text_distance, abs=1e-4)
        assert one.even == pytest.approx(other.even)
        assert [(band.least, band.tokens) for band in one.bands] == [(band.least, band.tokens) for band in other.bands]
        for band, same in zip(one.bands, other.bands, strict=True):
            assert (band.mass, band.even) == pytest.approx((same.mass, same.even), abs=1e-5)


def test_even_attention_is_even():
    """A model whose queries are zero looks at every column alike: its mass is what `even` says, its spread is 1."""
    for family in ("gpt2", "llama", "bert", "bart"):
        backbone = zoo.fresh(family)
        with torch.no_grad():
            for name, parameter in backbone.model.named_parameters():
                if "q_proj" in name or "query" in name:
                    parameter.zero_()
                if "c_attn" in name:
                    parameter[..., : zoo.DIM] = 0
        for method in METHODS.values():
            if isinstance(method, PrefixTuning) and method.placement != "prepend":
                continue
            for one in attention_mass(backbone, method.build(backbone, seed=1), samples(family)):
                assert one.mass == pytest.approx([one.even] * 4, abs=1e-5)
                assert all(spread is None or spread == pytest.approx(1, abs=1e-4) for spread in one.spread)
                for band in one.bands:
                    assert band.mass == pytest.approx(band.even, abs=1e-5)


def test_distances_count_tokens_of_the_text():
    """In GPT-2 with even attention, token t of n stands t tokens from the prompt and t/2 from what it reads."""
    backbone = zoo.fresh("gpt2")
    with torch.no_grad():
        for name, parameter in backbone.model.named_parameters():
            if "c_attn" in name:
                parameter[..., : zoo.DIM] = 0
    (sample, _) = samples("gpt2")  # 4 tokens of input, 3 of target
    found = attention_mass(backbone, PromptTuning(length=2, init="vocab").build(backbone), [sample])
    by = {one.looker: one for one in found if one.layer == 0}
    assert by["input"].text_distance == pytest.approx([(0 + 0.5 + 1 + 1.5) / 4] * 4, abs=1e-5)
    assert [(band.least, band.tokens) for band in by["input"].bands] == [(0, 1), (1, 1), (2, 2)]
    assert [(band.least, band.tokens) for band in by["target"].bands] == [(4, 3)]
    assert [band.even for band in by["input"].bands] == pytest.approx([2 / 3, 2 / 4, (2 / 5 + 2 / 6) / 2])
    behind = attention_mass(
        backbone, PromptTuning(length=2, init="vocab", placement="append").build(backbone), [sample]
    )
    by = {one.looker: one for one in behind if one.layer == 0}
    assert by["input"].mass == (0, 0, 0, 0)
    assert by["input"].spread == (None,) * 4
    assert [(band.least, band.tokens) for band in by["input"].bands] == [(0, 1), (1, 1), (2, 2)]
    assert [band.least for band in by["target"].bands] == [0, 1, 2]


def test_a_prefix_of_some_layers_has_no_mass_in_others():
    backbone = zoo.backbone("gpt2")
    prompt = PrefixTuning(length=2, hidden=None, layers=(1,)).build(backbone)
    found = attention_mass(backbone, prompt, samples("gpt2"))
    assert {one.layer for one in found if one.mean_mass == 0} == {0, 2}
    assert all(one.mean_mass > 0.05 for one in found if one.layer == 1)
    assert all(math.isclose(one.even, 0) for one in found if one.layer != 1)


def test_a_recording_is_not_looked_on():
    backbone, seen = zoo.backbone("gpt2"), []
    with torch.no_grad(), looked_on(Onlooker(watch=lambda module, weights: seen.append(module))):
        backbone.record(backbone.embed(torch.tensor([[5, 6]])), torch.ones(1, 2, dtype=torch.bool))
    assert seen == []
    assert carried() is None


def test_what_cannot_be_looked_at():
    bloom = zoo.backbone("bloom")
    with pytest.raises(
        UnsupportedError, match="tiny bloom does not show its attention, because its attention does not"
    ):
        attention_mass(bloom, PromptTuning(length=2, init="vocab").build(bloom), samples("gpt2"))
    with pytest.raises(DataError, match="there are none; give a task or a text"):
        attention_mass(zoo.backbone("gpt2"), made("gpt2", "rows"), [])
