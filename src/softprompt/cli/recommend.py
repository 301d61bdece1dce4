"""`softprompt recommend`: settings for a backbone and a task, each with its reason and its source."""

from __future__ import annotations

from typing import Any, Literal

__all__ = ["recommend_settings"]

_OF_SEARCH = ("loss", "evaluate_rows", "metric", "truncate", "max_input_tokens")


def recommend_settings(
    *,
    backbone: str,
    task: str | None = None,
    data_dir: str | None = None,
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
    steps: int | None = None,
    search: bool = False,
    seed: int = 0,
    output_dir: str | None = None,
    loss: Literal["likelihood", "rank"] | None = None,
    evaluate_rows: int | None = None,
    metric: str | None = None,
    truncate: bool = False,
    max_input_tokens: int | None = None,
    pass_tokens: int = 16384,
    classes: int | None = None,
    dtype: str = "auto",
    quantize: Literal["int8", "nf4"] | None = None,
    device: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> None:
    """Say with which method and settings to train a prompt, why, and who says so.

    `softprompt train --settings auto` trains with them; `--settings search` with what a search finds.

    Args:
        backbone: Hub id, folder, or bundled:NAME.
        task: A task's name (see `softprompt tasks list`); or give files or a data set.
        data_dir: Folder with a task's original files.
        train_file: JSONL, CSV, TSV or Parquet file to train on; alone, it is split in three.
        validation_file: File to choose the best prompt on.
        test_file: File of the test split.
        dataset: Data set of the hub, or a folder that `datasets` loads, instead of files.
        subset: Which of the data set's configurations.
        splits: Our splits to the data set's, e.g. {"train": train, "validation": validation_matched}.
        dataset_revision: The data set's branch, tag or commit on the hub.
        split_seed: Seed by which data that come in one piece are split in three.
        input: Template of the input over the data's columns, e.g. "{text}".
        target: Template of the target, e.g. "{label}".
        label_words: Word for each value of the target's column, e.g. {"0": bad, "1": great}.
        metrics: Names of metrics (docs/evaluating.md; a wrong one is answered with all); the first chooses in a search.
        group: Column that rows have in common which are scored together.
        chat: Whether to put the tokenizer's chat template around inputs.
        system: The conversation's system turn, with chat; {prompt} or {soft:N} may stand in it.
        words: Column of the input whose words are tagged; the target's column holds a tag for each.
        context: Column of the input in whose words the target stands, as an answer does in a passage.
        on_bad_row: Whether a bad row is an error or is skipped and counted.
        steps: The budget: most optimizer steps; needed for a search.
        search: Whether to train candidates around the rules' settings, in one session that stops the worse half again
            and again, and to recommend the best on validation.
        seed: Of the candidates.
        output_dir: Folder of the search, in which it goes on when it was stopped.
        loss: Of all candidates of a search: likelihood, or rank.
        evaluate_rows: Most validation rows that a search evaluates on.
        metric: Which metric chooses in a search.
        truncate: Whether a search cuts inputs that are too long, instead of failing.
        max_input_tokens: Longest input in a search, in tokens.
        pass_tokens: Most tokens in one pass of the backbone.
        classes: Give an encoder without classification head a new one of so many classes, for prompts with heads.
        dtype: The backbone's dtype: auto, float32, bfloat16, float16.
        quantize: Keep the frozen weights of linear layers in fewer bits: int8 or nf4 (needs torchao).
        device: auto, cpu, cuda, mps.
        revision: The backbone's branch, tag or commit on the hub.
        trust_remote_code: Whether code that comes with the backbone may run.
    """
    settings: dict[str, Any] = dict(locals())
    import softprompt as sp
    from softprompt.cli.advising import print_advice
    from softprompt.cli.data import read_task
    from softprompt.cli.loading import load_backbone
    from softprompt.errors import ConfigError
    from softprompt.studies import recommend, search_settings

    if search and steps is None:
        raise ConfigError("A search needs a budget: give --steps, of the candidate that is trained to its end.")
    fixed = {name: settings[name] for name in _OF_SEARCH if not (settings[name] is None or settings[name] is False)}
    if fixed and not search:
        raise ConfigError(f"--{next(iter(fixed))} is for the candidates of a search; say --search true, or drop it.")
    loaded_task = read_task(settings)
    loaded = load_backbone(settings)
    if search and steps is not None:
        config = sp.TrainConfig(output_dir=output_dir, pass_tokens=pass_tokens)
        found = search_settings(loaded, loaded_task, steps=steps, seed=seed, fixed=fixed, config=config)
    else:
        found = recommend(loaded, loaded_task, steps=steps)
    print_advice(found.advice)
    print("\nBeside it, to be compared rather than followed:")
    print_advice(found.beside)
