"""What a claim may say, and which lines it compares."""

from __future__ import annotations

import itertools

import pytest
import yaml
from tests.studies.studied import BETTER, WORSE, claim, claiming

from softprompt.errors import ConfigError
from softprompt.studies import Claim, load_grid, named_grids, summarise
from softprompt.studies.claims import read_claims
from softprompt.studies.pairing import check_claims, facts, pair_up


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"says": " "}, "A claim says nothing; put it into a sentence"),
        ({"bettr": {}}, "Unknown setting of Claim 'bettr'. Did you mean 'better'"),
        ({"worse": BETTER}, "The claim 'labels are a good start': better and worse name the same lines"),
        ({"better": "rows"}, "better of a claim is a mapping, such as {method: LABEL}, not 'rows'."),
        ({"tested_on": "books"}, "tested_on is a list; put the single value into one"),
        ({"among": {"method": "rows"}}, "method is a list; put the single value into one"),
        ({"rises_with": "length", "falls_with": "length"}, "both rises_with and falls_with; make two claims of it"),
        ({"tested_on": ["books"], "moved_to": ["books"]}, "both tested_on and moved_to"),
        ({"within": 1, "rises_with": "length"}, "both within and trend"),
        ({"within": 1, "margin": 1}, "both within and margin"),
        ({"within": 0}, "within=0; expected points above zero"),
        ({"margin": float("nan")}, "margin=nan; expected points"),
        ({"margin": "2"}, "margin='2': expected a number"),
        ({"rises_with": "init"}, "init is what the difference goes with; name it on neither side"),
    ],
)
def test_what_cannot_be_claimed_is_refused_with_its_grid(changes, message):
    with pytest.raises(ConfigError) as refusal:
        claiming(claim(**changes))
    assert message in str(refusal.value)


def test_claims_are_a_list():
    for wrong in (claim(), ["better"], "better"):
        with pytest.raises(ConfigError, match=r"claims: expected a list of mappings, each with says, better and worse"):
            read_claims(wrong)
    with pytest.raises(ConfigError, match="'all is well' needs better and worse, or one of them and a reference"):
        read_claims([{"says": "all is well"}])


LINES = [
    facts(backbone, task, "rows", {"init": init, "length": length})
    for backbone, task, init, length in itertools.product("ab", ("films", "topics"), ("labels", "words"), (1, 10))
] + [facts(backbone, task, "weights", {}) for backbone, task in itertools.product("ab", ("films", "topics"))]


def said(pairs):
    return [(LINES[one], LINES[other]) for one, other in pairs]


def test_lines_are_compared_that_are_equal_in_all_else():
    pairs = said(pair_up(Claim(**claim()), LINES))
    assert len(pairs) == 8
    for better, worse in pairs:
        assert (better["init"], worse["init"]) == ("labels", "words")
        assert {**better, "init": ""} == {**worse, "init": ""}


def test_what_one_side_alone_has_must_be_named():
    rows = {"method": "rows", "init": "labels"}
    against = {"says": "rows do as well", "worse": {"method": "weights"}}
    assert not pair_up(Claim(better=rows, **against), LINES)
    pairs = said(pair_up(Claim(better={**rows, "length": 10}, **against), LINES))
    assert [(one["backbone"], one["task"], one["length"]) for one, _ in pairs] == [
        *(("a", "films", 10), ("a", "topics", 10), ("b", "films", 10), ("b", "topics", 10))
    ]
    trend = Claim(better=rows, **against, rises_with="length")
    assert len(pair_up(trend, LINES)) == 8, "the axis of a trend is named by it"
    assert {one["length"] for one, _ in said(pair_up(trend, LINES))} == {1, 10}


def test_a_trend_compares_lines_at_one_value():
    pairs = said(pair_up(Claim(**claim(falls_with="length")), LINES))
    assert len(pairs) == 8
    assert all(better["length"] == worse["length"] for better, worse in pairs)


