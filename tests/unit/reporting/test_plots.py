"""Which figures a study has, and what is drawn in them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.reporting.rows import SIZES, grid, rows, score

from softprompt.reporting.parts import Figure, Point
from softprompt.reporting.plots import plan_figures
from softprompt.studies import Grid, summarise
from softprompt.studies.families import family_of


def figures(asked: Grid, **scored: Any) -> dict[str, Figure]:
    lines = rows(asked, **scored)
    return {figure.name: figure for figure in plan_figures(asked, summarise(asked, lines), lines)}


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("bundled:t5-tiny", "bundled:t5"),
        ("models/t5-small-span", "models/t5-span"),
        ("google/t5-xl-lm-adapt", "google/t5-lm-adapt"),
        ("google/t5-xxl-lm-adapt", "google/t5-lm-adapt"),
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3"),
        ("smallest/mine", "smallest/mine"),
    ],
)
def test_a_family_is_a_name_without_its_size(name, without):
    assert family_of(name) == without


def test_sizes_of_a_family_are_a_line_and_several_methods_are_set_against_what_they_train():
    found = figures(grid())
    assert list(found) == ["score_against_size", "score_against_trained"]
    sizes = found["score_against_size"]
    assert (sizes.log, sizes.joined, sizes.x_label) == (True, True, "parameters of the backbone")
    (panel,) = sizes.panels
    assert [series.label for series in panel.series] == ["prompt tuning", "model tuning"]
    assert panel.series[0].points == (Point(580_096, 63.0, 1.0, 3), Point(2_348_832, 65.0, 1.0, 3))
    assert panel.levels[0].score == 52.4
    assert [panel.title for panel in found["score_against_trained"].panels] == [
        "films: bundled:t5-tiny",
        "films: bundled:t5-mini",
    ]


def test_one_backbone_and_one_method_leave_nothing_to_draw():
    alone = grid(backbones=["bundled:t5-tiny"], methods={"rows": {"method": "prompt_tuning", "learning_rate": 0.1}})
    assert figures(alone) == {}


def test_lines_of_another_family_are_not_joined_and_states_of_the_same_sizes_are_compared():
    found = figures(grid(backbones=list(SIZES)))
    series = found["score_against_size"].panels[0].series
    assert [(one.state, len(one.points)) for one in series if one.label == "prompt tuning"] == [
        ("bundled:t5", 2),
        ("models/t5-span", 2),
        ("bundled:gpt", 1),
    ]
    states = found["pre_training"]
    assert [panel.title for panel in states.panels] == ["films: prompt tuning", "films: model tuning"]
    assert [one.label for one in states.panels[0].series] == ["bundled:t5", "models/t5-span"]


def test_an_axis_of_numbers_is_a_line_and_one_of_words_dots_with_the_other_axes_fixed():
    methods = {
        "rows": {"method": "prompt_tuning", "length": [1, 20, 100], "init": ["random", "vocab"], "learning_rate": 0.1},
        "bare": {"method": "text_prompt"},
    }
    found = figures(grid(backbones=["bundled:t5-tiny"], methods=methods))
    length, init = found["axis_length"], found["axis_init"]
    assert (length.joined, length.log, length.ablation) == (True, True, True)
    assert (init.joined, init.log, init.ablation) == (False, False, True)
    assert [series.label for series in length.panels[0].series] == ["rows, init random", "rows, init vocab"]
    assert [point.x for point in length.panels[0].series[0].points] == [1, 20, 100]
    assert [point.x for point in init.panels[0].series[0].points] == ["random", "vocab"]
    assert [level.label for level in length.panels[0].levels] == ["most frequent answer", "bare"]
    assert not figures(grid(backbones=["bundled:t5-tiny"], methods=methods))["score_against_trained"].ablation


def test_a_short_range_of_numbers_is_not_logarithmic():
    methods = {"rows": {"method": "prompt_tuning", "length": [5, 10], "learning_rate": 0.1}}
    assert figures(grid(methods=methods))["axis_length"].log is False


def test_other_domains_stand_beside_the_own_one():
    tasks = {"films": {"task": "sst2", "tested_on": {"books": {"task": "amazon_books"}}}}
    (panel, _) = figures(grid(tasks=tasks))["domain_shift"].panels
    assert panel.series[0].points == (Point("films (own)", 63.0, 1.0, 3), Point("books", 53.0, 1.0, 3))


def test_ensembles_stand_beside_the_mean_and_the_best_of_the_members_of_each_draw():
    """Draw d has the seeds from d times the members on; a draw whose members were not all run is left out."""
    methods = {
        "single": {"method": "prompt_tuning", "length": 20, "learning_rate": [0.1, 0.3]},
        "together": {"method": "ensemble", "of": "single", "members": 2, "combine": "vote"},
    }
    asked = grid(backbones=["bundled:t5-tiny"], methods=methods)

    def scored(cell):
        return 80.0 + 2 * cell.seed if cell.method == "together" else score(cell)

    (panel,) = figures(asked, scored=scored)["ensembles"].panels
    assert panel.series[0].points == (
        Point("mean of members", 62.5, None, 1),
        Point("best member", 63.0, None, 1),
        Point("ensemble", 80.0, None, 1),
    )
    more = grid(backbones=["bundled:t5-tiny"], methods=methods, seeds=[0, 1, 2, 3, 4, 5])
    lines = rows(asked, scored) + [
        {**one, "key": f"more{one['key']}"}
        for one in rows(more, scored)
        if one["label"] == "single" and one["seed"] > 2
    ]
    found = {figure.name: figure for figure in plan_figures(asked, summarise(asked, lines), lines)}
    assert [(point.mean, point.seeds) for point in found["ensembles"].panels[0].series[0].points] == [
        (64.5, 3),
        (65.0, 3),
        (82.0, 3),
    ]


def test_states_of_one_size_are_drawn_against_the_steps_of_their_adaptation():
    """All stood above each other: they differ in nothing that the axis of sizes has."""
    steps = {"models/t5-tiny-span": 0, "bundled:t5-tiny": 2600, "bundled:gpt-mini": 650}
    asked = grid(backbones=list(steps), methods={"rows": {"method": "prompt_tuning", "learning_rate": 0.1}})
    lines = [
        {**row, "backbone_parameters": 580_096, "backbone_adapted_steps": steps[row["backbone"]]}
        for row in rows(asked, lambda cell: steps[cell.backbone] / 100)
    ]
    found = {figure.name: figure for figure in plan_figures(asked, summarise(asked, lines), lines)}
    assert list(found) == ["adaptation"]
    (panel,) = found["adaptation"].panels
    assert panel.title == "films: 580 K parameters"
    assert [(point.x, point.mean) for point in panel.series[0].points] == [(0, 0.0), (650, 6.5), (2600, 26.0)]
    unknown = [{**row, "backbone_adapted_steps": None} for row in lines[:3]] + lines[3:]
    found = {figure.name: figure for figure in plan_figures(asked, summarise(asked, unknown), unknown)}
    assert list(found) == ["pre_training"]


def test_a_figure_fits_on_a_page():
    tasks = {f"task{number}": {"task": "sst2"} for number in range(7)}
    found = figures(grid(tasks=tasks))
    assert [len(found[name].panels) for name in ("score_against_size_1", "score_against_size_2")] == [6, 1]
    assert found["score_against_size_2"].title.endswith("(2 of 2)")
    trained = found["score_against_trained_1"]
    assert {series.state for series in trained.panels[0].series} == {"bundled:t5-tiny", "bundled:t5-mini"}


def test_the_numbers_are_what_is_drawn():
    numbers = figures(grid())["score_against_size"].numbers
    assert numbers.columns == ("panel", "series", "580 K", "2.35 M")
    assert numbers.rows[0] == ("films", "prompt tuning", "63.0 ± 1.0 (3)", "65.0 ± 1.0 (3)")
    assert numbers.note.endswith("Lines across: most frequent answer 52.4.")
    lengths = {"rows": {"method": "prompt_tuning", "length": [1, 2, 3, 4, 5, 6, 7], "learning_rate": 0.1}}
    many = figures(grid(methods=lengths, backbones=["bundled:t5-tiny"]))["axis_length"].numbers
    assert many.columns == ("panel", "series", "length (virtual tokens)", "score")
    assert many.rows[6] == ("films: bundled:t5-tiny", "rows", "7", "61.0 ± 1.0 (3)")
