"""The methods that make prompts, by name. Third parties add theirs through the group `softprompt.methods`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from softprompt.config import choose
from softprompt.errors import ConfigError
from softprompt.prompts.host import Host, LabelledTask

if TYPE_CHECKING:
    from softprompt.prompts.prompt import SoftPrompt

__all__ = ["METHODS", "Method", "find", "name_of", "register"]


@runtime_checkable
class Method(Protocol):
    """A way to make a prompt: a frozen settings class that can build one."""

    @property
    def length(self) -> int:
        """Virtual tokens."""

    @property
    def placement(self) -> str:
        """Where the prompt goes."""

    def build(self, backbone: Host, task: LabelledTask | None = None, seed: int = 0) -> SoftPrompt:
        """Make an untrained prompt for a backbone."""

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Method:
        """Read the settings from plain values."""


# Classes that follow `Method`; a protocol with properties cannot be checked of a class at run time.
METHODS: dict[str, type[Any]] = {}
M = TypeVar("M", bound=type[Any])


def register(name: str, method: M) -> M:
    """Add a method under a name.

    Raises:
        ConfigError: If the name is taken.
    """
    if name in METHODS:
        raise ConfigError(f"A method named {name!r} exists; choose another name.")
    METHODS[name] = method
    return method


def find(name: str) -> type[Any]:
    """The class of a method by name (see `Method`): built in, registered, or another package's.

    Raises:
        ConfigError: If there is none.
    """
    if name not in METHODS:
        for entry in entry_points(group="softprompt.methods", name=name):
            METHODS[name] = entry.load()
    if name not in METHODS:
        raise choose("method", name, METHODS)
    return METHODS[name]


def name_of(method: Method) -> str:
    """The name under which a method's class is registered.

    Raises:
        ConfigError: If it is not registered.
    """
    for name, kind in METHODS.items():
        if type(method) is kind:
            return name
    raise ConfigError(f"{type(method).__name__} is not registered; call softprompt.prompts.registry.register first.")
