"""Verdicts as `softprompt study` prints them."""

from __future__ import annotations

from softprompt.cli.verdicts import print_verdicts
from softprompt.evaluation import Interval
from softprompt.studies import Claim, Verdict

CLAIM = Claim(
    says="labels are a good start",
    better={"init": "class_labels"},
    worse={"init": "vocab"},
    number=3,
    source="Lester et al. 2021, §3.2",
)


def test_a_claim_has_its_effect_below(capsys):
    found = Verdict(
        claim=CLAIM,
        outcome="undecided",
        effect=1.25,
        low=-0.5,
        high=3.0,
        bootstrap=Interval(-0.25, 2.75),
        p=0.25,
        seeds=3,
        cells=4,
        unit="points",
        reason="rows on films has one learning_rate alone.",
    )
    nothing = Verdict(
        claim=Claim(says="weights do better", better={"method": "weights"}, worse={"method": "rows"}),
        outcome="not tested",
        effect=None,
        low=None,
        high=None,
        bootstrap=None,
        p=None,
        seeds=0,
        cells=0,
        unit="points",
        reason="",
    )
    print_verdicts([found, nothing])
    assert capsys.readouterr().out == (
        "\n"
        "3. Labels are a good start (Lester et al. 2021, §3.2): undecided\n"
        "   +1.25 points [-0.50, +3.00] (bootstrap [-0.25, +2.75]) p = 0.250; seeds 3, comparisons 4\n"
        "   rows on films has one learning_rate alone.\n"
        "\n"
        "Weights do better: not tested\n"
    )
    print_verdicts([])
    assert capsys.readouterr().out == ""
