"""What is said of a claim, by where the interval of its effect lies."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats
from tests.studies.studied import BETTER, SIZES, WORSE, claim, claiming, scored, with_interval

from softprompt.studies import judge, summarise
from softprompt.studies.statistics import contrast, distance_p, mean_weights

NOISE = {0: -0.5, 1: 0.0, 2: 0.5}


CLOSES = {
    "says": "the gap closes",
    "better": {"method": "weights"},
    "worse": {"method": "rows", "init": "labels", "length": 10},
    "falls_with": "backbone_parameters",
}


def judged(grid, score, **elsewhere):
    return judge(grid, summarise(grid, scored(grid, score, **elsewhere)))


def ahead(points):
    """Rows that begin as labels so many points ahead, with some noise."""

    def score(cell):
        noise = NOISE[cell.seed]
        return 60.0 + noise * 0.3 + (points + noise if cell.settings.get("init") == "labels" else 0.0)

    return score


@pytest.mark.parametrize(
    ("points", "changes", "outcome"),
    [
        (3.0, {}, "supported"),
        (-3.0, {}, "not supported"),
        (0.1, {}, "undecided"),
        (3.0, {"margin": 2}, "supported"),
        (3.0, {"margin": 4}, "not supported"),
        (3.0, {"margin": 3}, "undecided"),
        (-1.0, {"margin": -2}, "supported"),
        (-3.0, {"margin": -2}, "not supported"),
        (0.5, {"within": 1}, "supported"),
        (-0.5, {"within": 1}, "supported"),
        (3.0, {"within": 1}, "not supported"),
        (-3.0, {"within": 1}, "not supported"),
        (1.0, {"within": 1}, "undecided"),
    ],
)
def test_the_outcome_is_where_the_interval_lies(points, changes, outcome):
    (found,) = judged(claiming(claim(**changes)), ahead(points))
    assert found.outcome == outcome
    for finding in found.findings:
        assert finding.outcome == outcome
        assert finding.effect == pytest.approx(points)
        assert finding.low < finding.effect < finding.high
        assert (finding.seeds, finding.cells, finding.unit, finding.reason) == (3, 4, "points", "")


def test_effect_interval_and_p_are_those_of_the_differences():
    grid = claiming(claim(among={"length": [1], "task": ["films"]}, margin=1))
    (found,) = judged(grid, ahead(2.0))
    (finding,) = found.findings
    known = contrast([contrast_cell(2.0)] * 2, mean_weights(2))
    assert (found.level, finding.task, finding.metric) == (0.95, "films", "accuracy")
    assert (finding.low, finding.high) == pytest.approx(known.interval)
    assert finding.bootstrap == pytest.approx(known.bootstrap)
    assert finding.p == distance_p(known, 1.0)
    (same,) = judged(claiming(claim(within=5)), ahead(2.0))
    assert all(finding.p < 1e-6 for finding in same.findings)


@pytest.mark.parametrize(
    ("films", "topics", "outcome", "reason"),
    [
        (3.0, 3.0, "supported", "Decided on 2 of 2 tasks."),
        (3.0, 0.1, "supported", "Decided on 1 of 2 tasks."),
        (0.1, -3.0, "not supported", "Decided on 1 of 2 tasks."),
        (0.1, -0.1, "undecided", "Decided on 0 of 2 tasks."),
        (30.0, -3.0, "undecided", "Decided on 2 of 2 tasks, which disagree."),
    ],
)
def test_each_task_is_judged_by_itself(films, topics, outcome, reason):
    """BLEU that rose by 58 once outweighed an accuracy that fell by 17: both in one mean, of points."""
    (found,) = judged(claiming(claim()), lambda cell: ahead({"films": films, "topics": topics}[cell.task])(cell))
    assert found.outcome == outcome
    assert [finding.effect for finding in found.findings] == pytest.approx([films, topics])
    assert found.reason == f"{reason} Each interval is of 97.5 %, so that all 2 are of 95 % together."


def test_a_task_has_its_own_variance_and_pays_for_the_others():
    def score(cell):
        noise = NOISE[cell.seed] * (10 if cell.task == "topics" else 1)
        return 60.0 + (3.0 + noise if cell.settings.get("init") == "labels" else 0.0)

    (both,) = judged(claiming(claim()), score)
    films, topics = both.findings
    assert (films.outcome, topics.outcome) == ("supported", "undecided")
    (alone,) = judged(claiming(claim(among={"task": ["films"]})), score)
    assert (both.level, alone.level) == (0.975, 0.95)
    assert films.high - films.low > alone.findings[0].high - alone.findings[0].low, "two looks, so each is wider"
    assert films.high - films.low < (topics.high - topics.low) / 9


def answered(cell, apart):
    """Of 400 test rows, 100 where a side is right: labels on all of the first rows, and as words are on the others."""
    right = np.random.default_rng(cell.seed).random(400) < 0.6
    if cell.settings["init"] == "labels":
        right[:apart] = True
    return 100.0 * right


def test_what_both_sides_get_right_or_wrong_together_says_nothing_of_their_difference():
    grid = claiming(
        claim(among={"task": ["films"], "length": [1]}),
        backbones=["bundled:t5-mini"],
        methods={name: settings for name, settings in claiming().methods.items() if name == "rows"},
    )
    rows = scored(grid, lambda cell: float(answered(cell, 60).mean()))
    kept = {cell.identity: {"rows": "the same", "values": answered(cell, 60).tolist()} for cell in grid.cells()}
    (found,) = judge(grid, summarise(grid, [{**row, "outcomes": {"test": kept[row["cell"]]}} for row in rows]))
    (finding,) = found.findings
    ours, theirs = (
        [answered(cell, 60) for cell in grid.cells() if is_chosen(cell, "films", init)] for init in ("labels", "words")
    )
    differences = np.subtract(ours, theirs)  # [seeds, rows]
    seeds = contrast([differences.mean(1)], mean_weights(1)).interval
    rows_error = differences.mean(0).std(ddof=1) / 400**0.5
    assert finding.effect == pytest.approx(differences.mean())
    assert finding.high - finding.effect == pytest.approx(
        np.hypot(seeds.high - finding.effect, stats.norm.isf(0.025) * rows_error)
    )
    assert (found.outcome, finding.reason) == ("supported", "")
    unpaired = np.hypot(*(np.mean([side.std(ddof=1) for side in sides]) for sides in (ours, theirs))) / 400**0.5
    assert rows_error < unpaired / 3


def is_chosen(cell, task, init):
    """Whether a cell is of one row that begins so, at the rate that is chosen."""
    settings = cell.settings
    values = (cell.task, settings.get("length"), settings["learning_rate"], settings.get("init"))
    return settings["method"] == "prompt_tuning" and values == (task, 1, 0.1, init)


def test_changes_to_further_tasks_err_by_the_rows_of_both():
    grid = claiming(claim(moved_to=["books"]), backbones=["bundled:t5-mini"])
    rows, cells = scored(grid, lambda cell: 60.0, books=ahead(3.0)), {cell.identity: cell for cell in grid.cells()}
    for row in rows:
        errs = cells[row["cell"]].settings.get("init") == "labels"
        row["outcomes"] = {
            "test": {"rows": "films", "values": [50.0 - 3.0 * errs, 50.0 + 3.0 * errs]},
            "on books": {"rows": "books", "values": [50.0 - 4.0 * errs, 50.0 + 4.0 * errs]},
        }
    (found,) = judge(grid, summarise(grid, rows))
    (finding,) = found.findings
    seeds = contrast([contrast_cell(3.0)] * 2, mean_weights(2)).interval
    assert finding.effect == pytest.approx(3.0)
    assert finding.high - 3.0 == pytest.approx(np.hypot(seeds.high - 3.0, stats.norm.isf(0.025) * 5.0))


OUTCOMES = np.random.default_rng(1)


def drawn_outcomes(rows, *names):
    """Outcomes by chance for each row of results, of 50 test rows by each name, and rows that have them."""
    found = [{name: OUTCOMES.normal(50.0, 20.0, 50) for name in names} for _ in rows]
    kept = [{name: {"rows": name, "values": values.tolist()} for name, values in one.items()} for one in found]
    return found, [{**row, "outcomes": one} for row, one in zip(rows, kept, strict=True)]


def row_error(grid, rows, found, weights):
    """Of a weighted sum of rows of results, the standard error as test rows are drawn.

    Args:
        grid: That they are of.
        rows: Of results.
        found: Their outcomes.
        weights: By cell and name, what its outcomes count.
    """
    cells = {cell.identity: cell for cell in grid.cells()}
    sums = {}
    for row, outcomes in zip(rows, found, strict=True):
        for name, weight in weights(cells[row["cell"]]).items():
            sums[name] = sums.get(name, 0.0) + weight * outcomes[name]
    return np.sqrt(sum(values.var(ddof=1) / 50 for values in sums.values()))


def of_rows(finding, effects, cell_weights):
    """What of a finding's interval comes from rows."""
    seeds = contrast(effects, cell_weights).interval
    return np.sqrt((finding.high - finding.effect) ** 2 - (seeds.high - seeds.low) ** 2 / 4) / stats.norm.isf(0.025)


