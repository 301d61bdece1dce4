"""The evidence register: one row for each claim, whether it was tested or not."""

from __future__ import annotations

import pytest
from tests.unit.reporting.rows import grid, rows, write_study

from softprompt.errors import ConfigError
from softprompt.reporting import make_register, open_study
from softprompt.reporting.evidence import registered_claims
from softprompt.studies import load_grid, named_grids

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
    assert {claim.study for claim in claims} <= set(named_grids())


def test_a_claim_names_a_grid_that_holds_it():
    held = {name: {claim.get("number") for claim in load_grid(name).claims} for name in named_grids()}
    for claim in registered_claims():
        assert claim.number in held[claim.study], claim.says
    tested = set().union(*held.values()) - {None}
    assert tested <= {claim.number for claim in registered_claims()}


def test_without_studies_every_claim_has_a_row_that_says_so():
    found = table_rows(make_register([]))
    assert [row[0] for row in found] == [str(number) for number in range(1, 17)]
    assert {row[2] for row in found} == {"not run yet"}
    assert "softprompt study --grid backbones --data\\_dir DATA" in found[0][5]


def test_a_verdict_has_its_effect_interval_study_command_and_date(tmp_path):
    asked = grid(claims=[{**CLAIM, "number": 1}, CLAIM])
    folder = write_study(tmp_path, asked, rows(asked))
    register = make_register([open_study(folder)])
    row = table_rows(register)[0]
    assert row[2] == "supported"
    assert row[3].startswith("+3.0 \\[+3.0, +3.0\\] points")
    assert row[4] == "made up"
    assert row[5].replace("\\", "") == f"softprompt report {folder}"
    assert row[6].strip() == "2026-11-22"
    assert "1 of 16 claims have a verdict" in register
    assert "Models of the hub that would tell: google/t5-small-lm-adapt" in register


def test_a_number_that_the_register_does_not_have_is_refused(tmp_path):
    asked = grid(claims=[{**CLAIM, "number": 99}])
    with pytest.raises(ConfigError, match="has the number 99; the register has 1 to 16"):
        make_register([open_study(write_study(tmp_path, asked, rows(asked)))])
