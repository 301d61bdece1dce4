"""The script that rebuilds the bundled data: from originals in their formats to the files that the tasks read."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from softprompt.errors import DataError
from softprompt.tasks import task_definition

ROOT = Path(__file__).parents[3]
E2E_FILES = ROOT / "tests" / "fixtures" / "tasks" / "e2e"


@pytest.fixture
def script(monkeypatch):
    """The script as a module, drawing 5 of E2E's training rows."""
    spec = importlib.util.spec_from_file_location("bundle_tasks", ROOT / "scripts" / "bundle_tasks.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bundle_tasks", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "E2E_TRAIN_ROWS", 5)
    return module


@pytest.fixture
def originals(tmp_path):
    """The arguments that name small originals."""
    polarity = tmp_path / "polarity"
    clinc = tmp_path / "clinc"
    polarity.mkdir()
    clinc.mkdir()
    for split in ("train", "validation", "test"):
        (polarity / f"{split}.jsonl").write_text(json.dumps({"text": f"{split}\u0085", "label": "positive"}) + "\n")
    (tmp_path / "subj.all").write_bytes(b"".join(b"%d caf\xe9 \x96 %d . \n" % (n % 2, n) for n in range(20)))
    (clinc / "domains.json").write_text(json.dumps({"work": ["meeting"], "small_talk": ["hi"]}))
    queries = {
        "train": [["meet me", "meeting"]],
        "val": [["hello", "hi"]],
        "test": [["hey", "hi"]],
        "oos_test": [["x", "oos"]],
    }
    (clinc / "data_full.json").write_text(json.dumps(queries))
    return [
        *("--sentence-polarity", str(polarity)),
        *("--subj", str(tmp_path / "subj.all")),
        *("--clinc150", str(clinc)),
        *("--e2e", str(E2E_FILES)),
    ]


def run(script, monkeypatch, arguments, out: Path) -> dict[str, bytes]:
    monkeypatch.setattr(sys, "argv", ["bundle_tasks.py", *arguments, "--out", str(out)])
    script.main()
    return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*.gz")}


def test_the_tasks_read_what_the_script_writes(script, originals, monkeypatch, tmp_path, capsys):
    files = run(script, monkeypatch, originals, tmp_path / "one")
    assert len(files) == 12
    assert "subj" in capsys.readouterr().out

    def load(name):
        return replace(task_definition(name), folder=tmp_path / "one" / name).load()

    assert load("sentence_polarity").examples("test")[0].columns == {"text": "test\u0085", "label": "positive"}
    subj = load("subj")
    assert subj.report.rows == {"train": 16, "validation": 2, "test": 2}
    for one in subj.examples("train"):
        number = int(one.columns["text"].removeprefix("caf\u00e9 \u2013 ").removesuffix(" ."))
        assert one.label == ("objective" if number % 2 else "subjective")
    clinc = load("clinc150_domains")
    assert clinc.report.rows == {"train": 1, "validation": 1, "test": 1}
    assert clinc.examples("validation")[0].columns == {"text": "hello", "domain": "small_talk", "intent": "hi"}
    sample = load("e2e_sample")
    assert sample.report.rows == {"train": 5, "validation": 1, "test": 1}
    assert sum(len(one.targets) for split in ("validation", "test") for one in sample.examples(split)) == 12


def test_the_same_originals_give_the_same_bytes(script, originals, monkeypatch, tmp_path):
    assert run(script, monkeypatch, originals, tmp_path / "one") == run(
        script, monkeypatch, originals, tmp_path / "two"
    )


def test_a_bad_row_stops_the_script(script, originals, monkeypatch, tmp_path):
    (tmp_path / "polarity" / "test.jsonl").write_text("nonsense\n")
    with pytest.raises(DataError, match=r"test\.jsonl:1: is not valid JSON"):
        run(script, monkeypatch, originals, tmp_path / "one")
