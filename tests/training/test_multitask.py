"""Several tasks in one run: prompts that share rows, one model for all, and what becomes of the scores."""

from __future__ import annotations

import shutil
from statistics import fmean

import pytest
import torch
from tests.training.sessions import calm_backbone, difference, sentiment, short_run, trained

from softprompt.errors import ConfigError
from softprompt.evaluation import evaluate
from softprompt.prompts import MultitaskPrompt, PromptTuning, SoftPrompt
from softprompt.tasks import Mixture
from softprompt.training import ModelTuning, Run, TrainConfig, train
from softprompt.training.learners import PromptLearner
from softprompt.training.member import Member

TASKS = [sentiment(name="first"), sentiment(rows=17, seed=5, name="second", input="topic : {text}")]
METHOD = MultitaskPrompt(length=3, rank=2)


def shared(**settings) -> Run:
    defaults = {"method": METHOD, "task": TASKS, "steps": 6, "learning_rate": 0.1, "evaluate_every": 3}
    return short_run("both", **{**defaults, **settings})


@pytest.mark.parametrize("kind", ["decoder-only", "encoder-decoder"])
def test_each_task_gets_a_prompt_of_its_own(kind, tmp_path):
    result = trained(kind, [shared()], output_dir=tmp_path / "out")["both"]
    assert set(result.prompts) == {"first", "second"}
    one, other = result.prompts["first"]().rows, result.prompts["second"]().rows
    assert not one.allclose(other)
    start = METHOD.build_all(calm_backbone(kind), {task.name: task for task in TASKS}, seed=0)
    assert start["first"]().rows.equal(start["second"]().rows)
    assert result.parameters == 2 * one.numel()
    assert result.trained == one.numel() + 2 * 2 * sum(one.shape)
    for task in TASKS:
        stored = SoftPrompt.load(result.path / task.name)
        assert stored().rows.equal(result.prompts[task.name]().rows)
        assert (stored.info.task, stored.info.format) == (task.name, task.format.to_mapping())
        found = evaluate(calm_backbone(kind), stored, task)["accuracy"]
        assert found == result.metrics[f"{task.name} accuracy"]
    assert result.metrics["mean"] == fmean(result.metrics[f"{task.name} accuracy"] for task in TASKS)
    with pytest.raises(ConfigError, match=r"has 2 prompts, one for each task; take them from \.prompts"):
        _ = result.prompt


def test_a_new_task_starts_from_what_the_tasks_share(tmp_path):
    """It was not stored: a new task could start from the mean of the tasks' prompts alone."""
    seen, finish = {}, PromptLearner.finish

    def noting(self, values, told):
        seen.update(values or self.values())
        return finish(self, values, told)

    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(PromptLearner, "finish", noting)
        result = trained("decoder-only", [shared()], output_dir=tmp_path / "out")["both"]
    stored = SoftPrompt.load(tmp_path / "out" / "shared" / "both")
    (rows,) = {name: value for name, value in seen.items() if name.endswith("0.parametrization.shared.rows")}.values()
    assert stored().rows.equal(rows)
    assert stored().rows.equal(result.shared().rows)
    for prompt in result.prompts.values():
        assert not prompt().rows.allclose(rows)
    assert (stored.info.task, stored.info.format, stored.info.run["status"]) == (None, None, "finished")
    for method in (PromptTuning, MultitaskPrompt):
        new = method(length=3, init="prompt", source=str(tmp_path / "out" / "shared" / "both"))
        assert new.build(calm_backbone("decoder-only"))().rows.equal(rows)
    alone = trained("decoder-only", [short_run()])
    assert [run.shared for run in alone.values()] == [None]


@torch.no_grad()
def drawn(prompts) -> None:
    """Give each value of several tasks' prompts another one: as they begin, all of them are equal."""
    generator = torch.Generator().manual_seed(5)
    for prompt in prompts.values():
        for parameter in prompt.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)


