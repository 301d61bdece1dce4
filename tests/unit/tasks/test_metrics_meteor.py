"""METEOR's program: found or said to be missing, asked once per row, and told on when it fails."""

from __future__ import annotations

import sys

import pytest

from softprompt.errors import DataError, MissingDependencyError
from softprompt.tasks import compute_metrics
from softprompt.tasks.metrics import meteor

# What meteor-1.5.jar prints for "the dog bit the man" against itself, and for words that have nothing in common.
SAME = "5.0 5.0 2.0 2.0 3.0 3.0 2.0 2.0" + " 0.0" * 12 + " 1.0 5.0 5.0"
OTHER = "5.0 5.0 2.0 2.0" + " 0.0" * 19


@pytest.fixture
def java(tmp_path, monkeypatch):
    """A program in the place of Java that answers as the jar does, and notes what it was asked."""
    program, asked = tmp_path / "bin" / "java", tmp_path / "asked.txt"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys\nlines = sys.stdin.read().splitlines()\n"
        f"open({str(asked)!r}, 'a').writelines(line + '\\n' for line in [' '.join(sys.argv[1:]), *lines])\n"
        f"for line in lines:\n    _, *true, said = line.split(' ||| ')\n"
        f"    print({SAME!r} if said in true else {OTHER!r})\n"
        "if 'broken' in ''.join(lines): sys.exit('no paraphrases')\n"
        "if 'endless' in ''.join(lines): __import__('time').sleep(60)\n"
    )
    program.chmod(0o755)
    jar = tmp_path / "meteor-1.5.jar"
    jar.touch()
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setenv("METEOR_JAR", str(jar))
    monkeypatch.setattr(meteor, "_known", {})
    return lambda: asked.read_text().splitlines()


def test_every_row_is_asked_for_once(java):
    said, true = (
        ["The dog bit the man.", "x |||\ny", "The dog bit the man."],
        [["No", "the dog bit the man"], ["z"], ["z"]],
    )
    # Half of 10 words match: precision and recall are 1/2, in one chunk that is whole, so nothing is taken off.
    assert compute_metrics(["meteor"], said[:2], true[:2]) == {"meteor": pytest.approx(50)}
    assert compute_metrics(["meteor"], said, true) == {"meteor": pytest.approx(100 / 3)}
    asked = [line for line in java() if line.startswith("SCORE")]
    assert asked == [
        "SCORE ||| no ||| the dog bit the man ||| the dog bit the man",
        "SCORE ||| z ||| x | | | y",
        "SCORE ||| z ||| the dog bit the man",
    ]
    assert java()[0].endswith("meteor-1.5.jar - - -stdio -l en -norm")


@pytest.mark.usefixtures("java")
def test_a_program_that_fails_is_told_on():
    with pytest.raises(
        DataError, match=r"METEOR gave 1 alignments of 1 rows, and said: no paraphrases. Run .* by hand"
    ):
        compute_metrics(["meteor"], ["broken"], [["x"]])


@pytest.mark.usefixtures("java")
def test_a_program_that_does_not_end_is_given_up(monkeypatch):
    monkeypatch.setattr(meteor, "_START_TIMEOUT_S", 0.5)
    with pytest.raises(DataError, match=r"METEOR did not align 1 rows within 2 s\. Run .* by hand"):
        compute_metrics(["meteor"], ["an endless row"], [["a row"]])


@pytest.mark.usefixtures("java")
def test_without_java_it_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="METEOR needs Java: install a Java runtime"):
        compute_metrics(["meteor"], ["a"], [["a"]])


@pytest.mark.usefixtures("java")
def test_without_the_program_it_is_missing(monkeypatch):
    monkeypatch.setattr(meteor.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("METEOR_JAR", "/nowhere/meteor.jar")
    with pytest.raises(
        MissingDependencyError,
        match=r"meteor-1.5.jar \(METEOR_JAR=/nowhere/meteor.jar is no file\): pip install pycocoevalcap, or set",
    ):
        compute_metrics(["meteor"], ["a"], [["a"]])
    monkeypatch.delenv("METEOR_JAR")
    with pytest.raises(MissingDependencyError, match=r"METEOR needs meteor-1.5.jar: pip install pycocoevalcap"):
        compute_metrics(["meteor"], ["a"], [["a"]])


def test_a_package_brings_the_program_along(java, monkeypatch, tmp_path):
    jar = tmp_path / "site" / "pycocoevalcap" / "meteor" / "meteor-1.5.jar"
    jar.parent.mkdir(parents=True)
    jar.touch()
    (jar.parents[1] / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delenv("METEOR_JAR")
    assert compute_metrics(["meteor"], ["a"], [["a"]])["meteor"] == pytest.approx(100)
    assert str(jar) in java()[0]
