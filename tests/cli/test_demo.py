"""The demo: the whole story, on the bundled backbone and data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from softprompt import load_task

TASKS = {
    "subjectivity": "subj",
    "sentiment": "sentence_polarity",
    "topic": "clinc150_domains",
    "restaurant": "e2e_sample",
}
COLUMNS = {"subjectivity": "text", "sentiment": "text", "topic": "text", "restaurant": "table"}
RIVALS = ["most frequent answer", "bare backbone", "text prompt"]


def demo(run, folder: Path, *options: str) -> tuple[dict, str]:
    code, out, err = run("demo", "--output_dir", str(folder), *options)
    assert code == 0, err
    return json.loads((folder / "scores.json").read_text(encoding="utf-8")), out


def test_the_demo_tells_its_story(run, tmp_path):
    scores, out = demo(run, tmp_path / "demo", "--steps", "2", "--test_rows", "8")
    lines = out.splitlines()
    for name, one in scores.items():
        assert list(one["scores"]) == [*RIVALS, "soft prompt"]
        assert all(score["rows"] == 8 for score in one["scores"].values())
        assert (tmp_path / "demo" / "prompts" / name / "prompt.safetensors").is_file()
        compared, answered = (line for line in lines if line.startswith(f"{name} "))
        assert f"{one['scores']['soft prompt']['score']:.1f} [" in compared
        assert load_task(TASKS[name]).examples("test")[0].columns[COLUMNS[name]][:40] in answered
    assert list(scores) == list(TASKS)


@pytest.mark.slow
def test_each_prompt_of_the_demo_beats_what_it_must_beat(run, tmp_path):
    """Clearly: the 95 % interval of none of the others reaches into its own."""
    scores, _ = demo(run, tmp_path / "demo")
    for name, one in scores.items():
        low = one["scores"]["soft prompt"]["interval"][0]
        assert {rival: one["scores"][rival]["interval"][1] for rival in RIVALS if
                one["scores"][rival]["interval"][1] >= low} == {}, name  # fmt: skip
