"""One step of many runs: their rows joined in one forward and backward pass, each loss its run's own mean."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from accelerate.utils.memory import should_reduce_batch_size
from jaxtyping import Float, Int
from torch import Tensor, nn

from softprompt.conditioning import Prompted
from softprompt.conditioning.texts import EncodedInput, collate_inputs
from softprompt.errors import ConfigError
from softprompt.training.data import TrainRow, collate, padded_tokens
from softprompt.training.passes import NamedRow, cut_passes, widths
from softprompt.training.run import Precision
from softprompt.training.sharing import alike_passes, share_rows

__all__ = ["backward", "backward_in_memory", "count_terms", "holds_prompts", "own_passes"]


def backward(
    model: Prompted,
    passes: Sequence[Sequence[NamedRow]],
    *,
    precision: Precision,
    hold: bool = True,
    terms: Mapping[str, int] | None = None,
) -> dict[str, float]:
    """Add each run's gradient to the parameters that it trains.

    A run's loss is the mean over the labelled tokens of its own rows (over the rows, where their targets are ranked),
    so its gradient does not depend on which other runs are in the step, nor on how the rows are cut into passes.

    Args:
        model: The backbone with every run's prompt.
        passes: The rows of the step, each with the name of its run.
        precision: In which the backbone's pass is computed.
        hold: Whether prompts are computed once for all passes, which holds what that needs for their gradients.
        terms: How many terms each run's loss has in this step, in all processes; those of the passes if None.

    Returns:
        Each run's loss, in nats per labelled token, or per row; of its terms in other processes nothing.
    """
    counts = count_terms([named for part in passes for named in part]) if terms is None else terms
    losses = dict.fromkeys(counts, 0.0)
    device = model.backbone.device
    cast = functools.partial(torch.autocast, device.type, torch.bfloat16, enabled=precision == "bf16")
    with contextlib.ExitStack() as stack:
        if hold:
            with cast():
                model = stack.enter_context(model.hold([row.prompt for part in passes for _, row in part]))
        for part in passes:
            names = [name for name, _ in part]
            weights = torch.tensor([0.0 if name is None else 1 / counts[name] for name in names], device=device)
            with cast():
                losses_of, row_of = (_ranked if part[0][1].candidates else _likely)(model, [row for _, row in part])
            weighted = losses_of * weights[row_of]  # [terms]
            weighted.sum().backward()
            by_row = torch.zeros(len(part), device=device).index_add_(0, row_of, weighted.detach())
            for name, loss in zip(names, by_row.tolist(), strict=True):
                if name is not None:
                    losses[name] += loss
    return losses


def holds_prompts(model: Prompted, prompts: Iterable[str | None], pass_tokens: int) -> bool:
    """Whether a step's prompts are computed once for all its passes: where they are no longer than a pass.

    Those that share a pass of their own are padded to the longest of them.

    Args:
        model: The backbone with every run's prompt.
        prompts: Names of those that the step's rows ask for.
        pass_tokens: Most tokens of a pass.
    """
    lengths = {name: model.prompts[name].length for name in prompts if name is not None}
    shared = [length for name, length in lengths.items() if model.pass_of(name) == "shared"]
    others = sum(lengths.values()) - sum(shared)
    return len(shared) * max(shared, default=0) + others <= pass_tokens


def count_terms(rows: Iterable[NamedRow]) -> dict[str, int]:
    """How many terms each run's loss has."""
    counts: Counter[str] = Counter()
    for name, row in rows:
        if name is not None:
            counts[name] += row.terms
    return dict(counts)


def _likely(model: Prompted, rows: Sequence[TrainRow]) -> tuple[Float[Tensor, " labelled"], Int[Tensor, " labelled"]]:
    """The loss of each labelled token, and its row."""
    batch = collate(model.backbone, rows)
    prompts = [row.prompt for row in rows]
    output = model(batch["input_ids"], batch["attention_mask"], prompts, batch["labels"], marks=batch["marks"])
    assert output.losses is not None
    assert output.rows is not None
    return output.losses, output.rows


