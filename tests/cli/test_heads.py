"""An encoder without classification head, from training to predictions: the prompt brings the head."""

from __future__ import annotations

import json

from tests.cli.films import TEMPLATES
from tests.models import tiny_backbone


def test_a_prompt_brings_the_head_that_the_encoder_lacks(run, files, tmp_path):
    tiny = tiny_backbone("encoder-only")
    folder, out = tmp_path / "encoder", tmp_path / "out"
    tiny.model.base_model.save_pretrained(folder)
    tiny.need_tokenizer().save_pretrained(folder)
    data = ("--train_file", files["train"], "--validation_file", files["validation"])
    training = (
        "train",
        "--backbone",
        str(folder),
        *TEMPLATES,
        *data,
        "--output_dir",
        str(out),
        "--name",
        "film",
    )
    code, _, err = run(*training, "--method", "p_tuning_v2", "--length", "2", "--steps", "2", "--head", "true")
    assert code == 1
    assert "say how many classes a new head shall have" in err
    code, _, err = run(*training, "--classes", "2", "--settings", "auto", "--steps", "3")
    assert code == 0, err
    assert "head: True (the model has no head that was trained for this" in err
    prompt = ("--backbone", str(folder), "--classes", "3", "--prompt", str(out / "prompts" / "film"))
    code, table, err = run("evaluate", *prompt, "--validation_file", files["validation"])
    assert code == 0, err
    assert "accuracy" in table
    texts = tmp_path / "texts.txt"
    texts.write_text("the film was good\nthe book was sad\n", encoding="utf-8")
    code, _, err = run("predict", *prompt, "--input", str(texts), "--output", str(tmp_path / "answers.jsonl"))
    assert code == 0, err
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 2
    card = (out / "prompts" / "film" / "README.md").read_text()
    assert f"softprompt predict --backbone {folder} --prompt film" in card
    assert "--classes 2" in card
