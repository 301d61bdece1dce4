"""Cosines within a prompt, and a map of several."""

from __future__ import annotations

import pytest
import torch
from tests.families import zoo
from tests.inspection.prompts import FAMILIES, made

from softprompt.errors import ConfigError
from softprompt.inspection import map_prompts, row_similarity
from softprompt.inspection.similarity import best_match, classical_scaling
from softprompt.prompts import PromptTuning


@pytest.mark.parametrize("family", FAMILIES)
def test_within_a_prompt(family):
    backbone = zoo.backbone(family)
    (found,) = row_similarity(backbone, made(family, "rows"))
    rows = made(family, "rows")().rows.detach()
    naive = [[float(torch.cosine_similarity(a, b, dim=0)) for b in rows] for a in rows]
    assert torch.allclose(torch.tensor(found.cosines), torch.tensor(naive), atol=1e-5)
    others = [naive[a][b] for a in range(5) for b in range(5) if a != b]
    assert found.mean == pytest.approx(sum(others) / len(others), abs=1e-5)
    layers = row_similarity(backbone, made(family, "prefix"))
    assert len(layers) == len(backbone.sites)
    stack, value = next(iter(made(family, "prefix")().keys_values.items()))
    one = next(one for one in layers if (one.stack, one.layer) == (stack, 1))
    flat = [value[1, :, :, row].detach().flatten() for row in (0, 1)]
    assert one.cosines[0][1] == pytest.approx(float(torch.cosine_similarity(*flat, dim=0)), abs=1e-5)


def test_one_row_is_like_no_other():
    (found,) = row_similarity(zoo.backbone("gpt2"), PromptTuning(length=1, init="vocab").build(zoo.backbone("gpt2")))
    assert found.mean is None


def test_best_match_does_not_mind_the_order():
    rows = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    assert best_match(rows, rows[[2, 0, 3, 1]]) == pytest.approx(1)
    assert best_match(rows, -rows) < 1
    assert best_match(rows, rows[:2]) == pytest.approx(best_match(rows[:2], rows))


def test_scaling_gives_distances_in_the_plane_back():
    points = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0], [5.0, 1.0]])
    found = classical_scaling(torch.cdist(points, points))
    assert torch.allclose(torch.cdist(found, found), torch.cdist(points, points).double(), atol=1e-5)
    assert found[:, 0].var() > found[:, 1].var()
    assert (found.gather(0, found.abs().argmax(0, keepdim=True)) > 0).all()


def test_a_map():
    backbone = zoo.backbone("gpt2")
    near = PromptTuning(length=5, init="vocab").build(backbone, seed=3)
    with torch.no_grad():
        for parameter in near.parameters():
            parameter += 0.01
    far = PromptTuning(length=3, init="random").build(backbone, seed=9)
    prompts = {"a": made("gpt2", "rows"), "b": near, "c": far, "prefix": made("gpt2", "prefix")}
    found = map_prompts(backbone, prompts)
    assert found.names == ("a", "b", "c")
    assert set(found.left_out) == {"prefix"}
    match = found.best_match["rows"]
    assert match[0][0] == pytest.approx(1)
    assert match[0][1] > match[0][2]
    assert found.mean_row["rows"][0][1] == pytest.approx(
        float(torch.cosine_similarity(*(one().rows.detach().mean(0) for one in (prompts["a"], near)), dim=0)), abs=1e-5
    )
    a, b, c = (torch.tensor(place) for place in found.places)
    assert (a - b).norm() < (a - c).norm()


def test_a_map_of_prefixes_has_every_layer():
    backbone, prefix = zoo.backbone("t5"), made("t5", "prefix")
    found = map_prompts(backbone, {"a": prefix, "b": prefix})
    assert set(found.best_match) == {f"{site.stack} {site.layer}" for site in backbone.sites.values()}


def test_nothing_to_compare():
    with pytest.raises(ConfigError, match="A map needs at least two prompts of one kind; of one, no two"):
        map_prompts(zoo.backbone("gpt2"), {"one": made("gpt2", "rows")})
