"""The benchmarks measure what they say, and their page shows what was measured."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks.alike import UnlikeError, check_alike
from benchmarks.cases import CASES
from benchmarks.cases.loading import COMPILED, FROM_DISK, READ_ANEW
from benchmarks.cases.memory import PROCESSES
from benchmarks.cases.training import TOGETHER
from benchmarks.folder import merge_folders
from benchmarks.lines import BEST, DEFAULT, LIMIT, OURS, Line, Plan, compare, read_lines
from benchmarks.page import plot_slopes, render_case, render_profiles, render_slopes
from benchmarks.peaks import Peak, _resident
from benchmarks.products import count_products, replay, total_flops
from benchmarks.profile import CLASSES, OPTIMIZER, PRODUCTS, profile
from benchmarks.rows import LONG, draw_lengths, make_rows
from benchmarks.timing import alternate

import softprompt as sp
from benchmarks import __main__ as suite
from softprompt.backbones.spec import StackSpec

SPEC = sp.BackboneSpec(
    kind="decoder-only",
    dim=8,
    vocab=100,
    stacks={"decoder": StackSpec(layers=1, kv_heads=1, head_dim=8)},
    max_positions=None,
    no_prefix=None,
)


def line(**settings) -> Line:
    seconds = {OURS: [1.0, 2.0, 4.0], DEFAULT: [2.0, 4.0, 4.0], LIMIT: [0.5, 1.0, 4.0]}
    known = {"case": "steps", "shape": "small", "setting": "a step", "seconds": seconds}
    return Line(**{**known, "flops": {OURS: 10, DEFAULT: 20}, **settings})


def test_products_are_counted_and_made_again():
    a, b = torch.randn(3, 4), torch.randn(4, 5)
    products = count_products(lambda: [a @ b, a @ b, torch.addmm(torch.zeros(5), a, b), b.T @ a.T])
    assert products.total() == 4
    assert total_flops(products) == 4 * 2 * 3 * 4 * 5
    assert count_products(replay(products, torch.float32, torch.device("cpu"))) == products


def test_attentions_products_are_counted():
    query = torch.randn(2, 3, 7, 8)
    products = count_products(lambda: torch.nn.functional.scaled_dot_product_attention(query, query, query))
    assert total_flops(products) == 2 * (2 * 3) * 2 * 7 * 7 * 8


def test_each_way_is_taken_in_every_round():
    taken = []
    found = alternate({name: lambda name=name: taken.append(name) for name in "abc"}, 2)
    assert taken == ["a", "b", "c", "c", "b", "a"]
    assert {name: len(seconds) for name, seconds in found.items()} == {"a": 2, "b": 2, "c": 2}


def test_ratios_are_of_the_same_round():
    ratio = line().ratio(DEFAULT)
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 1.0, 2.0)
    assert line().predicted(DEFAULT) == 2
    assert line().over_limit.median == 2.0


def test_work_is_compared_with_its_own_products():
    a = torch.randn(64, 64)
    plan = Plan(rounds=2, quick=True, peers=False)
    found = compare({OURS: lambda: a @ a, "twice": lambda: a @ a @ a}, plan, case="c", shape="s", setting="t")
    assert set(found.seconds) == {OURS, "twice", LIMIT}
    assert found.predicted("twice") == 2
    looked = compare({OURS: lambda: a @ a}, replace(plan, profiled=True), case="c", shape="s", setting="t")
    assert not looked.seconds
    assert looked.profiles[OURS][PRODUCTS] > 0
    assert f"| s | t | {OURS} |" in render_profiles([looked])


def test_seconds_are_told_by_what_takes_them():
    weight = torch.randn(256, 256, requires_grad=True)
    optimizer = torch.optim.AdamW([weight])

    def step():
        (weight @ weight).sum().backward()
        optimizer.step()

    seconds = profile(step)
    assert set(seconds) == set(CLASSES)
    assert seconds[PRODUCTS] > 0
    assert seconds[OPTIMIZER] > 0


def test_few_shapes_are_measured_quickly_but_those_that_are_asked_for():
    names = ("small", "gpt2", "llama-7b")
    plan = Plan(rounds=1, quick=True, peers=False)
    assert plan.shapes(names) == ("small",)
    assert plan.shapes(names, quick=0) == ()
    assert replace(plan, quick=False).shapes(names) == ("small", "gpt2")
    assert replace(plan, only=["gpt2", "llama-7b"]).shapes(names, quick=0) == ("gpt2", "llama-7b")
    assert replace(plan, words="length 20").wants("prompt tuning, length 20, e2e")
    assert not replace(plan, words="length 20").wants("prompt tuning, length 100, e2e")


def test_rows_have_the_lengths_of_real_ones():
    for data in ("sentences", "e2e", "qed", "long"):
        lengths = draw_lengths(data, 500)
        assert len(lengths) == 500
        assert len(set(lengths)) > 10
        assert max(before for before, _ in lengths) <= LONG
        rows = make_rows(lengths, SPEC, prompt="a")
        assert [(len(row.input), len(row.target)) for row in rows] == lengths
        assert all(5 <= token < SPEC.vocab for row in rows for token in row.input)
    assert sum(before for before, _ in draw_lengths("long", 100)) > 450 * 100


def test_the_page_says_whether_goals_were_reached():
    """In every round, in some, in none; and how much there is of what counted work predicts."""
    setting = "prompt tuning, length 20, sentences, batch 16: an epoch"
    seconds = {OURS: [1.0, 1.0], DEFAULT: [1.9, 1.7], BEST: [1.1, 0.9], LIMIT: [0.7, 0.6]}
    table = render_case([line(shape="t5-small", setting=setting, seconds=seconds)])
    assert "**1.80** (1.70 to 1.90); 90% of the 2.0 that work predicts: **open**, reached in 1 of 2 rounds |" in table
    assert "**1.00** (0.90 to 1.10); goal 1: **open**, reached in 1 of 2 rounds" in table
    assert "under 1.5: **open**, reached in 1 of 2 rounds" in table
    assert f"Furthest over its products: 1.55 (t5-small, {setting})." in table
    setting = "prompt tuning, length 100, sentences, batch 16: an epoch"
    for times, told in ((8.0, "goal 8: met"), (7.9, "goal 8: **missed**")):
        seconds = {OURS: [1.0, 1.0], DEFAULT: [times, times]}
        assert told in render_case([line(setting=setting, seconds=seconds)])
    assert render_case([line(), line(base=DEFAULT)]).count("| shape | what |") == 2


def test_what_evaluation_adds_should_not_be_more_than_counted_work_predicts():
    """A training with evaluation that took longer than that once passed for more than was wanted."""
    for times, told in (
        (2.0, "100% of the 2.0 that work predicts: met"),
        (2.5, "80% of the 2.0 that work predicts: **missed**"),
    ):
        seconds = {OURS: [1.0, 1.0], DEFAULT: [times, times]}
        assert told in render_case([line(case="evaluation", shape="small", seconds=seconds)])


def test_a_first_token_is_held_against_its_own_time():
    """What a prompt's reading takes once counted as the token's own time, and so every goal was met."""
    seconds = {COMPILED: [0.05], READ_ANEW: [0.1], FROM_DISK: [0.102]}
    table = render_case([line(case="loading", base=COMPILED, seconds=seconds)])
    assert "| **52.0** (52.0 to 52.0); under 20: **missed** | **50.0** (50.0 to 50.0) | 50 |" in table


def test_memory_is_told_where_it_can_be_measured():
    mib = 2**20
    runs = line(case="memory", setting="a step of 8 runs", base=TOGETHER, seconds={}, flops={})
    table = render_case([replace(runs, memory={TOGETHER: 100 * mib, PROCESSES: 250 * mib})])
    assert "| eight processes | 250 | 2.50; goal 3: **missed** |" in table
    table = render_case([replace(runs, memory={TOGETHER: mib, PROCESSES: 250 * mib})])
    assert "| together | under 8 |  |" in table
    assert "| eight processes | 250 |  |" in table


def test_processes_share_what_is_mapped_from_files():
    """Libraries counted eight times in eight processes."""
    assert Peak(added=100, before=400, shared=300).of_processes(8) == 300 + 8 * 200
    assert Peak(added=100, before=400, shared=300).of_processes(1) == 500


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of resident memory is Linux's")
def test_a_peak_holds_what_work_touches():
    found = _resident(lambda: torch.ones(16 * 2**20))
    assert 60 * 2**20 < found.added < 80 * 2**20
    assert 0 < found.shared < found.before


def test_a_prompt_that_one_library_leaves_out_is_noticed():
    """A prompt may change a loss by less than a thousandth of it, which once passed for rounding."""
    bare, ours = torch.tensor([10.0, 11.0]), torch.tensor([10.005, 11.004])
    check_alike("losses", ours, ours + 1e-6, bare)
    for theirs in (bare, torch.tensor([10.005, 11.0])):
        with pytest.raises(UnlikeError, match=r"losses: softprompt says .* without the prompt"):
            check_alike("losses", ours, theirs, bare)


def test_sums_in_another_order_are_alike():
    """Losses of 11 are a millionth apart from one number to the next, which was more than a thousandth of an effect."""
    ours, bare = torch.tensor([11.012899398803711]), torch.tensor([11.01220703125])
    check_alike("loss of a batch", ours, torch.tensor([11.012900352478027]), bare)
    with pytest.raises(UnlikeError):
        check_alike("loss of a batch", ours, torch.tensor([11.01291]), bare)
    with pytest.raises(UnlikeError):
        check_alike("loss of a batch", ours, ours, ours + 2e-5)


@pytest.fixture
def fake_cases(monkeypatch):
    def steps(plan):
        for shape in plan.shapes(("small", "gpt2")):
            yield line(shape=shape)
            if plan.words == "broken":
                raise KeyboardInterrupt

    monkeypatch.setattr(suite, "CASES", {"steps": steps})


def test_runs_into_one_folder_make_one_page(fake_cases, tmp_path):
    """A run of some shapes deleted the lines of others, and its command named no shapes."""
    known = ["--cases", "steps", "--quick", "--output", str(tmp_path)]
    suite.main([*known, "--shapes", "small", "--dtype", "bfloat16"])
    with pytest.raises(KeyboardInterrupt):
        suite.main([*known, "--shapes", "gpt2", "--settings", "broken"])
    merge_folders([tmp_path], tmp_path / "merged")
    page = (tmp_path / "merged" / "benchmarks.md").read_text()
    kept = [(one.shape, one.setting) for one in read_lines(tmp_path / "steps.jsonl")]
    assert kept == [("small", "a step, bfloat16"), ("gpt2", "a step")]
    assert "- `python -m benchmarks --cases steps --quick --shapes small --dtype bfloat16`, " in page
    broken = [told for told in page.splitlines() if "--shapes gpt2 --settings broken`" in told]
    assert len(broken) == 1
    assert broken[0].endswith(": **not finished**")
    assert page.count("**not finished**") == 1


def test_a_run_that_measures_nothing_says_so(fake_cases, tmp_path):
    with pytest.raises(SystemExit, match="Nothing was measured"):
        suite.main(["--cases", "steps", "--shapes", "t5-small", "--output", str(tmp_path)])


def test_slopes_are_fitted_and_plotted(tmp_path):
    lines = [line(case="slopes: batch", x=x, seconds={OURS: [0.1 + 0.02 * x] * 2}) for x in (1, 2, 4)]
    assert "| small | rows of a batch | softprompt | 20.00 | 100.0 |" in render_slopes(lines)
    (plot,) = plot_slopes(lines, tmp_path)
    assert plot.read_text().lstrip().startswith("<?xml")


@pytest.mark.slow
def test_every_case_runs(tmp_path):
    """But the estimates, whose own test measures what they are compared with."""
    cases = [case for case in CASES if case != "estimate"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks",
            "--quick",
            "--rounds",
            "1",
            "--shapes",
            "small",
            "--cases",
            *cases,
            "--output",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    page = (tmp_path / "benchmarks.md").read_text()
    for case in cases:
        assert f"## {case.capitalize()}" in page
        assert f"- `python -m benchmarks --cases {case} --quick --rounds 1 --shapes small`" in page
        assert read_lines(tmp_path / f"{case}.jsonl")
