"""The evidence register: what became of each claim of the papers, in one row each."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, final

import yaml

from softprompt.config import from_mapping
from softprompt.errors import ConfigError
from softprompt.reporting.judgements import HOW_JUDGED, compared, task_effects
from softprompt.reporting.markdown import as_table
from softprompt.reporting.opening import Study
from softprompt.reporting.parts import Table
from softprompt.studies import Verdict

__all__ = ["RegisteredClaim", "make_register", "registered_claims"]

_HEAD = (
    "# Evidence\n\n`{command}` writes this page.\n\nWhat is claimed of soft prompts, and what studies of this"
    f" repository say of it. A verdict is of the backbones that the study ran on, small ones mostly. {HOW_JUDGED} Units"
    " are points of the task's metric, or those of what was measured of prompts."
)
_COMMAND = "softprompt study --grid {study} --data_dir DATA --output_dir runs/{study}"
_NOT_RUN = "not run yet"


@final
@dataclass(frozen=True, kw_only=True)
class RegisteredClaim:
    """A claim of the register.

    Attributes:
        number: By which claims of grids name it.
        says: The claim, in a sentence.
        source: Who says so.
        studies: The grids that test it.
        measured: What no study compares, and what measures it; empty if nothing.
        beyond: What small backbones cannot show of it; empty if nothing.
        larger: The `models` of the hub that could, and the `command`.
    """

    number: int
    says: str
    source: str
    studies: Sequence[str]
    measured: str = ""
    beyond: str = ""
    larger: Mapping[str, str] = field(default_factory=dict)

    @property
    def commands(self) -> dict[str, str]:
        """By study, what runs it."""
        return {study: _COMMAND.format(study=study) for study in self.studies}


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


def make_register(studies: Sequence[Study], *, target: str = "evidence.md") -> str:
    """The register as Markdown: a row for each claim, then what it stands on, and what takes larger models.

    Args:
        studies: Of whose claims those with a number count.
        target: The file that it is written to, for the command at its top.

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
        columns=("", "claim", "verdict", "effect [interval]", "study", "command", "last run"),
        rows=tuple(_row(claim, found[claim.number]) for claim in claims),
        note=_counted(claims, found),
    )
    told = [_detail(claim, found[claim.number]) for claim in claims]
    head = _HEAD.format(command=_command(studies, target))
    return "\n\n".join([head, as_table(table), "## What each stands on", *told]) + "\n"


def _command(studies: Sequence[Study], target: str) -> str:
    folders = ", ".join(study.folder.as_posix() for study in studies)
    return f'softprompt report --results "[{folders}]" --evidence {target}'


def _row(claim: RegisteredClaim, found: Sequence[_Found]) -> tuple[str, ...]:
    ran = {one.study.grid.name: one.study for one in found}
    lettered = list(zip(string.ascii_lowercase, found, strict=False))
    return (
        str(claim.number),
        f"{claim.says} ({claim.source})",
        "\n".join(f"{letter}. {one.verdict.outcome}: {one.verdict.claim.says}" for letter, one in lettered) or _NOT_RUN,
        "\n".join(f"{letter}. {effect}" for letter, one in lettered for effect in task_effects(one.verdict)),
        "\n".join(study if study in ran else f"{study}: {_NOT_RUN}" for study in dict.fromkeys((*claim.studies, *ran))),
        "\n".join(claim.commands.values()),
        "\n".join(dict.fromkeys(study.last for study in ran.values())),
    )


def _detail(claim: RegisteredClaim, found: Sequence[_Found]) -> str:
    """What was tested of a claim, and what would take larger models."""
    ran = {one.study.grid.name for one in found}
    lines = [_tested(letter, one) for letter, one in zip(string.ascii_lowercase, found, strict=False)]
    lines += [f"- {study}: {_NOT_RUN}: `{command}`" for study, command in claim.commands.items() if study not in ran]
    if claim.measured:
        lines.append(f"- Measured beside the studies: {claim.measured}")
    if claim.beyond:
        lines.append(f"- Not testable with small backbones: {claim.beyond}")
    if claim.larger:
        lines.append(f"- Models of the hub that would tell: {claim.larger['models']}: `{claim.larger['command']}`")
    return "\n".join([f"**{claim.number}.** {claim.says}", "", *lines])


def _tested(letter: str, one: _Found) -> str:
    verdict = one.verdict
    effects = zip(task_effects(verdict), verdict.findings, strict=True)
    told = "; ".join(f"{effect}, {compared(finding)}" for effect, finding in effects)
    reason = f" {verdict.reason}" if verdict.reason else ""
    return (
        f"- {letter}. {verdict.claim.says} *{one.study.grid.name}, {verdict.outcome}*" + (f": {told}." if told else ".")
    ) + reason


def _counted(claims: Sequence[RegisteredClaim], found: Mapping[int, Sequence[_Found]]) -> str:
    tested = [claim for claim in claims if any(one.verdict.outcome != "not tested" for one in found[claim.number])]
    return f"{len(tested)} of {len(claims)} claims were tested; each claim below with what was compared."
