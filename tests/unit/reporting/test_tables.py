"""The tables of a report."""

from __future__ import annotations

from tests.unit.reporting.rows import grid, rows

from softprompt.reporting.tables import result_tables
from softprompt.studies import summarise


def test_what_was_measured_of_prompts_has_a_table():
    asked = grid(measures=["labels", "storage"])
    made = rows(asked)
    for row in made:
        if row["label"] == "prompt tuning":
            row |= {"measured_labels_kept": 50.0 + row["seed"], "measured_missing": "storage: why not"}
    found = {table.title: table for table in result_tables(summarise(asked, made))}
    assert list(found) == ["films, accuracy", "What prompts look like", "Chosen settings and costs"]
    looks = found["What prompts look like"]
    assert looks.columns == ("method", "backbone", "task", "labels kept")
    assert looks.rows == tuple(
        ("prompt tuning", f"bundled:t5-{size}", "films", "51.0 ± 1.0 (3)") for size in ("tiny", "mini")
    )
    plain = grid()
    assert "What prompts look like" not in {table.title for table in result_tables(summarise(plain, rows(plain)))}
