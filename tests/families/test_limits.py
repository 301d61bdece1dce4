"""What is exact is used, what is not is refused, and what is too long is said to be."""

from __future__ import annotations

import pytest
import torch
from tests.families import batches, naive, zoo
from tests.families.zoo import FAMILIES, Family
from transformers import GenerationConfig

from softprompt.conditioning import Prompted, probe
from softprompt.errors import LengthError, UnsupportedError
from softprompt.prompts import PrefixTuning, PromptTuning

REASONS = {
    "bloom": "its attention does not go through transformers' attention interface",
    "llama4": "with right padding, it differs from the concatenation pass by ",
    "encoder-decoder": "its input is read in both directions",
    "encoder-only": "its input is read in both directions",
}

every_family = pytest.mark.parametrize("family", FAMILIES, ids=str)
bounded = pytest.mark.parametrize(
    "family", [f for f in FAMILIES if f.name not in ("bloom", "t5", "t5-v1.1", "mt5")], ids=str
)


@every_family
def test_the_probes_verdict(family):
    verdict = probe(zoo.backbone(family.name))
    assert (verdict.shared is None, verdict.prefix is None) == (family.shared, family.prefix)
    if verdict.shared is not None:
        assert verdict.shared.startswith(REASONS.get(family.name) or REASONS[family.kind])


@every_family
def test_the_pass_that_a_prompt_takes(family):
    prompts = batches.prompts(family)
    free = Prompted(zoo.backbone(family.name), prompts)
    forced = Prompted(zoo.backbone(family.name), prompts, conditioning="concatenation")
    assert free.pass_of("short") == ("shared" if family.shared else "concatenation")
    assert free.pass_of("behind") == free.pass_of("inside") == forced.pass_of("short") == "concatenation"
    if family.prefix:
        assert free.pass_of("prefix") == forced.pass_of("prefix") == "injection"


@every_family
def test_the_shared_pass_can_be_insisted_on_where_it_is_exact(family):
    if family.shared:
        assert Prompted(zoo.backbone(family.name), conditioning="shared").verdict.shared is None
        return
    with pytest.raises(UnsupportedError, match="cannot take the shared-prompt pass: "):
        Prompted(zoo.backbone(family.name), conditioning="shared")


@pytest.mark.parametrize("family", [f for f in FAMILIES if not f.prefix], ids=str)
def test_a_prefix_that_cannot_be_exact_is_refused(family):
    """Layers that cannot be described refuse to build one; those that would get it wrong refuse to take it."""
    backbone = zoo.backbone(family.name)

    def apply() -> None:
        Prompted(backbone, {"mine": PrefixTuning(length=2, hidden=None).build(backbone)})

    with pytest.raises(UnsupportedError, match=REASONS[family.name]):
        apply()


@pytest.mark.parametrize("family", zoo.of_kind("encoder-decoder", "encoder-only"), ids=str)
@pytest.mark.parametrize("placement", ["middle", "append"])
def test_a_prefix_has_a_place_in_decoders_only(family, placement):
    with pytest.raises(UnsupportedError, match=f"placement='{placement}' of a prefix needs a decoder-only model"):
        PrefixTuning(placement=placement).build(zoo.backbone(family.name))


def reads(family: Family) -> dict[str, torch.Tensor]:
    return {"decoder_input_ids": torch.tensor([[zoo.PAD, 9]])} if family.kind == "encoder-decoder" else {}


@bounded
@pytest.mark.parametrize("conditioning", ["auto", "concatenation"])
def test_the_last_position_can_be_used_and_the_next_is_an_error(family, conditioning):
    prompts = batches.prompts(family)
    model = Prompted(zoo.backbone(family.name), prompts, conditioning=conditioning)
    ids = torch.arange(zoo.POSITIONS)[None] + 7
    fits = ids[:, : zoo.POSITIONS - 5]
    with torch.no_grad():
        got = model(input_ids=fits, prompts="short", **reads(family)).logits[0, -1]
        target = reads(family).get("decoder_input_ids", [None])[0]
        want = naive.logits(family, fits[0], prompts["short"], target=target)
        want = want[-1] if want.ndim == 2 else want[-1:].squeeze()
    assert batches.relative_error(got, want) <= 1e-5
    with pytest.raises(LengthError, match=f"Row 0 has {zoo.POSITIONS - 4} tokens and a prompt of 5, but .*positions"):
        model(input_ids=ids[:, : zoo.POSITIONS - 4], prompts="short", **reads(family))


