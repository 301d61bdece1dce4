"""What prompts look like: measures in the rows of a study, and claims about them."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from tests.models import tiny_backbone
from tests.studies.grids import small_grid
from tests.studies.studied import BETTER, WORSE, claim, claiming, scored
from tests.training.sessions import sentiment

from softprompt.errors import ConfigError
from softprompt.inspection import AttentionBand, LayerAttention, words
from softprompt.prompts import PrefixTuning, PromptTuning
from softprompt.studies import judge, run_grid, summarise
from softprompt.studies.measures import MEASURES, _reach, measured_columns
from softprompt.studies.pairing import check_claims

NOISE = {0: -0.5, 1: 0.0, 2: 0.5}


def looks(name, prompt, start=None, task=None):
    backbone = tiny_backbone("decoder-only")
    return MEASURES.get(name).function(backbone, prompt, start, task or sentiment())


def rows_near(word):
    """A prompt whose rows all stand where a word stands."""
    backbone = tiny_backbone("decoder-only")
    prompt = PromptTuning(length=2).build(backbone, sentiment(), seed=0)
    (token,) = backbone.tokenize(word)
    with torch.no_grad():
        for parameter in prompt.parameters():
            parameter.copy_(backbone.embed(torch.tensor([token])).expand_as(parameter))
    return prompt


def test_a_label_is_kept_where_a_row_stands_near_it():
    backbone = tiny_backbone("decoder-only")
    table = torch.nn.functional.normalize(backbone.embed(torch.arange(backbone.spec.vocab)).detach(), dim=-1)
    labels = {word: backbone.tokenize(word)[0] for word in ("bad", "good")}
    for word in ("bad", "great"):
        near = (table @ table[backbone.tokenize(word)[0]]).topk(5).indices.tolist()
        share = 100 * sum(token in near for token in labels.values()) / 2
        found = looks("labels", rows_near(word), start=rows_near("bad"))
        assert found["labels_kept"] == share
        assert found["labels_kept_before"] == looks("labels", rows_near("bad"))["labels_kept"] >= 50
    assert set(looks("labels", rows_near("bad"))) == {"labels_kept"}, "what it began as is not always known"


def test_chance_is_that_of_all_pairs_of_words(monkeypatch):
    monkeypatch.setattr(words, "stem", lambda word: word[:1])  # so few words share none of five letters
    backbone = tiny_backbone("decoder-only")
    known = [backbone.tokenizer.decode([token]).strip() for token in range(backbone.spec.vocab)]
    pairs = [one[:1] == other[:1] for one, other in itertools.combinations(known, 2)]
    assert sum(pairs) > 0
    assert words.stem_chance(backbone) == pytest.approx(sum(pairs) / len(pairs))
    found = looks("stems", rows_near("bad"), start=rows_near("good"))
    assert found["stem_share_chance"] == pytest.approx(100 * sum(pairs) / len(pairs))
    assert set(found) == {"stem_share", "stem_share_before", "stem_share_chance"}


def test_attention_is_that_of_the_input_where_it_sees_the_prompt():
    """Tokens before an appended prompt of a causal model see none of it, and their zeros were the mean."""
    backbone, task = tiny_backbone("decoder-only"), sentiment()
    front, behind = (
        looks("attention", PromptTuning(length=3, placement=place).build(backbone, task, seed=0))
        for place in ("prepend", "append")
    )
    assert set(front) == set(MEASURES.get("attention").units)
    assert 0 < front["attention_mass"] < 100
    assert 100 / 3 <= front["attention_spread"] <= 100
    assert behind["attention_mass"] > 0
    assert "attention_reach" not in behind, "no token stands eight tokens behind it"


def band(least, mass, even, tokens=1):
    return AttentionBand(least=least, tokens=tokens, mass=mass, even=even)


def layer(*bands):
    return LayerAttention(
        stack="decoder", layer=0, looker="input", tokens=1, mass=(0.5,), even=0.5, spread=(1.0,), text_distance=None,
        bands=bands,
    )  # fmt: skip


def test_reach_is_the_lift_of_far_tokens_over_that_of_near_ones():
    layers = [layer(band(0, 0.6, 0.2, tokens=3), band(4, 0.1, 0.4)), layer(band(8, 0.1, 0.1), band(16, 0.05, 0.2))]
    near, far = (3 * 0.6 + 0.1) / (3 * 0.2 + 0.4), (0.1 + 0.05) / (0.1 + 0.2)
    assert _reach(layers) == pytest.approx(far / near)
    assert _reach(layers[:1]) is None
    assert _reach(layers[1:]) is None


def test_what_is_stored_is_counted():
    backbone = tiny_backbone("decoder-only")
    prompt = PromptTuning(length=5).build(backbone, sentiment(), seed=0)
    values = sum(parameter.numel() for parameter in backbone.model.parameters())
    assert looks("storage", prompt) == {"stored_share": pytest.approx(1000 * 5 * 24 / values)}


def test_similarity_is_the_cosine_of_mean_rows():
    bad, good = rows_near("bad"), rows_near("good")
    means = [prompt().rows.detach().mean(0) for prompt in (bad, good)]
    cosine = 100 * float(torch.nn.functional.cosine_similarity(*means, dim=0))
    found = looks("similarity", bad, start=good)
    assert found == {"similarity": pytest.approx(cosine), "similarity_rows": pytest.approx(cosine)}
    assert cosine < 99
    backbone, task = tiny_backbone("decoder-only"), sentiment()
    prefix = PrefixTuning(length=2, hidden=None).build(backbone, task, seed=0)
    assert measured_columns(["similarity"], backbone, bad, task) == {
        "measured_missing": "similarity: the run starts from no prompt for another task."
    }
    row = measured_columns(["similarity"], backbone, bad, task, compared=(bad, prefix))
    assert "no two can be compared" in row["measured_missing"]
    whole = measured_columns(["similarity"], backbone, bad, task, compared=(prefix, prefix))
    assert whole["measured_similarity"] == pytest.approx(100, abs=1e-3), "of a prefix the mean over layers"


def test_what_there_is_none_of_is_told():
    backbone, task = tiny_backbone("decoder-only"), sentiment()
    prefix = PrefixTuning(length=2, hidden=None).build(backbone, task, seed=0)
    row = measured_columns(["labels", "stems", "storage"], backbone, prefix, task)
    assert set(row) == {"measured_missing", "measured_stored_share"}
    assert row["measured_missing"] == (
        "labels: keys and values stand near no words of the embedding table.; "
        "stems: keys and values stand near no words of the embedding table."
    )


@pytest.mark.slow
def test_measures_join_the_rows_of_prompts_and_change_nothing_else(tmp_path):
    """Rows of prompts that lack them are no rows of theirs; those of weights are."""
    plain = small_grid(tmp_path)
    asked = small_grid(tmp_path, measures=["storage", "labels"])
    run_grid(plain, tmp_path / "out", device="cpu", say=lambda line: None)
    table = run_grid(asked, tmp_path / "out", device="cpu", say=lambda line: None)
    rows = {row["cell"]: json.loads(json.dumps(row)) for row in table}
    assert len(table) == 6 + 4, "the prompts again, weights not"
    for before, after in zip(plain.cells(), asked.cells(), strict=True):
        measured = {name for name in rows[after.identity] if name.startswith("measured_")}
        assert not any(name.startswith("measured_") for name in rows[before.identity])
        if before.tunes_weights:
            assert before.identity == after.identity
            assert not measured
        else:
            assert before.identity != after.identity
            assert measured == {f"measured_{name}" for name in ("labels_kept", "labels_kept_before", "stored_share")}
        for name in ("validation_accuracy", "test_accuracy", "best_step"):
            assert rows[before.identity][name] == rows[after.identity][name]
    prompts, weights = summarise(asked, table)
    assert set(prompts.measured["labels_kept"]) == {0, 1}
    assert not weights.measured
    turned = small_grid(tmp_path, measures=["labels", "storage"])
    assert [cell.identity for cell in turned.cells()] == [cell.identity for cell in asked.cells()]


LOOKED = {"measures": ["labels", "storage"]}
HALF = {"method": "rows", "init": "labels"}


def judged(asked, **values):
    """Verdicts on rows with made-up values, by the names of what was measured."""
    rows = scored(asked, lambda cell: 60.0 + NOISE[cell.seed])
    for cell, row in zip(asked.cells(), rows, strict=True):
        if cell.method == "rows":
            row |= {f"measured_{name}": float(value(cell)) for name, value in values.items()}
    return judge(asked, summarise(asked, rows))


def kept(cell):
    return 50 + (20 + NOISE[cell.seed] if cell.settings["init"] == "labels" else 0)


def test_measures_are_compared_as_scores_are():
    asked = claiming(
        claim(measure="labels_kept"),
        {"says": "labels stay", "better": HALF, "measure": "labels_kept", "reference": "labels_kept_before"},
        {"says": "few stay", "worse": HALF, "measure": "labels_kept", "reference": 75},
        {"says": "few stay", "worse": HALF, "measure": "labels_kept", "reference": 65},
        **LOOKED,
    )
    sides, own, below, above = judged(asked, labels_kept=kept, labels_kept_before=lambda cell: 60)
    assert effects(sides) == ("supported", pytest.approx([20, 20]))
    assert [(one.metric, one.cells, one.unit) for one in sides.findings] == [("labels_kept", 4, "points")] * 2
    assert effects(own) == ("supported", pytest.approx([10, 10]))
    assert effects(below) == ("supported", pytest.approx([5, 5])), "above zero is the claimed side"
    assert effects(above) == ("not supported", pytest.approx([-5, -5]))


def effects(verdict):
    return verdict.outcome, [finding.effect for finding in verdict.findings]


def test_a_count_goes_with_size_in_its_own_unit_and_is_sure():
    """Seeds do not differ in it, and need not."""
    share = {"bundled:t5-tiny": 4.0, "bundled:t5-mini": 0.5}
    trend = {"better": HALF, "measure": "stored_share", "reference": 0, "falls_with": "backbone_parameters"}
    (found,) = judged(
        claiming({"says": "it shrinks", **trend}, **LOOKED), stored_share=lambda cell: share[cell.backbone]
    )
    assert effects(found) == ("supported", pytest.approx([-3.5, -3.5]))
    for finding in found.findings:
        assert finding.unit == "per thousand per tenfold of backbone_parameters"
        assert (finding.low, finding.p, finding.reason) == (None, None, "It is counted, and sure.")


LIKE = {"labels": 80.0, "words": 20.0}


def test_a_score_may_go_with_what_was_measured():
    """Each backbone has a level of its own; the axes make what is measured, so they do not tell groups apart."""
    grid = claiming(
        {"says": "it grows", "better": {"method": "rows"}, "reference": 0, "rises_with": "labels_kept"}, **LOOKED
    )

    def like(cell):
        return LIKE[cell.settings["init"]] + (10 if cell.settings["length"] == 1 else 0) + NOISE[cell.seed]

    def score(cell):
        if cell.method != "rows":
            return 60.0
        level = 30.0 if "mini" in cell.backbone else 0.0
        bent = 1.0 if cell.settings["length"] == 1 else 0.0
        return level + 0.5 * like(cell) + bent + NOISE[cell.seed]

    rows = scored(grid, score)
    for cell, row in zip(grid.cells(), rows, strict=True):
        if cell.method == "rows":
            row["measured_labels_kept"] = like(cell)
    (found,) = judge(grid, summarise(grid, rows))
    places, scores = [80, 90, 20, 30] * 2, [40, 46, 10, 16, 70, 76, 40, 46]
    levels = [[float(place < 4), float(place >= 4)] for place in range(8)]
    slope = np.linalg.lstsq(np.column_stack([places, levels]), np.array(scores), rcond=None)[0][0]
    within = [score - (28 if place < 4 else 58) for place, score in enumerate(scores)]
    r = np.corrcoef(places, within)[0, 1]
    assert found.outcome == "supported"
    for finding in found.findings:
        assert finding.effect == pytest.approx(10 * slope)
        assert finding.unit == "points per 10 of labels_kept"
        assert finding.cells == 8
        assert finding.reason == f"Within each backbone and method r = {r:+.2f}, over 8 means of seeds."
    unmeasured = [{name: value for name, value in row.items() if "measured" not in name} for row in rows]
    (lacking,) = judge(grid, summarise(grid, unmeasured))
    assert lacking.outcome == "not tested"
    assert lacking.reason == "16 of 16 comparisons have no scores with labels_kept yet."
    alike = [{**row, "measured_labels_kept": 50.0} if "measured_labels_kept" in row else row for row in rows]
    (flat,) = judge(grid, summarise(grid, alike))
    assert (flat.outcome, flat.reason) == ("not tested", "A trend needs two values of labels_kept at least.")


def test_a_score_may_be_held_against_a_number():
    (found,) = judged(claiming({"says": "sixty is much", "better": HALF, "reference": 50}))
    assert effects(found) == ("supported", pytest.approx([10, 10]))
    assert {finding.unit for finding in found.findings} == {"points"}


def test_what_was_not_measured_is_not_tested():
    asked = claiming(claim(measure="labels_kept", worse={"method": "weights"}, better=BETTER | {"length": 1}), **LOOKED)
    (found,) = judged(asked, labels_kept=kept)
    assert (found.outcome, found.reason) == ("not tested", "4 of 4 comparisons have no labels_kept yet.")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": 1}, "its reference stands in for one side; leave out better or worse"),
        ({"reference": 1, "better": {}, "worse": {}}, "its reference stands in for one side; name the other"),
        ({"worse": {}}, "needs better and worse, or one of them and a reference"),
        ({"worse": {}, "reference": "labels_kept"}, "its reference 'labels_kept' is a measure; name the measure too"),
        ({"worse": {}, "reference": float("inf")}, "reference=inf; expected a number or a measure"),
        ({"measure": "labels_kept", "tested_on": ["books"]}, "it has both measure and tested_on"),
        ({"measure": "labels_kept", "moved_to": ["books"]}, "it has both measure and moved_to"),
        (
            {"measure": "label_kept"},
            "measure of the claim 'labels are a good start' 'label_kept'. Did you mean 'labels_kept'",
        ),
        ({"measure": "stem_share"}, "Known: labels_kept, labels_kept_before, stored_share"),
        (
            {"worse": {}, "measure": "labels_kept", "reference": "stored_share"},
            "compares labels_kept (points) with stored_share (per thousand); compare values of one unit.",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(changes, message):
    with pytest.raises(ConfigError) as refusal:
        check_claims(claiming(claim(**{"better": BETTER, "worse": WORSE, **changes}), **LOOKED))
    assert message in str(refusal.value)


def test_a_grid_names_known_measures(tmp_path):
    with pytest.raises(ConfigError, match=r"Unknown measure 'label'\. Did you mean 'labels'\? Known: attention, lab"):
        small_grid(tmp_path, measures=["label"])
    with pytest.raises(ConfigError, match="measures of the grid 'small' is a list; put the single value into one"):
        small_grid(tmp_path, measures="labels")
