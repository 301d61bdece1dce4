"""What became of a study's claims, as text."""

from __future__ import annotations

from collections.abc import Sequence

from softprompt.studies import Finding, Verdict

__all__ = ["print_verdicts"]


def print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """Print a claim's verdict, its effect on each task and what is to be known about it; nothing without claims.

    Args:
        verdicts: Of `judge`.
    """
    for verdict in verdicts:
        claim = verdict.claim
        number = "" if claim.number is None else f"{claim.number}. "
        source = f" ({claim.source})" if claim.source else ""
        print(f"\n{number}{claim.says[0].upper()}{claim.says[1:]}{source}: {verdict.outcome}")
        for finding in verdict.findings:
            outcome = f"{finding.outcome}, " if len(verdict.findings) > 1 else ""
            print(f"   {finding.task} ({finding.metric}): {outcome}{_effect(finding)}")
        if verdict.reason:
            print(f"   {verdict.reason}")


def _effect(finding: Finding) -> str:
    parts = [f"{finding.effect:+.2f} {finding.unit}"]
    if finding.low is not None and finding.high is not None:
        parts.append(f"[{finding.low:+.2f}, {finding.high:+.2f}]")
    if finding.bootstrap is not None:
        parts.append(f"(bootstrap of seeds [{finding.bootstrap.low:+.2f}, {finding.bootstrap.high:+.2f}])")
    if finding.p is not None:
        parts.append(f"p = {finding.p:.3f}")
    return f"{' '.join(parts)}; seeds {finding.seeds}, comparisons {finding.cells}"
