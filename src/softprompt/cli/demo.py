"""`softprompt demo`: the whole story on a bundled backbone and bundled data, offline."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from softprompt.cli.tables import print_table

__all__ = ["demo"]

# Rows of the three tasks differ in length: small passes of like rows pad less than one pass of all.
_PASS_TOKENS = 1024


def demo(
    *,
    backbone: str = "bundled:gpt-small",
    output_dir: str = "runs/demo",
    steps: int | None = None,
    test_rows: int = 1000,
    device: str = "cpu",
) -> None:
    """Train three prompts in one session, compare them with what they must beat, and use them in one mixed batch.

    Stopped, the same command goes on where it was.

    Args:
        backbone: A bundled backbone, or any other.
        output_dir: Folder for prompts, checkpoints and scores.
        steps: Most optimizer steps of each prompt; all that it needs if not given.
        test_rows: Most held-out rows that each prompt is scored on.
        device: Where to compute.
    """
    import softprompt as sp
    from softprompt.cli.story import compare, mixed_batch, runs

    loaded = sp.Backbone.from_pretrained(backbone, device=device, dtype="float32")
    made = runs(steps)
    print(f"Training {len(made)} prompts in one session on {backbone}, which stays frozen.\n", flush=True)
    start_s = time.perf_counter()
    result = sp.train(loaded, made, sp.TrainConfig(output_dir=output_dir, pass_tokens=_PASS_TOKENS))
    trained_s = time.perf_counter() - start_s
    print(
        "\nScores on held-out rows with 95 % intervals; labels are ranked, text is generated. Text prompts are one"
        " wording each:\n",
        flush=True,
    )
    compared = {run.name: compare(loaded, run, result[run.name].prompt, test_rows) for run in made}
    print_table(
        ("prompt", "task", "metric", "rows", *compared[made[0].name].scores, "learned values"),
        [
            (run.name, run.tasks[0].name, compared[run.name].metric, compared[run.name].rows,
             *compared[run.name].cells(), result[run.name].prompt.num_parameters())
            for run in made
        ],
    )  # fmt: skip
    scores = _write_scores(Path(output_dir), {name: one.to_mapping() for name, one in compared.items()})
    mixed_batch(loaded, {name: one.prompt for name, one in result.items()}, made)
    total_s = time.perf_counter() - start_s
    print(
        f"\nTraining took {trained_s:.0f} s, with scoring {total_s:.0f} s. The scores are in {scores}, the prompts in:"
    )
    for name, one in result.items():
        size = sum(file.stat().st_size for file in Path(str(one.path)).iterdir())
        print(f"  {one.path}  {size / 1000:.0f} kB  {name}: {type(one.prompt.method).__name__}")


def _write_scores(folder: Path, scores: dict[str, Any]) -> Path:
    file = folder / "scores.json"
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    return draft.replace(file)
