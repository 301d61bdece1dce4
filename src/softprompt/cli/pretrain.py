"""`softprompt pretrain`: a small backbone from plain text."""

from __future__ import annotations

from typing import Literal

from softprompt.cli.tables import print_table

__all__ = ["pretrain"]


def pretrain(
    *,
    output_dir: str,
    train: list[str],
    held_out: list[str] | None = None,
    cache_dir: str = ".cache/pretraining",
    tokenizer: str | None = None,
    vocab_size: int = 8192,
    preset: str = "t5-small",
    objective: str = "span_corruption",
    start_from: str | None = None,
    steps: int = 10_000,
    batch_size: int = 16,
    window: int = 256,
    optimizer: str = "adamw",
    learning_rate: float = 2e-3,
    weight_decay: float = 0.1,
    schedule: str = "cosine",
    warmup_steps: int = 200,
    gradient_clip: float = 1.0,
    precision: Literal["bf16", "fp32"] = "bf16",
    compile: bool = False,
    threads: int | None = None,
    seed: int = 0,
    checkpoint_every_s: float = 180.0,
    evaluate_every: int = 1000,
    held_out_windows: int = 256,
    snapshots: list[int] | None = None,
    licence: str = "unknown",
) -> None:
    """Pre-train a small backbone on text, or go on where an interrupted run stopped.

    `torchrun --nproc_per_node N -m softprompt pretrain ...` shares each batch between N processes; on several GPUs,
    `accelerate launch -m softprompt pretrain ...` does too.

    Args:
        output_dir: Folder for the model, its tokenizer and its card; checkpoints lie in it until then.
        train: Text files: .txt, .jsonl or .csv, plain or .gz, .xz, .zst; or .parquet.
        held_out: Text files to measure on; every hundredth training document if not given.
        cache_dir: Where tokens and a tokenizer that is trained here are kept.
        tokenizer: A tokenizer's file, a finished model's folder or bundled:NAME; trained if not given.
        vocab_size: Pieces of a tokenizer that is trained here.
        preset: Architecture and size, such as t5-small or gpt-mini.
        objective: span_corruption, prefix_lm (LM adaptation) or causal_lm.
        start_from: A pre-trained folder, or bundled:NAME, to go on from.
        steps: Optimizer steps.
        batch_size: Windows per step.
        window: Tokens per window.
        optimizer: adamw or adafactor.
        learning_rate: Highest learning rate.
        weight_decay: Decoupled weight decay.
        schedule: cosine, linear, constant or inverse_sqrt.
        warmup_steps: Steps of linear warm-up.
        gradient_clip: Largest norm of the gradient.
        precision: bf16 autocast, or fp32.
        compile: Whether torch compiles the step.
        threads: CPU threads.
        seed: Of weights, order and objective.
        checkpoint_every_s: Seconds between checkpoints.
        evaluate_every: Steps between measurements on held-out text.
        held_out_windows: Windows of held-out text to measure on.
        snapshots: Steps after which the model is also written to a folder of its own.
        licence: Of the text, for the card.
    """
    settings = dict(locals())
    from softprompt.loop.processes import Processes
    from softprompt.pretraining import PretrainConfig
    from softprompt.pretraining import pretrain as run

    card = run(PretrainConfig(**{**settings, "held_out": held_out or (), "snapshots": snapshots or ()}))
    if Processes().first:
        print_table(
            ("fact", "value"), [(key, str(value)) for key, value in card.items() if not isinstance(value, dict | list)]
        )
