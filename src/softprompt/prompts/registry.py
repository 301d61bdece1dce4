"""The methods that make prompts, by name. Third parties add theirs through the group `softprompt.methods`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from softprompt.errors import ConfigError
from softprompt.prompts.host import Host, LabelledTask
from softprompt.registry import Registry

if TYPE_CHECKING:
    from softprompt.prompts.prompt import SoftPrompt

__all__ = ["METHODS", "Method", "SharingMethod", "brings_head", "find", "name_of", "names", "register"]


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


@runtime_checkable
class SharingMethod(Method, Protocol):
    """A method that makes a prompt for each of several tasks, which learn values in common."""

    def build_all(
        self, backbone: Host, tasks: Mapping[str, LabelledTask | None], seed: int = 0
    ) -> dict[str, SoftPrompt]:
        """Make an untrained prompt for each task; their modules share what they have in common."""


# Classes that follow `Method`; a protocol with properties cannot be checked of a class at run time.
METHODS: Registry[type[Any]] = Registry("method", "softprompt.methods")
M = TypeVar("M", bound=type[Any])


def register(name: str, method: M) -> M:
    """Add a method under a name.

    Raises:
        ConfigError: If the name already stands for another method.
    """
    METHODS.add(name, method)
    return method


def names() -> tuple[str, ...]:
    """All known methods, sorted."""
    return METHODS.names()


def find(name: str) -> type[Any]:
    """The class of a method by name (see `Method`): built in, registered, or another package's.

    Raises:
        ConfigError: If there is none, or it does not load.
    """
    return METHODS.get(name)


def brings_head(method: Method) -> bool:
    """Whether a method's prompts bring a head: what its setting `head` says, if it has one."""
    return bool(getattr(method, "head", False))


def name_of(method: Method) -> str:
    """The name that a method's class is known by.

    Raises:
        ConfigError: If it has none.
    """
    name = METHODS.name_of(type(method))
    if name is None:
        raise ConfigError(
            f"{type(method).__name__} is not registered; call softprompt.prompts.registry.register first, or offer it "
            "in the entry-point group softprompt.methods."
        )
    return name
