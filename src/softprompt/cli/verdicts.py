"""What became of a study's claims, as text."""

from __future__ import annotations

from collections.abc import Sequence

from softprompt.studies import Verdict

__all__ = ["print_verdicts"]


def print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """Print a claim's verdict, its effect and what is to be known about it; nothing without claims.

    Args:
        verdicts: Of `judge`.
    """
    for verdict in verdicts:
        claim = verdict.claim
        number = "" if claim.number is None else f"{claim.number}. "
        source = f" ({claim.source})" if claim.source else ""
        print(f"\n{number}{claim.says[0].upper()}{claim.says[1:]}{source}: {verdict.outcome}")
        if verdict.effect is not None:
            print(f"   {_effect(verdict)}")
        if verdict.reason:
            print(f"   {verdict.reason}")


def _effect(verdict: Verdict) -> str:
    parts = [f"{verdict.effect:+.2f} {verdict.unit}"]
    if verdict.low is not None and verdict.high is not None:
        parts.append(f"[{verdict.low:+.2f}, {verdict.high:+.2f}]")
    if verdict.bootstrap is not None:
        parts.append(f"(bootstrap [{verdict.bootstrap.low:+.2f}, {verdict.bootstrap.high:+.2f}])")
    if verdict.p is not None:
        parts.append(f"p = {verdict.p:.3f}")
    return f"{' '.join(parts)}; seeds {verdict.seeds}, comparisons {verdict.cells}"
