"""Prompts that answer together, kept as one folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, final, get_args

from torch import Tensor

from softprompt.artefact import read_folder, write_folder
from softprompt.config import choose
from softprompt.errors import ArtefactError, ConfigError
from softprompt.prompts import card
from softprompt.prompts.prompt import PromptInfo, SoftPrompt

__all__ = ["Combine", "Members"]

Combine = Literal["vote", "mean"]

SCHEMA_VERSION = 1
_NAME = "ensemble"


@final
class Members:
    """The prompts of an ensemble and how their answers become one.

    Attributes:
        prompts: The members, in order.
        combine: `vote`: what most of them say; `mean`: what is most probable by the mean of their probabilities, of
            labels or, where text is generated, of each next token.

    Raises:
        ConfigError: If there is no prompt, prompts read their inputs in different formats or are of different
            backbones, or there is no such way to combine them.

    References:
        Lester et al. 2021, §6.
    """

    def __init__(self, prompts: Sequence[SoftPrompt], combine: Combine = "vote") -> None:
        if combine not in get_args(Combine):
            raise choose("way to combine prompts", combine, get_args(Combine))
        if not prompts:
            raise ConfigError("An ensemble needs at least one prompt.")
        for place, prompt in enumerate(prompts):
            if prompt.info.format != prompts[0].info.format:
                raise ConfigError(
                    f"Prompt {place} of an ensemble reads its inputs in another format than the first; its prompts have"
                    " to be trained on the same templates and label words."
                )
            ours, theirs = (one.info.fingerprint.get("architecture") for one in (prompts[0], prompt))
            if ours != theirs:
                raise ConfigError(
                    f"Prompt {place} of an ensemble was made for {prompt.info.backbone}, but the first for "
                    f"{prompts[0].info.backbone}; its prompts have to be of one backbone."
                )
        self.prompts = tuple(prompts)
        self.combine: Combine = combine

    @property
    def info(self) -> PromptInfo:
        """What is known of the first member, whose backbone and format are those of all."""
        return self.prompts[0].info

    def digest(self) -> str:
        """Hexadecimal SHA-256 of the members' digests and of how they are combined."""
        return hashlib.sha256("\n".join([self.combine, *(one.digest() for one in self.prompts)]).encode()).hexdigest()

    def save(self, path: str | Path) -> Path:
        """Write the ensemble as a folder: `ensemble.safetensors`, `ensemble.json`, `README.md`; atomically.

        Args:
            path: The folder; an older ensemble there is replaced.

        Returns:
            The folder.

        Raises:
            ArtefactError: If something else is there, or a value is NaN or infinite.
        """
        parts = [prompt.to_parts() for prompt in self.prompts]
        tensors = {f"{place}.{name}": value for place, (own, _) in enumerate(parts) for name, value in own.items()}
        metadata = {
            "schema_version": SCHEMA_VERSION,
            "combine": self.combine,
            "backbone": self.info.backbone,
            "task": self.info.task,
            "parameters": sum(prompt.num_parameters() for prompt in self.prompts),
            "members": [facts for _, facts in parts],
        }
        readme = card.render_ensemble(Path(path).name, metadata)
        return write_folder(path, _NAME, tensors, metadata, {"README.md": readme})

    @classmethod
    def load(cls, path: str | Path) -> Members:
        """Read what `save` wrote.

        Raises:
            ArtefactError: If the folder is missing, damaged, foreign, or of a newer schema.
        """
        tensors, metadata = read_folder(path, _NAME)
        if metadata.get("schema_version") != SCHEMA_VERSION:
            raise ArtefactError(
                f"{path} has schema version {metadata.get('schema_version')!r}; this softprompt reads {SCHEMA_VERSION}."
                " Update softprompt."
            )
        own: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            place, _, short = name.partition(".")
            own.setdefault(place, {})[short] = value
        try:
            members = metadata["members"]
            if set(own) != {str(place) for place in range(len(members))}:
                raise ArtefactError(
                    f"{path} holds tensors of members {', '.join(sorted(own))}, but ensemble.json names {len(members)};"
                    " copy the folder again."
                )
            prompts = [
                SoftPrompt.from_parts(own[str(place)], facts, path, f"ensemble.json, member {place},")
                for place, facts in enumerate(members)
            ]
            return cls(prompts, metadata["combine"])
        except (KeyError, TypeError, AttributeError, ConfigError) as error:
            raise ArtefactError(f"{path}/ensemble.json cannot be used ({error}); copy the folder again.") from None
