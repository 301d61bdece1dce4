"""Steps in float32 and in bfloat16 are compared, with softprompt's attention and the stock kernel's."""

from __future__ import annotations

import json

from benchmarks import precision, starting


def test_a_step_is_taken_in_every_way(tmp_path, capsys):
    precision.main(["--shapes", "bundled:t5-tiny", "--rounds", "1", "--json", str(tmp_path / "found.json")])
    (step,) = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["steps"]
    assert step["of float32"]["float32"]["median"] == 1
    assert len(step["milliseconds"]) == 5
    assert min(step["milliseconds"].values()) > 0
    assert capsys.readouterr().out.count("bundled:t5-tiny") == 5


def test_a_line_through_times_begins_where_there_are_no_tokens(capsys, monkeypatch):
    monkeypatch.setattr(starting, "alternate", lambda works, rounds: {n: [2 + 0.5 * 52 * int(n)] for n in works})
    starting.main(["--shapes", "bundled:t5-tiny", "--rounds", "1"])
    *_, line = capsys.readouterr().out.splitlines()
    assert line.split() == ["bundled:t5-tiny", "2000.0", "500.000", "4"]
