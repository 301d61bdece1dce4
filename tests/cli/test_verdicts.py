"""Verdicts as `softprompt study` prints them."""

from __future__ import annotations

from dataclasses import replace

from softprompt.cli.verdicts import print_verdicts
from softprompt.evaluation import Interval
from softprompt.studies import Claim, Finding, Verdict

CLAIM = Claim(
    says="labels are a good start",
    better={"init": "class_labels"},
    worse={"init": "vocab"},
    number=3,
    source="Lester et al. 2021, §3.2",
)


def test_a_claim_has_its_effect_below(capsys):
    films = Finding(
        task="films",
        metric="accuracy",
        outcome="undecided",
        effect=1.25,
        low=-0.5,
        high=3.0,
        bootstrap=Interval(-0.25, 2.75),
        p=0.25,
        seeds=3,
        cells=4,
        unit="points",
    )
    found = Verdict(
        claim=CLAIM,
        outcome="undecided",
        findings=(films,),
        level=0.95,
        reason="rows on films has one learning_rate alone.",
    )
    topics = Finding(task="topics", metric="bleu", outcome="supported", effect=8.0, seeds=1, cells=2, unit="points")
    both = replace(found, outcome="supported", findings=(films, topics), reason="")
    weights = Claim(says="weights do better", better={"method": "weights"}, worse={"method": "rows"})
    nothing = Verdict(claim=weights, outcome="not tested", findings=(), level=0.95, reason="")
    print_verdicts([found, both, nothing])
    told = "+1.25 points [-0.50, +3.00] (bootstrap of seeds [-0.25, +2.75]) p = 0.250; seeds 3, comparisons 4\n"
    assert capsys.readouterr().out == (
        "\n"
        "3. Labels are a good start (Lester et al. 2021, §3.2): undecided\n"
        f"   films (accuracy): {told}"
        "   rows on films has one learning_rate alone.\n"
        "\n"
        "3. Labels are a good start (Lester et al. 2021, §3.2): supported\n"
        f"   films (accuracy): undecided, {told}"
        "   topics (bleu): supported, +8.00 points; seeds 1, comparisons 2\n"
        "\n"
        "Weights do better: not tested\n"
    )
    print_verdicts([])
    assert capsys.readouterr().out == ""
