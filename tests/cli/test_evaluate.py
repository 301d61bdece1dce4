"""`softprompt evaluate`, on a tiny backbone."""

from __future__ import annotations

from tests.cli.films import TEMPLATES

from softprompt.errors import MissingDependencyError
from softprompt.tasks.metrics import registry


def test_evaluating_writes_every_prediction(run, trained, backbone, tmp_path):
    output = tmp_path / "predictions.jsonl"
    code, table, err = run(
        "evaluate", "--backbone", backbone, "--prompt", str(trained / "prompts" / "film"),
        "--task", "sentence_polarity", "--rows", "6", "--truncate", "true", "--output", str(output),
    )  # fmt: skip
    assert code == 0, err
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["accuracy", "macro_f1"]
    assert len(output.read_text().splitlines()) == 6
    code, table, _ = run("evaluate", "--backbone", backbone, "--task", "subj", "--majority", "true")
    assert code == 0
    code, _, err = run("evaluate", "--backbone", backbone, "--task", "subj", "--majority", "true", "--prompt", "x")
    assert code == 2
    assert err == "softprompt: Give at most one of --prompt, --text_prompt and --majority.\n"


def test_evaluating_on_files(run, trained, backbone, files, tmp_path):
    """Who trained on files could evaluate on none."""
    common = ("evaluate", "--backbone", backbone, "--prompt", str(trained / "prompts" / "film"))
    code, stored, err = run(*common, "--validation_file", files["validation"])
    assert code == 0, err
    assert [line.split()[0] for line in stored.splitlines()[2:]] == ["accuracy", "macro_f1"]
    code, said, err = run(*common, "--validation_file", files["validation"], *TEMPLATES)
    assert code == 0, err
    assert said == stored
    code, table, err = run(
        *common, "--test_file", files["validation"], "--split", "test", "--input", "{text}", "--target", "{label}",
        "--metrics+", "exact_match", "--max_new_tokens", "4",
    )  # fmt: skip
    assert code == 0, err
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["exact_match"]
    code, _, err = run("evaluate", "--backbone", backbone, "--validation_file", files["validation"])
    assert code == 2
    assert "Data need templates over their columns" in err


def test_a_metric_that_cannot_be_computed_is_named(run, backbone, monkeypatch):
    def absent(predictions, references):
        raise MissingDependencyError("it needs a jar: pip install jar")

    monkeypatch.setitem(registry.METRICS._values, "absent", absent)
    code, table, err = run(
        "evaluate", "--backbone", backbone, "--task", "subj", "--majority", "true", "--metrics+", "absent",
        "--metrics+", "accuracy", "--rows", "9",
    )  # fmt: skip
    assert code == 0, err
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["accuracy"]
    assert err.splitlines()[-1] == "absent is left out: it needs a jar: pip install jar"
