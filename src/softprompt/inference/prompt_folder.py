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
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from torch import Tensor

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.conditioning.collection import Conditioning
from softprompt.errors import ArtefactError, ConfigError, SoftpromptError, UnsupportedError
from softprompt.inference.prompt_files import PromptFiles
from softprompt.inference.together import Together
from softprompt.prompts import Members, PromptInfo, SoftPrompt
from softprompt.tasks import TextFormat

__all__ = ["FolderCounts", "Lease", "LoadedPrompt", "PromptFolder"]


@dataclass(frozen=True, eq=False)
class _Loaded:
    """One version of a prompt in memory.

    Attributes:
        version: Digest of its files' contents.
        asked: What a query names to be answered by it.
        info: What is known of it.
        size: Bytes of its values and of what was computed of them.
    """

    version: str
    asked: str | Together
    info: PromptInfo
    size: int


@dataclass(eq=False)
class _Entry:
    """A version with the leases that hold it."""

    loaded: _Loaded
    leases: list[Lease] = field(default_factory=list)


@final
@dataclass(frozen=True, eq=False)
class Lease:
    """A prompt that stays in memory as long as this is held.

    Attributes:
        name: Its name in the folder.
        version: Digest of its files' contents, 12 hexadecimal digits.
        prompt: What `Query.prompt` has to be.
        info: What is known of it: task, format, metrics.
    """

    name: str
    version: str
    prompt: str | Together
    info: PromptInfo
    _entry: _Entry = field(repr=False)

    @property
    def format(self) -> TextFormat | None:
        """The format that is stored with it."""
        return None if self.info.format is None else TextFormat.from_mapping(self.info.format)


@final
@dataclass(frozen=True, kw_only=True)
class LoadedPrompt:
    """A prompt in memory.

    Attributes:
        name: Its name.
        version: Digest of its files' contents.
        bytes: Its size.
        in_use: Requests that hold it.
        current: Whether further requests get this version.
    """

    name: str
    version: str
    bytes: int
    in_use: int
    current: bool


