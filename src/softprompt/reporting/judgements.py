"""What became of claims, as a report and the register show it: each task by itself."""

from __future__ import annotations

from collections.abc import Sequence

from softprompt.reporting.parts import Table
from softprompt.reporting.wording import plural
from softprompt.studies import Finding, Verdict

__all__ = ["HOW_JUDGED", "compared", "effect_text", "task_effects", "verdict_table"]

HOW_JUDGED = (
    "An effect is that of the side that is said to be better less the other, mean over pairs of lines, with an interval"
    " over seeds and over the rows that were scored, paired by seed, and by row where the study kept what came out for"
    " each. Each task is judged by itself: supported if its whole interval lies on the claimed side, not supported if"
    " it lies on the other, undecided if it lies on both. A claim is what its decided tasks say, undecided if they"
    " disagree; its intervals are of 95 % for all of its tasks together. Nothing is corrected for the number of claims."
)


def effect_text(finding: Finding) -> str:
    """`+10.2 [+8.1, +12.3] points`; without an interval the effect alone."""
    interval = "" if finding.low is None or finding.high is None else f" [{finding.low:+.1f}, {finding.high:+.1f}]"
    return f"{finding.effect:+.1f}{interval} {finding.unit}"


def task_effects(verdict: Verdict) -> tuple[str, ...]:
    """The effect on each task, by its name; where there are several, with what each says."""
    several = len(verdict.findings) > 1
    return tuple(
        f"{finding.task} ({finding.metric}): {effect_text(finding)}" + (f", {finding.outcome}" if several else "")
        for finding in verdict.findings
    )


def verdict_table(verdicts: Sequence[Verdict]) -> Table | None:
    """A row for each claim, in its cells a line for each task; None without claims."""
    if not verdicts:
        return None
    rows = tuple(
        (
            verdict.claim.says + (f" ({verdict.claim.source})" if verdict.claim.source else ""),
            verdict.outcome,
            "\n".join(task_effects(verdict)),
            "\n".join(_likely(finding.p) for finding in verdict.findings),
            "\n".join(compared(finding) for finding in verdict.findings),
            verdict.reason,
        )
        for verdict in verdicts
    )
    return Table(
        title="Verdicts",
        columns=("claim", "verdict", "effect", "p", "compared", "to be known"),
        rows=rows,
        note=f"{HOW_JUDGED} p: how likely an effect as far from the margin would be, if it lay there; of each task by"
        " itself.",
    )


def compared(finding: Finding) -> str:
    """`2 pairs, 3 seeds`."""
    return f"{plural(finding.cells, 'pair')}, {plural(finding.seeds, 'seed')}"


def _likely(p: float | None) -> str:
    return "" if p is None else f"{p:.3f}" if p >= 0.001 else "< 0.001"
