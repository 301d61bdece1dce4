"""Norms beside those of words."""

from __future__ import annotations

import pytest
import torch
from tests.families import zoo
from tests.inspection.prompts import FAMILIES, made

from softprompt.inspection import prompt_norms
from softprompt.inspection.norms import shares_below
from softprompt.prompts import PrefixTuning


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_beside_the_table(family):
    backbone, prompt = zoo.backbone(family), made(family, "rows")
    (found,) = prompt_norms(backbone, prompt)
    table = sorted(float(backbone.embed(torch.tensor([i])).norm()) for i in range(backbone.spec.vocab))
    rows = prompt().rows.detach().norm(dim=-1).tolist()
    assert found.prompt == pytest.approx(rows)
    assert found.words["0"] == pytest.approx(table[0])
    assert found.words["0.5"] == pytest.approx(table[round(0.5 * (len(table) - 1))])
    assert found.words["1"] == pytest.approx(table[-1])
    below = [sum(word < row - 1e-6 for word in table) / len(table) for row in rows]  # the rows are words themselves
    assert found.below == pytest.approx(below, abs=1.5 / len(table))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_by_layer_beside_activations_of_words(family):
    backbone, prompt = zoo.backbone(family), made(family, "prefix")
    found = prompt_norms(backbone, prompt)
    layers = {(one.stack, one.layer, one.of): one for one in found}
    assert len(layers) == 2 * len(backbone.sites)
    stack, value = next(iter(prompt().keys_values.items()))
    assert layers[stack, 1, "values"].prompt == pytest.approx(
        [float(value[1, 1, :, row].detach().norm()) for row in range(4)], rel=1e-5
    )
    ids = torch.tensor([backbone.common_tokens(1)])
    keys = {tuple(site): pair[0] for site, pair in backbone.record(backbone.embed(ids), ids >= 0).items()}
    one = layers[stack, 0, "keys"]
    assert one.words["0"] - 1e-5 <= float(keys[stack, 0].norm()) <= one.words["1"] + 1e-5


def test_a_prefix_of_some_layers_has_norms_of_these():
    backbone = zoo.backbone("gpt2")
    prompt = PrefixTuning(length=2, hidden=None, layers=(0, -1)).build(backbone)
    assert [(one.layer, one.of) for one in prompt_norms(backbone, prompt)] == [
        (0, "keys"), (0, "values"), (2, "keys"), (2, "values"),
    ]  # fmt: skip


def test_shares_below():
    shares = shares_below(torch.tensor([0.0, 2.5, 9.0]), torch.tensor([4.0, 1.0, 2.0, 3.0]))
    assert shares.tolist() == [0.0, 0.5, 1.0]
