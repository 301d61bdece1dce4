"""The backbone that a command loads, from the options that say how."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import softprompt as sp
from softprompt.backbones.launch import process_count

__all__ = ["load_backbone", "loading_options"]

_LOADING = (
    *("dtype", "device", "attention", "quantize", "classes"),
    *("sharded", "offload", "device_map", "revision", "trust_remote_code"),
)


def loading_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a command's options that `Backbone.from_pretrained` takes."""
    return {name: given[name] for name in _LOADING if name in given}


def load_backbone(given: Mapping[str, Any]) -> sp.Backbone:
    """The backbone of a command's options; that there is nobody to share it with is told on standard error.

    Raises:
        SoftpromptError: As `Backbone.from_pretrained` does.
    """
    if given.get("sharded") and process_count() == 1:
        print(
            f"--sharded: one process alone holds all of {given['backbone']}; start several by torchrun or accelerate"
            " launch to give each a part.",
            file=sys.stderr,
        )
    return sp.Backbone.from_pretrained(given["backbone"], **loading_options(given))
