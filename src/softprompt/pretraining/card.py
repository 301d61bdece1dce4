"""The finished model: a folder that transformers loads, with a card of facts."""

from __future__ import annotations

import copy
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from softprompt.errors import ArtefactError

__all__ = ["CARD", "SETTINGS", "TOKENIZER", "machine", "need_card", "read_card", "write_model"]

CARD = "card.json"
SETTINGS = "pretrain.yaml"
# The tokenizer without what an architecture adds to it, for a run that starts from this model.
TOKENIZER = "unigram.json"


def write_model(
    path: str | Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, card: Mapping[str, Any]
) -> None:
    """Write weights in bfloat16, tokenizer and card; the card comes last, so its presence means a whole folder.

    Args:
        path: The folder.
        model: Left as it is: a copy of it is rounded.
        tokenizer: Saved beside the weights.
        card: Plain values.
    """
    path = Path(path)
    copy.deepcopy(model).to(torch.bfloat16).eval().save_pretrained(path)
    tokenizer.save_pretrained(path)
    draft = path / f".{CARD}"
    draft.write_text(json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    draft.rename(path / CARD)


def read_card(path: str | Path) -> dict[str, Any] | None:
    """The card of a finished model, or None where there is none."""
    file = Path(path) / CARD
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def need_card(path: str | Path) -> dict[str, Any]:
    """The card of a finished model.

    Raises:
        ArtefactError: If there is none.
    """
    card = read_card(path)
    if card is None:
        raise ArtefactError(f"{path} holds no finished backbone (no {CARD}); finish its pre-training first.")
    return card


def machine(device: torch.device) -> str:
    """The processor that computes, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} threads"