def test_several_further_tasks_err_by_their_own_rows():
    grid = claiming(claim(tested_on=["books", "shoes"], among={"length": [1]}), backbones=["bundled:t5-mini"])
    rows = [row for row in scored(grid, ahead(0.0), books=ahead(3.0), shoes=ahead(3.0)) if row["task"] == "films"]
    found, kept = drawn_outcomes(rows, "test", "on books", "on shoes")
    ((finding,),) = [verdict.findings for verdict in judge(grid, summarise(grid, kept))]

    def weights(cell):
        if not is_chosen(cell, "films", cell.settings.get("init")):
            return {}
        sign = 1 if cell.settings["init"] == "labels" else -1
        return {"on books": sign / 6, "on shoes": sign / 6}

    of_these = of_rows(finding, [contrast_cell(3.0)], mean_weights(1))
    assert of_these == pytest.approx(row_error(grid, rows, found, weights))


def test_a_trend_errs_by_its_weights_at_the_same_rows():
    grid = claiming(claim(rises_with="length", among={"task": ["films"]}), backbones=["bundled:t5-mini"])

    def score(cell):
        return ahead(1.0 if cell.settings.get("length") == 1 else 4.0)(cell)

    rows = [row for row in scored(grid, score) if row["task"] == "films"]
    found, kept = drawn_outcomes(rows, "test")
    ((finding,),) = [verdict.findings for verdict in judge(grid, summarise(grid, kept))]

    def weights(cell):
        settings = cell.settings
        if settings["method"] != "prompt_tuning" or settings["learning_rate"] != 0.1:
            return {}
        side = 1 if settings["init"] == "labels" else -1
        return {"test": side * (1 if settings["length"] == 10 else -1) / 3}

    assert finding.effect == pytest.approx(3.0), "points per tenfold"
    of_these = of_rows(finding, [contrast_cell(1.0), contrast_cell(4.0)], np.array([-1.0, 1.0]))
    assert of_these == pytest.approx(row_error(grid, rows, found, weights))


