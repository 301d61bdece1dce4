"""What a finished folder holds, beside what is asked for: another model is not taken for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from softprompt.errors import ConfigError
from softprompt.loop.progress import Progress
from softprompt.pretraining.card import read_card
from softprompt.pretraining.corpus import file_digest
from softprompt.pretraining.preparation import prepare_tokenizer
from softprompt.pretraining.settings import PretrainConfig
from softprompt.pretraining.state import decisive_settings
from softprompt.pretraining.tokenizer import tokenizer_digest

__all__ = ["check_finished"]

_REMEDY = "give another output_dir, or remove the folder to make it anew."


def check_finished(card: Mapping[str, Any], config: PretrainConfig, progress: Progress) -> None:
    """Refuse a finished model that is not the one which a run would make.

    Places of files count for nothing, only what they hold; nor does what changes rounding alone.

    Args:
        card: Of the model in `config.output_dir`.
        config: What is asked for.
        progress: Told if a tokenizer has to be learned.

    Raises:
        ConfigError: If it was made with other settings, of other text, with another tokenizer or from another start,
            or without a snapshot that is asked for.
        DataError: If a text file is missing.
    """
    holds, settings = f"{config.output_dir} holds a finished model", card["settings"]
    for name, value in decisive_settings(config).items():
        if name != "start_from" and settings.get(name) != value:
            raise ConfigError(f"{holds} with {name} = {settings.get(name)!r}, not {value!r}; {_REMEDY}")
    files = [("train", path) for path in config.train] + [("held out", path) for path in config.held_out]
    if [(source["use"], source["sha256"]) for source in card["corpus"]] != [(use, file_digest(f)) for use, f in files]:
        raise ConfigError(f"{holds} of other text than this; {_REMEDY}")
    before = read_card(config.start) if config.start else None  # its folder may be gone by now
    if bool(config.start) != bool(card["started_from"]) or (before is not None and card["started_from"] != before):
        start = f"the one in {config.start}" if config.start else "random weights"
        raise ConfigError(f"{holds} that did not start from {start}; {_REMEDY}")
    learned = config.tokenizer is None and settings["tokenizer"] is None
    inherited = config.start is not None
    if not (learned or inherited or tokenizer_digest(prepare_tokenizer(config, progress)) == card["tokenizer_sha256"]):
        wanted = config.tokenizer or "one that is learned from the text"
        raise ConfigError(f"{holds} of another tokenizer than {wanted}; {_REMEDY}")
    for step in config.snapshots:
        if read_card(config.snapshot(step)) is None:
            raise ConfigError(f"{holds} without a snapshot of step {step}; {_REMEDY}")
