"""The evidence register: one row for each claim, whether it was tested or not."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml
from tests.unit.reporting.rows import far_apart, grid, rows, write_study

from softprompt.errors import ConfigError
from softprompt.reporting import make_register, open_study
from softprompt.reporting.evidence import registered_claims
from softprompt.studies import load_grid, named_grids, summarise
from softprompt.studies.claims import PARAMETERS, read_claims
from softprompt.studies.pairing import facts, pair_up

ROOT = Path(__file__).parents[3]

CLAIM = {
    "says": "All weights before a prompt.",
    "better": {"method": "model tuning"},
    "worse": {"method": "prompt tuning"},
}


def table_rows(register: str) -> list[list[str]]:
    lines = [line for line in register.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def test_claims_are_numbered_and_their_studies_come_with_softprompt():
    claims = registered_claims()
    assert [claim.number for claim in claims] == list(range(1, 17))
    assert {study for claim in claims for study in claim.studies} <= set(named_grids())


def test_a_claim_names_the_grids_that_hold_it():
    held = {name: {claim.get("number") for claim in load_grid(name).claims} for name in named_grids()}
    for claim in registered_claims():
        assert set(claim.studies) == {name for name, numbers in held.items() if claim.number in numbers}, claim.says
    assert set().union(*held.values()) - {None} <= {claim.number for claim in registered_claims()}


LARGER = [claim for claim in registered_claims() if claim.larger]


@pytest.mark.parametrize("claim", LARGER, ids=lambda claim: str(claim.number))
def test_the_command_for_larger_models_compares_something(claim):
    """Claims that named bundled backbones once left the commands for others without a pair."""
    words = shlex.split(claim.larger["command"])
    options = dict(zip(words[2::2], words[3::2], strict=True))
    names = {name: yaml.safe_load(options[f"--{name}"]) for name in ("backbones", "methods") if f"--{name}" in options}
    asked = load_grid(options["--grid"]).narrowed(**names)
    lines = [facts(line.backbone, line.task, line.method, line.axes) for line in summarise(asked, [])]
    claims = [one for one in read_claims(asked.claims) if one.number == claim.number]
    compared = {one.says: len(pair_up(one, lines)) for one in claims}
    assert any(compared.values()), compared
    trends = [one.says for one in claims if one.trend == PARAMETERS]
    assert not trends or any(compared[says] > 1 for says in trends), "a trend with size needs two sizes"


def test_without_studies_every_claim_has_a_row_that_says_so():
    found = table_rows(make_register([]))
    assert [row[0] for row in found] == [str(number) for number in range(1, 17)]
    assert {row[2] for row in found} == {"not run yet"}
    assert found[4][4] == "adaptation: not run yet<br>backbones: not run yet"
    assert "softprompt study --grid backbones --data\\_dir DATA" in found[0][5]


def test_a_verdict_has_its_claim_effect_interval_study_command_and_date(tmp_path):
    gap = {**CLAIM, "says": "The gap closes.", "falls_with": "backbone_parameters"}
    asked = grid(claims=[{**CLAIM, "number": 1}, {**gap, "number": 1}, CLAIM])
    folder = write_study(tmp_path, asked, rows(asked, far_apart))
    register = make_register([open_study(folder)], target="docs/evidence.md")
    row = table_rows(register)[0]
    assert row[2] == "a. supported: All weights before a prompt.<br>b. undecided: The gap closes."
    assert row[3].startswith("a. films (accuracy): +18.0 \\[+12.")
    assert "<br>b. films (accuracy): " in row[3]
    assert row[4] == "backbones: not run yet<br>made up"
    assert row[5].replace("\\", "") == "softprompt study --grid backbones --data_dir DATA --output_dir runs/backbones"
    assert row[6].strip() == "2026-11-22"
    assert "1 of 16 claims were tested" in register
    assert f'`softprompt report --results "[{folder}]" --evidence docs/evidence.md` writes this page.' in register
    assert "- a. All weights before a prompt. *made up, supported*: films (accuracy): +18.0 [+12." in register
    assert "Models of the hub that would tell: google/t5-small-lm-adapt" in register


def test_the_page_is_what_its_command_writes(monkeypatch):
    """Rows that came after the page, or a verdict that is judged in another way, leave it behind."""
    monkeypatch.chdir(ROOT)
    page = Path("docs/evidence.md").read_text(encoding="utf-8")
    words = shlex.split(page.split("`")[1])
    folders = yaml.safe_load(words[words.index("--results") + 1])
    numbered = {name for name in named_grids() if any("number" in claim for claim in load_grid(name).claims)}
    assert {folder.name for folder in Path("docs/results").iterdir()} & numbered == {Path(one).name for one in folders}
    assert make_register([open_study(folder) for folder in folders], target="docs/evidence.md") == page


def test_a_number_that_the_register_does_not_have_is_refused(tmp_path):
    asked = grid(claims=[{**CLAIM, "number": 99}])
    with pytest.raises(ConfigError, match="has the number 99; the register has 1 to 16"):
        make_register([open_study(write_study(tmp_path, asked, rows(asked)))])
