"""Checks of annotations while tests run: types by beartype, and sizes by jaxtyping where an array is named."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

# An int is a float where one is asked for (PEP 484).
typed = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))
jaxtyped = jaxtyping.jaxtyped


def checked(item: Any = None, *, typechecker: Callable[[Any], Any]) -> Any:
    """Decorator that stands in for `jaxtyping.jaxtyped`, which the import hook puts on functions and classes.

    jaxtyping binds the arguments of every call by name and has them checked twice: a third of the time of the tests.
    Here each is checked once, and bound by name only where an annotation names an array, whose sizes are compared.

    Args:
        item: A function, or a class, of which a dataclass has its fields checked when it is made.
        typechecker: Has a function's types checked.
    """
    if item is None:
        return functools.partial(checked, typechecker=typechecker)
    if inspect.isclass(item):
        if dataclasses.is_dataclass(item) and "__init__" in vars(item):
            item.__init__ = checked(item.__init__, typechecker=typechecker)
        return item
    if not inspect.isfunction(item):
        return jaxtyped(item, typechecker=typechecker)
    if not item.__annotations__:
        return item
    hints = {name: resolved(hint, item.__globals__) for name, hint in item.__annotations__.items()}
    written, item.__annotations__ = item.__annotations__, hints
    checking = typechecker(item)
    item.__annotations__ = written
    if any("jaxtyping." in repr(hint) for hint in hints.values()):
        checking = jaxtyped(checking, typechecker=None)

    @functools.wraps(item)
    def either(*arguments: Any, **keywords: Any) -> Any:
        return (item if jaxtyping.config.jaxtyping_disable else checking)(*arguments, **keywords)

    return either


def resolved(hint: Any, names: dict[str, Any]) -> Any:
    """What an annotation stands for; Any where a name of it is not known (yet), as jaxtyping has it."""
    carrier = type("Carrier", (), {"__annotations__": {"hint": hint}})
    try:
        return typing.get_type_hints(carrier, names, include_extras=True)["hint"]
    except Exception:
        return Any
