"""`softprompt demo`: the whole story on a bundled backbone and bundled data, offline."""

from __future__ import annotations

import time
from pathlib import Path

from softprompt.cli.tables import print_table

__all__ = ["demo"]


def demo(
    *,
    backbone: str = "bundled:gpt-mini",
    output_dir: str = "runs/demo",
    test_rows: int = 400,
    device: str = "cpu",
) -> None:
    """Train three prompts in one session, compare them with what they must beat, and use them in one mixed batch.

    Stopped, the same command goes on where it was.

    Args:
        backbone: A bundled backbone, or any other.
        output_dir: Folder for prompts and checkpoints.
        test_rows: Held-out rows that each task is scored on.
        device: Where to compute.
    """
    import softprompt as sp
    from softprompt.cli.story import mixed_batch, runs, scores

    start_s = time.perf_counter()
    loaded = sp.Backbone.from_pretrained(backbone, device=device, dtype="float32")
    made = runs()
    print(f"Training {len(made)} prompts in one session on {backbone}, which stays frozen.\n")
    result = sp.train(loaded, made, sp.TrainConfig(output_dir=output_dir))
    trained_s = time.perf_counter() - start_s
    print("\nScores on held-out rows, with 95 % intervals:\n")
    print_table(
        ("task", "metric", "most frequent answer", "bare backbone", "text prompt", "soft prompt", "values"),
        [
            (run.name, run.watches, *scores(loaded, run, result[run.name].prompt, test_rows),
             result[run.name].prompt.num_parameters())
            for run in made
        ],
    )  # fmt: skip
    mixed_batch(loaded, {name: one.prompt for name, one in result.items()}, made)
    total_s = time.perf_counter() - start_s
    print(f"\nTraining took {trained_s:.0f} s, everything {total_s:.0f} s. The prompts are in {output_dir}/prompts:")
    for name, one in result.items():
        size = sum(file.stat().st_size for file in Path(str(one.path)).iterdir())
        print(f"  {one.path}  {size / 1000:.0f} kB  {name}: {type(one.prompt.method).__name__}")