def test_beside_a_number_a_line_errs_by_itself():
    grid = claiming(
        {"says": "labels pass", "better": BETTER, "reference": 50, "among": {"task": ["films"], "length": [1]}},
        backbones=["bundled:t5-mini"],
    )
    rows = [row for row in scored(grid, ahead(3.0)) if row["task"] == "films"]
    found, kept = drawn_outcomes(rows, "test")
    ((finding,),) = [verdict.findings for verdict in judge(grid, summarise(grid, kept))]
    effects = [np.array([60.0 + 0.3 * noise + 3.0 + noise - 50 for noise in NOISE.values()])]
    of_these = of_rows(finding, effects, mean_weights(1))
    expected = row_error(grid, rows, found, lambda cell: {"test": 1 / 3 * is_chosen(cell, "films", "labels")})
    assert of_these == pytest.approx(expected)


def test_rows_that_kept_no_outcomes_widen_the_interval_more():
    grid = claiming(claim(among={"task": ["films"]}))
    rows = [{name: value for name, value in row.items() if name != "outcomes"} for row in scored(grid, ahead(3.0))]
    (sure,) = judge(grid, summarise(grid, rows))
    (unsure,) = judge(
        grid, summarise(grid, [{**row, **with_interval("test_accuracy", row["test_accuracy"], 4.0)} for row in rows])
    )
    assert (sure.outcome, unsure.outcome) == ("supported", "undecided")
    (one,), (other,) = sure.findings, unsure.findings
    both_sides = 4.0 * 2**0.5  # that more seeds and backbones do not lessen: their rows are the same
    assert other.high - other.effect == pytest.approx(np.hypot(one.high - one.effect, both_sides))
    assert other.p > 0.05 > one.p
    assert (one.reason, unsure.reason) == (sure.reason, sure.reason)
    assert sure.reason.startswith("What came out for each test row was not kept of all")
    lacking = [{name: value for name, value in row.items() if not name.endswith("_low")} for row in rows]
    (told,) = judge(grid, summarise(grid, lacking))
    assert told.reason == (
        "Some scores lack their interval, so the interval of the effect leaves out that their rows were drawn."
    )
    assert (told.findings[0].low, told.findings[0].high) == (one.low, one.high)


