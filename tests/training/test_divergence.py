"""A run that diverges stops with its last good prompt, and nothing of it reaches the others."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import re

import pytest
import torch
from tests.training.sessions import calm_backbone, difference, sentiment, short_run, tensors, trained, varied_runs

from softprompt.errors import NonFiniteError
from softprompt.prompts import PrefixTuning, PromptTuning, SoftPrompt
from softprompt.training import Run, TrainResult, session
from softprompt.training.member import Member

KINDS = ("decoder-only", "encoder-decoder", "encoder-only")
METHODS = {
    "rows": PromptTuning(length=3, init="vocab"),
    "behind": PromptTuning(length=4, init="vocab", placement="append"),
    "keys": PrefixTuning(length=5, hidden=None, init="vocab"),
}


def spoil(monkeypatch, name, step, value=math.nan):
    """Set every value of a run's prompt once it has taken that many steps."""
    advance = Member.advance

    def spoiling(self, loss):
        advance(self, loss)
        if self.run.name == name and self.step == step:
            with torch.no_grad():
                for parameter in self.learner.module.parameters():
                    parameter.fill_(value)

    monkeypatch.setattr(Member, "advance", spoiling)


@functools.cache
def sound(kind: str) -> tuple[list[Run], TrainResult]:
    """A run of each method, and what they learn where none fails."""
    task = sentiment()
    runs = [short_run(name, method=method, task=task) for name, method in METHODS.items()]
    return runs, trained(kind, runs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", METHODS)
def test_the_other_runs_end_as_without_it(kind, bad, monkeypatch):
    """Rows of several methods share a pass, and zero times NaN is NaN: what is masked must not be read."""
    others, wanted = sound(kind)
    failing = short_run("bad", method=dataclasses.replace(METHODS[bad], length=6), task=others[0].task)
    spoil(monkeypatch, "bad", 2)
    for order in ([failing, *others], [*others, failing]):
        found = trained(kind, order)
        assert found["bad"].status == "failed"
        assert found["bad"].reason == (
            "run 'bad': at step 3 the loss is nan and its gradient's norm nan; lower learning_rate=0.1, or set "
            "clip_norm."
        )
        for run in others:
            assert found[run.name].status == "finished", run.name
            assert difference(found[run.name].prompt, wanted[run.name].prompt) < 1e-4, run.name


def test_a_failed_run_keeps_the_prompt_from_before_the_step_that_spoiled_it(monkeypatch, capsys):
    beside = short_run("b", seed=1)
    wanted = trained("decoder-only", [short_run("a", steps=1), beside])["a"].prompt
    spoil(monkeypatch, "a", 2)
    found = trained("decoder-only", [short_run("a"), beside], progress=True)
    assert difference(found["a"].prompt, wanted) == 0
    assert found["a"].best_step == 1
    assert [entry["step"] for entry in found["a"].history] == [1, 2]
    assert f"{found['a'].reason} It keeps its last good state; other runs go on." in capsys.readouterr().err


def test_an_absurd_rate_fails_with_a_finite_prompt(tmp_path):
    absurd = short_run("absurd", optimizer="adamw", learning_rate=1e30, weight_decay=0.0, steps=6)
    found = trained("decoder-only", [absurd, short_run("b")], output_dir=tmp_path)
    assert found["absurd"].status == "failed"
    assert "lower learning_rate=1e+30, or set clip_norm" in found["absurd"].reason
    assert all(value.isfinite().all() for value in tensors(found["absurd"].prompt).values())
    assert found["b"].status == "finished"


def test_a_failed_run_says_so_in_its_folder(tmp_path, monkeypatch):
    """Its prompt looked like any other, and whoever loaded the folder served it."""
    spoil(monkeypatch, "a", 2)
    found = trained("decoder-only", [short_run("a"), short_run("b")], output_dir=tmp_path)
    facts = SoftPrompt.load(tmp_path / "prompts" / "a").info.run
    assert {key: facts[key] for key in ("status", "reason", "best_step")} == {
        "status": "failed", "reason": found["a"].reason, "best_step": 1,
    }  # fmt: skip
    card = (tmp_path / "prompts" / "a" / "README.md").read_text()
    assert f"| training | failed, the prompt is of step 1: {found['a'].reason} |" in card
    assert "| training | finished, the prompt is of step 4 |" in (tmp_path / "prompts/b/README.md").read_text()


def test_a_run_that_failed_at_once_leaves_no_prompt(tmp_path, monkeypatch):
    """What was never trained is its start, and nobody should take it for a result."""
    spoil(monkeypatch, "a", 1)
    found = trained("decoder-only", [short_run("a"), short_run("b")], output_dir=tmp_path)
    assert found["a"].best_step == 0
    assert found["a"].path is None
    assert [path.name for path in (tmp_path / "prompts").iterdir()] == ["b"]
    assert (tmp_path / "runs" / "a.jsonl").read_text().count("\n") == 1


def test_a_last_step_that_leaves_infinity_fails(tmp_path):
    """No loss would ever show it: it was the last step, and nothing is evaluated."""
    run = short_run(learning_rate=3e38, weight_decay=0.0, steps=1)
    start = run.method.build(calm_backbone("decoder-only"), run.task, run.seed)
    found = trained("decoder-only", [run, short_run("b", steps=1)])
    assert found["a"].reason == (
        "run 'a': at step 1 a value becomes NaN or infinite; lower learning_rate=3e+38, or set clip_norm."
    )
    assert difference(found["a"].prompt, start) == 0
    assert found["a"].best_step == 0


def test_scores_that_are_nan_fail_the_run_alone(monkeypatch):
    """Evaluation mixes the rows of all runs that are due; the one that gives NaN is found by evaluating each."""
    runs = [short_run(name, evaluate_every=2, steps=4) for name in ("a", "b", "c")]
    wanted = trained("decoder-only", runs)
    spoil(monkeypatch, "b", 2)
    found = trained("decoder-only", runs)
    assert found["b"].status == "failed"
    assert "gives with the prompt 'b' are NaN or infinite; the prompt has diverged" in found["b"].reason
    assert found["b"].best_step == 1
    assert found["b"].metrics == {}
    for name in ("a", "c"):
        assert found[name].metrics == wanted[name].metrics
        assert difference(found[name].prompt, wanted[name].prompt) < 1e-6


def test_the_best_prompt_remains_when_a_run_fails_later(monkeypatch):
    wanted = trained("decoder-only", [short_run(evaluate_every=2, steps=2), short_run("b")])["a"]
    spoil(monkeypatch, "a", 3)
    found = trained("decoder-only", [short_run(evaluate_every=2, steps=6), short_run("b")])["a"]
    assert found.status == "failed"
    assert found.best_step == 2
    assert found.metrics == wanted.metrics
    assert difference(found.prompt, wanted.prompt) == 0


def test_all_failed_is_an_error_that_names_each(monkeypatch, tmp_path):
    advance = itertools.count()

    def diverging(*arguments, **settings):
        next(advance)
        return {"a": math.inf, "b": math.nan}, 100

    monkeypatch.setattr(session, "backward_in_memory", diverging)
    runs = [short_run("a"), short_run("b", clip_norm=2.0)]
    said = "at step 1 the loss is {} and its gradient's norm 0.0; lower learning_rate=0.1"
    message = re.escape(
        f"run 'a': {said.format('inf')}, or set clip_norm.; run 'b': {said.format('nan')} or clip_norm=2.0."
    )
    with pytest.raises(NonFiniteError, match=message):
        trained("decoder-only", runs, output_dir=tmp_path)
    with pytest.raises(NonFiniteError, match=message):
        trained("decoder-only", runs, output_dir=tmp_path)
    assert next(advance) == 1


def test_clipping_bounds_the_gradient(monkeypatch):
    norms = []

    def note(optimizer, arguments, keywords):
        norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in optimizer.param_groups[0]["params"]])))

    make = Member.__init__

    def noting(self, *arguments):
        make(self, *arguments)
        self._optimizer.register_step_pre_hook(note)

    monkeypatch.setattr(Member, "__init__", noting)
    run = dataclasses.replace(varied_runs("decoder-only")[3], evaluate_every=0, steps=3)
    trained("decoder-only", [dataclasses.replace(run, clip_norm=None)])
    free = norms.copy()
    norms.clear()
    bound = min(free) / 2
    trained("decoder-only", [dataclasses.replace(run, clip_norm=bound)])
    assert norms == pytest.approx([bound] * 3, rel=1e-3)
