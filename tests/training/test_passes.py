"""However a step is computed (passes, recomputation, precision), the prompts come out the same."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch
from tests.training.sessions import calm_backbone, difference, moved, sentiment, short_run, trained, varied_runs, words

from softprompt.conditioning import Prompted, splitting
from softprompt.errors import UnsupportedError
from softprompt.prompts import PrefixTuning, PromptTuning, SoftPrompt
from softprompt.tasks import Task
from softprompt.training.data import collate, encode_rows
from softprompt.training.passes import cut_passes
from softprompt.training.step import backward, backward_in_memory

KINDS = ("decoder-only", "encoder-decoder", "encoder-only")
MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB."


def runs_of(kind, steps=6):
    return [dataclasses.replace(run, evaluate_every=0, steps=steps) for run in varied_runs(kind)]


def assert_close(kind, runs, found, wanted, bound):
    for run in runs:
        assert difference(found[run.name].prompt, wanted[run.name].prompt) < bound, run.name
        assert moved(run, kind, wanted[run.name].prompt) > 0.02, run.name


@pytest.fixture(scope="module")
def plain():
    """Each kind's runs, trained as they come."""
    return {kind: trained(kind, runs_of(kind)) for kind in KINDS}


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"pass_tokens": 40}, id="many passes"),
        pytest.param({"gradient_checkpointing": True}, id="recomputation"),
        pytest.param({"conditioning": "concatenation"}, id="concatenation"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_prompts_do_not_depend_on_how_a_step_is_computed(kind, config, plain):
    runs = runs_of(kind)
    assert_close(kind, runs, trained(kind, runs, **config), plain[kind], 1e-4)


@pytest.mark.parametrize("loss", ["likelihood", "rank"])
def test_prompts_do_not_depend_on_whether_inputs_before_them_are_kept(loss, monkeypatch):
    monkeypatch.setattr(splitting, "start_cost", lambda device: 1)
    run = dataclasses.replace(
        short_run(steps=12, loss=loss),
        method=PromptTuning(length=3, init="vocab", placement="append"),
        evaluate_every=0,
    )
    plain, kept = (trained("decoder-only", [run], input_cache_bytes=held) for held in (0, 10**7))
    assert difference(kept["a"].prompt, plain["a"].prompt) < 1e-4
    assert moved(run, "decoder-only", plain["a"].prompt) > 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_computed_once_a_step(kind, monkeypatch):
    backbone, runs = calm_backbone(kind), runs_of(kind)
    prompts = {run.name: run.method.build(backbone, run.task, 0) for run in runs}
    model = Prompted(backbone, prompts)
    rows = [(run.name, row) for run in runs for row in encode_rows(model, run, run.task, run.name)]
    computed = []
    for name, prompt in prompts.items():
        prompt.register_forward_hook(lambda module, given, made, name=name: computed.append(name))
    recorded = []
    record = type(backbone).record
    monkeypatch.setattr(
        type(backbone), "record", lambda self, *given, **options: recorded.append(1) or record(self, *given, **options)
    )
    whole, cut = cut_passes(model, rows, 10**6), cut_passes(model, rows, 40)
    gradients = []
    for passes in (whole, cut):
        computed.clear()
        recorded.clear()
        backward(model, passes, precision="float32")
        assert sorted(computed) == sorted(prompts)
        assert len(recorded) == (kind == "decoder-only")
        gradients.append([p.grad for p in model.parameters()])
        for parameter in model.parameters():
            parameter.grad = None
    assert len(cut) > 2 * len(whole)
    for once, often in zip(*gradients, strict=True):
        assert once.abs().max() > 0
        assert once.allclose(often, atol=1e-5)


def test_the_passes_of_a_decoder_differ(plain):
    """Otherwise the comparison of shared and concatenation pass would compare nothing."""
    backbone, run = calm_backbone("decoder-only"), runs_of("decoder-only")[0]
    prompt = {"rows": run.method.build(backbone, run.task, 0)}
    assert Prompted(backbone, prompt).pass_of("rows") == "shared"
    assert Prompted(backbone, prompt, conditioning="concatenation").pass_of("rows") == "concatenation"


def test_a_pass_that_is_not_exact_is_refused():
    with pytest.raises(UnsupportedError, match="calm encoder-decoder cannot take the shared-prompt pass"):
        trained("encoder-decoder", [short_run()], conditioning="shared")


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_is_close_to_float32(kind, plain):
    """Prompts stay float32; the first loss differs by bfloat16's precision, about 1 in 256, and no more."""
    runs = runs_of(kind)
    found = trained(kind, runs, precision="bf16")
    for run in runs:
        first, wanted = found[run.name].history[0]["loss"], plain[kind][run.name].history[0]["loss"]
        assert first == pytest.approx(wanted, rel=0.02)
        assert first != wanted
        assert difference(found[run.name].prompt, plain[kind][run.name].prompt) < 0.2
        assert {value.dtype for value in found[run.name].prompt.state_dict().values()} == {torch.float32}


def test_bf16_leaves_prompts_in_float32(monkeypatch):
    """The MLP of a prefix ran in bfloat16 while it was trained, so that what was trained was not what was measured."""
    exact, forward = [], SoftPrompt.forward

    def noting(self):
        made = forward(self)
        with torch.autocast("cpu", enabled=False):
            wanted = forward(self).named()
        exact.extend(torch.equal(tensor, wanted[name]) for name, tensor in made.named().items())
        return made

    monkeypatch.setattr(SoftPrompt, "forward", noting)
    run = short_run(method=PrefixTuning(length=2, hidden=16), steps=2)
    trained("decoder-only", [run], precision="bf16")
    assert len(exact) > 2
    assert all(exact)


def test_two_batches_of_four_are_one_of_eight():
    """With a single batch of eight rows per epoch the order cannot tell: all rows are in each step."""
    task = short_run().task
    eight = dataclasses.replace(task, _examples={**task._examples, "train": task.examples("train")[:8]})
    together = short_run("together", task=eight, batch_size=8, steps=6)
    halves = short_run("halves", task=eight, batch_size=4, accumulate=2, steps=6)
    result = trained("encoder-decoder", [together, halves])
    assert difference(result["halves"].prompt, result["together"].prompt) < 1e-5
    assert moved(together, "encoder-decoder", result["together"].prompt) > 0.05


@pytest.fixture
def step():
    """A model with two runs, and their first batches: 4 and 3 rows."""
    backbone = calm_backbone("decoder-only")
    runs = [short_run("left"), short_run("right", method=varied_runs("decoder-only")[2].method)]
    model = Prompted(backbone, {run.name: run.method.build(backbone, run.task, 0) for run in runs})
    rows = {run.name: encode_rows(model, run, run.task, run.name) for run in runs}
    return model, {"left": rows["left"][:4], "right": rows["right"][4:7]}


def gradients(model):
    return [parameter.grad.clone() for parameter in model.parameters()]


def limit_memory(monkeypatch, most_tokens, message=MEMORY):
    """Let passes of more than that many tokens fail, after their forward pass; returns the tokens of those that ran."""
    ran = []
    whole = Prompted.__call__

    def limited(self, input_ids, *arguments, **keywords):
        output = whole(self, input_ids, *arguments, **keywords)
        if input_ids.numel() > most_tokens:
            raise torch.OutOfMemoryError(message)
        ran.append(input_ids.numel())
        return output

    monkeypatch.setattr(Prompted, "__call__", limited)
    return ran


def test_running_out_of_memory_halves_the_passes(step, monkeypatch):
    model, batches = step
    rows = [(name, row) for name, batch in batches.items() for row in batch]
    losses = backward(model, [rows], precision="float32")
    wanted = gradients(model)
    for parameter in model.parameters():
        parameter.grad = None
    whole = len(rows) * max(len(row.input) + len(row.target) for _, row in rows)
    ran, said = limit_memory(monkeypatch, whole // 3), []
    found, pass_tokens = backward_in_memory(model, batches, precision="float32", pass_tokens=10_000, say=said.append)
    assert pass_tokens <= whole // 4
    assert said == [
        f"Out of memory: going on with passes of {tokens} tokens, whose gradients are added."
        for tokens in (whole // 2, pass_tokens)
    ]
    assert len(ran) > 2
    assert found == pytest.approx(losses, rel=1e-5)
    for one, other in zip(gradients(model), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_gradients_of_a_pass_that_had_room_are_not_added_twice(step, monkeypatch):
    """The small passes of a step come first and succeed; the whole step is taken again."""
    model, batches = step
    rows = [(name, row) for name, batch in batches.items() for row in batch]
    backward(model, [rows], precision="float32")
    wanted = gradients(model)
    for parameter in model.parameters():
        parameter.grad = None
    widest = max(row.tokens for _, row in rows)
    passes = [len(part) * max(row.tokens for _, row in part) for part in cut_passes(model, rows, 3 * widest)]
    ran = limit_memory(monkeypatch, max(passes) - 1)
    assert min(passes) < max(passes)
    backward_in_memory(model, batches, precision="float32", pass_tokens=3 * widest, say=lambda line: None)
    assert sum(ran) > sum(row.tokens for _, row in rows)
    for one, other in zip(gradients(model), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_single_row_that_does_not_fit_is_an_error_with_a_remedy(step, monkeypatch):
    model, batches = step
    limit_memory(monkeypatch, 1)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        backward_in_memory(model, batches, precision="float32", pass_tokens=100, say=lambda line: None)
    assert caught.value.__notes__ == [
        "A single row does not fit into memory: use gradient_checkpointing=True, precision='bf16', or cut inputs by "
        "max_input_tokens with truncate=True."
    ]


def test_other_failures_are_not_tried_again(step, monkeypatch):
    model, batches = step
    limit_memory(monkeypatch, 1, "mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="mat1 and mat2") as caught:
        backward_in_memory(model, batches, precision="float32", pass_tokens=10_000, say=pytest.fail)
    assert "__notes__" not in vars(caught.value)


def test_a_session_goes_on_with_the_smaller_passes(monkeypatch, capsys):
    runs = runs_of("decoder-only")
    wanted = trained("decoder-only", runs)
    ran = limit_memory(monkeypatch, 60)
    found = trained("decoder-only", runs, progress=True)
    assert_close("decoder-only", runs, found, wanted, 1e-4)
    assert len(ran) > 20
    said = capsys.readouterr().err
    assert said.count("Out of memory: going on with passes of") in (1, 2, 3)


def test_passes_keep_to_their_tokens_with_inserted_prompts(step):
    model, batches = step
    rows = [(name, row) for name, batch in batches.items() for row in batch]
    inserting = Prompted(model.backbone, model.prompts, conditioning="concatenation")
    for chosen, extra in ((model, {"left": 0, "right": 0}), (inserting, {"left": 3, "right": 0})):
        passes = cut_passes(chosen, rows, 50)
        assert sorted(map(id, (row for part in passes for _, row in part))) == sorted(id(row) for _, row in rows)
        sizes = [len(part) * max(row.tokens + extra[name] for name, row in part) for part in passes]
        assert max(sizes) <= 50
        assert len(sizes) > 2


@pytest.mark.parametrize("method", [PromptTuning(length=3, init="vocab"), PrefixTuning(length=2, hidden=None)])
@pytest.mark.parametrize("kind", ["decoder-only", "encoder-decoder"])
def test_targets_are_ranked_as_evaluation_ranks_them(kind, method):
    """Against each candidate by itself, unpadded, in a forward pass of its own; labels of one and of three tokens."""
    backbone = calm_backbone(kind)
    task = sentiment(label_words={"0": "bad", "1": "good or great"})
    run = short_run(method=method, task=task, loss="rank")
    model = Prompted(backbone, {"a": method.build(backbone, task, 0)})
    rows = encode_rows(model, run, task, "a")[:5]
    assert len({len(one) for one in rows[0].candidates}) == 2
    found = backward(model, [[("a", row) for row in rows]], precision="float32")["a"]
    gradient = gradients(model)
    for parameter in model.parameters():
        parameter.grad = None
    losses = []
    for row in rows:
        scores = []
        for ids in row.candidates:
            batch = collate(backbone, [dataclasses.replace(row, target=ids)])
            output = model(batch["input_ids"], batch["attention_mask"], labels=batch["labels"])
            scores.append(-output.losses.sum())
        right = torch.tensor(row.candidates.index(row.target))
        losses.append(torch.nn.functional.cross_entropy(torch.stack(scores), right))
    wanted = torch.stack(losses).mean()
    wanted.backward()
    assert found == pytest.approx(wanted.item(), rel=1e-5)
    for one, other in zip(gradient, gradients(model), strict=True):
        assert other.norm() > 1e-4
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_no_run_needs_more_room_in_company_than_alone():
    """Inputs were cut for their own candidates, and then stood before longer ones of another run."""
    rows = [{"text": words(120, random.Random(seed)), "label": str(seed % 2)} for seed in range(8)]
    settings = {"loss": "rank", "truncate": True, "steps": 2}
    runs = [
        short_run(name, task=reviews(rows, good), method=PromptTuning(length=3, init="vocab"), **settings)
        for name, good in (("word", "good"), ("phrase", "good or great or cheap or very good"))
    ]
    together = trained("decoder-only", runs)
    for run in runs:
        assert together[run.name].status == "finished"
        assert difference(together[run.name].prompt, trained("decoder-only", [run])[run.name].prompt) < 1e-5


def reviews(rows, good):
    return Task.from_rows(
        {"train": rows, "validation": rows[:2]}, input="{text}", target="{label}", label_words={"0": "bad", "1": good}
    )


@pytest.mark.parametrize("kind", ["decoder-only", "encoder-decoder"])
@pytest.mark.parametrize("recomputed", [False, True])
def test_candidates_count_towards_a_pass(kind, recomputed, monkeypatch):
    labels = {str(number): text for number, text in enumerate(["bad", "good", "good or great", "very bad", "cheap"])}
    task = Task.from_rows(
        {"train": [{"text": words(12, random.Random(i)), "label": str(i % 5)} for i in range(10)]},
        input="{text}", target="{label}", label_words=labels, split_sizes=(1, 0, 0),
    )  # fmt: skip
    backbone, run = calm_backbone(kind), short_run(task=task, loss="rank")
    prompts = {"a": run.method.build(backbone, task, 0)}
    model = Prompted(backbone, prompts, gradient_checkpointing=recomputed, conditioning="concatenation")
    rows = [("a", row) for row in encode_rows(model, run, task, "a")]
    tokens, whole = [], type(backbone).call

    def counting(self, *arguments, **keywords):
        given = (keywords.get(name) for name in ("inputs_embeds", "input_ids", "decoder_input_ids"))
        read = next(tensor for tensor in given if tensor is not None)
        tokens.append(read.shape[0] * read.shape[1])
        return whole(self, *arguments, **keywords)

    monkeypatch.setattr(type(backbone), "call", counting)
    limit = 250
    passes = cut_passes(model, rows, limit)
    assert 1 < len(passes) < len(rows)
    backward(model, passes, precision="float32")
    assert max(tokens) <= limit
    assert max(tokens) > limit / 5


def test_runs_that_rank_and_runs_that_do_not_share_a_step():
    task = sentiment(rows=8)
    ranking = short_run("ranking", task=task, loss="rank", steps=6)
    plain = short_run("plain", task=task, steps=6)
    together = trained("encoder-decoder", [ranking, plain])
    for run in (ranking, plain):
        alone = trained("encoder-decoder", [run])[run.name].prompt
        assert difference(together[run.name].prompt, alone) < 1e-5
    assert difference(together["ranking"].prompt, together["plain"].prompt) > 0.01


def test_an_encoder_ranks_its_classes_anyway():
    plain, ranking = short_run("plain"), short_run("ranking", loss="rank")
    found = trained("encoder-only", [plain, ranking])
    assert difference(found["plain"].prompt, found["ranking"].prompt) == 0
