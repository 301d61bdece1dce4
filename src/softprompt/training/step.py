"""One step of many runs: their rows joined in one forward and backward pass, each loss its run's own mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from accelerate.utils.memory import should_reduce_batch_size

from softprompt.conditioning import Prompted
from softprompt.training.data import TrainRow, Width, collate, cut, padded_tokens
from softprompt.training.run import Precision

__all__ = ["backward", "backward_in_memory", "cut_passes"]

NamedRow = tuple[str, TrainRow]


def backward(model: Prompted, passes: Sequence[Sequence[NamedRow]], *, precision: Precision) -> dict[str, float]:
    """Add each run's gradient to the parameters that it trains.

    A run's loss is the mean over the labelled tokens of its own rows, so its gradient does not depend on which
    other runs are in the step, nor on how the rows are cut into passes.

    Args:
        model: The backbone with every run's prompt.
        passes: The rows of the step, each with the name of its run.
        precision: In which the backbone's pass is computed.

    Returns:
        Each run's loss, in nats per labelled token.
    """
    counts: dict[str, int] = {}
    for name, row in (named for part in passes for named in part):
        counts[name] = counts.get(name, 0) + row.labelled
    losses = dict.fromkeys(counts, 0.0)
    device = model.backbone.device
    for part in passes:
        names = [name for name, _ in part]
        weights = torch.tensor([1 / counts[name] for name in names], device=device)
        prompts, batch = [row.prompt for _, row in part], collate(model.backbone, [row for _, row in part])
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            output = model(batch["input_ids"], batch["attention_mask"], prompts, batch["labels"], marks=batch["marks"])
        assert output.losses is not None
        assert output.rows is not None
        weighted = output.losses * weights[output.rows]  # [labelled]
        weighted.sum().backward()
        by_row = torch.zeros(len(part), device=device).index_add_(0, output.rows, weighted.detach())
        for name, loss in zip(names, by_row.tolist(), strict=True):
            losses[name] += loss
    return losses


def backward_in_memory(
    model: Prompted,
    batches: Mapping[str, Sequence[TrainRow]],
    *,
    precision: Precision,
    pass_tokens: int,
    say: Callable[[str], None],
) -> tuple[dict[str, float], int]:
    """`backward` in passes of a bounded size, which is halved whenever memory runs out.

    Args:
        model: As in `backward`.
        batches: Each live run's rows.
        precision: As in `backward`.
        pass_tokens: Most tokens of a pass, padding and inserted prompts included.
        say: Tells the user.

    Returns:
        Each run's loss, and the tokens of a pass that fitted.

    Raises:
        torch.OutOfMemoryError: If not even a single row fits.
    """
    rows = [(name, row) for name, batch in batches.items() for row in batch]
    while True:
        passes = cut_passes(model, rows, pass_tokens)
        divisible = [part for part in passes if len(part) > 1]
        try:
            return backward(model, passes, precision=precision), pass_tokens
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            if not divisible:
                error.add_note(
                    "A single row does not fit into memory: use gradient_checkpointing=True, precision='bf16', or cut "
                    "inputs by max_input_tokens with truncate=True."
                )
                raise
        torch.cuda.empty_cache()  # only now: the error held the tensors of the failed pass
        for prompt in {row.prompt for _, row in rows}:
            learning = model.backbone.model if prompt is None else model.prompts[prompt]
            learning.zero_grad(set_to_none=True)
        pass_tokens = max(padded_tokens(_widths(model, part)) for part in divisible) // 2
        say(f"Out of memory: going on with passes of {pass_tokens} tokens, whose gradients are added.")


def cut_passes(model: Prompted, rows: Sequence[NamedRow], pass_tokens: int) -> list[list[NamedRow]]:
    """Cut rows into passes of like widths, each of at most `pass_tokens` tokens, or a single row."""
    wide = zip(rows, _widths(model, rows), strict=True)
    passes = cut(sorted(wide, key=lambda pair: sum(pair[1])), lambda pair: pair[1], tokens=pass_tokens)
    return [[named for named, _ in part] for part in passes]


@torch.no_grad()
def _widths(model: Prompted, rows: Sequence[NamedRow]) -> list[Width]:
    """Columns that rows take up, the prompts included that are inserted among them."""
    inserted = {
        name: model.prompts[name].length if name is not None and model.pass_of(name) == "concatenation" else 0
        for name in {row.prompt for _, row in rows}
    }
    return [(row.width[0] + inserted[row.prompt], row.width[1]) for _, row in rows]