def test_both_sides_are_narrowed_together():
    pairs = said(pair_up(Claim(**claim(among={"backbone": ["b"], "length": [1]})), LINES))
    assert [(one["backbone"], one["task"], one["length"]) for one, _ in pairs] == [
        ("b", "films", 1),
        ("b", "topics", 1),
    ]
    layers = [facts("a", "films", "rows", {"layers": layers}) for layers in ((-1,), (0, 1))]
    found = pair_up(Claim(says="the last is enough", better={"layers": [-1]}, worse={"layers": [0, 1]}), layers)
    assert found == [(0, 1)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"better": {"method": "row"}}, "method of the claim 'labels are a good start' 'row'. Did you mean 'rows'"),
        ({"better": {"start": "labels"}}, "Unknown axis of the claim 'labels are a good start' 'start'"),
        ({"worse": {"method": "rows", "init": "noise"}}, "init of the claim 'labels are a good start' 'noise'"),
        ({"among": {"task": ["film"]}}, "task of the claim 'labels are a good start' 'film'. Did you mean 'films'"),
        ({"tested_on": ["book"]}, "further task of the claim 'labels are a good start' 'book'. Did you mean 'books'"),
        ({"rises_with": "depth"}, "axis of the claim 'labels are a good start' 'depth'"),
        (
            {"better": {"method": "rows"}, "worse": {"method": "weights"}},
            "The claim 'labels are a good start' compares no two lines of the grid 'starts': its sides must have the"
            " same axes but for those that they name; name what else tells them apart.",
        ),
        (
            {"better": {"init": "labels", "length": 10}, "worse": {"init": "words"}},
            "compares one line (backbone bundled:t5-tiny, task films, method rows, init labels, length 10) with 2"
            " others; name on both sides what they differ in.",
        ),
    ],
)
def test_claims_that_no_line_can_answer_are_refused(changes, message):
    with pytest.raises(ConfigError) as refusal:
        check_claims(claiming(claim(**changes)))
    assert message in str(refusal.value)


def test_a_trend_needs_numbers():
    grid = claiming(
        {"says": "it goes with words", "better": BETTER, "worse": {"method": "weights"}, "rises_with": "length"}
    )
    check_claims(grid)
    words = claiming({"says": "it does", "better": {"length": 1}, "worse": {"length": 10}, "rises_with": "init"})
    with pytest.raises(
        ConfigError, match="The claim 'it does': init has the value 'labels'; a trend needs numbers above"
    ):
        check_claims(words)


def test_a_study_may_be_given_the_backbones_that_a_claim_names():
    sides = {"better": {"backbone": "bundled:t5-tiny"}, "worse": {"backbone": "models/t5-tiny-span"}}
    grid = claiming({"says": "adaptation helps", **sides})
    check_claims(grid)
    assert list(grid.backbones) == ["bundled:t5-tiny", "bundled:t5-mini"]


def test_a_bad_claim_is_met_when_its_file_is_read(tmp_path):
    grid = {
        "backbones": ["a"],
        "tasks": {"films": {"task": "sst2"}},
        "methods": {"rows": {"method": "prompt_tuning", "init": ["labels", "words"]}},
        "claims": [claim(worse={"method": "rows", "init": "word"})],
    }
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(grid), encoding="utf-8")
    with pytest.raises(ConfigError, match="Did you mean 'words'"):
        load_grid(file)
    file.write_text(yaml.safe_dump({**grid, "claims": [claim()]}), encoding="utf-8")
    assert load_grid(file).claims[0]["worse"] == WORSE


def test_families_are_compared_size_by_size():
    names = [
        "bundled:t5-tiny",
        "bundled:t5-mini",
        "models/t5-tiny-span",
        "models/t5-mini-span",
        "google/t5-xl-lm-adapt",
    ]
    lines = [facts(name, "films", "rows", {}) for name in names]
    sides = {"better": {"family": ["bundled:t5", "google/t5-lm-adapt"]}, "worse": {"family": "models/t5-span"}}
    assert pair_up(Claim(says="adaptation helps", **sides), lines) == [(0, 2), (1, 3)]
    among = {"better": {"method": "rows"}, "reference": 50, "among": {"family": ["bundled:t5", "google/t5-lm-adapt"]}}
    found = pair_up(Claim(says="they learn", **among), lines)
    assert [one for one, _ in found] == [0, 1, 4]
    tiny = Claim(says="size helps", better={"size": "mini"}, worse={"size": "tiny"})
    assert pair_up(tiny, lines) == [(1, 0), (3, 2)], "within a family"
    check_claims(claiming({"says": "of other backbones", **sides}, claim(among={"family": ["bundled:t5"]})))
    with pytest.raises(ConfigError, match="compares no two lines"):
        check_claims(claiming(claim(among={"family": ["bundled:gpt"]})))


@pytest.mark.parametrize("name", named_grids())
def test_every_named_grid_has_a_question_and_claims_about_its_own_lines(name):
    grid = load_grid(name)
    assert grid.question.endswith("?")
    assert grid.claims
    lines = [facts(line.backbone, line.task, line.method, line.axes) for line in summarise(grid, [])]
    for one in read_claims(grid.claims):
        given = {side["backbone"] for side in (one.better, one.worse) if "backbone" in side} - set(grid.backbones)
        assert given or pair_up(one, lines)
