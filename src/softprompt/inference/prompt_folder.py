"""A folder of prompts for one backbone, of which those that were used last are in memory, ready to answer.

A task comes and goes as a folder of a few hundred kilobytes. It is read when it is first asked for, checked after the
cast to the backbone's dtype, and kept until others need its room; what requests in flight hold is never taken away. A
prompt that is replaced goes on answering the requests that began with it, under a version of its own.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import final

from torch import Tensor

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.conditioning.collection import Conditioning
from softprompt.errors import ArtefactError, ConfigError, SoftpromptError, UnsupportedError
from softprompt.inference.prompt_cache import FolderCounts, Lease, LoadedPrompt, PromptCache, Version
from softprompt.inference.prompt_files import PromptFiles
from softprompt.inference.together import Together
from softprompt.prompts import Members, PromptInfo, SoftPrompt
from softprompt.tasks import TextFormat

__all__ = ["PromptFolder"]


@final
class PromptFolder:
    """Prompts and ensembles by the names of their folders. Threads may share it.

    Args:
        backbone: The frozen model.
        path: The folder that holds theirs.
        cache_bytes: Most bytes of prompts in memory; those in use may exceed it.
        prompt_bytes: Largest file of a prompt that is read.
        conditioning: Which pass prompts of rows take, as in `Prompted`.
        unfit: Given a prompt's or an ensemble's tensors by name, as its folder has them, says why it cannot be used
            here, or None.

    Raises:
        ArtefactError: If there is no such folder.
        ConfigError: If a number of bytes is below 1.
    """

    def __init__(
        self,
        backbone: Backbone,
        path: str | Path,
        *,
        cache_bytes: int = 2**30,
        prompt_bytes: int = 2**30,
        conditioning: Conditioning = "auto",
        unfit: Callable[[Mapping[str, Tensor]], str | None] | None = None,
    ) -> None:
        for name, value in (("cache_bytes", cache_bytes), ("prompt_bytes", prompt_bytes)):
            if value < 1:
                raise ConfigError(f"{name}={value}: expected at least 1.")
        self.model = Prompted(backbone, conditioning=conditioning)
        self._unfit = unfit
        self.files = PromptFiles(path, prompt_bytes)
        self._cache = PromptCache(cache_bytes, lambda version: self._forget(version.asked))
        self._guard = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._writing = threading.RLock()
        self._serial = itertools.count()

    def why_unfit(self, name: str) -> str | None:
        """Why a prompt in the folder cannot be used here, by what its folder holds alone; None if nothing is known.

        Raises:
            UnknownPromptError: If there is none of that name.
            ArtefactError: If it is damaged.
        """
        return None if self._unfit is None else self._unfit(self.files.tensors(name))

    @contextlib.contextmanager
    def lease(self, name: str) -> Iterator[Lease]:
        """Hold a prompt for a block; see `acquire`."""
        held = self.acquire(name)
        try:
            yield held
        finally:
            self.release(held)

    def acquire(self, name: str) -> Lease:
        """Load a prompt, or find it in memory, and hold it until it is released.

        Raises:
            UnknownPromptError: If there is none of that name.
            ArtefactError: If it is damaged, too large, or was made for another backbone (then a `MismatchError`).
            NonFiniteError: If it is NaN or infinite in the backbone's dtype.
            UnsupportedError: If it cannot be exact on this backbone.
        """
        found = self.find(name)
        if found is None:
            self.files.need(name)
            with self._alone(name):  # whoever waited finds what another thread has loaded
                found = self.find(name) or self._load(name)
        return found

    def release(self, lease: Lease) -> None:
        """Give a prompt back; a second time does nothing."""
        self._cache.release(lease)

    def find(self, name: str) -> Lease | None:
        """Hold a prompt that is in memory; None if it is not, and would have to be read."""
        return self._cache.find(name)

    def share(self, lease: Lease) -> Lease:
        """Hold the same version once more, whatever has become of the name.

        Raises:
            ConfigError: If the lease was released, or is of another folder.
        """
        return self._cache.share(lease)

    def reload(self, name: str | None = None) -> list[str]:
        """Forget what is in memory of prompts whose folders have changed or are gone; the next request reads them.

        Files are read only where their sizes, times or numbers are others than before.

        Args:
            name: Of this one alone; of all that are in memory if None.

        Returns:
            The names of those.
        """
        self._cache.changed(name)
        held = {one: version for one, version in self._cache.current().items() if name in (None, one)}
        changed = [one for one, version in held.items() if self._has_changed(one, version)]
        for one in changed:
            self.unload(one)
        return changed

    def unload(self, name: str) -> bool:
        """Forget a prompt that is in memory; requests that hold it go on with it. False if it was not there."""
        return self._cache.unload(name)

    def replace(self, name: str, prompt: SoftPrompt | Members) -> str:
        """Write a prompt under a name, atomically; requests from now on are answered by it.

        It is tried before: one that this backbone cannot take does not replace one that answers.

        Returns:
            Its version.

        Raises:
            ConfigError: If the name cannot be a prompt's.
            ArtefactError: If it was made for another backbone, cannot be written, or something else has that name.
            NonFiniteError: If it is NaN or infinite in the backbone's dtype.
            UnsupportedError: If it cannot be exact on this backbone.
        """
        self.files.check_writable(name, prompt)
        self._forget(self._add(name, "trial", prompt).asked)
        with self._writing:
            prompt.save(self.files.path / name)
            self.unload(name)
            return self.files.version_of(name) or ""

    def remove(self, name: str) -> None:
        """Delete a prompt's folder; requests that hold it are still answered.

        Raises:
            UnknownPromptError: If there is none of that name.
        """
        with self._writing:
            gone = self.files.hide(name)
            self.unload(name)
        shutil.rmtree(gone)

    def loaded(self) -> list[LoadedPrompt]:
        """What is in memory, by name, the one used last at the end; what was replaced and is still in use before."""
        return self._cache.loaded()

    def counts(self) -> FolderCounts:
        """What was done since the beginning, and what is in memory now."""
        return self._cache.counts()

    @contextlib.contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """One thread at a time that loads a name."""
        with self._guard:
            alone = self._loading.setdefault(name, threading.Lock())
        try:
            with alone:
                yield
        finally:
            with self._guard:
                self._loading.pop(name, None)

    def _load(self, name: str) -> Lease:
        """Read a prompt, and look again where it was replaced or removed meanwhile."""
        start = time.perf_counter()
        changes = self._cache.missed(name)
        stamp = self.files.stamp_now(name)
        digest, prompt = self.files.read(name)
        version = self._add(name, digest, prompt)
        version.stamp = stamp
        gone = False
        while (lease := self._cache.put(name, version, changes=changes, gone=gone)) is None:
            changes = self._cache.changes(name)
            gone = self.files.version_now(name) != digest
        self._cache.spent(time.perf_counter() - start)
        return lease

    def _has_changed(self, name: str, version: Version) -> bool:
        """Whether a prompt's files are others than those that a version was read from."""
        stamp = self.files.stamp_now(name)
        if stamp is not None and stamp == version.stamp:
            return False
        if self.files.version_now(name) != version.digest:
            return True
        version.stamp = stamp
        return False

    def _add(self, name: str, digest: str, prompt: SoftPrompt | Members) -> Version:
        """Check a prompt against the backbone, and compute what it gives to the layers."""
        members = prompt.prompts if isinstance(prompt, Members) else (prompt,)
        serial = next(self._serial)
        keys = tuple(f"{name}@{digest}.{serial}.{place}" for place in range(len(members)))
        try:
            self._check_fit(name, prompt)
            _check_format(name, prompt.info)
            for key, member in zip(keys, members, strict=True):
                self.model.add(key, member.fold(), fixed=True)
            size = self.model.compile(keys)
        except BaseException as error:
            self._forget(Together(keys))
            if isinstance(error, SoftpromptError):
                # the last first: a member's number begins with that of another
                raise type(error)(
                    functools.reduce(lambda text, key: text.replace(key, name), reversed(keys), str(error))
                ) from None
            raise
        asked = Together(keys, prompt.combine) if isinstance(prompt, Members) else keys[0]
        return Version(digest, asked, prompt.info, size)

    def _check_fit(self, name: str, prompt: SoftPrompt | Members) -> None:
        if self._unfit is not None and (reason := self._unfit(_tensors_of(prompt))) is not None:
            raise UnsupportedError(f"The prompt {name!r} cannot be used here: {reason}.")

    def _forget(self, asked: str | Together) -> None:
        for key in asked.names if isinstance(asked, Together) else (asked,):
            if key in self.model.prompts:
                self.model.remove(key)


def _tensors_of(prompt: SoftPrompt | Members) -> dict[str, Tensor]:
    """A prompt's tensors by their names, as its folder has them."""
    if isinstance(prompt, SoftPrompt):
        return dict(prompt().named())
    return {
        f"{place}.{name}": one for place, member in enumerate(prompt.prompts) for name, one in member().named().items()
    }


def _check_format(name: str, info: PromptInfo) -> None:
    """Refuse at load what would fail at every request."""
    try:
        if info.format is not None:
            TextFormat.from_mapping(info.format)
    except (ConfigError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(f"The prompt {name!r} is stored with a format that cannot be used: {error}") from None
