"""The evidence register: what became of each claim of the papers, in one row each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, final

import yaml

from softprompt.config import from_mapping
from softprompt.errors import ConfigError
from softprompt.reporting.markdown import as_table
from softprompt.reporting.opening import Study
from softprompt.reporting.parts import Table
from softprompt.reporting.wording import effect_text, plural
from softprompt.studies import Verdict

__all__ = ["RegisteredClaim", "make_register", "registered_claims"]

_HEAD = (
    "# Evidence\n\nWhat is claimed of soft prompts, and what studies of this repository say of it. A verdict is of the"
    " backbones that the study ran on, small ones mostly. It is *supported* if the whole 95 % interval of the effect"
    " over seeds lies on the claimed side, *not supported* if it lies on the other, *undecided* if it lies on both."
    " Effects are in points of the task's metric, or in the unit of what was measured of prompts, of the side that"
    " is said to be better less the other."
)
_COMMAND = "softprompt study --grid {study} --data_dir DATA --output_dir runs/{study}"


@final
@dataclass(frozen=True, kw_only=True)
class RegisteredClaim:
    """A claim of the register.

    Attributes:
        number: By which claims of grids name it.
        says: The claim, in a sentence.
        source: Who says so.
        study: The grid that tests it.
        beyond: What small backbones cannot show of it; empty if nothing.
        larger: The `models` of the hub that could, and the `command`.
    """

    number: int
    says: str
    source: str
    study: str
    beyond: str = ""
    larger: Mapping[str, str] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """What tests it."""
        return _COMMAND.format(study=self.study)


@final
@dataclass(frozen=True, kw_only=True)
class _Found:
    """A verdict with the study that it is of."""

    study: Study
    verdict: Verdict


def registered_claims() -> list[RegisteredClaim]:
    """The claims, in the order of their numbers."""
    listed: list[dict[str, Any]] = yaml.safe_load(
        (files("softprompt.reporting") / "register.yaml").read_text(encoding="utf-8")
    )
    return [from_mapping(RegisteredClaim, claim) for claim in listed]


def make_register(studies: Sequence[Study]) -> str:
    """The register as Markdown: a row for each claim, then what takes larger models.

    Args:
        studies: Of whose claims those with a number count.

    Raises:
        ConfigError: If a study's claim has a number that the register does not have.
    """
    claims = registered_claims()
    found: dict[int, list[_Found]] = {claim.number: [] for claim in claims}
    for study in studies:
        for verdict in study.verdicts:
            number = verdict.claim.number
            if number is None:
                continue
            if number not in found:
                raise ConfigError(
                    f"A claim of {study.grid.name!r} has the number {number}; the register has 1 to {len(claims)}."
                )
            found[number].append(_Found(study=study, verdict=verdict))
    table = Table(
        title="Claims",
        columns=("", "claim", "verdict", "effect [95 % interval]", "study", "command", "last run"),
        rows=tuple(_row(claim, found[claim.number]) for claim in claims),
        note=_counted(claims, found),
    )
    told = [_detail(claim, found[claim.number]) for claim in claims]
    return "\n\n".join([_HEAD, as_table(table), "## What each stands on", *told]) + "\n"


def _row(claim: RegisteredClaim, found: Sequence[_Found]) -> tuple[str, ...]:
    said = f"{claim.says} ({claim.source})"
    if not found:
        return (str(claim.number), said, "not run yet", "", claim.study, claim.command, "")
    studies = {one.study.grid.name: one.study for one in found}
    return (
        str(claim.number),
        said,
        "\n".join(one.verdict.outcome for one in found),
        "\n".join(effect_text(one.verdict) for one in found),
        "\n".join(studies),
        "\n".join(f"softprompt report {study.folder}" for study in studies.values()),
        "\n".join(study.last for study in studies.values()),
    )


def _detail(claim: RegisteredClaim, found: Sequence[_Found]) -> str:
    """What was tested of a claim, and what would take larger models."""
    lines = [f"**{claim.number}.** {claim.says}"]
    lines += [_tested(one) for one in found]
    if not found:
        lines.append(f"- Not run yet: `{claim.command}`")
    if claim.beyond:
        lines.append(f"- Not testable with small backbones: {claim.beyond}")
    if claim.larger:
        command = claim.larger.get("command")
        lines.append(
            f"- Models of the hub that would tell: {claim.larger['models']}" + (f": `{command}`" if command else ".")
        )
    return "\n".join([lines[0], "", *lines[1:]]) if lines[1:] else lines[0]


def _tested(one: _Found) -> str:
    verdict = one.verdict
    counts = f"{plural(verdict.cells, 'pair')} of lines, {plural(verdict.seeds, 'seed')}" if verdict.cells else ""
    told = [one.study.grid.name, verdict.outcome, effect_text(verdict), counts]
    reason = f" {verdict.reason}" if verdict.reason else ""
    return f"- {verdict.claim.says} *{', '.join(part for part in told if part)}*.{reason}"


def _counted(claims: Sequence[RegisteredClaim], found: Mapping[int, Sequence[_Found]]) -> str:
    tested = [claim for claim in claims if any(one.verdict.outcome != "not tested" for one in found[claim.number])]
    return f"{len(tested)} of {len(claims)} claims have a verdict; each claim below with what was compared."
