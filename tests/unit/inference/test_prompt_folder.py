"""A folder of prompts: named strictly, bounded in memory, replaced while others ask."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time

import pytest
import torch
from tests.models import tiny_backbone
from tests.unit.inference.test_generating import TEXTS

from softprompt.errors import (
    ArtefactError,
    ConfigError,
    MismatchError,
    NonFiniteError,
    UnknownPromptError,
)
from softprompt.inference import Query, classify
from softprompt.inference.prompt_files import PromptFiles
from softprompt.inference.prompt_folder import PromptFolder
from softprompt.inference.together import Together
from softprompt.prompts import Members, PrefixTuning, PromptTuning, SoftPrompt

BACKBONE = tiny_backbone("decoder-only")
CANDIDATES = ("good", "bad")


def prompt(seed=0, length=4, method=PromptTuning) -> SoftPrompt:
    settings = {"hidden": None} if method is PrefixTuning else {}
    return method(length=length, init="vocab", **settings).build(BACKBONE, seed=seed)


@pytest.fixture
def path(tmp_path):
    for index, name in enumerate(("a", "b", "c")):
        prompt(index, method=(PromptTuning, PrefixTuning)[index % 2]).save(tmp_path / name)
    Members([prompt(7), prompt(8)], "mean").save(tmp_path / "both")
    return tmp_path


def said(folder, lease, text=TEXTS[0]):
    (choice,) = classify(folder.model, [Query(input=text, prompt=lease.prompt, candidates=CANDIDATES)])
    return choice.probabilities["good"]


def alone(one, text=TEXTS[0]):
    from softprompt.conditioning import Prompted

    (choice,) = classify(Prompted(BACKBONE, {"p": one}), [Query(input=text, prompt="p", candidates=CANDIDATES)])
    return choice.probabilities["good"]


def test_prompts_and_ensembles_are_found_by_name_and_answer_as_from_memory(path):
    folder = PromptFolder(BACKBONE, path)
    assert folder.files.names() == ["a", "b", "both", "c"]
    assert folder.files.card("a")["method"]["length"] == 4
    assert folder.files.card("both")["combine"] == "mean"
    for index, name in enumerate(("a", "b", "c")):
        with folder.lease(name) as lease:
            assert said(folder, lease) == pytest.approx(alone(SoftPrompt.load(path / name)), abs=1e-6)
            assert len(lease.version) == 12
        assert folder.counts().loaded == index + 1
    with folder.lease("both") as lease:
        assert isinstance(lease.prompt, Together)
        mean = (alone(prompt(7)) + alone(prompt(8))) / 2
        assert said(folder, lease) == pytest.approx(mean, abs=1e-6)
    with folder.lease("a"):
        pass
    counts = folder.counts()
    assert (counts.hits, counts.misses, counts.evictions) == (1, 4, 0)
    assert counts.load_seconds > 0


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        ".",
        f"{os.pardir}/a",
        f"a/{os.pardir}/b",
        "/a",
        "a/",
        "-a",
        ".hidden",
        "a\n",
        "é",
        "a" * 129,
        "nothing",
        "a b",
    ],
)
def test_a_name_leads_nowhere_else(path, name):
    folder = PromptFolder(BACKBONE, path)
    with pytest.raises(UnknownPromptError, match="There is no prompt"):
        folder.acquire(name)
    if name != "nothing":
        with pytest.raises(ConfigError, match="cannot be a prompt's name"):
            folder.replace(name, prompt())


def test_links_are_not_followed(path, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    prompt(3).save(outside / "secret")
    (path / "link").symlink_to(outside / "secret")
    (path / "half").mkdir()
    shutil.copy(path / "a" / "prompt.json", path / "half")
    (path / "half" / "prompt.safetensors").symlink_to(outside / "secret" / "prompt.safetensors")
    folder = PromptFolder(BACKBONE, path)
    assert not {"link", "half"} & set(folder.files.names())
    for name in ("link", "half"):
        with pytest.raises(UnknownPromptError):
            folder.acquire(name)
    with pytest.raises(ArtefactError, match="is a link"):
        folder.replace("link", prompt())


def test_what_was_used_longest_ago_makes_room_and_what_is_held_does_not(path):
    size = PromptFolder(BACKBONE, path)
    with size.lease("a"):
        room = size.counts().bytes
    folder = PromptFolder(BACKBONE, path, cache_bytes=2 * room)
    first = folder.acquire("a")
    for name in ("c", "b", "c"):
        with folder.lease(name):
            assert folder.counts().loaded <= 3
    assert folder.counts().evictions >= 1
    assert said(folder, first) == pytest.approx(alone(SoftPrompt.load(path / "a")), abs=1e-6)
    folder.release(first)
    counts = folder.counts()
    assert counts.bytes <= 2 * room
    assert len(folder.model.prompts) == counts.loaded  # a prompt has one key, and none is left behind
    tiny = PromptFolder(BACKBONE, path, cache_bytes=1)
    with tiny.lease("a") as lease:
        assert said(tiny, lease) > 0
    assert (tiny.counts().loaded, tiny.counts().bytes, len(tiny.model.prompts)) == (0, 0, 0)


def test_a_replaced_prompt_goes_on_answering_what_began_with_it(path):
    folder = PromptFolder(BACKBONE, path)
    old = folder.acquire("a")
    before = said(folder, old)
    version = folder.replace("a", prompt(11, length=6))
    new = folder.acquire("a")
    assert new.version == version != old.version
    assert said(folder, new) == pytest.approx(alone(prompt(11, length=6)), abs=1e-6)
    assert said(folder, old) == before
    assert folder.counts().loaded == 2
    folder.release(old)
    assert folder.counts().loaded == 1
    folder.release(new)
    folder.replace("new", prompt(12))
    assert "new" in folder.files.names()


def test_what_changed_on_disk_is_read_again_when_asked(path):
    folder = PromptFolder(BACKBONE, path)
    for name in ("a", "b"):
        with folder.lease(name):
            pass
    assert folder.reload() == []
    prompt(21).save(path / "a")
    shutil.rmtree(path / "b")
    with folder.lease("a") as lease:
        assert said(folder, lease) == pytest.approx(alone(prompt(0)), abs=1e-6)
    assert sorted(folder.reload()) == ["a", "b"]
    with folder.lease("a") as lease:
        assert said(folder, lease) == pytest.approx(alone(prompt(21)), abs=1e-6)
    with pytest.raises(UnknownPromptError):
        folder.acquire("b")
    assert folder.unload("a")
    assert not folder.unload("a")
    folder.remove("c")
    assert folder.files.names() == ["a", "both"]
    assert not [file for file in os.listdir(path) if file.startswith(".")]


def test_a_look_at_what_has_not_changed_reads_nothing(path, monkeypatch):
    """All files of all prompts in memory were read at each look, every few seconds."""
    folder = PromptFolder(BACKBONE, path)
    for name in ("a", "both"):
        with folder.lease(name):
            pass
    read, version_of = [], PromptFiles.version_of
    monkeypatch.setattr(PromptFiles, "version_of", lambda self, name: (read.append(name), version_of(self, name))[1])
    assert folder.reload() == []
    assert read == []
    os.utime(path / "a" / "prompt.safetensors")
    assert folder.reload() == folder.reload() == []
    assert read == ["a"]
    weights = path / "both" / "ensemble.safetensors"
    weights.write_bytes(weights.read_bytes()[::-1])  # in its place, and as long
    assert folder.reload() == ["both"]


def test_what_cannot_answer_is_refused_and_leaves_nothing(path):
    other = PromptTuning(length=3, init="vocab").build(tiny_backbone("encoder-decoder"), seed=0)
    other.save(path / "foreign")
    (path / "cut").mkdir()
    for file in ("prompt.json", "prompt.safetensors"):
        (path / "cut" / file).write_bytes((path / "a" / file).read_bytes()[:100])
    folder = PromptFolder(BACKBONE, path, prompt_bytes=10_000)
    prompt(5, length=40, method=PrefixTuning).save(path / "large")
    for name, error in (("foreign", MismatchError), ("cut", ArtefactError), ("large", ArtefactError)):
        with pytest.raises(error):
            folder.acquire(name)
    wild = prompt(6)
    with torch.no_grad():
        wild.parametrization.rows.fill_(1e38)
    wild.save(path / "wild")
    with pytest.raises(NonFiniteError, match="The prompt 'wild' is NaN or infinite"):
        folder.acquire("wild")
    with pytest.raises(NonFiniteError):
        folder.replace("a", wild)
    assert (folder.counts().loaded, len(folder.model.prompts)) == (0, 0)
    with folder.lease("a") as lease:
        assert said(folder, lease) == pytest.approx(alone(prompt(0)), abs=1e-6)


def test_another_kind_does_not_take_a_name(path):
    folder = PromptFolder(BACKBONE, path)
    with pytest.raises(ArtefactError, match="of another kind"):
        folder.replace("both", prompt())
    with pytest.raises(ArtefactError, match="of another kind"):
        folder.replace("a", Members([prompt()]))
    assert folder.replace("both", Members([prompt(1)])) != ""


def test_threads_never_get_a_mixture_while_a_prompt_is_replaced(path):
    """Readers hold versions; each answers as one of the prompts that were written, and by the version it names."""
    folder = PromptFolder(BACKBONE, path, cache_bytes=1)  # every request reads
    made = [prompt(seed, length=3 + seed % 3) for seed in range(4)]
    want = {}
    for one in made:
        want[folder.replace("a", one)] = alone(one)
    wrong: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                with folder.lease("a") as lease:
                    got = said(folder, lease)
                    if abs(got - want[lease.version]) > 1e-6:
                        wrong.append((lease.version, got))
            except ArtefactError as error:
                if "again and again" not in str(error):
                    wrong.append(error)
            except Exception as error:
                wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for turn in range(40):
        made[turn % 4].save(path / "a")
    done.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert len(folder.model.prompts) == 0


@pytest.mark.parametrize("change", ["replace", "remove", "reload"])
def test_what_changes_while_it_is_read_does_not_come_back(path, monkeypatch, change):
    """A reader held version 1 in its hands; it came to stand where version 2 had been put, for good."""
    folder = PromptFolder(BACKBONE, path)
    reading, go = threading.Event(), threading.Event()
    add = PromptFolder._add

    def slow(self, name, version, one):
        if threading.current_thread() is not threading.main_thread():
            reading.set()
            go.wait(10)
        return add(self, name, version, one)

    monkeypatch.setattr(PromptFolder, "_add", slow)
    held = []
    reader = threading.Thread(target=lambda: held.append(folder.acquire("a")))
    reader.start()
    reading.wait(10)
    if change == "replace":
        want = folder.replace("a", prompt(31))
    elif change == "remove":
        folder.remove("a")
    else:
        prompt(31).save(path / "a")
        folder.reload()
    go.set()
    reader.join()
    if change == "remove":
        with pytest.raises(UnknownPromptError):
            folder.acquire("a")
    else:
        with folder.lease("a") as lease:
            assert change == "reload" or lease.version == want
            assert said(folder, lease) == pytest.approx(alone(prompt(31)), abs=1e-6)
    assert said(folder, held[0]) == pytest.approx(alone(prompt(0)), abs=1e-6)
    folder.release(held[0])
    assert folder.counts().loaded == (0 if change == "remove" else 1)


def test_one_that_is_being_replaced_is_waited_for(path):
    """A folder is replaced by two renames; between them there is none of its name."""
    folder = PromptFolder(BACKBONE, path)
    (path / ".a.old.x").mkdir()
    (path / "a").rename(path / ".a.old.x" / "a")
    back = threading.Timer(0.02, lambda: (path / ".a.old.x" / "a").rename(path / "a"))
    back.start()
    with folder.lease("a") as lease:
        assert lease.name == "a"
    back.join()


def test_writers_of_one_name_take_turns(path):
    folder = PromptFolder(BACKBONE, path)
    wrong = []

    def write(seed: int) -> None:
        try:
            for _ in range(5):
                folder.replace("a", prompt(seed))
        except Exception as error:
            wrong.append(error)

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not wrong


def test_a_lease_is_given_back_once(path):
    folder = PromptFolder(BACKBONE, path, cache_bytes=1)
    first, second = folder.acquire("a"), folder.acquire("a")
    folder.release(first)
    folder.release(first)
    assert folder.counts().loaded == 1
    assert said(folder, second) > 0
    folder.release(second)
    assert folder.counts().loaded == 0


def test_a_version_is_shared_by_who_asked_for_it_together(path):
    """The second of two inputs of one request was answered by what had come in the first one's place."""
    folder = PromptFolder(BACKBONE, path)
    assert folder.find("a") is None
    lease = folder.acquire("a")
    folder.replace("a", prompt(5))
    shared = folder.share(lease)
    folder.release(lease)
    assert shared.version == lease.version != folder.acquire("a").version
    assert said(folder, shared) == pytest.approx(alone(prompt(0)), abs=1e-6)
    with pytest.raises(ConfigError, match="no longer held here; acquire the prompt anew"):
        folder.share(lease)
    folder.release(shared)
    with pytest.raises(ConfigError, match="no longer held here"):
        folder.share(shared)


