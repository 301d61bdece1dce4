"""A session's folder: what it holds, going on with it, and refusing to."""

from __future__ import annotations

import dataclasses
import json
import os
import signal

import pytest
from tests.training.sessions import calm_backbone, difference, sentiment, short_run, trained

from softprompt.errors import ArtefactError, ConfigError, MissingDependencyError, TrainingInterrupted
from softprompt.loop import trackers
from softprompt.prompts import PromptTuning
from softprompt.training import TrainConfig, session, train


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_a_session_leaves(tmp_path):
    trained("decoder-only", [short_run("a"), short_run("b")], output_dir=tmp_path, checkpoint_every=3)
    steps = [f"checkpoints/step-{step:09d}/checkpoint.{end}" for step in (3, 4) for end in ("json", "safetensors")]
    prompts = [f"prompts/{name}/{file}" for name in "ab" for file in ("README.md", "prompt.json", "prompt.safetensors")]
    assert files(tmp_path) == [*steps, *prompts, "runs/a.jsonl", "runs/b.jsonl", "session.json"]


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = trained("decoder-only", [short_run()])
    assert result["a"].path is None
    assert files(tmp_path) == []


def test_a_call_after_the_end_gives_the_same_without_training(tmp_path, monkeypatch):
    runs = [short_run("a", evaluate_every=2), short_run("b", steps=2)]
    first = trained("decoder-only", runs, output_dir=tmp_path)
    before = {path: (tmp_path / path).read_bytes() for path in files(tmp_path)}
    monkeypatch.setattr(session, "backward_in_memory", pytest.fail)
    monkeypatch.setattr(session, "evaluate_many", pytest.fail)
    monkeypatch.setattr("softprompt.training.folder.save_checkpoint", pytest.fail)
    again = trained("decoder-only", runs, output_dir=tmp_path)
    for name, run in first.items():
        assert difference(again[name].prompt, run.prompt) == 0
        for field in ("metrics", "history", "best_step", "status", "reason", "path"):
            assert getattr(again[name], field) == getattr(run, field)
    assert again.steps == first.steps
    assert {path: (tmp_path / path).read_bytes() for path in files(tmp_path)} == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.2}, r"runs\.a\.learning_rate is 0\.1 there and 0\.2 here"),
        ({"steps": 5}, r"runs\.a\.steps is 4 there and 5 here"),
        ({"method": PromptTuning(length=2, init="vocab")}, r"runs\.a\.method\.length is 3 there and 2 here"),
        ({"task": sentiment(seed=9)}, r"runs\.a\.data is '\w+' there and '\w+' here"),
        ({"name": "b"}, r"runs\.b is only in this call"),
    ],
)
def test_another_session_is_refused_by_what_differs(settings, message, tmp_path):
    trained("decoder-only", [short_run()], output_dir=tmp_path)
    before = files(tmp_path)
    with pytest.raises(ConfigError, match=rf"{tmp_path} holds another session: {message}\. Choose another output_dir"):
        trained("decoder-only", [dataclasses.replace(short_run(), **settings)], output_dir=tmp_path)
    assert files(tmp_path) == before


def test_fewer_runs_another_precision_or_backbone_are_refused(tmp_path):
    runs = [short_run("a"), short_run("b")]
    trained("decoder-only", runs, output_dir=tmp_path)
    for kind, some, config, message in (
        ("decoder-only", runs[:1], {}, r"runs\.b is only in the folder"),
        ("decoder-only", runs, {"precision": "bf16"}, "precision is 'float32' there and 'bf16' here"),
        ("encoder-decoder", runs, {}, r"backbone\.architecture is '\w+' there and '\w+' here"),
    ):
        with pytest.raises(ConfigError, match=message):
            trained(kind, some, output_dir=tmp_path, **config)


def test_an_existing_session_is_refused_when_it_shall_not_go_on(tmp_path):
    trained("decoder-only", [short_run()], output_dir=tmp_path / "a", resume=False)
    with pytest.raises(ConfigError, match="a holds a session already; choose another output_dir, or resume=True"):
        trained("decoder-only", [short_run()], output_dir=tmp_path / "a", resume=False)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "a").write_text("x")
    with pytest.raises(ConfigError, match="a is a file; choose a folder"):
        trained("decoder-only", [short_run()], output_dir=tmp_path / "a")


