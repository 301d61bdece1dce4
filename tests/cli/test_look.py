"""Prompts, tasks and backbones: looked at, exchanged, made."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import torch
from tests.cli.films import TEMPLATES

from softprompt.backbones import Backbone
from softprompt.prompts import PromptTuning, SoftPrompt


def test_exchange_with_peft(run, trained, backbone, tmp_path):
    prompt = str(trained / "prompts" / "film")
    assert run("prompts", "export", "--path", prompt, "--output", str(tmp_path / "peft"))[0] == 0
    code, out, err = run(
        "prompts",
        "import",
        "--source",
        str(tmp_path / "peft"),
        "--backbone",
        backbone,
        "--output",
        str(tmp_path / "back"),
    )
    assert code == 0, err
    assert "4 virtual tokens, 96 values" in out
    first, second = (Path(folder) / "prompt.safetensors" for folder in (prompt, tmp_path / "back"))
    assert first.read_bytes() == second.read_bytes()


def test_exchange_with_clients_of_vllm(run, tmp_path):
    prompt = PromptTuning(length=3, init="vocab").build(Backbone.from_pretrained("bundled:gpt-mini"), seed=0)
    prompt.save(tmp_path / "prompt")
    file = tmp_path / "prompt.pt"
    exported = ("prompts", "export", "--path", str(tmp_path / "prompt"), "--output", str(file), "--format")
    assert run(*exported, "vllm-embeds", "--dtype", "bfloat16")[0] == 0
    assert torch.equal(torch.load(file, weights_only=True), prompt().rows.bfloat16())
    imported = ("prompts", "import", "--source", str(file), "--backbone", "bundled:gpt-mini", "--output")
    code, out, err = run(*imported, str(tmp_path / "back"), "--format", "vllm-embeds")
    assert code == 0, err
    assert "3 virtual tokens, 384 values" in out
    assert torch.equal(SoftPrompt.load(tmp_path / "back")().rows, prompt().rows.bfloat16().float())
    code, _, err = run(*exported, "peft", "--dtype", "float16")
    assert code == 2
    assert "peft is always float32" in err


def test_exchange_as_an_array(run, tmp_path):
    """Rows for a decoder-only model were refused, in both directions."""
    prompt = PromptTuning(length=3, init="vocab").build(Backbone.from_pretrained("bundled:gpt-mini"), seed=0)
    prompt.save(tmp_path / "prompt")
    file, back = str(tmp_path / "prompt.npy"), str(tmp_path / "back")
    code, _, err = run("prompts", "export", "--path", str(tmp_path / "prompt"), "--output", file, "--format", "npy")
    assert code == 0, err
    imported = ("prompts", "import", "--source", file, "--format", "npy", "--output", back, "--backbone")
    code, _, err = run(*imported, "bundled:gpt-mini")
    assert code == 0, err
    found = SoftPrompt.load(back)
    assert torch.equal(found().rows, prompt().rows)
    assert found.info.kind == "decoder-only"


def test_what_another_librarys_files_do_not_say_comes_from_flags(run, trained, backbone, tmp_path):
    """A prompt that came back had lost its template and answered another question, and nothing said so."""
    prompt, checkpoint, back = str(trained / "prompts" / "film"), str(tmp_path / "peft"), str(tmp_path / "back")
    assert run("prompts", "export", "--path", prompt, "--output", checkpoint)[0] == 0
    imported = ("prompts", "import", "--source", checkpoint, "--backbone", backbone, "--output", back)
    code, _, err = run(*imported)
    assert code == 0, err
    assert f"{back} knows no template" in err
    assert SoftPrompt.load(back).info.format is None
    code, _, err = run(*imported, "--like", back)
    assert code == 2
    assert "knows no template either" in err
    wanted = SoftPrompt.load(prompt).info
    for flags, task in ((("--like", prompt), wanted.task), (TEMPLATES, None)):
        code, _, err = run(*imported, *flags)
        assert (code, "no template" in err) == (0, False), err
        found = SoftPrompt.load(back).info
        assert found.format == wanted.format
        assert found.task == task
    for flags, told in (
        (("--like", prompt, *TEMPLATES), "--like takes another prompt's templates"),
        (("--label_words", '{"0": bad}'), "A template has two sides"),
    ):
        code, _, err = run(*imported, *flags)
        assert code == 2
        assert told in err


def test_files_that_cannot_be_exchanged_are_named_with_the_way_out(run, trained, backbone, tmp_path):
    """Options were ignored, and the system's errors named files that nobody had asked for."""
    prompt, file, folder = str(trained / "prompts" / "film"), str(tmp_path / "a.pt"), str(tmp_path / "peft")
    ensemble = str(tmp_path / "both")
    assert run("prompts", "combine", "--prompts", f"[{prompt}, {prompt}]", "--output", ensemble)[0] == 0
    assert run("prompts", "export", "--path", prompt, "--output", folder)[0] == 0
    assert run("prompts", "export", "--path", prompt, "--output", file, "--format", "vllm-embeds")[0] == 0
    export = ("prompts", "export", "--path", prompt, "--output")
    load = ("prompts", "import", "--backbone", backbone, "--output", str(tmp_path / "back"), "--source")
    unwritable = f"{file}/inner"
    for arguments, told in (
        ((*export, file), "--format npy or --format vllm-embeds"),
        ((*export, unwritable), f"{unwritable} cannot be written ("),
        ((*export, unwritable, "--format", "vllm-embeds"), f"{unwritable} cannot be written"),
        (("prompts", "export", "--path", ensemble, "--output", folder), "is an ensemble"),
        ((*load, file), "--format npy or --format vllm-embeds"),
        ((*load, folder, "--format", "npy"), "say --format peft"),
        ((*load, ensemble, "--format", "npy"), "is a folder; name the file"),
        ((*load, ensemble, "--format", "vllm-embeds"), "is a folder; name the file"),
        ((*load, file, "--format", "vllm-embeds", "--task", "1"), "vllm-embeds holds one prompt; drop --task"),
        ((*load, folder, "--output", unwritable), f"{unwritable} cannot be written"),
    ):
        code, _, err = run(*arguments)
        assert code in (1, 2)
        assert told in err
        assert not (tmp_path / "back").exists()


