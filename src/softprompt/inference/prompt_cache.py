"""The prompts of a folder that are in memory: their versions, who holds them, and who makes room for others."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

from softprompt.errors import ConfigError
from softprompt.inference.together import Together
from softprompt.prompts import PromptInfo
from softprompt.tasks import TextFormat

__all__ = ["FolderCounts", "Lease", "LoadedPrompt", "PromptCache", "Version"]


@final
@dataclass(eq=False)
class Version:
    """One version of a prompt in memory.

    Attributes:
        digest: Of its files' contents.
        asked: What a query names to be answered by it.
        info: What is known of it.
        size: Bytes of its values and of what was computed of them.
        stamp: Of its files, when they were last known to be of this version; None if they were not looked at.
    """

    digest: str
    asked: str | Together
    info: PromptInfo
    size: int
    stamp: object = None


@dataclass(eq=False)
class _Entry:
    """A version with the leases that hold it."""

    version: Version
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
class PromptCache:
    """Versions of prompts by name, of which those that nobody holds make room. Threads may share it.

    Args:
        most_bytes: Of prompts in memory; those in use may exceed it.
        drop: Called with each version that leaves, by whoever made it leave.
    """

    def __init__(self, most_bytes: int, drop: Callable[[Version], None]) -> None:
        self._most_bytes = most_bytes
        self._drop_version = drop
        self._lock = threading.Lock()
        self._current: OrderedDict[str, _Entry] = OrderedDict()  # by name, the one used last at the end
        self._replaced: list[_Entry] = []  # still in use
        self._changes: Counter[str | None] = Counter()  # by name, None for all; see `changes`
        self._bytes = 0
        self._hits = self._misses = self._evictions = 0
        self._seconds = 0.0

    def find(self, name: str) -> Lease | None:
        """Hold a prompt that is in memory; None if it is not."""
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

    def release(self, lease: Lease) -> None:
        """Give a prompt back; a second time does nothing."""
        with self._lock:
            if lease in lease._entry.leases:
                lease._entry.leases.remove(lease)
                self._make_room()

    def missed(self, name: str) -> int:
        """Note that a prompt has to be read; `changes` before it is."""
        with self._lock:
            self._misses += 1
            return self._changes_of(name)

    def changes(self, name: str) -> int:
        """How often what had been read of a name stopped to count."""
        with self._lock:
            return self._changes_of(name)

    def changed(self, name: str | None) -> None:
        """What is being read of a name, or of all if None, does not count unless the disk is looked at again."""
        with self._lock:
            self._changes[name] += 1

    def put(self, name: str, version: Version, *, changes: int, gone: bool) -> Lease | None:
        """Hold what was read, and let others find it.

        Args:
            name: Of the prompt.
            version: What was read.
            changes: Of the name, before it was last seen to be on disk.
            gone: Whether it is no longer; then it answers who asked before, and nobody after.

        Returns:
            None if the name has changed since then: look at the disk again.
        """
        with self._lock:
            if not gone and self._changes_of(name) != changes:
                return None
            entry = _Entry(version)
            lease = _leased(name, entry)
            self._bytes += version.size
            if gone:
                self._replaced.append(entry)
            else:
                if name in self._current:  # loaded twice at the same time
                    self._replaced.append(self._current.pop(name))
                self._current[name] = entry
            self._make_room()
            return lease

    def spent(self, seconds: float) -> None:
        """Count the time that loading a prompt took."""
        with self._lock:
            self._seconds += seconds

    def unload(self, name: str) -> bool:
        """Forget a prompt; requests that hold it go on with it. False if it was not there."""
        with self._lock:
            self._changes[name] += 1
            entry = self._current.pop(name, None)
            if entry is not None:
                self._replaced.append(entry)
                self._make_room()
        return entry is not None

    def current(self) -> dict[str, Version]:
        """What further requests get, by name."""
        with self._lock:
            return {name: entry.version for name, entry in self._current.items()}

    def loaded(self) -> list[LoadedPrompt]:
        """What is in memory, by name, the one used last at the end; what was replaced and is still in use before."""
        with self._lock:
            replaced = [(lease.name, entry) for entry in self._replaced for lease in entry.leases[:1]]
            return [
                LoadedPrompt(
                    name=name,
                    version=entry.version.digest,
                    bytes=entry.version.size,
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

    def _changes_of(self, name: str) -> int:
        return self._changes[name] + self._changes[None]

    def _make_room(self) -> None:
        """Drop what was replaced and is no longer in use, and what was used longest ago; the lock is held."""
        for entry in [entry for entry in self._replaced if not entry.leases]:
            self._replaced.remove(entry)
            self._drop(entry)
        if self._bytes <= self._most_bytes:
            return
        for name in [name for name, entry in self._current.items() if not entry.leases]:
            if self._bytes <= self._most_bytes:
                return
            self._drop(self._current.pop(name))
            self._evictions += 1

    def _drop(self, entry: _Entry) -> None:
        self._drop_version(entry.version)
        self._bytes -= entry.version.size


def _leased(name: str, entry: _Entry) -> Lease:
    lease = Lease(name, entry.version.digest, entry.version.asked, entry.version.info, entry)
    entry.leases.append(lease)
    return lease
