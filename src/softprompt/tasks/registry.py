"""A registry of named strategies: built-in ones, those a program adds, and those that installed packages offer."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
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
    """

    def __init__(self, what: str, group: str) -> None:
        self._what = what
        self._group = group
        self._values: dict[str, T] = {}

    def add(self, name: str, value: T) -> None:
        """Register a value.

        Raises:
            ConfigError: If the name already stands for another value.
        """
        if self._values.setdefault(name, value) is not value:
            raise ConfigError(f"There already is a {self._what} {name!r}; register yours under another name.")

    def names(self) -> tuple[str, ...]:
        """All known names, sorted; nothing is loaded for it."""
        return tuple(sorted(self._values.keys() | entry_points(group=self._group).names))

    def get(self, name: str) -> T:
        """The value of a name; an entry point is loaded now.

        Raises:
            ConfigError: If the name is unknown, or its entry point does not load.
        """
        if name not in self._values:
            offers = entry_points(group=self._group, name=name)
            if not offers:
                raise choose(self._what, name, self.names())
            self._values[name] = self._load(next(iter(offers)))
        return self._values[name]

    def _load(self, offer: EntryPoint) -> T:
        try:
            return offer.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"The {self._what} {offer.name!r} of the group {self._group} ({offer.value}) does not load: {error}. "
                "Repair or remove the package that offers it."
            ) from error
