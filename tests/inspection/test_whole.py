"""Everything of a prompt, as plain values and as tables."""

from __future__ import annotations

import json

import jaxtyping
import pytest
from tests.families import zoo
from tests.inspection.prompts import FAMILIES, made
from tests.inspection.test_samples import TASK, prompt_for
from tests.models import tiny_backbone

from softprompt.errors import ConfigError
from softprompt.inspection import inspect_prompt, inspection_tables, map_prompts, map_table
from softprompt.prompts import PrefixTuning, PromptTuning


@pytest.mark.parametrize("kind", ["decoder-only", "encoder-decoder", "encoder-only"])
def test_all_of_it_on_each_kind(kind):
    backbone = tiny_backbone(kind)
    for method in (PromptTuning(length=3), PrefixTuning(length=2, hidden=None)):
        info = {"format": TASK.format.to_mapping(), "run": {"seed": 4}}
        prompt = method.build(backbone, TASK, seed=4).with_info(**info)
        seen = inspect_prompt(backbone, prompt, task=TASK, rows=2, common=20, count=2)
        assert seen.left_out == {}
        assert json.loads(json.dumps(seen.to_mapping(), allow_nan=False))["backbone"] == f"tiny {kind}"
        assert seen.words["before cosine"] == seen.words["after cosine"]
        titles = [table.title for table in inspection_tables(seen)]
        for start in (
            "Nearest words together",
            "Norms",
            "Cosine between",
            "Attention onto",
            "What 2 rows lose",
            "Where",
        ):
            assert any(title.startswith(start) for title in titles), start
        for table in inspection_tables(seen):
            assert {len(row) for row in table.rows} == {len(table.columns)}


@pytest.mark.parametrize("family", FAMILIES)
def test_without_texts_on_each_family(family):
    seen = inspect_prompt(zoo.backbone(family), made(family, "rows"), count=2)
    assert set(seen.left_out) == {"before training", "attention", "importance", "attribution"}
    assert seen.left_out["attention"] == "it needs texts to read; give a task or an input"
    assert set(seen.words) == {"after cosine", "after distance"}
    assert [table.title for table in inspection_tables(seen)] == [
        "Nearest words of each row", "Nearest words together", "Norms", "Cosine between different rows",
    ]  # fmt: skip


def test_a_text_is_enough_for_attention_and_attribution():
    backbone = tiny_backbone("decoder-only")
    prompt = prompt_for("decoder-only", format=TASK.format.to_mapping())
    seen = inspect_prompt(backbone, prompt, what=["attention", "importance", "attribution"], text="the film was sad")
    assert seen.left_out == {"importance": "it needs rows with targets; give a task"}
    assert seen.words == {}
    integrated, product = seen.attribution
    assert integrated.said == product.said
    attention = next(t for t in inspection_tables(seen) if t.title == "Attention onto the prompt")
    first = seen.attention[0]
    assert attention.rows[0][:4] == (first.stack, first.layer, first.looker, first.tokens)
    assert attention.rows[0][4] == pytest.approx(100 * sum(first.mass) / 4)
    assert attention.rows[0][7] == pytest.approx(100 * max(first.mass))


def test_where_nothing_can_be_seen_it_says_why():
    backbone = zoo.backbone("bloom")
    prompt = PromptTuning(length=2, init="vocab").build(backbone)
    seen = inspect_prompt(backbone, prompt, what=["attention", "attribution"], text="the film", target="good")
    assert "does not show its attention" in seen.left_out["attention"]
    assert len(seen.attribution) == 2


def test_an_unknown_aspect(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ConfigError, match=r"Unknown thing to look at 'word'. Did you mean 'words'"):
        inspect_prompt(zoo.backbone("gpt2"), made("gpt2", "rows"), what=["word"])


def test_the_map_names_the_nearest_other():
    backbone = zoo.backbone("gpt2")
    twin = PromptTuning(length=5, init="vocab").build(backbone, seed=3)
    far = PromptTuning(length=5, init="random").build(backbone, seed=1)
    table = map_table(map_prompts(backbone, {"far": far, "one": made("gpt2", "rows"), "twin": twin}))
    assert [(row[0], row[3]) for row in table.rows][1:] == [("one", "twin"), ("twin", "one")]
    assert table.rows[1][4] == pytest.approx(1)