def test_tasks_are_listed_and_shown(run):
    code, table, _ = run("tasks", "list")
    assert code == 0
    listed = {line.split()[0]: line.split()[1] for line in table.splitlines()}
    assert listed["task"] == "data"
    assert [listed[name] for name in ("sentence_polarity", "sst2", "e2e")] == ["bundled", "hub", "files"]
    code, card, _ = run("tasks", "show", "--name", "sst2")
    assert code == 0
    assert "Licence:" in card
    code, _, err = run("tasks", "show", "--name", "sst3")
    assert code == 2
    assert "Did you mean 'sst2'?" in err


def test_what_to_show_needs_no_option(run, tmp_path):
    """`tasks show sst2` was refused as an unrecognised argument."""
    for group, what in (("tasks", "sst2"), ("backbones", "t5-tiny")):
        code, card, err = run(group, "show", what)
        assert code == 0, err
        assert (code, card, err) == run(group, "show", "--name", what)
    assert run("backbones", "show", "t5-tiny", "--json", "true")[1].startswith("{")
    code, _, err = run("prompts", "show", str(tmp_path / "no-such_thing"))
    assert code == 1
    assert f"{tmp_path}/no-such_thing is not a prompt folder" in err
    assert run("tasks", "show")[0] == 2
    for command in ("study", "inspect", "report"):
        assert run(command, "one", "more")[0] == 2, command
    assert "Did you mean 'sst2'?" in run("tasks", "show", "sst3")[2]


def test_a_card_says_what_is_scored_together(run):
    assert "Scored together: rows with the same question_id\n" in run("tasks", "show", "multirc")[1]
    assert "Scored together" not in run("tasks", "show", "boolq")[1]


def test_a_backbone_from_text_is_listed_and_can_be_prompted(run, files, tmp_path, monkeypatch):
    text = resources.files("softprompt.tasks") / "data" / "subj" / "test.jsonl.gz"
    made = tmp_path / "backbone"
    code, table, err = run(
        "pretrain", "--output_dir", str(made), "--train+", str(text), "--cache_dir", str(tmp_path / "cache"),
        "--preset", "gpt-tiny", "--objective", "causal_lm", "--vocab_size", "600", "--window", "32", "--steps", "4",
        "--warmup_steps", "1",
    )  # fmt: skip
    assert code == 0, err
    assert "held_out_bits_per_byte" in table
    monkeypatch.setattr("softprompt.backbones.catalogue._FOLDER", tmp_path)
    code, table, err = run("backbones", "list")
    assert code == 0, err
    card = json.loads((made / "card.json").read_text())
    losses = f"{card['held_out_loss_nats_per_token']:.2f}", f"{card['held_out_bits_per_byte']:.2f}"
    shown = f"{card['parameters']:,}", "causal_lm", f"{card['tokens_seen']:,}", *losses
    assert table.splitlines()[-1].split() == ["bundled:backbone", *shown]
    code, _, err = run(
        "train", "--backbone", str(made), "--output_dir", str(tmp_path / "session"), *TEMPLATES, "--steps", "1",
        "--train_file", files["train"], "--length", "3",
    )  # fmt: skip
    assert code == 0, err