def test_lines_that_no_seed_changes_are_one_draw():
    """Two text prompts once were 30 points apart, in all of three seeds, without any doubt."""
    methods = {name: {"method": "text_prompt", "text": name} for name in ("plain", "told")}
    methods["shown"] = {"method": "text_prompt", "shots": 2}
    grid = claiming(
        {"says": "words help", "better": {"method": "told"}, "worse": {"method": "plain"}},
        {"says": "examples help", "better": {"method": "shown"}, "worse": {"method": "plain"}},
        methods=methods,
        tasks={"films": {"task": "sst2"}},
        run={"learning_rate": 1},
    )
    told, shown = judged(
        grid, lambda cell: 60.0 + 30 * (cell.method != "plain") + NOISE[cell.seed] * (cell.method == "shown")
    )
    assert (told.outcome, told.findings[0].seeds, told.findings[0].low) == ("undecided", 1, None)
    assert told.findings[0].effect == pytest.approx(30.0)
    assert told.reason == "A verdict needs two seeds of each comparison at least, and one has 1."
    assert (shown.outcome, shown.findings[0].seeds) == ("supported", 3)


def test_seeds_that_do_not_differ_decide_nothing():
    (found,) = judged(
        claiming(claim(among={"task": ["films"]})), lambda cell: 60.0 + 5 * (cell.settings.get("init") == "labels")
    )
    (finding,) = found.findings
    assert (found.outcome, finding.effect, finding.low, finding.p) == ("undecided", 5.0, None, None)
    assert found.reason == "The seeds do not differ at all, so nothing is known of how sure it is."


def contrast_cell(points):
    return np.array([points + noise for noise in NOISE.values()])


def test_scores_are_paired_by_seed():
    """Seeds that are hard for both lines hide no difference between them."""

    def score(cell):
        return 60.0 + 20 * cell.seed + (1.0 + 0.1 * NOISE[cell.seed] if cell.settings.get("init") == "labels" else 0.0)

    (found,) = judged(claiming(claim()), score)
    assert found.outcome == "supported"
    assert all(finding.high - finding.low < 0.2 for finding in found.findings)


def test_a_seed_that_one_line_lacks_is_left_out_and_told():
    def score(cell):
        return None if (cell.settings.get("init"), cell.seed, cell.task) == ("words", 2, "films") else ahead(3.0)(cell)

    grid = claiming(claim(), tune_seeds=[0])
    (found,) = judged(grid, score)
    assert found.outcome == "supported"
    assert [(finding.seeds, finding.cells) for finding in found.findings] == [(2, 4), (3, 4)]
    assert found.reason.endswith("together. 4 of 8 comparisons lack some of the 3 seeds.")


