"""Prompts and ensembles on disk, by strict names, read whole although others write them at the same moment."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Literal, final

from safetensors import SafetensorError, safe_open
from torch import Tensor

from softprompt.artefact import read_metadata
from softprompt.errors import ArtefactError, ConfigError, UnknownPromptError
from softprompt.prompts import Members, SoftPrompt

__all__ = ["PromptFiles"]

Kind = Literal["prompt", "ensemble"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_KINDS: tuple[Kind, ...] = ("prompt", "ensemble")
_VERSION_DIGITS = 12
_LEFT = re.compile(rf"\.(?P<name>{_NAME.pattern}?)\.(?P<kind>old|removed|upload)\..+")
_BETWEEN_S, _STALE_S = 1.0, 60.0
"""Another process may be between two renames, or at a draft, that is younger."""
_WAIT_S = 0.01
_READS = 5
"""How often a folder is read that is replaced at the same moment."""


@final
class PromptFiles:
    """The folders of prompts and ensembles in a folder. Links are not followed.

    Args:
        path: The folder that holds theirs.
        most_bytes: Largest file that is read.

    Raises:
        ArtefactError: If there is no such folder.
    """

    def __init__(self, path: str | Path, most_bytes: int) -> None:
        if not Path(path).is_dir():
            raise ArtefactError(f"No folder at {path}; give one that holds prompts.")
        self.path = Path(path).resolve()
        self._most_bytes = most_bytes
        self._tidy()

    def names(self) -> list[str]:
        """The names of all prompts and ensembles there are, sorted."""
        with os.scandir(self.path) as entries:
            there = [entry.name for entry in entries]
        found = {name for name in there if _NAME.fullmatch(name)}
        for name in {left["name"] for left in map(_LEFT.fullmatch, there) if left and left["kind"] == "old"} - found:
            if self._put_back(name):
                found.add(name)
        return sorted(name for name in found if self._kind_of(name) is not None)

    def __contains__(self, name: str) -> bool:
        return _NAME.fullmatch(name) is not None and self._kind_of(name) is not None

    def stamp(self, name: str) -> tuple[int, ...]:
        """Size, times of writing and of change in nanoseconds, and number of a prompt's `prompt.json`.

        Raises:
            UnknownPromptError: If there is none of that name.
        """
        try:
            found = (self.path / name / f"{self.need(name)}.json").stat()
        except OSError:
            raise _unknown(name) from None
        return _stamp_of(found)

    def stamp_now(self, name: str) -> tuple[int, ...] | None:
        """As `stamp`, of both files of a prompt; None if they are not there."""
        kind = self._kind_of(name)
        try:
            files = [(self.path / name / f"{kind}.{end}").stat() for end in ("json", "safetensors")]
        except OSError:
            return None
        return sum(map(_stamp_of, files), ())

    def card(self, name: str) -> dict[str, Any]:
        """What is known of a prompt or an ensemble: its `prompt.json` or `ensemble.json`.

        Raises:
            UnknownPromptError: If there is none of that name.
            ArtefactError: If it is damaged.
        """
        kind = self.need(name)
        self._check_size(name, self.path / name / f"{kind}.json")
        return read_metadata(self.path / name, kind)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """A prompt's or an ensemble's tensors by name; their values are mapped, and read where they are looked at.

        Raises:
            UnknownPromptError: If there is none of that name.
            ArtefactError: If its file is damaged or too large.
        """
        path = self.path / name / f"{self.need(name)}.safetensors"
        try:
            self._check_size(name, path)
            with safe_open(path, framework="pt") as file:
                return {tensor: file.get_tensor(tensor) for tensor in sorted(file.keys())}
        except (SafetensorError, OSError) as error:
            raise ArtefactError(f"{path} is no safetensors file that can be read ({error}); copy it again.") from None

    def read(self, name: str) -> tuple[str, SoftPrompt | Members]:
        """A prompt and the digest of its files, which belong together although another may be put in its place.

        Raises:
            UnknownPromptError: If there is none of that name.
            ArtefactError: If it is damaged, or its files are too large.
        """
        for _ in range(_READS):
            version = self.version_of(name)
            kind = self._kind_of(name)
            if version is None or kind is None:
                time.sleep(_WAIT_S)
                continue
            path = self.path / name
            try:
                prompt = Members.load(path) if kind == "ensemble" else SoftPrompt.load(path)
            except ArtefactError:
                if self.version_of(name) == version:
                    raise
                continue
            if self.version_of(name) == version:
                return version, prompt
        self.need(name)
        raise ArtefactError(f"The prompt {name!r} was replaced again and again while it was read; try again.")

    def version_of(self, name: str) -> str | None:
        """Digest of the contents of a prompt's files; None if it is not there.

        Raises:
            ArtefactError: If they are too large, or cannot be read.
        """
        kind = self._kind_of(name)
        if kind is None:
            return None
        digest = hashlib.sha256()
        try:
            for file in (f"{kind}.json", f"{kind}.safetensors"):
                path = self.path / name / file
                self._check_size(name, path)
                with path.open("rb") as opened:
                    digest.update(hashlib.file_digest(opened, "sha256").digest())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ArtefactError(
                f"The files of the prompt {name!r} cannot be read ({error.strerror}); see to who may read them."
            ) from None
        return digest.hexdigest()[:_VERSION_DIGITS]

    def version_now(self, name: str) -> str | None:
        """The version at this moment; None if it cannot be read."""
        try:
            return self.version_of(name)
        except ArtefactError:
            return None

    def _check_size(self, name: str, path: Path) -> None:
        if path.stat().st_size > self._most_bytes:
            raise ArtefactError(f"The prompt {name!r} has a file of more than {self._most_bytes} bytes.")

    def need(self, name: str) -> Kind:
        """What a name stands for; one that is being replaced is waited for, and put back if nobody ends that.

        Raises:
            UnknownPromptError: If there is none of that name.
        """
        if not _NAME.fullmatch(name):
            raise _unknown(name)
        until = time.monotonic() + 2 * _BETWEEN_S
        while (kind := self._kind_of(name)) is None:
            coming = time.monotonic() < until and any(map(_is_fresh, self._left(name)))
            if not (self._put_back(name) or coming):
                if (kind := self._kind_of(name)) is not None:  # it was replaced between the two looks
                    return kind
                raise _unknown(name)
            time.sleep(_WAIT_S)
        return kind

    def _left(self, name: str) -> list[Path]:
        """What replacements of a prompt left beside its place, or are about to."""
        return list(self.path.glob(f".{glob.escape(name)}.old.*"))

    def _put_back(self, name: str) -> bool:
        """Put a prompt back that a kill left beside its place; False if none was, or somebody may still be at it."""
        for draft in self._left(name):
            if _is_fresh(draft) or (self.path / name).exists():
                continue
            try:
                (draft / name).rename(self.path / name)
            except OSError:  # another has ended it at this moment
                continue
            shutil.rmtree(draft, ignore_errors=True)
            return True
        return False

    def _kind_of(self, name: str) -> Kind | None:
        """What a folder holds; None if it is no prompt's, or leads elsewhere."""
        path = self.path / name
        try:
            if path.is_symlink():
                return None
            found = {entry.name for entry in os.scandir(path) if entry.is_file(follow_symlinks=False)}
        except OSError:  # none, no folder, or one that may not be read
            return None
        kinds: list[Kind] = [kind for kind in _KINDS if {f"{kind}.json", f"{kind}.safetensors"} <= found]
        return kinds[0] if len(kinds) == 1 else None

    def _tidy(self) -> None:
        """Put back what a kill left between the two renames of a replacement, and drop drafts of long ago."""
        with os.scandir(self.path) as entries:
            left = [entry.name for entry in entries if _LEFT.fullmatch(entry.name) and entry.is_dir()]
        for name in left:
            draft, match = self.path / name, _LEFT.fullmatch(name)
            assert match is not None
            if match["kind"] == "old" and self._put_back(match["name"]):
                continue
            if draft.exists() and time.time() - draft.stat().st_mtime >= _STALE_S:
                shutil.rmtree(draft, ignore_errors=True)

    def check_writable(self, name: str, prompt: SoftPrompt | Members) -> None:
        """Refuse a name that a prompt cannot be written under.

        Raises:
            ConfigError: If it cannot be a prompt's.
            ArtefactError: If it is a link, or of another kind.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{name[:128]!r} cannot be a prompt's name; take letters, digits, dots, dashes and underscores, at "
                "most 128 and a letter or a digit first."
            )
        target = self.path / name
        if target.is_symlink():
            raise ArtefactError(f"{name} is a link, which may lead out of the folder; remove it, or take another name.")
        other = "prompt" if isinstance(prompt, Members) else "ensemble"
        if (target / f"{other}.json").exists():
            raise ArtefactError(f"{name} is of another kind; remove it first, or take another name.")

    def hide(self, name: str) -> Path:
        """Move a prompt's folder away at once, so that nobody reads half of it; where it is now, to be deleted.

        Raises:
            UnknownPromptError: If there is none of that name.
        """
        self.need(name)
        for left in self._left(name):  # it would be put back
            shutil.rmtree(left, ignore_errors=True)
        gone = Path(tempfile.mkdtemp(prefix=f".{name}.removed.", dir=self.path))
        try:
            (self.path / name).rename(gone / name)
        except BaseException:
            shutil.rmtree(gone)
            raise
        return gone


def _stamp_of(file: os.stat_result) -> tuple[int, ...]:
    """What changes when a file does; one that may be read from now on has another time of change alone."""
    return file.st_size, file.st_mtime_ns, file.st_ctime_ns, file.st_ino


def _is_fresh(draft: Path) -> bool:
    """Whether somebody may be between two renames of it."""
    try:
        return time.time() - draft.stat().st_mtime < _BETWEEN_S
    except OSError:  # it is gone
        return False


def _unknown(name: str) -> UnknownPromptError:
    return UnknownPromptError(f"There is no prompt {name[:128]!r}; ask for one of those that are in the folder.")
