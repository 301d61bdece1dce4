"""What a report says: what is unfinished, the numbers that answer, costs, verdicts, limits and commands."""

from __future__ import annotations

from tests.unit.reporting.rows import SIZES, far_apart, grid, rows, write_study

from softprompt.reporting import make_report, open_study
from softprompt.reporting.parts import Report

CLAIM = {
    "says": "Tuning all weights is better than a prompt.",
    "source": "somebody",
    "number": 1,
    "better": {"method": "model tuning"},
    "worse": {"method": "prompt tuning"},
}


def report(folder, asked, lines=None) -> Report:
    return make_report(open_study(write_study(folder, asked, rows(asked) if lines is None else lines)))


def test_a_whole_study_answers_with_its_numbers(tmp_path):
    asked = grid(claims=[CLAIM])
    told = report(tmp_path, asked, rows(asked, far_apart))
    assert told.state == ()
    assert told.question == "How far is one from the other?"
    assert told.summary == (
        "films (accuracy): the highest mean is 83.0 ± 2.0 (3), model tuning on bundled:t5-mini; the highest of prompts"
        " 65.0 ± 1.0 (3), prompt tuning on bundled:t5-mini; the most frequent answer has 52.4.",
        "Supported: Tuning all weights is better than a prompt.",
    )
    assert told.verdicts is not None
    (row,) = told.verdicts.rows
    assert row[:2] == ("Tuning all weights is better than a prompt. (somebody)", "supported")
    assert row[2].startswith("films (accuracy): +18.0 [+12.")
    assert row[4] == "2 pairs, 3 seeds"


def test_a_prompt_is_set_beside_all_weights_of_its_own_backbone(tmp_path):
    def scored(cell):
        return 90.0 if not cell.tunes_weights and "tiny" in cell.backbone else 70.0 + 10 * ("mini" in cell.backbone)

    asked = grid()
    told = report(tmp_path, asked, rows(asked, scored))
    assert "prompt tuning on bundled:t5-tiny; on the same backbone 70.0 ± 0.0 (3), model tuning on" in told.summary[0]


def test_what_is_missing_failed_and_refused_is_said_first(tmp_path):
    asked = grid()
    lines = rows(asked)
    lines[0] |= {"status": "failed", "reason": "the loss is NaN"}
    refused = [
        line | {"status": "unsupported", "reason": "None for it."} for line in lines if line["label"] == "model tuning"
    ]
    missing = [line for line in lines if line["label"] != "model tuning" and line["backbone"] == "bundled:t5-tiny"]
    told = report(tmp_path, asked, missing + [line for line in refused if line["backbone"] == "bundled:t5-tiny"])
    assert told.state == (
        "This study is not finished: at least 9 runs still to come (films on bundled:t5-mini). What is told of the rest"
        " may change.",
        "1 run diverged: 1 of prompt tuning on bundled:t5-tiny, films.",
        "Refused: model tuning on bundled:t5-tiny, films. None for it.",
    )
    cells = {cell for row in told.tables[0].rows for cell in row}
    assert "refused" in cells


def test_what_was_not_learned_is_no_divergence(tmp_path):
    """Ensembles whose members were not learned were said to have diverged."""
    asked = grid()
    lines = rows(asked)
    lost = "'rows' on 'films', whose prompts it needs, learned not all of them."
    for number, one in enumerate(lines[:2]):
        one |= {"status": "failed", "reason": lost if number else "the loss is NaN"}
    del lines[1]["session_runs"]
    told = report(tmp_path, asked, lines)
    assert told.state == (
        "1 run diverged: 1 of prompt tuning on bundled:t5-tiny, films.",
        f"1 run could not be made: 1 of prompt tuning on bundled:t5-tiny, films. {lost}",
    )