def test_one_seed_is_no_verdict():
    grid = claiming(claim(), seeds=[0])
    (found,) = judged(grid, ahead(3.0))
    assert found.outcome == "undecided"
    for finding in found.findings:
        assert (finding.outcome, finding.low, finding.high, finding.p) == ("undecided", None, None, None)
        assert (finding.effect, finding.seeds) == (pytest.approx(2.5), 1)
        assert finding.reason == "A verdict needs two seeds of each comparison at least, and one has 1."
    assert f"films, topics: {finding.reason}" in found.reason


def test_a_claim_without_scores_is_not_tested():
    grid = claiming(claim())
    (found,) = judged(grid, lambda cell: None)
    assert (found.outcome, found.findings) == ("not tested", ())
    assert found.reason == "8 of 8 comparisons have no scores yet."
    (part,) = judged(grid, lambda cell: ahead(3.0)(cell) if cell.task == "films" else None)
    assert (part.outcome, part.findings[0].cells) == ("supported", 4)
    assert part.reason == "4 of 8 comparisons have no scores yet."
    narrowed = grid.narrowed(methods=["weights"])
    (gone,) = judge(narrowed, summarise(narrowed, []))
    assert gone.outcome == "not tested"
    assert gone.reason == (
        "The study has no two lines to compare; run the backbones, tasks and methods that the claim names."
    )


def test_what_a_backbone_cannot_have_is_told():
    grid = claiming(claim())
    lines = [
        dataclasses.replace(line, scores=(), seeds=(), unsupported="it has no rows.") if line.task == "topics" else line
        for line in summarise(grid, scored(grid, ahead(3.0)))
    ]
    (found,) = judge(grid, lines)
    assert [(finding.task, finding.cells) for finding in found.findings] == [("films", 4)]
    assert found.outcome == "supported"
    assert found.reason == "4 of 8 comparisons cannot be: it has no rows."


def test_a_comparison_at_one_rate_is_marked():
    methods = {
        "rows": {"method": "prompt_tuning", "learning_rate": [0.1, 0.3]},
        "weights": {"method": "model_tuning", "learning_rate": 0.001},
        "bare": {"method": "text_prompt", "learning_rate": 1},
    }
    sides = {"better": {"method": "rows"}, "worse": {"method": "weights"}}
    grid = claiming(
        {"says": "rows do better", **sides},
        {"says": "rows learn", **sides, "worse": {"method": "bare"}},
        methods=methods,
        tasks={"films": {"task": "sst2"}},
    )
    weights, bare = judged(grid, lambda cell: 60.0 + (5 + NOISE[cell.seed] if cell.method == "rows" else 0))
    assert weights.reason == "weights on films has one learning_rate alone."
    assert bare.reason == ""


def test_a_gap_that_closes_with_scale():
    grid = claiming(
        CLOSES,
        {
            "says": "the gap widens",
            "better": {"method": "weights"},
            "worse": {"method": "rows", "init": "labels", "length": 10},
            "rises_with": "backbone_parameters",
            "margin": -9,
        },
    )

    def score(cell):
        gap = {"bundled:t5-tiny": 12.0, "bundled:t5-mini": 5.0}[cell.backbone] + (20 if cell.task == "topics" else 0)
        return 90.0 + NOISE[cell.seed] if cell.method == "weights" else 90.0 - gap

    falls, rises = judged(grid, score)
    assert SIZES["bundled:t5-mini"] == 10 * SIZES["bundled:t5-tiny"]
    assert (falls.outcome, rises.outcome) == ("supported", "supported"), "it is no more than 9 points that it falls"
    for one, other in zip(falls.findings, rises.findings, strict=True):
        assert one.unit == "points per tenfold of backbone_parameters"
        assert one.effect == other.effect == pytest.approx(-7.0), "each task has its own level"
        assert one.low < -7 < one.high < 0
        assert one.p < other.p
    one = grid.narrowed(backbones=["bundled:t5-mini"])
    (alone, _) = judged(one, score)
    assert alone.outcome == "not tested"
    assert alone.reason == "A trend needs two values of backbone_parameters at least."


