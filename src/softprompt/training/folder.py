"""The folder of a session: what was asked for, checkpoints, histories, and the prompts.

session.json      settings and digests; a session is resumed only if they are the same
checkpoints/      complete states; the newest is continued from
runs/NAME.jsonl   history, one line per step
prompts/NAME/     the best prompt, once the session is over: a folder that can be served as it is; none of a run that
                  failed in its first step. Of several tasks, one in NAME/TASK/ for each
shared/NAME/      what the prompts of several tasks have in common, if anything: a prompt that a new task may start from
models/NAME/      likewise the best model, if the session tuned one
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from softprompt.artefact import read_metadata
from softprompt.backbones import Backbone
from softprompt.errors import ArtefactError, ConfigError
from softprompt.loop.checkpoints import latest_checkpoint, load_checkpoint, prune, save_checkpoint
from softprompt.prompts import SoftPrompt
from softprompt.training.learners import Learned, save_model
from softprompt.training.run import TrainConfig

__all__ = ["SessionFolder"]

_SESSION = "session"


class SessionFolder:
    """Where a session keeps its state.

    Args:
        config: The session's settings, with an `output_dir`.
        identity: Everything that a continuation must agree on.
    """

    def __init__(self, config: TrainConfig, identity: Mapping[str, Any]) -> None:
        assert config.output_dir is not None
        self._root = Path(config.output_dir)
        self._checkpoints = self._root / "checkpoints"
        self._keep = config.keep_checkpoints
        self._resume = config.resume
        self._identity = json.loads(json.dumps(identity))
        self._saved_step: int | None = None

    def open(self) -> dict[str, Any] | None:
        """The state to continue from, or None to begin.

        Raises:
            ConfigError: If the folder is a file, or holds another session, or this one and `resume` is off.
            ArtefactError: If what the folder holds is damaged.
        """
        if self._root.exists() and not self._root.is_dir():
            raise ConfigError(f"output_dir={self._root} is a file; choose a folder.")
        marker = self._root / f"{_SESSION}.json"
        if not marker.exists():
            self._root.mkdir(parents=True, exist_ok=True)
            draft = marker.with_suffix(".draft")
            draft.write_text(json.dumps(self._identity, indent=2) + "\n", encoding="utf-8")
            draft.replace(marker)
            return None
        if not self._resume:
            raise ConfigError(f"{self._root} holds a session already; choose another output_dir, or resume=True.")
        if differs := _difference(read_metadata(self._root, _SESSION), self._identity):
            raise ConfigError(f"{self._root} holds another session: {differs}. Choose another output_dir.")
        newest = latest_checkpoint(self._checkpoints)
        if newest is None:
            return None
        state = load_checkpoint(newest)
        self._saved_step = state["step"]
        return state

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Write a checkpoint, unless there is one of this step, and remove those that are too many."""
        if step == self._saved_step:
            return
        save_checkpoint(self._checkpoints, step, state)
        self._saved_step = step
        prune(self._checkpoints, self._keep)

    def keep_history(self, name: str, history: Sequence[Mapping[str, float]]) -> None:
        """Write a run's history."""
        (self._root / "runs").mkdir(exist_ok=True)
        lines = "".join(json.dumps(entry) + "\n" for entry in history)
        (self._root / "runs" / f"{name}.jsonl").write_text(lines, encoding="utf-8")

    def keep_learned(self, learned: Mapping[str, tuple[Learned, Any]]) -> dict[str, Path]:
        """Write prompts or tuned models, with what is told of them, by their runs' names.

        One that cannot be written keeps no other from it.

        Raises:
            ArtefactError: If one of them cannot be written, after all others are.
        """
        paths, errors = {}, []
        for name, (one, told) in learned.items():
            try:
                if isinstance(one, Backbone):
                    paths[name] = save_model(
                        one, self._root / "models" / name, {**told, "backbone": self._identity["backbone"]}
                    )
                elif isinstance(one, SoftPrompt):
                    paths[name] = one.save(self._root / "prompts" / name)
                else:
                    paths[name] = self._root / "prompts" / name
                    for task, prompt in one.items():
                        prompt.save(paths[name] / task)
                    if one.shared is not None:
                        one.shared.save(self._root / "shared" / name)
            except ArtefactError as error:
                errors.append(str(error))
        if errors:
            raise ArtefactError(" ".join(errors))
        return paths


def _difference(found: Any, wanted: Any, place: str = "") -> str | None:
    """The first place where two nests of plain values differ, in words."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            inner = f"{place}.{key}" if place else str(key)
            if key not in found or key not in wanted:
                return f"{inner} is only in {'this call' if key in wanted else 'the folder'}"
            if difference := _difference(found[key], wanted[key], inner):
                return difference
        return None
    return None if found == wanted else f"{place} is {found!r} there and {wanted!r} here"