def by_hand(prompts) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The mean loss over all tasks' rows, and the gradient by each task's rows of virtual tokens."""
    backbone = calm_backbone("decoder-only")
    rows = {task: prompt().rows.detach().requires_grad_() for task, prompt in prompts.items()}
    losses = []
    for task in TASKS:
        for example in task.examples("train"):
            given = backbone.tokenize(example.input)
            ids = torch.tensor([*backbone.tokenize(f"{example.input} {example.targets[0]}"), backbone.end_id])
            embedded = torch.cat([rows[task.name], backbone.embed(ids)])
            logits = backbone.model(inputs_embeds=embedded[None]).logits[0]  # [prompt+seq, vocab]
            told = logits[METHOD.length + len(given) - 1 : -1]
            losses.append(torch.nn.functional.cross_entropy(told, ids[len(given) :], reduction="none"))
    loss = torch.cat(losses).mean()
    return loss, dict(zip(rows, torch.autograd.grad(loss, list(rows.values())), strict=True))


def test_a_steps_gradients_are_those_of_the_product_written_out(monkeypatch):
    """Only the first loss was looked at, where all tasks' prompts are equal, and no gradient at all."""
    seen = {}
    build_all, step = MultitaskPrompt.build_all, Member.advance

    def building(self, *arguments):
        seen["prompts"] = build_all(self, *arguments)
        drawn(seen["prompts"])
        seen["loss"], seen["by_rows"] = by_hand(seen["prompts"])
        return seen["prompts"]

    def noting(self, loss):
        prompts = self.learner.prompts
        seen["gradients"] = {
            name: {n: p.grad.clone() for n, p in one.named_parameters()} for name, one in prompts.items()
        }
        seen["values"] = {
            name: {n: p.detach().clone() for n, p in one.named_parameters()} for name, one in prompts.items()
        }
        step(self, loss)

    monkeypatch.setattr(MultitaskPrompt, "build_all", building)
    monkeypatch.setattr(Member, "advance", noting)
    result = trained("decoder-only", [shared(steps=1, evaluate_every=0, batch_size=64)])["both"]
    assert result.history[0]["loss"] == pytest.approx(seen["loss"].item(), rel=1e-5)
    wanted_of_shared = 0
    for task, by_rows in seen["by_rows"].items():
        at, found = seen["values"][f"both/{task}"], seen["gradients"][f"both/{task}"]
        columns, rows = at["parametrization.columns"], at["parametrization.rows"]  # [length, rank], [rank, dim]
        of_matrix = by_rows * at["parametrization.shared.rows"]  # [length, dim]
        torch.testing.assert_close(found["parametrization.columns"], of_matrix @ rows.T, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found["parametrization.rows"], columns.T @ of_matrix, rtol=1e-4, atol=1e-6)
        wanted_of_shared = wanted_of_shared + by_rows * (columns @ rows)
    torch.testing.assert_close(found["parametrization.shared.rows"], wanted_of_shared, rtol=1e-4, atol=1e-6)


def test_it_learns_the_same_beside_others():
    alone = trained("decoder-only", [shared()])["both"]
    together = trained("decoder-only", [short_run("other"), shared(), short_run("more", seed=3)])["both"]
    for task in TASKS:
        assert difference(together.prompts[task.name], alone.prompts[task.name]) < 1e-5
    assert together.metrics == pytest.approx(alone.metrics)


def test_it_resumes_to_the_bit(tmp_path):
    whole = trained("decoder-only", [shared()])["both"]
    config = TrainConfig(output_dir=tmp_path / "out", checkpoint_every=2, progress=False)
    train(calm_backbone("decoder-only"), [shared()], config)
    for newest in sorted((tmp_path / "out" / "checkpoints").iterdir())[1:]:
        for file in newest.iterdir():
            file.unlink()
        newest.rmdir()
    again = train(calm_backbone("decoder-only"), [shared()], config)["both"]
    for task in TASKS:
        assert again.prompts[task.name]().rows.equal(whole.prompts[task.name]().rows)


def test_a_new_task_starts_from_the_mean_of_the_tasks_prompts(tmp_path):
    result = trained("decoder-only", [shared()], output_dir=tmp_path / "out")["both"]
    sources = [str(result.path / task.name) for task in TASKS]
    method = MultitaskPrompt(length=3, init="prompt", source=sources)
    start = method.build(calm_backbone("decoder-only"))().rows
    assert start.allclose(sum(prompt().rows for prompt in result.prompts.values()) / 2)
    taken = trained("decoder-only", [short_run(method=method, task=sentiment(seed=9))])["a"]
    assert isinstance(taken.prompt, SoftPrompt)


def test_a_model_learns_several_tasks(tmp_path):
    run = shared(method=ModelTuning(), learning_rate=0.01, optimizer="adamw")
    result = trained("decoder-only", [run], output_dir=tmp_path / "out")["both"]
    assert set(result.metrics) >= {"mean", "first accuracy", "second accuracy"}
    for task in TASKS:
        assert evaluate(result.backbone, None, task)["accuracy"] == result.metrics[f"{task.name} accuracy"]


