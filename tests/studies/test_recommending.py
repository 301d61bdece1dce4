"""Recommended settings: the papers' rules at their scales, and what a search finds."""

from __future__ import annotations

import dataclasses

import pytest
from tests.families.test_token_heads import asked, tagged
from tests.training.sessions import calm_backbone, describing, sentiment

from softprompt.errors import ConfigError, UnsupportedError
from softprompt.prompts import PromptTuning
from softprompt.studies import recommend, search_settings
from softprompt.studies.recommending import alternative
from softprompt.tasks import Task
from softprompt.training import Run, TrainConfig, find_method

BILLION = 10**9


def sized(monkeypatch, parameters: int):
    """Let a tiny encoder-decoder say that it has so many parameters."""
    backbone = calm_backbone("encoder-decoder")

    class Values:
        def numel(self):
            return parameters

    monkeypatch.setattr(backbone.model, "parameters", lambda: iter([Values()]))
    return backbone


def test_a_large_model_gets_the_settings_of_the_prompt_tuning_paper(monkeypatch):
    found = recommend(sized(monkeypatch, 11 * BILLION), sentiment()).settings
    assert found == {
        "method": "prompt_tuning", "length": 20, "init": "class_labels", "optimizer": "adafactor",
        "learning_rate": 0.3, "schedule": "constant", "weight_decay": 1e-5, "batch_size": 32, "steps": 30_000,
        "evaluate_every": 3000, "loss": "likelihood",
    }  # fmt: skip


