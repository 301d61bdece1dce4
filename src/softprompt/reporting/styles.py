"""How everything is drawn: colours, shapes and strokes that colour-blind readers and grey paper tell apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from softprompt.errors import MissingDependencyError

__all__ = ["COLOURS", "MARKERS", "SETTINGS", "STROKES", "need_matplotlib", "plain_metadata"]

# Okabe and Ito's colours, which colour-blind readers tell apart, without the yellow that paper swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
# Shapes tell lines apart in grey; their number and that of the colours share no divisor, so pairs repeat late.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p")
STROKES = ("-", "--", "-.", ":")
SETTINGS: Any = {"svg.hashsalt": "softprompt", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False,
                 "axes.spines.right": False}  # fmt: skip


def need_matplotlib(what: str) -> Any:
    """The library.

    Args:
        what: What is to be drawn, as the error says it, e.g. `Curves`.

    Raises:
        MissingDependencyError: If it is not installed.
    """
    try:
        import matplotlib
        import matplotlib.figure
    except ImportError as error:
        raise MissingDependencyError(f"{what} need matplotlib: pip install 'softprompt[report]'") from error
    return matplotlib


def plain_metadata(path: str | Path) -> dict[str, None]:
    """Neither the date nor the program's version, which change without the figure."""
    return {"Date": None, "Creator": None} if Path(path).suffix == ".svg" else {"Software": None}
