"""One step of many runs: their rows joined in one forward and backward pass, each loss its run's own mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from softprompt.conditioning import Prompted
from softprompt.training.data import TrainRow, collate
from softprompt.training.run import Precision

__all__ = ["backward", "cut_passes"]

NamedRow = tuple[str, TrainRow]


def backward(
    model: Prompted, batches: Mapping[str, Sequence[TrainRow]], *, precision: Precision, pass_tokens: int
) -> dict[str, float]:
    """Add each run's gradient to its prompt's parameters.

    A run's loss is the mean over the labelled tokens of its own rows, so its gradient does not depend on which
    other runs are in the pass, nor on how the rows are cut into passes.

    Args:
        model: The backbone with every run's prompt, under the run's name.
        batches: Each live run's rows.
        precision: In which the backbone's pass is computed.
        pass_tokens: Most tokens of a pass, padding included.

    Returns:
        Each run's loss, in nats per labelled token.
    """
    counts = {name: sum(_labelled(model, row) for row in rows) for name, rows in batches.items()}
    losses = dict.fromkeys(batches, 0.0)
    device = model.backbone.device
    for part in cut_passes([(name, row) for name, rows in batches.items() for row in rows], pass_tokens):
        names = [name for name, _ in part]
        weights = torch.tensor([1 / counts[name] for name in names], device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            batch = collate(model.backbone, [row for _, row in part])
            output = model(batch["input_ids"], batch["attention_mask"], names, batch["labels"], marks=batch["marks"])
        assert output.losses is not None
        assert output.rows is not None
        weighted = output.losses * weights[output.rows]  # [labelled]
        weighted.sum().backward()
        by_row = torch.zeros(len(part), device=device).index_add_(0, output.rows, weighted.detach().float())
        for name, loss in zip(names, by_row.tolist(), strict=True):
            losses[name] += loss
    return losses


def _labelled(model: Prompted, row: TrainRow) -> int:
    return 1 if model.backbone.spec.kind == "encoder-only" else len(row.target)


def cut_passes(rows: Sequence[NamedRow], pass_tokens: int) -> list[list[NamedRow]]:
    """Cut rows into passes of like lengths, each of at most `pass_tokens` tokens, padding included."""
    ordered = sorted(rows, key=lambda named: named[1].tokens)
    passes: list[list[NamedRow]] = []
    for named in ordered:
        if passes and (len(passes[-1]) + 1) * named[1].tokens <= pass_tokens:
            passes[-1].append(named)
        else:
            passes.append([named])
    return passes


def with_halving(
    step: Callable[[int], dict[str, float]],
    pass_tokens: int,
    *,
    longest: int,
    is_out_of_memory: Callable[[BaseException], bool],
    undo: Callable[[], None],
    say: Callable[[str], None],
) -> tuple[dict[str, float], int]:
    """Take a step; when memory runs out, take it again in passes of half the size.

    Args:
        step: Takes the step, given the tokens of a pass.
        pass_tokens: Tokens of a pass to begin with.
        longest: Tokens of the longest row: a pass cannot be smaller.
        is_out_of_memory: Whether an error is worth another try.
        undo: Forgets the gradients of a step that failed.
        say: Tells the user.

    Returns:
        What the step returned, and the tokens of a pass that it fitted in.
    """
    while True:
        try:
            return step(pass_tokens), pass_tokens
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or pass_tokens <= longest:
                raise
        undo()
        pass_tokens = max(longest, pass_tokens // 2)
        say(f"Out of memory: going on with passes of {pass_tokens} tokens, whose gradients are added.")
