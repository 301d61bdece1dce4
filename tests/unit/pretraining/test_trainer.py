"""Pre-training, whole: it learns, it is resumed exactly, and what it writes loads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from softprompt.config import from_mapping
from softprompt.errors import ConfigError, DataError, NonFiniteError, TrainingInterrupted
from softprompt.loop.checkpoints import latest_checkpoint
from softprompt.loop.processes import Processes
from softprompt.pretraining import preparation, trainer
from softprompt.pretraining.settings import PretrainConfig
from softprompt.pretraining.trainer import pretrain


@pytest.fixture
def settings(tmp_path: Path, corpus_dir: Path) -> dict[str, Any]:
    return {
        "output_dir": str(tmp_path / "out"),
        "train": [str(corpus_dir / "train.jsonl")],
        "held_out": [str(corpus_dir / "held_out.jsonl")],
        "tokenizer": str(corpus_dir / "tokenizer.json"),
        "cache_dir": str(corpus_dir / "cache"),
        "preset": "gpt-tiny",
        "objective": "causal_lm",
        "steps": 12,
        "batch_size": 4,
        "window": 32,
        "warmup_steps": 3,
        "threads": 1,
        "held_out_windows": 8,
        "evaluate_every": 5,
    }


def a_run(config: PretrainConfig) -> trainer._Run:
    """A run before its first step, or after the step of its last checkpoint."""
    return trainer._Run(config, trainer.Progress(), Processes(), "")


def weights(config: PretrainConfig) -> dict[str, torch.Tensor]:
    return load_file(Path(config.output_dir) / "model.safetensors")


def assert_same(a: PretrainConfig, b: PretrainConfig) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    cards = [json.loads((Path(config.output_dir) / "card.json").read_text()) for config in (a, b)]
    for card in cards:
        del card["seconds"], card["tokens_per_second"], card["settings"], card["name"]
    assert cards[0] == cards[1]


TASKS = [("gpt-tiny", "causal_lm"), ("t5-tiny", "span_corruption"), ("t5-tiny", "prefix_lm")]


@pytest.mark.parametrize(("preset", "objective"), TASKS)
def test_it_learns_and_writes_a_model_that_loads(settings: dict[str, Any], preset: str, objective: str) -> None:
    settings |= {"preset": preset, "objective": objective, "steps": 60, "learning_rate": 5e-3, "evaluate_every": 20}
    config = PretrainConfig(**settings, licence="CC0")
    card = pretrain(config)
    assert [entry["step"] for entry in card["history"]] == [20, 40, 60]
    losses = [entry["loss"] for entry in card["history"]]
    assert losses[-1] < losses[0]
    training = [entry["training_loss"] for entry in card["history"]]
    assert training[-1] < training[0]
    # steps count alike in the one, tokens in the other, and continuations are of any length
    assert training[-1] == pytest.approx(losses[-1], rel=0.2 if objective == "prefix_lm" else 0.1)
    assert (card["processes"], card["command"]) == (
        1,
        "softprompt pretrain --config FOLDER/pretrain.yaml --output_dir NEW",
    )
    assert card["tokens_per_second"] > 0.5 * card["tokens_seen"] / max(1, card["seconds"])
    assert card["held_out_loss_nats_per_token"] == pytest.approx(losses[-1], abs=1e-4)
    assert card["tokens_seen"] == 60 * 4 * 32
    assert (card["objective"], card["licence"], card["preset"]) == (objective, "CC0", preset)
    assert card["flops"] > 0
    folder = Path(config.output_dir)
    assert not config.checkpoints.exists()
    assert from_mapping(PretrainConfig, yaml.safe_load((folder / "pretrain.yaml").read_text())) == config
    assert yaml.safe_load((folder / "pretrain.yaml").read_text()) == card["settings"]
    loader = AutoModelForCausalLM if preset == "gpt-tiny" else AutoModelForSeq2SeqLM
    model, tokenizer = loader.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert sum(p.numel() for p in model.parameters()) == card["parameters"]
    ids = tokenizer("Bana lo", return_tensors="pt")["input_ids"]
    assert (ids[0, -1] == tokenizer.eos_token_id) == (preset == "t5-tiny")
    assert model.generate(ids, max_new_tokens=3, do_sample=False).shape[0] == 1


def test_a_finished_run_is_not_run_again(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = pretrain(PretrainConfig(**settings))
    monkeypatch.setattr(trainer, "_Run", lambda *args: pytest.fail("ran again"))
    assert pretrain(PretrainConfig(**settings, compile=True)) == card
    assert f"{settings['output_dir']} is finished already." in capsys.readouterr().err


def test_another_finished_model_is_not_taken_for_the_one_asked_for(
    settings: dict[str, Any], tmp_path: Path, corpus_dir: Path
) -> None:
    """A finished folder was once left as it is whatever was asked for, and the card of another model was returned."""
    settings |= {"steps": 2, "warmup_steps": 0, "schedule": "constant"}
    pretrain(PretrainConfig(**settings))
    other = Path(tmp_path / "other.jsonl")
    other.write_text((corpus_dir / "held_out.jsonl").read_text(encoding="utf-8") + "\n", encoding="utf-8")
    for change, message in (
        ({"seed": 3}, "finished model with seed = 0, not 3; give another output_dir, or remove the folder"),
        ({"steps": 3}, "finished model with steps = 2, not 3"),
        ({"held_out": [str(other)]}, "finished model of other text than this"),
        ({"held_out": []}, "finished model of other text than this"),
        ({"tokenizer": None, "start_from": "bundled:gpt-mini"}, "did not start from the one in .*gpt-mini; give"),
        ({"tokenizer": "bundled:gpt-mini"}, "finished model of another tokenizer than bundled:gpt-mini; give"),
        ({"snapshots": [1]}, "finished model without a snapshot of step 1; give"),
    ):
        with pytest.raises(ConfigError, match=message):
            pretrain(PretrainConfig(**{**settings, **change}))


def test_text_that_is_trained_on_is_not_held_out(settings: dict[str, Any], tmp_path: Path) -> None:
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(Path(settings["train"][0]).read_bytes())
    with pytest.raises(DataError, match=r"copy\.jsonl is trained on and held out; measure on other text, or leave"):
        pretrain(PretrainConfig(**{**settings, "held_out": [*settings["held_out"], str(copy)]}))


def test_the_history_tells_the_loss_in_training(settings: dict[str, Any]) -> None:
    run = a_run(PretrainConfig(**settings))
    run.train()
    assert len(run.state.losses) == 2
    last = sum(run.state.losses) / 2
    history = run.finish()["history"]
    assert [entry["step"] for entry in history] == [5, 10, 12]
    assert history[-1]["training_loss"] == pytest.approx(last)
    assert history[0]["training_loss"] > history[1]["training_loss"] > last


def test_a_card_names_the_command_it_was_given(settings: dict[str, Any]) -> None:
    assert pretrain(PretrainConfig(**settings), command="make it")["command"] == "make it"


def folder_of(config: PretrainConfig, step: int) -> PretrainConfig:
    """Settings whose output is a snapshot of others."""
    return replace(config, output_dir=str(config.snapshot(step)))


def test_snapshots_are_models_of_their_moment(settings: dict[str, Any], tmp_path: Path) -> None:
    """Rounding the weights that are trained on to write them would change the run: they end as without snapshots."""
    settings |= {"schedule": "constant", "preset": "t5-tiny", "objective": "span_corruption"}
    plain, short = PretrainConfig(**settings), PretrainConfig(**{**settings, "output_dir": str(tmp_path / "short")})
    pretrain(plain)
    pretrain(replace(short, steps=5))
    config = replace(plain, output_dir=str(tmp_path / "shot"), snapshots=(3, 5))
    card = pretrain(config)
    assert all(torch.equal(value, weights(plain)[name]) for name, value in weights(config).items())
    assert [entry["step"] for entry in card["history"]] == [3, 5, 10, 12]
    assert sorted(path.name for path in (tmp_path / "shot" / "snapshots").iterdir()) == ["step-3", "step-5"]
    shot = json.loads((config.snapshot(5) / "card.json").read_text())
    assert (shot["name"], shot["steps"], shot["tokens_seen"]) == ("shot-step-5", 5, 5 * 4 * 32)
    assert shot["history"] == card["history"][:2]
    assert from_mapping(PretrainConfig, yaml.safe_load((config.snapshot(5) / "pretrain.yaml").read_text())) == config
    assert all(torch.equal(value, weights(short)[name]) for name, value in weights(folder_of(config, 5)).items())
    assert AutoModelForSeq2SeqLM.from_pretrained(config.snapshot(5)).dtype == torch.bfloat16
    assert len(AutoTokenizer.from_pretrained(config.snapshot(5))) == 700
    start = {"tokenizer": None, "start_from": str(config.snapshot(5)), "objective": "prefix_lm"}
    adapted = pretrain(replace(plain, output_dir=str(tmp_path / "adapted"), **start))
    assert adapted["tokens_seen_before"] == 5 * 4 * 32


def test_a_snapshot_after_the_last_checkpoint_is_written_again(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PretrainConfig(**settings, snapshots=(3, 6))
    pretrain(whole)
    broken = replace(whole, output_dir=str(tmp_path / "broken"))
    step = trainer._Run._step

    def failing(run: trainer._Run, bar: Any) -> None:
        step(run, bar)
        if run.state.counts.step == 4:
            run._save()
        if run.state.counts.step == 8:
            raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(trainer._Run, "_step", failing)
        with pytest.raises(MemoryError):
            pretrain(broken)
    kept = (broken.snapshot(3) / "card.json").stat().st_mtime_ns
    (broken.snapshot(6) / "model.safetensors").write_bytes(b"of other settings")
    (broken.snapshot(6).with_name(".step-6")).mkdir()
    pretrain(broken)
    assert_same(whole, broken)
    for number in (3, 6):
        shots = weights(folder_of(whole, number)), weights(folder_of(broken, number))
        assert all(torch.equal(value, shots[1][name]) for name, value in shots[0].items())
    assert (broken.snapshot(3) / "card.json").stat().st_mtime_ns == kept
    assert sorted(path.name for path in broken.snapshot(6).parent.iterdir()) == ["step-3", "step-6"]


def test_a_snapshot_that_was_missed_is_refused(settings: dict[str, Any]) -> None:
    config = PretrainConfig(**{**settings, "checkpoint_every_s": 0.0})
    a_run(config).train()
    with pytest.raises(ConfigError, match=r"comes after step 7, of which no snapshot was asked for then; leave it out"):
        pretrain(replace(config, snapshots=(7,)))


def test_processes_that_cannot_share_a_batch_are_refused(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = Processes()
    monkeypatch.setattr(processes, "count", 3)
    monkeypatch.setattr(trainer, "Processes", lambda: processes)
    with pytest.raises(ConfigError, match=r"3 processes cannot share a batch of 4 evenly; give a batch_size that"):
        pretrain(PretrainConfig(**settings))


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("adafactor", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("preset", "objective"), TASKS)
def test_an_interrupted_run_ends_as_if_it_had_never_stopped(
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    preset: str,
    objective: str,
    optimizer: str,
) -> None:
    settings |= {"preset": preset, "objective": objective, "optimizer": optimizer}
    whole = PretrainConfig(**settings)
    pretrain(whole)
    broken = replace(whole, output_dir=str(tmp_path / "broken"))
    step = trainer._Run._step

    def stopping(run: Any, bar: Any) -> None:
        step(run, bar)
        if run.state.counts.step == 7:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(trainer._Run, "_step", stopping)
        with pytest.raises(TrainingInterrupted, match=r"Stopped after step 7 of 12; .* Run the same command again"):
            pretrain(broken)
    assert not (tmp_path / "broken" / "card.json").exists()
    pretrain(broken)
    assert_same(whole, broken)


@pytest.mark.slow
def test_a_killed_run_ends_as_if_it_had_never_been_killed(settings: dict[str, Any], tmp_path: Path) -> None:
    """The process dies without a chance to save, at whatever step it stands, between its checkpoints."""
    settings |= {"steps": 40, "checkpoint_every_s": 0.05}
    whole = PretrainConfig(**settings)
    pretrain(whole)
    killed = replace(whole, output_dir=str(tmp_path / "killed"))
    script = textwrap.dedent("""
        import json, os, signal, sys
        from softprompt.loop.checkpoints import latest_checkpoint
        from softprompt.pretraining import trainer
        from softprompt.pretraining.settings import PretrainConfig
        step = trainer._Run._step
        def dying(run, bar):
            step(run, bar)
            if run.state.counts.step >= 17 and latest_checkpoint(run.config.checkpoints):
                os.kill(os.getpid(), signal.SIGKILL)
        trainer._Run._step = dying
        trainer.pretrain(PretrainConfig(**json.loads(sys.argv[1])))
    """)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = json.dumps({**settings, "output_dir": killed.output_dir})
    process = subprocess.run([sys.executable, "-c", script, arguments], env=environment, check=False)
    assert process.returncode == -signal.SIGKILL
    assert latest_checkpoint(killed.checkpoints) is not None
    pretrain(killed)
    assert_same(whole, killed)


def test_an_endless_schedule_may_be_cut_short_and_prolonged(settings: dict[str, Any], tmp_path: Path) -> None:
    settings |= {"schedule": "constant", "checkpoint_every_s": 0.0}
    whole = PretrainConfig(**settings)
    pretrain(whole)
    short = replace(whole, output_dir=str(tmp_path / "short"), steps=8)
    run = a_run(short)
    run.train()
    pretrain(replace(short, steps=12))
    assert torch.equal(weights(whole)["model.norm.weight"], weights(short)["model.norm.weight"])


def test_a_card_names_the_steps_that_were_taken(settings: dict[str, Any]) -> None:
    """A run that had gone on beyond the steps it was then cut to named the lower number, which gives another model."""
    config = PretrainConfig(**{**settings, "schedule": "constant", "checkpoint_every_s": 0.0})
    a_run(config).train()
    card = pretrain(replace(config, steps=config.steps - 2))
    assert (card["steps"], card["settings"]["steps"]) == (config.steps, config.steps)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.5}, r"made with learning_rate = 0\.002, not 0\.5; use the same settings to go on"),
        ({"steps": 13}, "made with steps = 12, not 13"),
        ({"held_out": []}, "made with sources = "),
    ],
)
def test_other_settings_do_not_go_on(settings: dict[str, Any], change: dict[str, Any], message: str) -> None:
    config = PretrainConfig(**settings)
    a_run(config)._save()
    with pytest.raises(ConfigError, match=message):
        pretrain(replace(config, **change))


def test_lm_adaptation_starts_from_the_weights_of_span_corruption(settings: dict[str, Any], tmp_path: Path) -> None:
    first = PretrainConfig(**{**settings, "preset": "t5-tiny", "objective": "span_corruption"})
    pretrain(first)
    second = replace(
        first, output_dir=str(tmp_path / "adapted"), objective="prefix_lm", tokenizer=None, start_from=first.output_dir
    )
    run = a_run(second)
    stored = weights(first)
    for name, parameter in run.state.model.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, stored[name].float())
    card = pretrain(second)
    assert card["started_from"]["objective"] == "span_corruption"
    assert (card["tokens_seen"], card["tokens_seen_before"]) == (12 * 4 * 32, 12 * 4 * 32)
    assert not torch.equal(weights(second)["lm_head.weight"], stored["lm_head.weight"])


def test_a_bad_start_is_refused_before_anything_is_read(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = PretrainConfig(**{**settings, "steps": 1, "warmup_steps": 0})
    pretrain(first)
    monkeypatch.setattr(trainer, "prepare_tokenizer", lambda *args: pytest.fail("read a tokenizer"))
    other = replace(
        first,
        output_dir=str(tmp_path / "o"),
        preset="t5-tiny",
        objective="prefix_lm",
        tokenizer=None,
        start_from=first.output_dir,
    )
    with pytest.raises(ConfigError, match="is a gpt-tiny, not a t5-tiny; give preset gpt-tiny, or another start"):
        pretrain(other)
    (Path(first.output_dir) / "card.json").unlink()
    with pytest.raises(ConfigError, match=r"holds no finished model \(no card\.json\); finish it first"):
        pretrain(other)


def test_each_size_of_parameters_has_its_own_settings(settings: dict[str, Any]) -> None:
    t5 = PretrainConfig(**{**settings, "preset": "t5-tiny", "objective": "prefix_lm", "learning_rate": 0.01})
    run = a_run(t5)
    names = {id(parameter): name for name, parameter in run.state.model.named_parameters()}
    groups = run.state.optimizer.param_groups
    matrices, norms, table, queries = ([names[id(p)] for p in group["params"]] for group in groups)
    assert table == ["shared.weight"]
    assert all(name.endswith("norm.weight") for name in norms)
    assert len(queries) == 6  # encoder, decoder and cross attention, two layers each
    assert all(name.endswith("Attention.q.weight") for name in queries)
    assert sorted([*matrices, *norms, *table, *queries]) == sorted(names.values())
    # an optimizer's state is stored by position: once, a resumed run gave queries each other's
    assert all(group == [name for name in names.values() if name in group] for group in (matrices, norms, queries))
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0, 0.0, 0.1]
    assert [group["initial_lr"] for group in groups] == pytest.approx([0.01, 0.01, 0.01 * 32**0.5, 0.01 / 16**0.5])


def test_a_loss_that_is_not_finite_stops_the_run(settings: dict[str, Any]) -> None:
    config = PretrainConfig(**{**settings, "learning_rate": 1e30, "warmup_steps": 0})
    with pytest.raises(NonFiniteError, match=r"The loss is .* at step \d+\. Lower learning_rate; the last checkpoint"):
        pretrain(config)
    assert not (Path(config.output_dir) / "card.json").exists()


def test_too_little_text_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"The held-out text has \d+ tokens, less than one window of 6000"):
        pretrain(PretrainConfig(**{**settings, "window": 6000}))


def test_without_a_tokenizer_one_is_learned_and_kept(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings |= {"tokenizer": None, "cache_dir": str(tmp_path / "cache")}
    config = PretrainConfig(**{**settings, "vocab_size": 650, "steps": 1, "warmup_steps": 0})
    pretrain(config)
    assert len(AutoTokenizer.from_pretrained(config.output_dir)) == 650
    kept = list(Path(config.cache_dir).glob("tokenizer-*.json"))
    assert len(kept) == 1
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "train_tokenizer", lambda *args, **options: pytest.fail("learned again"))
        pretrain(replace(config, output_dir=str(tmp_path / "second")))
    other = replace(config, output_dir=str(tmp_path / "third"), vocab_size=651)
    pretrain(other)
    assert len(AutoTokenizer.from_pretrained(other.output_dir)) == 651


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's compiler uses what torch deprecates
def test_a_compiled_run_learns_the_same(settings: dict[str, Any], tmp_path: Path) -> None:
    config = PretrainConfig(**settings, precision="fp32")
    plain = pretrain(config)
    compiled = pretrain(replace(config, compile=True, output_dir=str(tmp_path / "compiled")))
    assert compiled["held_out_loss_nats_per_token"] == pytest.approx(plain["held_out_loss_nats_per_token"], rel=1e-3)
    assert compiled["flops"] == pytest.approx(plain["flops"], rel=1e-2)