def test_an_ensemble_that_cannot_be_is_named_as_it_was_asked(path):
    """Beyond ten members `both` was told as `both0`: the number of the second began that of the eleventh."""
    bad = [prompt(seed) for seed in range(12)]
    with torch.no_grad():
        bad[10].to_parts()[0]["rows"].fill_(float("inf"))
    folder = PromptFolder(BACKBONE, path)
    with pytest.raises(NonFiniteError) as caught:
        folder.replace("both", Members(bad, "mean"))
    assert "'both'" in str(caught.value)


@pytest.mark.parametrize("stored", [{"bogus": 1}, {"input": 3}])
def test_a_format_that_no_request_could_use_is_refused_at_load(path, stored):
    file = path / "a" / "prompt.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": stored}))
    with pytest.raises(ArtefactError, match="a format that cannot be used"):
        PromptFolder(BACKBONE, path).acquire("a")


def test_one_bad_folder_does_not_hide_the_others(path):
    folder = PromptFolder(BACKBONE, path, prompt_bytes=10_000)
    for name in ("a", "b"):
        with folder.lease(name):
            pass
    (path / "a" / "prompt.json").write_text(" " * 20_000)
    prompt(41).save(path / "b")
    assert sorted(folder.reload()) == ["a", "b"]
    with pytest.raises(ArtefactError, match="more than 10000 bytes"):
        folder.files.card("a")
    (path / "both" / "prompt.json").write_text("{}")
    (path / "both" / "prompt.safetensors").write_text("")
    assert "both" not in folder.files.names()  # it cannot be told which of the two it is


