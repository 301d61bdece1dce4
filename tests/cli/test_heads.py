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


def test_a_prompt_tags_words_or_finds_answers(run, tmp_path):
    """The encoder is stored bare; the head is the task's own, and nothing says how many classes it has."""
    tiny = tiny_backbone("encoder-only")
    encoder, generator = tmp_path / "encoder", tmp_path / "generator"
    tiny.model.base_model.save_pretrained(encoder)
    tiny.need_tokenizer().save_pretrained(encoder)
    tagged, asked = tmp_path / "tagged.jsonl", tmp_path / "asked.jsonl"
    tagged.write_text('{"w": ["the", "city", "was", "sad"], "t": ["O", "B-LOC", "O", "O"]}\n' * 6, encoding="utf-8")
    asked.write_text('{"q": "place", "c": "the city was sad", "a": ["city"]}\n' * 6, encoding="utf-8")
    tasks = {
        "tagged": ("--input", "{w}", "--target", "{t}", "--words", "w"),
        "asked": ("--input", "{q} : {c}", "--target", "{a}", "--context", "c"),
    }
    for name, form in tasks.items():
        file = str(tmp_path / f"{name}.jsonl")
        training = ("train", *form, "--train_file", file, "--validation_file", file, "--name", name)
        settings = ("--method", "p_tuning_v2", "--length", "2", "--steps", "2", "--head", "true")
        place = ("--backbone", str(encoder), "--output_dir", str(tmp_path / name))
        code, table, err = run(*training, *settings, *place)
        assert code == 0, err
        assert ("entity_f1" if name == "tagged" else "exact_match") in table
        prompt = ("--backbone", str(encoder), "--prompt", str(tmp_path / name / "prompts" / name))
        code, table, err = run("evaluate", *prompt, "--validation_file", file)
        assert code == 0, err
        assert ("entity_recall" if name == "tagged" else "token_f1") in table
        answers = tmp_path / f"{name} answers.jsonl"
        code, _, err = run("predict", *prompt, "--input", file, "--output", str(answers))
        assert code == 0, err
        said = [json.loads(line)["output"] for line in answers.read_text().splitlines()]
        assert len(said) == 6
        assert all(set(one.split()) <= {"O", "B-LOC", "the", "city", "was", "sad"} for one in said)
        card = (tmp_path / name / "prompts" / name / "README.md").read_text()
        assert "It brings its own head over tokens" in card
        tiny_backbone("decoder-only").model.save_pretrained(generator)
        tiny_backbone("decoder-only").need_tokenizer().save_pretrained(generator)
        place = ("--backbone", str(generator), "--output_dir", str(tmp_path / f"{name} by a generator"))
        code, _, err = run(*training, *settings, *place)
        assert code == 1
        assert "is decoder-only and takes no head over tokens; it answers in text: drop head" in err
        code, _, err = run(*training, *settings[:-2], *place, "--max_new_tokens", "8")
        assert code == 0, err
    code, table, err = run("train", *tasks["tagged"], "--train_file", str(tagged), "--validation_file", str(tagged),
                           "--backbone", str(encoder), "--output_dir", str(tmp_path / "auto"), "--settings", "auto",
                           "--steps", "2")  # fmt: skip
    assert code == 0, err
    assert "head: True" in err