def test_a_prompt_that_cannot_be_written_keeps_no_other_from_it(tmp_path):
    """The first one that failed lost the folders of all runs behind it."""
    (tmp_path / "prompts").mkdir()
    for name in "ac":
        (tmp_path / "prompts" / name).write_text("x")
    with pytest.raises(ArtefactError, match=r"prompts/a exists and is not a prompt.*prompts/c exists and is not"):
        trained("decoder-only", [short_run(name) for name in "abc"], output_dir=tmp_path)
    assert (tmp_path / "prompts" / "b" / "prompt.json").is_file()
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"a.jsonl", "b.jsonl", "c.jsonl"}


def test_a_damaged_session_is_named(tmp_path):
    (tmp_path / "session.json").write_text('{"runs": ')
    with pytest.raises(ArtefactError, match=r"session\.json is not valid JSON"):
        trained("decoder-only", [short_run()], output_dir=tmp_path)


def interrupting(monkeypatch, step):
    """Send SIGINT while that step is computed."""
    compute, taken = session.backward_in_memory, []

    def computing(*arguments, **settings):
        taken.append(None)
        if len(taken) == step:
            os.kill(os.getpid(), signal.SIGINT)
        return compute(*arguments, **settings)

    monkeypatch.setattr(session, "backward_in_memory", computing)


def test_an_interruption_without_a_folder_says_what_is_lost(monkeypatch):
    interrupting(monkeypatch, 2)
    with pytest.raises(TrainingInterrupted, match=r"^Stopped\. Nothing was kept, because .* no output_dir\.$"):
        trained("decoder-only", [short_run()])


def test_smaller_passes_outlive_an_interruption(monkeypatch, tmp_path):
    """Memory that ran out once would run out again."""
    with monkeypatch.context() as patch:
        interrupting(patch, 2)
        with pytest.raises(TrainingInterrupted):
            trained("decoder-only", [short_run()], output_dir=tmp_path, pass_tokens=60)
    asked, compute = [], session.backward_in_memory

    def computing(*arguments, pass_tokens, **settings):
        asked.append(pass_tokens)
        return compute(*arguments, pass_tokens=pass_tokens, **settings)

    monkeypatch.setattr(session, "backward_in_memory", computing)
    trained("decoder-only", [short_run()], output_dir=tmp_path, pass_tokens=500)
    assert asked == [60, 60]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_gets_each_run_once_per_step(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is optional")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    runs = [short_run("a", evaluate_every=2), short_run("b", steps=2)]
    result = trained("decoder-only", runs, output_dir=tmp_path, trackers=("tensorboard",))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for name, run in result.items():
        losses = [(event.step, event.value) for event in events.Scalars(f"{name}/loss")]
        assert losses == [(entry["step"], pytest.approx(entry["loss"])) for entry in run.history]
    assert [event.step for event in events.Scalars("a/accuracy")] == [2, 4]
    assert set(events.Tags()["scalars"]) == {
        "a/loss", "a/learning_rate", "a/accuracy", "a/macro_f1", "b/loss", "b/learning_rate",
    }  # fmt: skip


class Recorder:
    """A tracker that notes what it is told."""

    def __init__(self):
        self.logged, self.finished = [], False

    def log(self, step, values):
        self.logged.append((step, sorted(values)))

    def finish(self):
        self.finished = True


def test_trackers_are_closed_when_a_session_is_interrupted(monkeypatch, tmp_path):
    recorder = Recorder()
    monkeypatch.setattr("softprompt.training.reports.open_trackers", lambda *arguments: recorder)
    interrupting(monkeypatch, 2)
    with pytest.raises(TrainingInterrupted):
        trained("decoder-only", [short_run()], output_dir=tmp_path)
    assert recorder.logged == [(step, ["a/learning_rate", "a/loss"]) for step in (1, 2)]
    assert recorder.finished


def test_a_tracker_without_its_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(trackers, "find_spec", lambda library: None)
    with pytest.raises(MissingDependencyError, match="'wandb' needs its library: pip install wandb"):
        trained("decoder-only", [short_run()], output_dir=tmp_path, trackers=("wandb",))


def test_progress_shows_the_loss_and_the_watched_metric(capsys):
    run = short_run(evaluate_every=4)
    train(calm_backbone("decoder-only"), [run], TrainConfig(progress=True))
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("a  4/4  loss ")
    assert "accuracy " in last
    train(calm_backbone("decoder-only"), [run], TrainConfig(progress=False))
    assert capsys.readouterr().err == ""


def test_the_identity_is_plain(tmp_path):
    trained("decoder-only", [short_run()], output_dir=tmp_path)
    found = json.loads((tmp_path / "session.json").read_text())
    assert set(found) == {"backbone", "precision", "runs"}
    assert found["runs"]["a"]["method"]["name"] == "prompt_tuning"
