"""The family of backbones: recipes, making, facts, checks and curves."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from softprompt.pretraining import recipes

SUBJ = resources.files("softprompt.tasks") / "data" / "subj"


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The text's folder and the recipes of a family of two tiny T5s."""
    folder = tmp_path_factory.mktemp("family") / "text"
    folder.mkdir()
    files = []
    for name, use in (("test.jsonl.gz", "train"), ("validation.jsonl.gz", "held out")):
        (folder / name).write_bytes((SUBJ / name).read_bytes())
        facts = {"file": name, "sha256": recipes.file_digest(folder / name)}
        files.append({**facts, "use": use, "licence": "none stated", "origin": "films"})
    shape = {"window": 32, "batch_size": 4, "steps": 6, "warmup_steps": 2, "learning_rate": 0.002, "vocab_size": 600}
    shape["held_out_windows"] = 16
    return folder, {
        "corpus": {"licence": "none stated (films)", "files": files},
        "defaults": {"preset": "t5-tiny", "evaluate_every": 2, "compile": False, **shape},
        "objectives": {"span_corruption": {}, "prefix_lm": {}},
        "members": {
            "spans": {"objective": "span_corruption"},
            "adapted": {"objective": "prefix_lm", "start_from": "spans"},
        },
    }


@pytest.fixture(scope="module")
def models(family) -> Path:
    """Folder of the whole family, made from its text; its cache lies beside it."""
    text, made_of = family
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "_recipes", lambda: made_of)
        places = {"output_dir": text.parent / "models", "cache_dir": text.parent / "cache"}
        recipes.make(["all"], text, tokenizer="corpus", threads=1, **places)
    return text.parent / "models"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, family) -> None:
    """The small family stands in for softprompt's own."""
    monkeypatch.setattr(recipes, "_recipes", lambda: family[1])


@pytest.mark.slow
def test_the_family_is_made_once(run, small, family, models, tmp_path):
    given = ("backbones", "make", "--text", str(family[0]), "--threads", "1", "--tokenizer", "corpus")
    given = (*given, "--cache_dir", str(models.parent / "cache"))
    code, table, err = run(*given, "--name", "spans", "--output_dir", str(tmp_path / "new"))
    assert code == 0, err
    assert f"spans: 6 steps of span_corruption, to {tmp_path}/new/spans." in err
    code, table, err = run(*given, "--name", "[adapted, spans]", "--output_dir", str(models))
    assert code == 0, err
    assert [line.split()[0] for line in table.splitlines()[2:]] == [str(models / "adapted"), str(models / "spans")]
    assert f"adapted: finished already, in {models}/adapted." in err


def test_the_facts_are_shown(run, models):
    card = json.loads((models / "adapted" / "card.json").read_text())
    code, shown, err = run("backbones", "show", "--name", str(models / "adapted"))
    assert code == 0, err
    facts = yaml.safe_load(shown)
    assert "history" not in facts
    for key in (
        *("parameters", "tokens_seen", "held_out_loss_nats_per_token", "held_out_bits_per_byte", "objective"),
        *("corpus", "licence", "seconds", "machine", "command"),
    ):
        assert facts[key] == card[key]
    assert facts["command"] == "softprompt backbones make --name adapted --text FOLDER --tokenizer corpus"
    assert [(stage["name"], stage["objective"]) for stage in facts["stages"]] == [
        ("spans", "span_corruption"),
        ("adapted", "prefix_lm"),
    ]
    assert json.loads(run("backbones", "show", "--name", str(models / "adapted"), "--json", "true")[1]) == card


def test_a_backbone_is_checked(run, models):
    given = ("--backbone", str(models / "adapted"), "--held_out", str(SUBJ / "validation.jsonl.gz"))
    given = ("backbones", "check", *given, "--windows", "4", "--samples", "1")
    given = (*given, "--cache_dir", str(models.parent / "cache"))
    code, shown, err = run(*given)
    assert code == 0, err
    lines = shown.splitlines()
    assert [line.split()[:2] for line in lines[2:4]] == [["span_corruption", "yes"], ["prefix_lm", "yes"]]
    assert [line for line in lines if line in {"span_corruption", "prefix_lm"}] == ["span_corruption", "prefix_lm"]
    assert shown.count("  input:    ") == shown.count("  output:") == shown.count("  held out: ") == 2
    code, printed, err = run(*given, "--json", "true")
    assert code == 0, err
    found = json.loads(printed)
    assert [one["objective"] for one in found["objectives"]] == ["span_corruption", "prefix_lm"]
    assert len(found["samples"]) == 2
    first = found["objectives"][0]
    assert f"{first['bits_per_byte']:.2f}" in lines[2].split()
    assert f"{first['unigram_bits_per_byte']:.2f}" in lines[2].split()


def test_curves_are_drawn(run, models, tmp_path):
    output = str(tmp_path / "curves.svg")
    both = f"[{models / 'spans'}, bundled:gpt-small]"
    code, _, err = run("backbones", "curves", "--backbones", both, "--output", output)
    assert (code, err) == (0, f"{output}\n")
    drawn = Path(output).read_text(encoding="utf-8")
    assert ">spans</text>" in drawn
    assert ">gpt-small</text>" in drawn


def test_recipes_list_members_and_text(run):
    code, shown, err = run("backbones", "recipes")
    assert code == 0, err
    rows = [line.split() for line in shown.splitlines()]
    assert ["t5-mini", "t5-mini-span", "prefix_lm", "2,600", "24", "128", "0.003", "8"] in rows
    assert all(entry.sha256 in shown and entry.origin in shown for entry in recipes.text_files())


def test_a_bundled_backbone_goes_by_either_name(run):
    code, shown, _ = run("backbones", "show", "--name", "t5-small")
    assert code == 0
    assert run("backbones", "show", "--name", "bundled:t5-small")[1] == shown


def test_what_is_no_finished_backbone_is_named(run, tmp_path):
    code, _, err = run("backbones", "show", "--name", "t5-smll")
    assert code == 2
    assert err.startswith("softprompt: Unknown folder or bundled backbone 't5-smll'. Did you mean 't5-small'?")
    code, _, err = run("backbones", "show", "--name", str(tmp_path))
    assert code == 1
    message = f"{tmp_path} holds no finished backbone (no card.json); finish its pre-training first."
    assert err == f"softprompt: {message}\n"


def test_other_text_than_the_familys_is_refused(run, small, tmp_path):
    for name in ("test.jsonl.gz", "validation.jsonl.gz"):
        (tmp_path / name).write_bytes((SUBJ / name).read_bytes())
    (tmp_path / "validation.jsonl.gz").write_bytes(b"")
    given = ("backbones", "make", "--name", "spans", "--text", str(tmp_path), "--output_dir", str(tmp_path / "models"))
    code, _, err = run(*given)
    assert code == 1
    assert "validation.jsonl.gz is not the family's text: expected SHA-256" in err