def test_a_smaller_one_gets_keys_and_values_in_every_layer(monkeypatch):
    found = recommend(sized(monkeypatch, BILLION // 3), sentiment()).settings
    assert (found["method"], found["optimizer"], found["learning_rate"]) == ("p_tuning_v2", "adamw", 0.007)
    assert found["init"] == "class_labels"  # few rows


def test_free_text_gets_the_settings_of_the_prefix_tuning_paper(monkeypatch):
    found = recommend(sized(monkeypatch, BILLION), describing()).settings
    assert (found["method"], found["length"], found["hidden"]) == ("prefix_tuning", 10, 512)
    assert (found["learning_rate"], found["schedule"], found["batch_size"]) == (5e-5, "linear", 10)
    assert found["init"] == "vocab"


def test_a_model_without_prefixes_gets_rows(monkeypatch):
    backbone = calm_backbone("decoder-only")
    spec = dataclasses.replace(backbone.spec, no_prefix="its attention is its own")
    monkeypatch.setattr(backbone, "spec", spec)
    found = recommend(backbone, sentiment())
    assert found.advice[0].value == "prompt_tuning"
    assert "its attention is its own" in found.advice[0].reason


@pytest.mark.parametrize("task", [tagged, asked])
def test_tags_and_spans_get_keys_and_values_with_a_head(task):
    """A task without label words was taken for one of writing: a tagger was advised what is good for tables."""
    backbone = calm_backbone("encoder-only")
    found = recommend(backbone, task())
    chosen = {name: found.settings[name] for name in ("method", "head", "length", "init")}
    assert chosen == {"method": "p_tuning_v2", "head": True, "length": 100, "init": "random"}
    assert "tagging words and finding answers" in found.advice[0].reason
    assert "Liu et al. 2022" in found.advice[0].source
    assert "loss" not in found.settings
    other = alternative(backbone, task(), steps=50)
    assert (other["method"], other["head"]) == ("prompt_tuning", True)
    assert recommend(calm_backbone("decoder-only"), task()).settings["method"] == "prefix_tuning"


def test_small_models_get_what_was_found_on_their_own_kind():
    """A small T5 was given the rates of a GPT, which its own grids had found ten times too high, or three too low."""
    for kind, keys, rows, log in (("encoder-decoder", 0.01, 0.3, "t5-small"), ("decoder-only", 0.05, 0.1, "gpt-small")):
        found = next(
            one for one in recommend(calm_backbone(kind), sentiment()).advice if one.setting == "learning_rate"
        )
        assert found.value == keys
        assert log in found.source
        assert alternative(calm_backbone(kind), sentiment(), steps=50)["learning_rate"] == rows


@pytest.mark.parametrize("kind", ["encoder-decoder", "decoder-only"])
def test_a_template_with_places_gets_rows_for_them(kind):
    """It got keys and values, which no template divides, or rows of another number at another place."""
    task = sentiment(input="{soft:2} {text} {soft:3}")
    found = recommend(calm_backbone(kind), task).settings
    assert (found["method"], found["placement"], found["length"]) == ("prompt_tuning", "template", 5)
    assert alternative(calm_backbone(kind), task, steps=8) is None
    searched = search_settings(calm_backbone(kind), task, steps=4, config=TrainConfig(progress=False))
    assert (searched.settings["placement"], searched.settings["length"]) == ("template", 5)


def test_a_search_leaves_out_what_the_backbone_cannot_have():
    """Rows behind the input of a T5: the candidates with keys and values, which it refuses there, ended the search."""
    backbone, quiet = calm_backbone("encoder-decoder"), TrainConfig(progress=False)
    found = search_settings(backbone, sentiment(), steps=4, fixed={"placement": "append"}, config=quiet)
    assert found.settings["method"] == "prompt_tuning"
    assert "best of 3 candidates" in found.advice[0].reason
    divided = sentiment(input="{soft:2} {text}")
    fixed = {"method": "p_tuning_v2", "head": False}
    with pytest.raises(UnsupportedError, match="no rows that a template could divide"):
        search_settings(backbone, divided, steps=4, fixed=fixed, config=quiet)


@pytest.mark.parametrize(
    ("parameters", "task", "loss"),
    [(77, sentiment, "rank"), (100, sentiment, "likelihood"), (77, describing, "likelihood")],
)
def test_small_encoder_decoders_rank_label_words(parameters, task, loss, monkeypatch):
    """The grids did so, and advice and comparison of one's own task did not."""
    backbone = sized(monkeypatch, parameters * 10**6)
    found = next(one for one in recommend(backbone, task()).advice if one.setting == "loss")
    assert found.value == alternative(backbone, task(), steps=50)["loss"] == loss
    assert ("Schick" in found.source) == (loss == "rank")
    assert recommend(calm_backbone("decoder-only"), task()).settings["loss"] == "likelihood"


def test_the_budget_bounds_steps_and_is_named():
    backbone = calm_backbone("decoder-only")
    found = {one.setting: one for one in recommend(backbone, sentiment(), steps=50).advice}
    assert (found["steps"].value, found["evaluate_every"].value) == (50, 5)
    assert found["steps"].reason == "the budget; without it 1000"
    with pytest.raises(ConfigError, match="steps=0"):
        recommend(backbone, sentiment(), steps=0)


def test_the_rule_of_no_paper_stands_beside(monkeypatch):
    found = recommend(sized(monkeypatch, 4 * BILLION), sentiment())
    assert {one.setting: one.value for one in found.beside} == {"length": 150, "learning_rate": 0.15}
    assert all(one.source == "a summary's rule, in no paper" for one in found.beside)
    assert found.settings["learning_rate"] != 0.15
    small = recommend(sized(monkeypatch, BILLION // 4), sentiment()).beside
    assert {one.setting: one.value for one in small} == {
        "length": 25, "learning_rate": 0.6, "init": "vocab", "method": "model_tuning",
    }  # fmt: skip


def as_run(settings, task):
    """The run that settings stand for."""
    known = {field.name for field in dataclasses.fields(Run)}
    own = {name: value for name, value in settings.items() if name in known - {"method"}}
    rest = {name: value for name, value in settings.items() if name not in known}
    return Run(name="a", task=task, method=find_method(settings["method"], rest), **own)


def many_labels(count=30, **settings):
    """A task of more label words than a short prompt has rows."""
    rows = [{"text": "good", "label": str(number)} for number in range(count)]
    words = {str(number): f"good {' '.join(str(number))}" for number in range(count)}
    given = {"input": "{text}", "target": "{label}", "label_words": words, "name": "many", **settings}
    return Task.from_rows({"train": rows, "validation": rows[:4]}, **given)


@pytest.mark.parametrize("parameters", [10**6, BILLION, 20 * BILLION])
@pytest.mark.parametrize(
    "task", [sentiment, describing, many_labels, lambda: many_labels(4, input="{soft:1} {text} {soft:2}")]
)
def test_what_is_recommended_is_a_run(task, parameters, monkeypatch):
    """Label words were the start of prompts with fewer rows than labels, which no training takes."""
    backbone, made = sized(monkeypatch, parameters), task()
    found = recommend(backbone, made)
    assert as_run(found.settings, made).steps >= 1000
    assert all(one.reason and one.source for one in found.advice)
    for settings in (
        found.settings,
        recommend(backbone, made, steps=50).settings,
        alternative(backbone, made, steps=50),
    ):
        if settings is not None:
            as_run({**settings, "hidden": None} if "hidden" in settings else settings, made).method.build(
                backbone, made
            )


@pytest.mark.parametrize(("length", "init"), [(1, "vocab"), (2, "class_labels")])
def test_a_length_that_is_given_decides_whether_label_words_fit(length, init, monkeypatch):
    backbone = sized(monkeypatch, BILLION)
    found = recommend(backbone, sentiment(), length=length).settings
    assert (found["length"], found["init"]) == (length, init)
    assert alternative(backbone, sentiment(), steps=50, length=length)["init"] == init


def test_small_encoders_get_the_settings_of_their_own_paper():
    """They were advised the rate and the start of a GPT of five million parameters."""
    found = {one.setting: one for one in recommend(calm_backbone("encoder-only"), sentiment()).advice}
    assert (found["method"].value, found["learning_rate"].value, found["init"].value) == (
        "p_tuning_v2", 0.007, "class_labels",
    )  # fmt: skip
    assert "Liu et al. 2022" in found["learning_rate"].source


def test_an_encoder_is_advised_only_what_it_can_answer():
    """Another number of classes than the head's was met by the training alone, and free text not at all."""
    backbone = calm_backbone("encoder-only")  # with a head of two classes
    assert "head" not in recommend(backbone, sentiment()).settings
    assert recommend(backbone, many_labels(5)).settings["head"]
    with pytest.raises(UnsupportedError, match="are free text"):
        recommend(backbone, describing())


def test_a_search_takes_a_list_that_is_fixed_as_one_value(tmp_path):
    """Each prompt of a mean became a candidate of its own."""
    backbone, task = calm_backbone("encoder-decoder"), sentiment()
    sources = [
        str(PromptTuning(length=2, init="random").build(backbone, seed=seed).save(tmp_path / str(seed)))
        for seed in range(2)
    ]
    with pytest.raises(ConfigError, match="among 6 candidates"):
        search_settings(backbone, task, steps=4, fixed={"init": "prompt", "source": sources})


def test_a_search_goes_on_where_label_words_do_not_fit():
    """One candidate that could not be built ended the search of all."""
    backbone = calm_backbone("encoder-decoder")
    for fixed, count in ({}, 6), ({"length": 3}, 6), ({"towards": "good"}, 3):
        with pytest.raises(ConfigError, match=f"among {count} candidates"):
            search_settings(backbone, many_labels(), steps=2, fixed=fixed)
    with pytest.raises(ConfigError, match="a row for each of 30 labels or start words"):
        search_settings(backbone, many_labels(), steps=8, fixed={"init": "class_labels", "length": 6})


def test_a_search_recommends_the_best_on_validation(tmp_path):
    task, backbone = sentiment(rows=60), calm_backbone("decoder-only")
    config = TrainConfig(output_dir=tmp_path, progress=False)
    found = search_settings(backbone, task, steps=32, config=config)
    assert found.settings["steps"] == 32
    assert found.settings["method"] in ("p_tuning_v2", "prompt_tuning")
    histories = list((tmp_path / "runs").iterdir())
    assert len(histories) == 3 + 6  # rates; rows in front and behind
    lengths = sorted(len(path.read_text().splitlines()) for path in histories)
    assert lengths == [2] * 4 + [4] * 2 + [8] + [16] + [32]
    winner = next(one for one in found.advice if one.setting == "learning_rate")
    assert winner.source == "this search, seed 0"
    assert "best of 9 candidates" in winner.reason
    with pytest.raises(ConfigError, match="needs at least 16"):
        search_settings(backbone, task, steps=8)