def test_what_has_one_size_alone_is_no_part_of_a_trend():
    """One seed of the only size of a task once left a whole trend undecided, in which it had no weight."""
    grid = claiming(
        CLOSES,
        backbones=["bundled:t5-tiny", "bundled:t5-mini", "bundled:gpt-mini"],
        tune_seeds=[0],
    )

    def score(cell):
        if "gpt" in cell.backbone or (cell.task == "topics" and "mini" in cell.backbone):
            return 50.0 if cell.seed == 0 else None
        gap = {"bundled:t5-tiny": 12.0, "bundled:t5-mini": 5.0}[cell.backbone]
        return 90.0 + NOISE[cell.seed] if cell.method == "weights" else 90.0 - gap

    rows = [row for row in scored(grid, score) if (row["task"], row["backbone"]) != ("topics", "bundled:t5-mini")]
    (found,) = judge(grid, summarise(grid, rows))
    (finding,) = found.findings
    assert (found.outcome, finding.task, finding.seeds, finding.cells) == ("supported", "films", 3, 2)
    assert finding.effect == pytest.approx(-7.0), "another family has a level of its own"
    assert "3 of 5 comparisons are left out, the only backbone_parameters of their kind." in found.reason


def test_a_gap_that_goes_with_an_axis():
    sides = {"better": BETTER, "worse": WORSE}
    grid = claiming({"says": "the start matters more for long prompts", **sides, "rises_with": "length"})

    def score(cell):
        if cell.method == "weights" or cell.settings["init"] == "words":
            return 60.0
        return 60.0 + NOISE[cell.seed] + {1: 1.0, 10: 4.0}[cell.settings["length"]]

    (found,) = judged(grid, score)
    assert found.outcome == "supported"
    assert [finding.effect for finding in found.findings] == pytest.approx([3.0, 3.0])
    against = {**sides, "worse": {"method": "weights"}}
    (other,) = judged(claiming({"says": "length helps", **against, "better": BETTER, "falls_with": "length"}), score)
    assert other.outcome == "not supported"
    assert [finding.effect for finding in other.findings] == pytest.approx([3.0, 3.0])


def test_scores_on_further_tasks():
    grid = claiming(
        claim(tested_on=["books"]),
        claim(tested_on=["books", "shoes"]),
        claim(moved_to=["books", "shoes"]),
    )

    def books(cell):
        return 50.0 + (4.0 + NOISE[cell.seed] if cell.settings.get("init") == "labels" else 0.0)

    def shoes(cell):
        return 40.0 + (2.0 + 2 * NOISE[cell.seed] if cell.settings.get("init") == "labels" else 0.0)

    one, both, moved = judged(grid, ahead(5.0), books=books, shoes=shoes)
    assert [verdict.outcome for verdict in (one, both, moved)] == ["supported", "supported", "not supported"]
    (one,), (both,), (moved,) = one.findings, both.findings, moved.findings
    assert (one.effect, one.cells) == (pytest.approx(4.0), 4), "topics is tested on nothing else"
    assert (both.effect, both.cells) == (pytest.approx(3.0), 4), "one difference for each run, the mean of both"
    assert moved.effect == pytest.approx(3.0 - 5.0), "labels lose two points more on the way"


def test_rows_of_several_further_tasks_are_drawn_apart():
    grid = claiming(claim(tested_on=["books", "shoes"]), claim(moved_to=["books"]))

    def further(cell):
        return 2 * ahead(0.0)(cell)

    rows = scored(grid, ahead(0.0), books=further, shoes=further)
    names = ("test_accuracy", "on books_accuracy", "on shoes_accuracy")
    wide = [
        {
            **row,
            **{
                key: value
                for name in names
                if name in row
                for key, value in with_interval(name, row[name], 4.0).items()
            },
            "outcomes": {},
        }
        for row in rows
    ]
    for plain, drawn, times in zip(
        judge(grid, summarise(grid, rows)), judge(grid, summarise(grid, wide)), (4 / 2**2, 4), strict=True
    ):
        (sure,), (unsure,) = plain.findings, drawn.findings
        reach = (times * 4.0**2) ** 0.5
        assert unsure.high - unsure.effect == pytest.approx(np.hypot(sure.high - sure.effect, reach))