def test_what_is_counted_is_what_is_held(path):
    """Recorded keys and values were views of a padded batch."""
    folder = PromptFolder(BACKBONE, path)
    Members([prompt(1, length=2), prompt(2, length=30)]).save(path / "uneven")
    with folder.lease("uneven") as lease:
        entries = folder.model._prompts._entries
        held = {
            part.untyped_storage().data_ptr(): part.untyped_storage().nbytes()
            for name in lease.prompt.names
            for pair in entries[name].compiled.applied.keys_values.values()
            for part in pair
        }
        values = sum(4 * one().rows.numel() for one in (prompt(1, length=2), prompt(2, length=30)))
        assert folder.counts().bytes == sum(held.values()) + values


def test_one_read_serves_all_who_wait_for_it(path):
    folder = PromptFolder(BACKBONE, path)
    start = threading.Barrier(6)
    leases = []

    def ask() -> None:
        start.wait()
        leases.append(folder.acquire("b"))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folder.counts().misses == 1
    assert len({lease.prompt for lease in leases}) == 1
    for lease in leases:
        folder.release(lease)


def test_settings_that_make_no_sense_are_refused(path):
    with pytest.raises(ArtefactError, match="No folder at"):
        PromptFolder(BACKBONE, path / "nowhere")
    with pytest.raises(ConfigError, match="cache_bytes=0"):
        PromptFolder(BACKBONE, path, cache_bytes=0)
    (path / "a" / "prompt.json").write_text(json.dumps({"schema_version": 99}))
    with pytest.raises(ArtefactError, match="schema version 99"):
        PromptFolder(BACKBONE, path).acquire("a")