@bounded
def test_a_prefix_takes_positions_in_decoders_only(family):
    if not family.prefix:
        return
    model = Prompted(zoo.backbone(family.name), batches.prompts(family))
    ids = torch.arange(zoo.POSITIONS)[None] + 7
    if family.kind == "decoder-only":
        with pytest.raises(LengthError, match="and a prompt of 4, but"):
            model(input_ids=ids, prompts="prefix")
    else:
        assert model(input_ids=ids, prompts="prefix", **reads(family)).logits.isfinite().all()


@pytest.mark.parametrize("family", [f for f in zoo.of_kind("decoder-only") if f.name != "bloom"], ids=str)
def test_what_is_to_be_generated_needs_positions_too(family):
    model = Prompted(zoo.backbone(family.name), batches.prompts(family))
    ids = torch.arange(zoo.POSITIONS - 9)[None] + 7
    made = model.generate(input_ids=ids, prompts="short", max_new_tokens=4, do_sample=False, min_new_tokens=4)
    assert made.shape[1] == zoo.POSITIONS - 5
    for options in (
        {"max_new_tokens": 5},
        {"max_length": zoo.POSITIONS - 4},
        {"generation_config": GenerationConfig(max_new_tokens=5)},
    ):
        with pytest.raises(LengthError, match="and 5 more are to be generated, but"):
            model.generate(input_ids=ids, prompts="short", **options)
    with pytest.raises(LengthError, match="and 20 more are to be generated, but"):
        model.generate(input_ids=ids, prompts="short")
    with pytest.raises(LengthError, match="max_length=55 counts the 55 tokens of the longest input too"):
        model.generate(input_ids=ids, prompts="short", max_length=55)


@pytest.mark.parametrize("family", [f for f in zoo.of_kind("encoder-decoder") if "t5" not in f.name], ids=str)
def test_a_target_needs_positions_too(family):
    model = Prompted(zoo.backbone(family.name), batches.prompts(family))
    labels = torch.full((1, zoo.POSITIONS + 1), 9)
    with pytest.raises(LengthError, match=f"A target has {zoo.POSITIONS + 1} tokens, but .* has 64 positions"):
        model(input_ids=labels[:, :3], prompts="short", labels=labels)
    with pytest.raises(LengthError, match=f"A target has {zoo.POSITIONS + 1} tokens"):
        model.score_ids(labels[:, :3], labels[:, :3] > 0, [labels.tolist()], prompts="short")


@pytest.mark.parametrize("family", [f for f in zoo.of_kind("encoder-decoder") if "t5" not in f.name], ids=str)
def test_a_target_that_is_generated_needs_positions_too(family):
    """It ended in the table of positions: an IndexError, on CUDA an assertion that ruins the process."""
    model = Prompted(zoo.backbone(family.name), batches.prompts(family))
    ids = torch.tensor([[7, 8, 9]])
    options = {"prompts": "short", "do_sample": False, "bad_words_ids": [[zoo.END]]}
    made = model.generate(input_ids=ids, max_new_tokens=zoo.POSITIONS, **options)
    assert made.shape[1] == zoo.POSITIONS + 1  # the start token was read, the last one not
    for lengths in ({"max_new_tokens": zoo.POSITIONS + 1}, {"max_length": zoo.POSITIONS + 2}):
        with pytest.raises(LengthError, match=f"A target has {zoo.POSITIONS + 1} tokens, but"):
            model.generate(input_ids=ids, **lengths, **options)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.window], ids=str)
@pytest.mark.parametrize("length", [zoo.WINDOW - 1, zoo.WINDOW, zoo.WINDOW + 1, 3 * zoo.WINDOW])
@pytest.mark.parametrize("conditioning", ["shared", "concatenation"])
def test_windows_of_prompts_and_inputs_as_long(family, length, conditioning):
    """Prompt and input around the window's length; every query loses the virtual tokens that its window leaves."""
    prompt = PromptTuning(length=length, init="vocab").build(zoo.backbone(family.name))
    model = Prompted(zoo.backbone(family.name), {"p": prompt}, conditioning=conditioning)
    rows = [torch.arange(count) * 5 % 80 + 7 for count in (1, zoo.WINDOW, 3 * zoo.WINDOW)]
    ids, mask = batches.pad(rows, "left", fill=5)
    with torch.no_grad():
        got = model(input_ids=ids, attention_mask=mask, prompts="p").logits
        for i, row in enumerate(rows):
            want = naive.logits(family, row, prompt)
            assert batches.relative_error(got[i][mask[i]], want) <= 1e-5
