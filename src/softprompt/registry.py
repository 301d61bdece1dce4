"""A registry of named strategies: built-in ones, those a program adds, and those that installed packages offer."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from types import MappingProxyType
from typing import Generic, TypeVar, final

from softprompt.config import choose
from softprompt.errors import ConfigError

T = TypeVar("T")

__all__ = ["Registry"]


@final
class Registry(Generic[T]):
    """Values by name; a name that is not registered is looked up among the entry points of a group.

    Args:
        what: What a name stands for, as error messages say it, e.g. `metric`.
        group: The entry points' group, e.g. `softprompt.metrics`. A registered name wins over an entry point.
        built_in: Values to begin with, by name.
    """

    def __init__(self, what: str, group: str, built_in: Mapping[str, T] = MappingProxyType({})) -> None:
        self._what = what
        self._group = group
        self._values: dict[str, T] = dict(built_in)

    def add(self, name: str, value: T) -> None:
        """Register a value; the same one may come again.

        Raises:
            ConfigError: If the name already stands for another value.
        """
        if self._values.setdefault(name, value) is not value:
            raise ConfigError(f"The {self._what} {name!r} is taken; register yours under another name.")

    def names(self) -> tuple[str, ...]:
        """All known names, sorted; nothing is loaded for it."""
        return tuple(sorted(self._values.keys() | _offers(self._group).names))

    def get(self, name: str) -> T:
        """The value of a name; an entry point is loaded now.

        Raises:
            ConfigError: If the name is unknown, several packages offer it, or its entry point does not load.
        """
        if name not in self._values:
            self._values[name] = self._load(self._offer(name))
        return self._values[name]

    def name_of(self, value: T) -> str | None:
        """The name that a value is known by, or None; entry points are loaded if it is not a registered one."""
        for name, known in self._values.items():
            if known is value:
                return name
        for name in self.names():
            with suppress(ConfigError):  # a damaged package does not hide what a sound one offers
                if self.get(name) is value:
                    return name
        return None

    def _offer(self, name: str) -> EntryPoint:
        offers = sorted({offer.value: offer for offer in _offers(self._group).select(name=name)}.items())
        match offers:
            case []:
                raise choose(self._what, name, self.names())
            case [(_, offer)]:
                return offer
        raise ConfigError(
            f"Several packages offer the {self._what} {name!r}: {', '.join(value for value, _ in offers)}. "
            "Remove all but one of them."
        )

    def _load(self, offer: EntryPoint) -> T:
        try:
            return offer.load()
        except Exception as error:  # another package's code runs here, and may raise anything
            raise ConfigError(
                f"The {self._what} {offer.name!r} of the group {self._group} ({offer.value}) does not load: {error}. "
                "Repair or remove the package that offers it."
            ) from error


def _offers(group: str) -> EntryPoints:
    """The entry points of a group; packages are read again only when a place where they are found has changed."""
    places = tuple((os.path.abspath(place or "."), _changed(place or ".")) for place in sys.path)
    return _installed(places).get(group, EntryPoints())


def _changed(place: str) -> int | None:
    """When a folder or an archive was changed last; None if there is none."""
    try:
        return os.stat(place).st_mtime_ns
    except OSError:
        return None


@lru_cache(maxsize=1)
def _installed(places: tuple[tuple[str, int | None], ...]) -> dict[str, EntryPoints]:
    """What packages in these places offer, by group: reading all takes 10 ms, and every run names strategies."""
    offers = entry_points()
    return {group: offers.select(group=group) for group in offers.groups}