@final
@dataclass(frozen=True, kw_only=True)
class FolderCounts:
    """What a folder has done and holds.

    Attributes:
        loaded: Prompts in memory, those that were replaced but are still in use among them.
        bytes: Of these.
        hits: How often a prompt was in memory when it was asked for.
        misses: How often it had to be read.
        evictions: How often one made room.
        load_seconds: Spent on reading, checking and computing prompts.
    """

    loaded: int
    bytes: int
    hits: int
    misses: int
    evictions: int
    load_seconds: float


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
        self._cache_bytes = cache_bytes
        self._lock = threading.Lock()
        self._current: OrderedDict[str, _Entry] = OrderedDict()  # by name, the one used last at the end
        self._replaced: list[_Entry] = []  # still in use
        self._loading: dict[str, threading.Lock] = {}
        self._changes: Counter[str] = Counter()  # by name, how often what was read before stopped to count
        self._writing = threading.RLock()
        self._bytes = 0
        self._serial = itertools.count()
        self._hits = self._misses = self._evictions = 0
        self._seconds = 0.0

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
            with self._lock:
                alone = self._loading.setdefault(name, threading.Lock())
            with alone:  # whoever waited finds what another thread has loaded
                found = self.find(name) or self._load(name)
        return found

    def release(self, lease: Lease) -> None:
        """Give a prompt back; a second time does nothing."""
        with self._lock:
            if lease in lease._entry.leases:
                lease._entry.leases.remove(lease)
                self._make_room()

    def find(self, name: str) -> Lease | None:
        """Hold a prompt that is in memory; None if it is not, and would have to be read."""
        with self._lock:
            entry = self._current.get(name)
            if entry is None:
                return None
            self._current.move_to_end(name)
            self._hits += 1
            return _leased(name, entry)

    def share(self, lease: Lease) -> Lease:
        """Hold the same version once more, whatever has become of the name.

        Raises:
            ConfigError: If the lease was released, or is of another folder.
        """
        with self._lock:
            if lease not in lease._entry.leases or lease._entry not in (*self._replaced, *self._current.values()):
                raise ConfigError(f"The lease of {lease.name!r} is no longer held here; acquire the prompt anew.")
            return _leased(lease.name, lease._entry)

    def reload(self, name: str | None = None) -> list[str]:
        """Forget what is in memory of prompts whose folders have changed or are gone; the next request reads them.

        Args:
            name: Of this one alone; of all that are in memory if None.

        Returns:
            The names of those.
        """
        with self._lock:
            held = {one: entry.loaded.version for one, entry in self._current.items() if name in (None, one)}
            self._changes.update(one for one in self._loading if name in (None, one))
        changed = [one for one, version in held.items() if self.files.version_now(one) != version]
        for one in changed:
            self.unload(one)
        return changed

    def unload(self, name: str) -> bool:
        """Forget a prompt that is in memory; requests that hold it go on with it. False if it was not there."""
        with self._lock:
            self._changes[name] += 1
            entry = self._current.pop(name, None)
            if entry is not None:
                self._replaced.append(entry)
                self._make_room()
        return entry is not None

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
        with self._lock:
            replaced = [(lease.name, entry) for entry in self._replaced for lease in entry.leases[:1]]
            return [
                LoadedPrompt(
                    name=name,
                    version=entry.loaded.version,
                    bytes=entry.loaded.size,
                    in_use=len(entry.leases),
                    current=self._current.get(name) is entry,
                )
                for name, entry in [*replaced, *self._current.items()]
            ]

    def counts(self) -> FolderCounts:
        """What was done since the beginning, and what is in memory now."""
        with self._lock:
            return FolderCounts(
                loaded=len(self._current) + len(self._replaced),
                bytes=self._bytes,
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
                load_seconds=self._seconds,
            )

    def _load(self, name: str) -> Lease:
        start = time.perf_counter()
        with self._lock:
            before = self._changes[name]
            self._misses += 1
        try:
            version, prompt = self.files.read(name)
            entry = _Entry(self._add(name, version, prompt))
        except BaseException:
            with self._lock:
                self._loading.pop(name, None)
            raise
        gone = False
        while True:
            with self._lock:
                if gone or self._changes[name] == before:
                    self._seconds += time.perf_counter() - start
                    return self._publish(name, entry, gone)
                before = self._changes[name]
            gone = self.files.version_now(name) != version

    def _publish(self, name: str, entry: _Entry, gone: bool) -> Lease:
        """Put what was loaded among the others; the lock is held, and who finds no lock to wait for finds this.

        What is gone, replaced or removed while it was loaded, answers who asked before, and nobody after.
        """
        self._loading.pop(name, None)
        lease = _leased(name, entry)
        self._bytes += entry.loaded.size
        if gone:
            self._replaced.append(entry)
        else:
            if name in self._current:  # loaded twice at the same time
                self._replaced.append(self._current.pop(name))
            self._current[name] = entry
        self._make_room()
        return lease

    def _add(self, name: str, version: str, prompt: SoftPrompt | Members) -> _Loaded:
        """Check a prompt against the backbone, compute what it gives to the layers, and put it among the others."""
        members = prompt.prompts if isinstance(prompt, Members) else (prompt,)
        serial = next(self._serial)
        keys = tuple(f"{name}@{version}.{serial}.{place}" for place in range(len(members)))
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
        return _Loaded(version, asked, prompt.info, size)

    def _check_fit(self, name: str, prompt: SoftPrompt | Members) -> None:
        if self._unfit is not None and (reason := self._unfit(_tensors_of(prompt))) is not None:
            raise UnsupportedError(f"The prompt {name!r} cannot be used here: {reason}.")

    def _forget(self, asked: str | Together) -> None:
        for key in asked.names if isinstance(asked, Together) else (asked,):
            if key in self.model.prompts:
                self.model.remove(key)

    def _make_room(self) -> None:
        """Drop what was replaced and is no longer in use, and what was used longest ago; the lock is held."""
        for entry in [entry for entry in self._replaced if not entry.leases]:
            self._replaced.remove(entry)
            self._drop(entry)
        if self._bytes <= self._cache_bytes:
            return
        for name in [name for name, entry in self._current.items() if not entry.leases]:
            if self._bytes <= self._cache_bytes:
                return
            self._drop(self._current.pop(name))
            self._evictions += 1

    def _drop(self, entry: _Entry) -> None:
        self._forget(entry.loaded.asked)
        self._bytes -= entry.loaded.size


def _leased(name: str, entry: _Entry) -> Lease:
    lease = Lease(name, entry.loaded.version, entry.loaded.asked, entry.loaded.info, entry)
    entry.leases.append(lease)
    return lease


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
