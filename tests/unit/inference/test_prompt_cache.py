"""Versions in memory by name: held, shared, replaced, and dropped when nobody holds them."""

from __future__ import annotations

import pytest

from softprompt.errors import ConfigError
from softprompt.inference.prompt_cache import PromptCache, Version
from softprompt.prompts import PromptInfo

INFO = PromptInfo(backbone="tiny", fingerprint={})


class Shelf:
    """A cache of ten bytes, and what has left it."""

    def __init__(self):
        self.dropped: list[str] = []
        self.cache = PromptCache(10, lambda version: self.dropped.append(version.digest))

    def put(self, name, digest, size=4, *, gone=False):
        version = Version(digest, f"{name}@{digest}", INFO, size)
        lease = self.cache.put(name, version, changes=self.cache.missed(name), gone=gone)
        assert lease is not None
        return lease


@pytest.fixture
def shelf():
    return Shelf()


def test_what_was_used_longest_ago_goes_first_and_what_is_held_stays(shelf):
    first, second, third = (shelf.put(name, name) for name in "abc")
    assert shelf.dropped == []  # 12 bytes, all held
    again = shelf.cache.find("a")
    for lease in (first, second, third):
        shelf.cache.release(lease)
    assert shelf.dropped == ["b"]
    shelf.cache.release(again)
    counts = shelf.cache.counts()
    assert (counts.loaded, counts.bytes, counts.hits, counts.misses, counts.evictions) == (2, 8, 1, 3, 1)


def test_a_replaced_version_goes_when_nobody_holds_it(shelf):
    old = shelf.put("a", "1")
    new = shelf.put("a", "2")
    shared = shelf.cache.share(old)
    shelf.cache.release(old)
    assert [(one.version, one.in_use, one.current) for one in shelf.cache.loaded()] == [("1", 1, False), ("2", 1, True)]
    shelf.cache.release(shared)
    shelf.cache.release(shared)
    assert shelf.dropped == ["1"]
    assert shelf.cache.unload("a")
    assert shelf.dropped == ["1"]
    shelf.cache.release(new)
    assert shelf.dropped == ["1", "2"]
    assert not shelf.cache.unload("a")
    with pytest.raises(ConfigError, match="no longer held here"):
        shelf.cache.share(new)


@pytest.mark.parametrize("change", ["unload", "changed", "all"])
def test_what_changed_while_it_was_read_is_looked_at_again(shelf, change):
    cache, version = shelf.cache, Version("1", "a@1", INFO, 4)
    before = cache.missed("a")
    {"unload": cache.unload, "changed": cache.changed, "all": lambda _: cache.changed(None)}[change]("a")
    assert cache.put("a", version, changes=before, gone=False) is None
    assert cache.put("b", version, changes=0, gone=True).version == "1"
    assert cache.find("b") is None
    assert cache.put("a", version, changes=cache.changes("a"), gone=False) is not None
    assert cache.find("a").version == "1"
