"""Whether what a model gives is a number at all."""

from __future__ import annotations

from collections.abc import Sequence

from softprompt.backbones import Backbone
from softprompt.errors import NonFiniteError

__all__ = ["check_finite"]


def check_finite(backbone: Backbone, prompts: Sequence[str | None], sound: Sequence[bool]) -> None:
    """Refuse rows whose numbers are not finite.

    Args:
        backbone: The model that gave them.
        prompts: Each row's prompt; None for the bare backbone.
        sound: Whether each row's numbers are finite.

    Raises:
        NonFiniteError: If a row's are not; it names the first one's prompt.
    """
    if all(sound):
        return
    name = prompts[list(sound).index(False)]
    if name is None:
        raise NonFiniteError(
            f"The numbers that {backbone.name} gives without a prompt are NaN or infinite; the input leads it beyond "
            f"{backbone.dtype}. Load it in float32."
        )
    raise NonFiniteError(
        f"The numbers that {backbone.name} gives with the prompt {name!r} are NaN or infinite; the prompt has diverged,"
        " or its values are too large for the backbone's dtype. Train it again with a lower rate, or load the backbone "
        "in float32."
    )