def _ranked(model: Prompted, rows: Sequence[TrainRow]) -> tuple[Float[Tensor, " rows"], Int[Tensor, " rows"]]:
    """The loss of each row's target among its candidates, and its row."""
    if model.reads_whole:
        return _ranked_each(model, rows)
    ids, mask, marks = collate_inputs(model.backbone, [EncodedInput(row.input, row.marks) for row in rows])
    prompts = [row.prompt for row in rows]
    scores = model.score_ids(ids, mask, [row.candidates for row in rows], prompts=prompts, marks=marks)
    return _among(scores, rows)


def _ranked_each(model: Prompted, rows: Sequence[TrainRow]) -> tuple[Float[Tensor, " rows"], Int[Tensor, " rows"]]:
    """The same with a pass of each candidate from its row's start: layers are computed again without a cache."""
    each = [replace(row, target=ids) for row in rows for ids in row.candidates]
    losses, owner = _likely(model, each)
    summed = losses.new_zeros(len(each)).index_add(0, owner, losses)  # [rows*candidates]
    return _among(-summed.view(len(rows), -1), rows)  # rows of a pass have as many candidates


def _among(
    scores: Float[Tensor, "rows candidates"], rows: Sequence[TrainRow]
) -> tuple[Float[Tensor, " rows"], Int[Tensor, " rows"]]:
    right = torch.tensor([row.candidates.index(row.target) for row in rows], device=scores.device)
    return nn.functional.cross_entropy(scores, right, reduction="none"), torch.arange(len(rows), device=scores.device)


def backward_in_memory(
    model: Prompted,
    batches: Mapping[str, Sequence[TrainRow]],
    *,
    precision: Precision,
    pass_tokens: int,
    say: Callable[[str], None],
    count: int = 1,
    index: int = 0,
) -> tuple[dict[str, float], int]:
    """`backward` for one process's share of a step, in passes of a bounded size, halved whenever memory runs out.

    Args:
        model: As in `backward`.
        batches: Each live run's rows, those of all processes.
        precision: As in `backward`.
        pass_tokens: Most tokens of a pass, padding and inserted prompts included.
        say: Tells the user.
        count: How many processes share the rows.
        index: Which of them this is.

    Returns:
        Each run's loss, as far as its terms were this process's, and the tokens of a pass that fitted.

    Raises:
        torch.OutOfMemoryError: If not even a single row fits.
        ConfigError: If memory runs out in a pass whose weights come from other processes, which wait for this one.
    """
    rows: list[NamedRow] = [(name, row) for name, batch in batches.items() for row in batch]
    asked = {row.prompt for _, row in rows}
    while True:
        passes = own_passes(model, rows, pass_tokens, count=count, index=index)
        hold = holds_prompts(model, asked, pass_tokens)
        divisible = [part for part in passes if len(part) > 1]
        try:
            return backward(model, passes, precision=precision, hold=hold, terms=count_terms(rows)), pass_tokens
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            if model.backbone.sharded:
                raise ConfigError(
                    f"A pass of {pass_tokens} tokens does not fit into memory, and other processes wait for what this"
                    " one gathers; set pass_tokens lower, or use gradient_checkpointing=True or precision='bf16'."
                ) from error
            if not divisible:
                error.add_note(
                    "A single row does not fit into memory: use gradient_checkpointing=True, precision='bf16', or cut "
                    "inputs by max_input_tokens with truncate=True."
                )
                raise
        torch.cuda.empty_cache()  # only now: the error held the tensors of the failed pass
        for prompt in asked:
            learning = model.backbone.model if prompt is None else model.prompts[prompt]
            learning.zero_grad(set_to_none=True)
        pass_tokens = max(padded_tokens(widths(model, part)) for part in divisible) // 2
        say(f"Out of memory: going on with passes of {pass_tokens} tokens, whose gradients are added.")


def own_passes(
    model: Prompted, rows: Sequence[NamedRow], pass_tokens: int, *, count: int, index: int
) -> list[list[NamedRow]]:
    """What one of several processes computes of a step.

    Args:
        model: As in `backward`.
        rows: All rows of the step, each with the name of its run.
        pass_tokens: Most tokens of a pass.
        count: How many processes share the rows.
        index: Which of them this is.
    """
    if model.backbone.sharded:
        return alike_passes(model, rows, pass_tokens, count=count, index=index)
    own = rows if count == 1 else share_rows(model, rows, count)[index]
    return cut_passes(model, own, pass_tokens)
