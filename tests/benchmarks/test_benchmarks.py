"""The benchmarks measure what they say, and their page shows what was measured."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from benchmarks.cases import CASES
from benchmarks.lines import LIMIT, OURS, Line, Plan, compare, read_lines, write_lines
from benchmarks.page import plot_slopes, render_case, render_slopes
from benchmarks.products import count_products, replay, total_flops
from benchmarks.rows import LONG, draw_lengths, make_rows
from benchmarks.timing import alternate

import softprompt as sp
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
    seconds = {OURS: [1.0, 2.0, 4.0], "other": [2.0, 4.0, 4.0], LIMIT: [0.5, 1.0, 4.0]}
    known = {"case": "steps", "shape": "small", "setting": "a step", "seconds": seconds}
    return Line(**{**known, "flops": {OURS: 10, "other": 25}, "goals": {"other": 1.5}, **settings})


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
    ratio = line().ratio("other")
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 1.0, 2.0)
    assert line().predicted("other") == 2.5
    assert line().over_limit.median == 2.0


def test_work_is_compared_with_its_own_products():
    a = torch.randn(64, 64)
    plan = Plan(rounds=2, quick=True, peers=False, only=())
    found = compare({OURS: lambda: a @ a, "twice": lambda: a @ a @ a}, plan, case="c", shape="s", setting="t")
    assert set(found.seconds) == {OURS, "twice", LIMIT}
    assert found.predicted("twice") == 2


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


def test_the_page_says_whether_goals_were_reached(tmp_path):
    lines = [line(), line(goals={"other": 3}), line(seconds={}, memory={OURS: 2**20, "other": 2**22})]
    write_lines(tmp_path / "steps.jsonl", lines)
    table = render_case(read_lines(tmp_path / "steps.jsonl"))
    assert "**2.00** (1.00 to 2.00); work predicts 2.5; goal 1.5: met" in table
    assert "goal 3: **missed**" in table
    assert "| other | 4 | 4.00; goal 1.5: met |" in table
    assert render_case([line(), line(base="other")]).count("| shape | what |") == 2


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
        assert f"`python -m benchmarks --cases {case} --quick --rounds 1`" in page
        assert read_lines(tmp_path / f"{case}.jsonl")