def test_what_cannot_learn_several_tasks():
    with pytest.raises(ConfigError, match="a prompt of PromptTuning learns one task, not 2; use MultitaskPrompt"):
        trained("decoder-only", [shared(method=PromptTuning(length=3, init="vocab"))])
    with pytest.raises(ConfigError, match=r"run 'both' needs tasks with names of their own; got \['first', 'first'\]"):
        shared(task=[TASKS[0], TASKS[0]])
    with pytest.raises(ConfigError, match="needs tasks with names of their own"):
        shared(task=[])
    with pytest.raises(ConfigError, match="the task's name 'a/b' is to name a folder"):
        shared(task=[TASKS[0], sentiment(name="a/b")])
    with pytest.raises(ConfigError, match="rank=0: expected at least 1"):
        MultitaskPrompt(rank=0)


def mixed(**settings) -> Run:
    """A run on a mixture; a prompt of its own for each task unless another method is given."""
    how = {key: settings.pop(key) for key in ("mixing", "temperature", "limit") if key in settings}
    return shared(task=Mixture(TASKS, **how), **settings)


@pytest.mark.parametrize("how", [{"mixing": "equal"}, {"limit": 6}, {"mixing": "temperature", "temperature": 4.0}])
def test_tasks_are_drawn_in_the_shares_of_their_mixture(how, tmp_path):
    run = mixed(**how, steps=24, evaluate_every=0)
    result = trained("decoder-only", [run], output_dir=tmp_path / "out")["both"]
    asked = run.mixture.shares({"first": 24, "second": 17})
    assert result.shares == pytest.approx(asked, abs=0.12)
    assert abs(result.shares["first"] - asked["first"]) < abs(result.shares["first"] - 24 / 41)
    assert sum(result.shares.values()) == pytest.approx(1)
    told = SoftPrompt.load(result.path / "first").info.run
    assert told["shares"] == result.shares
    assert {key: told[key] for key in how} == how


def test_a_mixture_in_proportion_is_what_several_tasks_always_were():
    alone, other = (trained("decoder-only", [run])["both"] for run in (shared(), mixed()))
    for task in TASKS:
        assert alone.prompts[task.name]().rows.equal(other.prompts[task.name]().rows)
    assert alone.shares == other.shares
    assert trained("decoder-only", [short_run()])["a"].shares == {}


def test_a_mixture_resumes_to_the_bit(tmp_path):
    run = mixed(mixing="equal", steps=12, evaluate_every=0)
    whole = trained("decoder-only", [run])["both"]
    config = TrainConfig(output_dir=tmp_path / "out", checkpoint_every=5, keep_checkpoints=9, progress=False)
    train(calm_backbone("decoder-only"), [run], config)
    for newest in sorted((tmp_path / "out" / "checkpoints").iterdir())[1:]:
        shutil.rmtree(newest)
    again = train(calm_backbone("decoder-only"), [run], config)["both"]
    for task in TASKS:
        assert again.prompts[task.name]().rows.equal(whole.prompts[task.name]().rows)
    assert (again.shares, again.history) == (whole.shares, whole.history)
    with pytest.raises(ConfigError, match=r"holds another session: runs\.both\.mixing is 'equal' there"):
        train(calm_backbone("decoder-only"), [mixed(steps=12, evaluate_every=0)], config)


@pytest.mark.parametrize("kind", ["decoder-only", "encoder-decoder"])
def test_one_prompt_learns_a_mixture(kind, tmp_path):
    """Several tasks as one: what Vu et al. 2022 (SPoT) start other tasks' prompts from."""
    run = mixed(method=PromptTuning(length=3), mixing="equal", learning_rate=0.3)
    result = trained(kind, [run, short_run("beside")], output_dir=tmp_path / "out")["both"]
    stored = SoftPrompt.load(result.path)
    assert stored().rows.equal(result.prompt().rows)
    assert difference(result.prompt, run.method.build(calm_backbone(kind), run.mixture, run.seed)) > 0.01
    assert (stored.info.task, stored.info.format) == ("first-second", None)
    for task in TASKS:
        assert evaluate(calm_backbone(kind), stored, task)["accuracy"] == result.metrics[f"{task.name} accuracy"]
    assert result.metrics["mean"] == fmean(result.metrics[f"{task.name} accuracy"] for task in TASKS)


def test_the_format_that_tasks_of_a_mixture_share_is_stored():
    """None was, so that a prompt of reviews from two sources was given bare texts."""
    one, other = sentiment(name="one"), sentiment(seed=5, name="other")
    turned = sentiment(name="turned", label_words={"1": "good", "0": "bad"})
    for tasks, form in (([one, other], one.format), ([one, turned], None), (TASKS, None)):
        run = shared(task=Mixture(tasks), method=PromptTuning(length=3))
        assert list(run.learned_for.values()) == [form]


def test_a_head_is_of_one_task():
    with pytest.raises(ConfigError, match="a head has the classes of one task; train the prompt of a mixture without"):
        trained("encoder-only", [mixed(method=PromptTuning(length=3, head=True))])