def test_rows_that_the_grid_does_not_ask_for_are_told_of(tmp_path):
    """After a command that asked for one task, the report of a folder with two knew nothing of the other."""
    whole = grid(tasks={**grid().tasks, "books": {"task": "amazon_books"}})
    told = report(tmp_path, whole.narrowed(tasks=["films"]), rows(whole))
    assert told.state == (
        "18 rows of the table belong to no cell of this grid (books on bundled:t5-tiny, books on bundled:t5-mini): the"
        " last command asked for less, or for something else. They are left out; --grid takes the grid that they are"
        " of.",
    )
    further = rows(grid(backbones=list(SIZES)))
    assert report(tmp_path / "further", grid(), further).state == (), "of other backbones there are lines"


def test_tables_are_few_and_have_whichever_are_fewer_as_columns(tmp_path):
    told = report(tmp_path / "two", grid())
    scores, costs = told.tables
    assert scores.columns == ("method", "bundled:t5-tiny (580 K)", "bundled:t5-mini (2.35 M)")
    assert scores.rows[0] == ("prompt tuning", "63.0 ± 1.0 (3)", "65.0 ± 1.0 (3)")
    assert "The most frequent answer has 52.4." in scores.note
    assert costs.columns[:6] == ("method", "backbone", "task", "learning_rate", "trained", "of backbone")
    assert costs.rows[0] == (
        "prompt tuning",
        "bundled:t5-tiny",
        "films",
        "0.3",
        "1,920",
        "0.331 %",
        "4.0 KiB",
        "100",
        "1,024",
        "2",
    )
    one = grid(methods={"prompt tuning": {"method": "prompt_tuning", "learning_rate": 0.1}})
    assert report(tmp_path / "one", one).tables[0].columns == ("backbone", "parameters", "prompt tuning")
    many = grid(tasks={f"task{number}": {"task": "sst2"} for number in range(6)})
    assert [table.title for table in report(tmp_path / "many", many).tables] == ["Scores", "Chosen settings and costs"]


def test_the_setting_names_data_methods_machine_and_cost_but_no_place_of_files(tmp_path):
    facts = dict(report(tmp_path, grid()).setting.rows)
    assert facts["tasks"] == "films: task sst2, input {sentence}\\n\\nThis is"
    assert facts["chosen on validation"] == "prompt tuning: learning_rate of 0.1, 0.3\nwith all seeds"
    assert facts["machine"] == "a machine"
    assert facts["versions"] == "softprompt 0.1.0, torch 2, transformers 5"
    assert facts["time"].startswith("1.8 hours of sessions")  # 18 runs, two to a session of 720 seconds
    assert facts["runs"] == "18, finished 2026-11-20, 2026-11-21, 2026-11-22"


def test_limits_and_commands_follow_from_the_study(tmp_path):
    told = report(tmp_path, grid(tune_seeds=[0]))
    limits = " ".join(told.limits)
    for text in ("3 seeds:", "reaches 4.0 points", "with 1 seed of 3", "has 2.35 M parameters", "share its time"):
        assert text in limits
    assert told.commands[0] == "git checkout abc123"
    assert told.commands[2] == f"softprompt study --grid {tmp_path}/study.yaml --data_dir DATA --output_dir {tmp_path}"
    assert told.commands[-1] == f"softprompt report {tmp_path} --grid {tmp_path}/study.yaml"
    assert not any("dirty" in limit for limit in told.limits)


def test_a_study_without_claims_or_outputs_says_what_is_needed(tmp_path):
    told = report(tmp_path, grid(question=""))
    assert told.verdicts is None
    assert "softprompt evaluate --backbone" in told.cases_note
    assert told.question == "The grid of this study does not say what it asks (question)."


def test_references_are_those_of_its_methods(tmp_path):
    papers = report(tmp_path / "a", grid()).references
    assert [paper.split(" ")[0] for paper in papers] == ["Lester,", "Li,"]
    words = {"method": "text_prompt", "shots": 2, "calibrate": True}
    told = report(tmp_path / "b", grid(methods={"words": words, "lora": {"method": "lora", "learning_rate": 0.1}}))
    assert any("LoRA" in paper for paper in told.references)
    assert any("Calibrate" in paper for paper in told.references)
