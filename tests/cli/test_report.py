"""`softprompt report`."""

from __future__ import annotations

import json
import shlex

import pytest
from tests.unit.reporting.rows import grid, rows, write_study

from softprompt.reporting.evidence import registered_claims


@pytest.fixture
def study(tmp_path):
    asked = grid()
    return write_study(tmp_path / "study", asked, rows(asked))


def test_a_report_is_written_beside_the_results_and_its_place_is_told(run, study):
    code, out, err = run("report", str(study))
    assert code == 0, err
    assert out.splitlines() == [str(study / "report.html"), str(study / "report.md")]
    assert (study / "figures" / "score_against_size.svg").is_file()
    assert len((study / "results.jsonl").read_text().splitlines()) == 18


def test_outputs_are_shown_and_another_folder_is_written_to(run, study, tmp_path):
    row = {"task": "films", "split": "test", "input": "a dull film", "targets": ["bad"], "prediction": "good"}
    (tmp_path / "outputs.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    asked = ("report", str(study), "--output", str(tmp_path / "out"), "--predictions", str(tmp_path / "outputs.jsonl"))
    code, _, err = run(*asked, "--grid", str(study / "study.yaml"))
    assert code == 0, err
    assert "a dull film" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not (study / "report.html").exists()


def test_the_register_is_written_from_several_studies(run, study, tmp_path):
    target = tmp_path / "evidence.md"
    code, out, err = run("report", "--results", f"[{study}, {study}]", "--evidence", str(target))
    assert code == 0, err
    assert out == f"{target}\n"
    assert "# Evidence" in target.read_text(encoding="utf-8")
    assert not (study / "report.html").exists()


def test_what_does_not_go_together_is_a_usage_error(run, study, tmp_path):
    code, _, err = run("report", "--results", f"[{study}, {study}]", "--output", str(tmp_path))
    assert (code, "are of one study; give one folder" in err) == (2, True)
    code, _, err = run("report", str(study), "--evidence", "a.md", "--predictions", "b.jsonl")
    assert (code, "leave --output and --predictions out" in err) == (2, True)
    code, _, err = run("report", str(tmp_path / "nowhere"))
    assert (code, "has no results.jsonl" in err) == (1, True)


COMMANDS = [line for claim in registered_claims() for line in claim.commands.values()] + [
    claim.larger.get("command", "") for claim in registered_claims()
]


@pytest.mark.parametrize("line", sorted({line for line in COMMANDS if line}))
def test_the_commands_of_the_register_are_understood(run, line):
    code, _, err = run(*shlex.split(line)[1:], "--print_config")
    assert code == 0, err
