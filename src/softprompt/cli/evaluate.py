"""`softprompt evaluate`: score a prompt, or what it must beat, on tasks."""

from __future__ import annotations

from typing import Literal

__all__ = ["evaluate_prompt"]


def evaluate_prompt(
    *,
    backbone: str,
    prompt: str | None = None,
    text_prompt: str | None = None,
    shots: int | None = None,
    shots_seed: int = 0,
    majority: bool = False,
    against: str | None = None,
    task: str | list[str] | None = None,
    data_dir: str | dict[str, str] | None = None,
    train_file: str | None = None,
    validation_file: str | None = None,
    test_file: str | None = None,
    dataset: str | None = None,
    subset: str | None = None,
    splits: dict[str, str] | None = None,
    dataset_revision: str | None = None,
    split_seed: int | None = None,
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
    split: str | list[str] = "validation",
    by: Literal["generate", "rank"] | None = None,
    rows: int | None = None,
    calibrate: bool = False,
    max_new_tokens: int | None = None,
    max_input_tokens: int | None = None,
    num_beams: int = 1,
    length_penalty: float | None = None,
    truncate: bool = False,
    output: str | None = None,
    dtype: str = "auto",
    quantize: Literal["int8", "nf4"] | None = None,
    device: str = "auto",
    device_map: str | dict[str, str | int] | None = None,
    classes: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    batch_tokens: int = 16384,
) -> None:
    """Score a prompt on tasks: metrics with 95 % intervals in one table, and every prediction in a file if asked.

    Without a prompt the bare backbone is scored. Files and data sets are read in the format that is stored with the
    prompt, tasks by name in their own, unless --input, --target, --label_words or --chat say another. Stopped, the same
    command goes on behind the predictions in the output file; what they were made with stands in
    OUTPUT.settings.json.

    Args:
        backbone: Hub id, folder, or bundled:NAME.
        prompt: The folder of a prompt or an ensemble; or of a run that trained one for each task.
        text_prompt: Words to put before each input instead of a prompt.
        shots: So many training rows with their targets to put before each input instead of a prompt, behind the words
            of --text_prompt if there are any.
        shots_seed: Of their draw.
        majority: Score the most frequent training target instead of a model.
        against: What to compare with on the same rows, by a paired test: the folder of a prompt or an ensemble, bare
            (the backbone by itself), majority, or the output file of another evaluation.
        task: A task's name (see `softprompt tasks list`), or several in brackets, e.g. "[sst2, subj]"; or give files or
            a data set.
        data_dir: Folder with the original files of all tasks that bring none along, or one for each, e.g.
            {"sst2": data/sst2}.
        train_file: JSONL, CSV, TSV or Parquet file; alone, it is split in three.
        validation_file: File of the validation split.
        test_file: File of the test split.
        dataset: Data set of the hub, or a folder that `datasets` loads, instead of files.
        subset: Which of the data set's configurations.
        splits: Our splits to the data set's, e.g. {"train": train, "validation": validation_matched}.
        dataset_revision: The data set's branch, tag or commit on the hub.
        split_seed: Seed by which data that come in one piece are split in three; by default that of the prompt's
            training, so that its test rows are none that it was trained on; without a prompt 0: give the prompt's seed
            to score its rivals on the same rows.
        input: Template of the input over the data's columns, e.g. "{text}".
        target: Template of the target, e.g. "{label}".
        label_words: Word for each value of the target's column, e.g. {"0": bad, "1": great}.
        metrics: Names of metrics (docs/evaluating.md; a wrong one is answered with all).
        group: Column that rows have in common which are scored together.
        chat: Whether to put the tokenizer's chat template around inputs.
        system: The conversation's system turn, with chat; {prompt} or {soft:N} may stand in it.
        words: Column of the input whose words are tagged; the target's column holds a tag for each.
        context: Column of the input in whose words the target stands, as an answer does in a passage.
        on_bad_row: Whether a bad row is an error or is skipped and counted.
        split: Which split to score on, or several, e.g. "[validation, test]"; each task on those that it has.
        by: Rank the task's label words, or generate; ranks if the task has label words.
        rows: Score that many rows only, drawn by a fixed seed.
        calibrate: Divide each label word's probability by what it is for inputs without content (Zhao et al. 2021).
        max_new_tokens: Longest text to generate, in tokens.
        max_input_tokens: Longest input, in tokens; give what the prompt was trained with.
        num_beams: Beams of generated text; 1 is greedy. Refused where all labels are ranked.
        length_penalty: With beams, the power of a text's length by which its score is divided: more prefers longer
            ones; 1 if not given.
        truncate: Cut inputs that are too long, instead of failing.
        output: File that gets the predictions as they are made, one JSON object per row; what is compared with goes to
            a file beside it, e.g. out.against.jsonl.
        dtype: The backbone's dtype: auto, float32, bfloat16, float16.
        quantize: Keep the frozen weights of linear layers in fewer bits: int8 or nf4 (needs torchao).
        device: auto, cpu, cuda, mps.
        device_map: Spread the backbone over the devices of this process, as transformers does: auto, or a mapping.
        classes: Give an encoder without classification head a new one of so many classes, for prompts with heads.
        revision: The backbone's branch, tag or commit on the hub.
        trust_remote_code: Whether code that comes with the backbone may run.
        batch_tokens: Most tokens per batch, padding included.
    """
    settings = dict(locals())
    from softprompt.backbones.launch import check_alone
    from softprompt.cli.data import read_tasks, tell_formats
    from softprompt.cli.loading import load_backbone
    from softprompt.cli.score_table import score_table
    from softprompt.cli.scoring import (
        Scores,
        pick_splits,
        read_prompts,
        read_texts,
        scores_against,
    )
    from softprompt.errors import ConfigError
    from softprompt.evaluation.ways import choose_way
    from softprompt.inference import BatchLimits
    from softprompt.loop.progress import Progress

    check_alone("softprompt evaluate")
    if (prompt is not None) + (text_prompt is not None) + majority > 1:
        raise ConfigError("Give at most one of --prompt, --text_prompt and --majority.")
    if shots is not None and (prompt is not None or majority):
        raise ConfigError("--shots are put before inputs of the bare backbone; drop them, or --prompt and --majority.")
    if length_penalty is not None and num_beams == 1:
        raise ConfigError("--length_penalty chooses among beams; give --num_beams above 1, or drop it.")
    beams = {"num_beams": num_beams, "length_penalty": length_penalty}
    prompts = read_prompts(prompt, task if isinstance(task, list) else [task or ""]) if prompt is not None else {}
    tasks = read_tasks(settings, next(iter(prompts.values())).info if prompts else None)
    if num_beams > 1 and all(choose_way(by, one.labels) == "rank" for one in tasks):
        raise ConfigError("--num_beams is for text that is generated, but labels are ranked; say --by generate.")
    tell_formats(tasks, {name: one.info for name, one in prompts.items()}, settings)
    asked = [(one, part) for one in tasks for part in pick_splits(one, split)]
    with Progress() as progress:
        scores = Scores(
            load=lambda: load_backbone(settings),
            progress=progress,
            rows=rows,
            options={
                "by": by,
                "calibrate": calibrate,
                "max_new_tokens": max_new_tokens,
                "max_input_tokens": max_input_tokens,
                "truncate": truncate,
                "limits": BatchLimits(tokens=batch_tokens),
                **{name: value for name, value in beams.items() if value is not None and num_beams > 1},
            },
        )
        theirs = None if against is None else scores_against(scores, asked, against, output)
        if majority:
            ours = scores.of_majority(asked, output)
        elif prompts:
            ours = scores.of_prompts(asked, prompts, output)
        else:
            ours = scores.of_texts(asked, read_texts(tasks, text_prompt, shots, seed=shots_seed), output)
        table = score_table(tasks, ours, theirs, progress)
    table.print()
