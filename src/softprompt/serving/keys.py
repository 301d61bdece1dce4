"""Keys that let requests in: made once, kept as digests, compared in constant time, changed by changing their file."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from pathlib import Path
from typing import final

from softprompt.errors import ArtefactError, ConfigError

__all__ = ["Keys", "add_key"]

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LINE = re.compile(rf"(?P<name>{_NAME.pattern})\s+sha256:(?P<digest>[0-9a-f]{{64}})")
_BYTES = 32


@final
class Keys:
    """The keys of a file. It is read again when it changes; one that cannot be read leaves what was known.

    Args:
        path: Lines of a name and `sha256:` with the digest of a key, and comments behind `#`.

    Raises:
        ArtefactError: If the file cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._seen = self._stamp()
        self._digests = _read(self._path)

    def name_of(self, key: str) -> str | None:
        """Whose key it is; None if it is nobody's. As fast for every key."""
        self._refresh()
        digest = _digest(key)
        owners = [name for name, known in self._digests if hmac.compare_digest(known, digest)]
        return owners[0] if owners else None

    def _refresh(self) -> None:
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._digests = _read(self._path)
            log.info("keys were read again", extra={"keys": len(self._digests)})
        except ArtefactError as error:
            log.error("keys could not be read again, those known before stay: %s", error)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def add_key(path: str | Path, name: str) -> str:
    """Make a key, and add its digest to a file, which is made if it is not there.

    Returns:
        The key, which is stored nowhere.

    Raises:
        ConfigError: If the name cannot be one, or has a key already.
        ArtefactError: If the file holds something else.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name[:64]!r} cannot name a key; take letters, digits, dots, dashes and underscores.")
    path = Path(path)
    if path.exists() and name in dict(_read(path)):
        raise ConfigError(f"{path} has a key {name!r} already; take another name, or remove its line first.")
    key = f"sp-{secrets.token_urlsafe(_BYTES)}"
    path.touch(mode=0o600)
    old = path.read_text(encoding="utf-8")
    begin = "" if not old or old.endswith("\n") else "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{begin}{name} sha256:{_digest(key)}\n")
    return key


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _read(path: Path) -> tuple[tuple[str, str], ...]:
    """Names and digests; of a long random key a plain digest tells nothing."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ArtefactError(f"The keys at {path} cannot be read: {error}.") from None
    found = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = _LINE.fullmatch(text)
        if match is None:
            raise ArtefactError(f"{path}:{number} is no key; softprompt keys new writes lines of a name and a digest.")
        found.append((match["name"], match["digest"]))
    return tuple(found)
