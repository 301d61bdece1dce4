"""Which of a data set's files a user's folder holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from softprompt.errors import MissingFileError

__all__ = ["files_at_hand"]


def files_at_hand(folder: Path, wanted: Mapping[str, Sequence[str]]) -> dict[str, list[Path]]:
    """The files of each split that has any.

    Args:
        folder: The user's folder.
        wanted: By split, glob patterns of its files, relative to the folder; the first that is met says which they are.

    Returns:
        By split, the files in the order of their names.

    Raises:
        MissingFileError: If there is none of them.
    """
    found: dict[str, list[Path]] = {}
    for split, patterns in wanted.items():
        matches = (sorted(file for file in folder.glob(pattern) if file.is_file()) for pattern in patterns)
        if files := next(filter(None, matches), None):
            found[split] = files
    if not found:
        names = ", ".join(pattern for patterns in wanted.values() for pattern in patterns)
        raise MissingFileError(f"The data_dir {folder} holds none of the files {names}; check the folder.")
    return found
