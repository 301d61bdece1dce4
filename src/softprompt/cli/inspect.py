"""`softprompt inspect`: what a prompt has learned, or how prompts of a folder resemble each other."""

from __future__ import annotations

from typing import Literal

__all__ = ["inspect_prompts"]


def inspect_prompts(
    *,
    prompt: str,
    backbone: str | None = None,
    what: list[Literal["words", "norms", "similarity", "attention", "importance", "attribution"]] | None = None,
    task: str | None = None,
    data_dir: str | None = None,
    validation_file: str | None = None,
    split: str = "validation",
    input: str | None = None,
    target: str | None = None,
    rows: int = 32,
    leave_out: list[Literal["rows", "layers", "heads"]] | None = None,
    count: int = 5,
    common: int | None = None,
    output: str | None = None,
    dtype: str = "auto",
    quantize: Literal["int8", "nf4"] | None = None,
    device: str = "auto",
    classes: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    batch_tokens: int = 16384,
) -> None:
    """Look at a prompt: nearest words before and after training, norms, similarity, attention, importance, attribution.

    Attention, importance and attribution read texts: give a task, a file, or an input. Of a folder of prompts, or of an
    ensemble, a map of their similarity is shown.

    Args:
        prompt: The folder of a prompt or an ensemble, or a folder of prompts.
        backbone: Hub id, folder, or bundled:NAME; the one that the prompt names if not given.
        what: What to look at, e.g. "[words, norms]": words, norms, similarity, attention, importance, attribution; all
            that there is material for if not given.
        task: A task's name (see `softprompt tasks list`), whose rows are read.
        data_dir: Folder with the task's original files.
        validation_file: Instead of a task, a JSONL, CSV, TSV or Parquet file in the format that is stored with the
            prompt.
        split: Which split of the task.
        input: A text to read, in the template that is stored with the prompt.
        target: What follows the text; what the model says if not given.
        rows: How many rows of the task are read, drawn by a fixed seed.
        leave_out: What to leave out for importance, e.g. "[rows, layers, heads]"; rows and layers if not given.
        count: How many nearest words of each row.
        common: Search this many of the most common tokens alone.
        output: JSON file for everything that was seen, in full.
        dtype: The backbone's dtype: auto, float32, bfloat16, float16.
        quantize: Keep the frozen weights of linear layers in fewer bits: int8 or nf4 (needs torchao).
        device: auto, cpu, cuda, mps.
        classes: Give an encoder without classification head a new one of so many classes, for prompts with heads.
        revision: The backbone's branch, tag or commit on the hub.
        trust_remote_code: Whether code that comes with the backbone may run.
        batch_tokens: Most tokens per batch, padding included.
    """
    settings = dict(locals())
    from softprompt.cli.loading import load_backbone
    from softprompt.cli.looking import look_at_map, look_at_prompt, prompts_in, show
    from softprompt.errors import ConfigError
    from softprompt.inspection import inspection_tables, map_table

    prompts = prompts_in(prompt)
    names = {one.info.backbone for one in prompts.values()}
    if backbone is None and len(names) > 1:
        raise ConfigError(f"The prompts in {prompt} are of several backbones; name one: --backbone {min(names)}")
    loaded = load_backbone({**settings, "backbone": backbone or names.pop()})
    if len(prompts) > 1:
        found = look_at_map(loaded, prompts)
        show(found, [map_table(found)], output)
    else:
        (only,) = prompts.values()
        seen = look_at_prompt(loaded, only, settings)
        show(seen, inspection_tables(seen), output)
