"""`softprompt inspect`."""

from __future__ import annotations

import json
import shutil

import pytest

from softprompt.prompts import SoftPrompt


@pytest.fixture
def prompt(trained):
    return trained / "prompts" / "film"


def test_everything_of_a_prompt_with_rows_to_read(run, prompt, backbone, files, tmp_path):
    seen = tmp_path / "seen.json"
    code, out, err = run(
        "inspect", str(prompt), "--backbone", backbone, "--validation_file", files["validation"], "--rows", "3",
        "--leave_out", "[rows, layers, heads]", "--output", str(seen),
    )  # fmt: skip
    assert code == 0, err
    for title in ("Nearest words of each row", "Class labels", "Norms", "Attention onto", "3 rows lose", "integrated"):
        assert title in out
    assert "is left out" not in err
    found = json.loads(seen.read_text())
    assert set(found["words"]) == {f"{time} {by}" for time in ("before", "after") for by in ("cosine", "distance")}
    assert [label["label"] for label in found["labels"]["before"]] == ["bad", "good"]
    assert [label["own_rank"] for label in found["labels"]["before"]] == [0, 0]
    assert found["importance"]["samples"] == 3
    assert "accuracy" in found["importance"]["metrics"]
    assert len(found["importance"]["left_out"]) == 4 + 2 + 2 * 4
    assert len(found["attention"]) == 2 * 2
    assert [one["way"] for one in found["attribution"]] == ["integrated", "gradient_x_input"]


def test_without_texts_what_reads_them_is_left_out_by_name(run, prompt):
    """The backbone is the one that the prompt names; the option is the same as the bare folder."""
    code, out, err = run("inspect", str(prompt))
    assert code == 0, err
    for name in ("attention", "importance", "attribution"):
        assert f"{name} is left out: it needs texts to read; give a task or an input" in err
    assert run("inspect", "--prompt", str(prompt))[:2] == (0, out)


def test_one_input(run, prompt):
    code, out, err = run("inspect", str(prompt), "--input", "the film was good", "--what", "[attention, attribution]")
    assert code == 0, err
    assert "Attention onto" in out
    assert "film" in out
    assert "Norms" not in out
    assert "Where 'good' comes from" in out or "Where 'bad' comes from" in out
    code, _, err = run("inspect", str(prompt), "--target", "good")
    assert code == 2
    assert "--target follows a text; give it with --input, or drop it." in err


def test_a_folder_of_prompts_is_a_map(run, prompt, tmp_path):
    both = tmp_path / "both"
    shutil.copytree(prompt, both / "one")
    SoftPrompt.load(prompt).save(both / "two")
    shutil.copytree(prompt, both / "nothing")
    (both / "nothing" / "prompt.json").unlink()
    SoftPrompt.load(prompt).with_info(backbone="another").save(tmp_path / "mixed" / "one")
    shutil.copytree(prompt, tmp_path / "mixed" / "two")
    seen = tmp_path / "map.json"
    code, out, err = run("inspect", str(both), "--output", str(seen))
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()[-2:]] == ["one", "two"]
    found = json.loads(seen.read_text())
    assert found["names"] == ["one", "two"]
    assert found["best_match"]["rows"][0] == pytest.approx([1, 1])
    code, _, err = run("inspect", str(tmp_path / "mixed"))
    assert code == 2
    assert "are of several backbones; name one: --backbone" in err
    code, _, err = run("inspect", str(both), "--output", str(tmp_path / "no" / "where.json"))
    assert code == 1
    assert "where.json cannot be written" in err


def test_an_ensemble_is_a_map_of_its_members(run, prompt, tmp_path):
    together = tmp_path / "together"
    assert run("prompts", "combine", "--prompts", f"[{prompt}, {prompt}]", "--output", str(together))[0] == 0
    code, out, err = run("inspect", str(together))
    assert code == 0, err
    assert "member 1" in out
    assert "1.00" in out


def test_what_is_no_prompt(run, tmp_path):
    code, _, err = run("inspect", str(tmp_path / "nothing"))
    assert code == 1
    assert "nothing is not a prompt folder" in err
    assert run("inspect")[0] == run("inspect", str(tmp_path), "--what", "[dreams]")[0] == 2