def test_two_who_load_at_the_same_time_leave_nothing_behind(path, monkeypatch):
    """One of two versions that were loaded beside each other was forgotten, and stayed in memory for ever."""
    folder = PromptFolder(BACKBONE, path)
    read = PromptFiles.read
    both = threading.Barrier(2)

    def slowly(self, name):
        found = read(self, name)
        both.wait(10)
        return found

    monkeypatch.setattr(PromptFiles, "read", slowly)
    leases = []
    threads = [threading.Thread(target=lambda: leases.append(folder._load("a"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for lease in leases:
        folder.release(lease)
    folder.unload("a")
    assert (folder.counts().loaded, folder.counts().bytes) == (0, 0)
    assert not folder.model.prompts


def test_what_a_kill_left_is_put_back_or_dropped(path):
    """A kill between the two renames of a replacement left the old prompt beside its place, for good."""
    (path / ".a.old.x1").mkdir()
    (path / "a").rename(path / ".a.old.x1" / "a")
    (path / ".b.old.x2").mkdir()
    shutil.copytree(path / "b", path / ".b.old.x2" / "b")
    (path / ".c.removed.x3" / "c").mkdir(parents=True)
    (path / ".fresh.old.x4").mkdir()
    for left in (".a.old.x1", ".b.old.x2", ".c.removed.x3"):
        os.utime(path / left, (1, 1))
    folder = PromptFolder(BACKBONE, path)
    assert folder.files.names() == ["a", "b", "both", "c"]
    assert sorted(one.name for one in path.iterdir() if one.name.startswith(".")) == [".fresh.old.x4"]
    with folder.lease("a") as lease:
        assert said(folder, lease) == pytest.approx(alone(prompt(0)), abs=1e-6)


def test_what_a_kill_left_is_put_back_by_a_server_that_starts_at_once(path):
    """It was only a minute after the kill: a server that was started before had no prompt of that name."""
    (path / ".a.old.x1").mkdir()
    (path / "a").rename(path / ".a.old.x1" / "a")
    long_ago_s = time.time() - 3
    os.utime(path / ".a.old.x1", (long_ago_s, long_ago_s))
    assert PromptFolder(BACKBONE, path).files.names() == ["a", "b", "both", "c"]
    assert not (path / ".a.old.x1").exists()
