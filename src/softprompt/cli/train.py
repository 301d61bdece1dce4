"""`softprompt train`: one run from flags, or several from a file."""

from __future__ import annotations

import contextlib
import inspect
import io
import sys
from pathlib import Path
from typing import Any, Literal

from softprompt.errors import ConfigError

__all__ = ["train_prompts"]


def train_prompts(
    *,
    backbone: str,
    output_dir: str,
    task: str | list[str] | None = None,
    data_dir: str | dict[str, str] | None = None,
    mixing: Literal["proportional", "temperature", "equal"] | None = None,
    mixing_temperature: float | None = None,
    mixing_limit: int | None = None,
    train_file: str | None = None,
    validation_file: str | None = None,
    test_file: str | None = None,
    dataset: str | None = None,
    subset: str | None = None,
    splits: dict[str, str] | None = None,
    dataset_revision: str | None = None,
    split_seed: int = 0,
    input: str | None = None,
    target: str | None = None,
    label_words: dict[str, str] | None = None,
    metrics: list[str] | None = None,
    group: str | None = None,
    chat: bool = False,
    system: str | None = None,
    words: str | None = None,
    context: str | None = None,
    on_bad_row: Literal["error", "skip"] = "error",
    name: str | None = None,
    settings: Literal["given", "auto", "search"] = "given",
    method: str = "prompt_tuning",
    length: int | None = None,
    init: str | None = None,
    text: str | None = None,
    source: str | list[str] | None = None,
    placement: str | None = None,
    hidden: int | None = None,
    encoder: bool | Literal["lstm", "mlp"] | None = None,
    cross: bool | None = None,
    decoder: bool | None = None,
    head: bool | None = None,
    method_options: dict[str, Any] | None = None,
    seed: int = 0,
    loss: Literal["likelihood", "rank"] | None = None,
    optimizer: str = "adafactor",
    learning_rate: float = 0.3,
    weight_decay: float = 1e-5,
    schedule: str = "constant",
    warmup_steps: int = 0,
    clip_norm: float | None = None,
    batch_size: int = 32,
    batch_tokens: int | None = None,
    accumulate: int = 1,
    steps: int | None = None,
    evaluate_every: int | None = None,
    evaluate_rows: int | None = None,
    by: Literal["generate", "rank"] | None = None,
    metric: str | None = None,
    patience: int | None = None,
    truncate: bool = False,
    max_input_tokens: int | None = None,
    max_new_tokens: int | None = None,
    dtype: str = "auto",
    device: str = "auto",
    classes: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    attention: Literal["sdpa", "eager"] | None = None,
    quantize: Literal["int8", "nf4"] | None = None,
    sharded: bool = False,
    offload: bool = False,
    device_map: str | dict[str, str | int] | None = None,
    precision: Literal["float32", "bf16"] = "float32",
    conditioning: Literal["auto", "shared", "concatenation"] = "auto",
    gradient_checkpointing: bool = False,
    pass_tokens: int = 16384,
    input_cache_bytes: int = 0,
    evaluation_tokens: int = 16384,
    checkpoint_every: int = 200,
    keep_checkpoints: int = 2,
    trackers: list[str] | None = None,
    halve_at: list[int] | None = None,
    compare: str | list[str] | None = None,
    compare_seeds: list[int] | None = None,
    runs: list[dict[str, Any]] | None = None,
    dry_run: bool = False,
    processes: int = 1,
) -> None:
    """Train one or several prompts on a frozen backbone.

    The same command goes on where it was stopped. `torchrun --nproc_per_node N -m softprompt train ...` and `accelerate
    launch -m softprompt train ...` share each step between processes, in another number of them too. The resolved
    settings are written to OUTPUT_DIR/config.yaml, the prompts to OUTPUT_DIR/prompts/NAME.

    Args:
        backbone: Hub id, folder, or bundled:NAME.
        output_dir: Folder for prompts, histories and checkpoints.
        task: A task's name (see `softprompt tasks list`), or several in brackets, e.g. "[sst2, subj]", which are
            mixed; or give files or a data set.
        data_dir: Folder with the original files of all tasks that bring none along, or one for each, e.g.
            {"sst2": data/sst2}.
        mixing: How several tasks share the training rows: in proportion to their own (proportional, also if not
            given), to the root of them (temperature), or equally (equal).
        mixing_temperature: Which root, with mixing temperature: 1 is proportional, and the more the nearer to equal.
        mixing_limit: Most rows that a task counts with, in proportion or by temperature.
        train_file: JSONL, CSV, TSV or Parquet file to train on; alone, it is split in three.
        validation_file: File to choose the best prompt on.
        test_file: File that is only read when it is evaluated on.
        dataset: Data set of the hub, or a folder that `datasets` loads, instead of files.
        subset: Which of the data set's configurations.
        splits: Our splits to the data set's, e.g. {"train": train, "validation": validation_matched}.
        dataset_revision: The data set's branch, tag or commit on the hub.
        split_seed: Seed by which data that come in one piece are split in three.
        input: Template of the input over the data's columns, e.g. "{text}".
        target: Template of the target, e.g. "{label}".
        label_words: Word for each value of the target's column, e.g. {"0": bad, "1": great}.
        metrics: Names of metrics (docs/evaluating.md; a wrong one is answered with all); the first chooses the prompt.
        group: Column that rows have in common which are scored together.
        chat: Whether to put the tokenizer's chat template around inputs.
        system: The conversation's system turn, with chat; {prompt} or {soft:N} may stand in it.
        words: Column of the input whose words are tagged; the target's column holds a tag for each.
        context: Column of the input in whose words the target stands, as an answer does in a passage.
        on_bad_row: Whether a bad row is an error or is skipped and counted.
        name: The run's name; the task's if not given.
        settings: Whose settings hold where no flag gives another than its default: the defaults, those that `softprompt
            recommend` advises (auto), or those that its search finds (search).
        method: prompt_tuning, prefix_tuning, p_tuning, p_tuning_v2, multitask or another package's; or a baseline:
            model_tuning, lora, ia3.
        length: Virtual tokens.
        init: How the prompt starts: class_labels, vocab, random, normal, text, prompt.
        text: Words to start from, with init text.
        source: Folder of the prompt to start from, with init prompt; of several in brackets, their mean.
        placement: prepend, middle, append, or template: at the places {soft:N} of the input.
        hidden: Width of a prefix's reparameterisation; 0 trains keys and values directly.
        encoder: Whether the encoder gets a prefix, in prefix tuning; the kind of network in p_tuning: lstm or mlp.
        cross: Whether the decoder's attention onto the encoder gets a prefix.
        decoder: Whether the decoder gets a prefix.
        head: Whether an encoder-only model's head is trained with the prompt: over the task's label words, the tags of
            its words, or the ends of answers in its context.
        method_options: Further settings of the method, e.g. {"layers": 2} for model_tuning, {"rank": 4} for lora or
            multitask, {"towards": words, "towards_weight": 0.1} for prompt_tuning.
        seed: Of the prompt's start and the order of the data.
        loss: likelihood of the target's tokens, or rank: of the target among the label words. If not given, likelihood,
            or what --settings or --compare choose.
        optimizer: adafactor, adamw, or another package's.
        learning_rate: Highest learning rate.
        weight_decay: Decoupled weight decay.
        schedule: constant, linear, cosine or inverse_sqrt.
        warmup_steps: Steps of linear warm-up.
        clip_norm: Largest norm of a prompt's gradient.
        batch_size: Rows per batch.
        batch_tokens: Most tokens per batch, padding included.
        accumulate: Batches per optimizer step.
        steps: Optimizer steps; if not given, 3000, or what --settings auto or --compare choose. A search needs them.
        evaluate_every: Steps between evaluations; at the end only if not given, never if 0.
        evaluate_rows: Most validation rows to evaluate on.
        by: Rank label words, or generate.
        metric: Which metric chooses the best prompt.
        patience: Evaluations without improvement after which a run stops.
        truncate: Cut inputs that are too long, instead of failing.
        max_input_tokens: Longest input, in tokens.
        max_new_tokens: Longest text to generate in evaluation, in tokens.
        dtype: The backbone's dtype: auto, float32, bfloat16, float16.
        device: auto, cpu, cuda, mps.
        classes: Give an encoder without classification head a new one of so many classes, for prompts with heads.
        revision: The backbone's branch, tag or commit on the hub.
        trust_remote_code: Whether code that comes with the backbone may run.
        attention: Attention kernel.
        quantize: Keep the frozen weights of linear layers in fewer bits: int8 or nf4 (needs torchao).
        sharded: Give each process a part of the backbone, for one that is larger than a GPU.
        offload: Keep these parts in CPU memory, with sharded.
        device_map: Spread the backbone over the devices of one process, as transformers does: auto, or a mapping.
        precision: float32, or bf16 autocast.
        conditioning: Which pass to take.
        gradient_checkpointing: Recompute layers in the backward pass, to save memory.
        pass_tokens: Most tokens in one pass of the backbone.
        input_cache_bytes: Most bytes kept of what a decoder-only model makes of inputs that stand before their prompts
            (append, middle), which are then read once.
        evaluation_tokens: Most tokens of a batch in evaluation, padding included.
        checkpoint_every: Steps between checkpoints.
        keep_checkpoints: How many checkpoints to keep.
        trackers: tensorboard, wandb, mlflow, trackio.
        halve_at: Steps after which the worse half of the runs is stopped.
        compare: Instead of one run, all methods and baselines, or some by their names in the grid `methods`, under one
            budget, each at the better of two rates; prints what each scored and cost.
        compare_seeds: Seeds of the comparison; 0, 1 and 2 if not given.
        runs: Several runs: a list of settings for each, which win over those above.
        dry_run: Train and write nothing, but print the memory that a training would take, and whether it is free.
        processes: With dry_run, in how many processes: what each of them would take, with sharded and offload, too. The
            backbone is read whole, in this one.
    """
    given = {name: value for name, value in locals().items() if name not in ("dry_run", "processes")}
    from softprompt.backbones.launch import check_alone
    from softprompt.loop.processes import Processes

    if compare is not None or settings != "given":
        check_alone(f"--compare, or --settings {settings},")
    if dry_run:
        check_alone("--dry_run")
        if compare is not None:
            raise ConfigError("--dry_run estimates one session, and --compare takes several; drop one of them.")
        if settings == "search":
            raise ConfigError("--settings search trains to find settings, and --dry_run does not; drop one of them.")
    elif processes != 1:
        raise ConfigError(
            "--processes says for how many --dry_run estimates; to train, start them by torchrun or accelerate launch."
        )
    started = Processes()
    if compare is not None:
        from softprompt.cli.comparing import compare_methods

        compare_methods(given, _changed(given))
        return
    import softprompt as sp
    from softprompt.cli.loading import load_backbone
    from softprompt.cli.results import print_results
    from softprompt.cli.runs import build_runs

    with contextlib.nullcontext() if started.first else contextlib.redirect_stderr(io.StringIO()):
        made = build_runs(given) if settings == "given" else []
    several = {"sharded": False, "offload": False} if processes != 1 else {}  # of those that are not here
    loaded = load_backbone({**given, **several})
    if settings != "given":
        from softprompt.cli.advising import take_advice

        given, made = take_advice(loaded, given, _changed(given))
    config = sp.TrainConfig(
        output_dir=output_dir,
        precision=precision,
        conditioning=conditioning,
        gradient_checkpointing=gradient_checkpointing,
        pass_tokens=pass_tokens,
        input_cache_bytes=input_cache_bytes,
        evaluation_tokens=evaluation_tokens,
        checkpoint_every=checkpoint_every,
        keep_checkpoints=keep_checkpoints,
        trackers=tuple(trackers or ()),
        halve_at=tuple(halve_at or ()),
    )
    if dry_run:
        from softprompt.cli.estimating import print_estimate

        launch = {"processes": processes, "sharded": sharded, "offload": offload} if processes != 1 else {}
        print_estimate(sp.estimate_memory(loaded, made, config, **launch))
        return
    resumed = Path(output_dir, "session.json").exists()
    if not resumed and started.first:  # whatever ends this training, it can be repeated
        _write_settings(given)
    result = sp.train(loaded, made, config)
    if not started.first:
        return
    _write_settings(given)
    steps_done = sum(len(run.history) for run in result.values())
    # what earlier calls took is not known
    per_step = 1000 * result.step_seconds / steps_done if steps_done and not resumed else None
    print_results(result, per_step)
    for name, run in result.items():
        if run.shares:
            shares = ", ".join(f"{task} {100 * share:.1f} %" for task, share in run.shares.items())
            print(f"{name} was trained on rows of {shares}.", file=sys.stderr)
        if run.reason:
            print(f"{name}: {run.reason}", file=sys.stderr)


def _changed(settings: dict[str, Any]) -> list[str]:
    """The flags that have another value than their default."""
    flags = inspect.signature(train_prompts).parameters
    return [name for name, value in settings.items() if value != flags[name].default]


def _write_settings(settings: dict[str, Any]) -> None:
    """Write the resolved settings beside the result: not into another session's folder, nor over a file."""
    from softprompt.config import write_yaml

    folder = Path(settings["output_dir"])
    if folder.is_file():
        raise ConfigError(f"output_dir={folder} is a file; choose a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    write_yaml({key: value for key, value in settings.items() if value is not None}, folder / "config.yaml")
