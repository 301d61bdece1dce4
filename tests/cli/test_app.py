"""Help, exit codes, and what a failing command says."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.cli.films import TEMPLATES

from softprompt.cli import app
from softprompt.cli.app import COMMANDS

LEAVES = [
    (*path, name)
    for path, group in [
        ((), COMMANDS),
        *(((name,), group) for name, group in COMMANDS.items() if isinstance(group, dict)),
    ]
    for name, command in group.items()
    if callable(command)
]


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_and_option_is_explained(run, path):
    code, out, _ = run(*path, "--help")
    assert code == 0
    _, _, options = out.partition("options:")
    for line in options.splitlines():
        if line.startswith("  --") and not line.startswith(("  --config", "  --print_config")):
            following = options[options.index(line) :].splitlines()
            text = line.split("  ", 2)[-1] if line.count("  ") > 1 else following[1].strip()
            assert text.strip(), line
            assert not text.strip().startswith("(type"), f"no help for {line}"


def test_help_loads_nothing_heavy():
    program = (
        "import sys; from softprompt.cli import main; code = main(['--help']);"
        "print(sorted({'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)), code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"


@pytest.mark.slow
def test_a_log_holds_no_bars(backbone, tmp_path):
    """Loading's bar was written over and over into files and pipes."""
    given = ("predict", "--backbone", backbone, "--output", str(tmp_path / "out.jsonl"), "--max_new_tokens", "2")
    done = subprocess.run(
        [sys.executable, "-m", "softprompt", *given], input="good\n", capture_output=True, text=True, check=True
    )
    assert "%|" not in done.stderr
    assert "\r" not in done.stderr


def test_version(run):
    code, out, _ = run("--version")
    assert code == 0
    assert out.strip().startswith("softprompt ")


@pytest.mark.parametrize("arguments", [("nonsense",), ("train",), ("evaluate", "--rows", "many"), ()])
def test_wrong_usage_is_2(run, arguments):
    code, _, err = run(*arguments)
    assert code == 2
    assert "usage:" in err


def test_a_failure_is_one_clear_line_and_1(run, tmp_path):
    code, out, err = run("prompts", "show", "--path", str(tmp_path / "nothing"))
    assert (code, out) == (1, "")
    assert err == f"softprompt: {tmp_path}/nothing is not a prompt folder: it has no prompt.json.\n"


def test_a_wrong_setting_is_2(run, tmp_path):
    code, _, err = run("train", "--backbone", "x", "--output_dir", str(tmp_path))
    assert code == 2
    wanted = (
        "Give one of --task NAME, --train_file FILE (or another split's) and --dataset ID; data of your own need "
        "--input and --target too, unless a prompt brings them."
    )
    assert err == f"softprompt: {wanted}\n"
    code, _, err = run("train", "--backbone", "x", "--output_dir", str(tmp_path), "--train_file", "a.csv")
    assert code == 2
    assert err == 'softprompt: Data need templates over their columns: --input "{text}" --target "{label}".\n'


def test_debug_shows_where_an_error_came_from(run, tmp_path):
    code, _, err = run("prompts", "show", "--path", str(tmp_path / "nothing"), "--debug")
    assert code == 1
    assert "Traceback" in err
    assert "read_metadata" in err


def test_options_of_other_commands_are_not_read(run, monkeypatch):
    """Those of all commands were, before any command ran, which took most of the time of a short one."""
    told = []
    monkeypatch.setattr(app, "auto_cli", lambda commands, **_: told.append(commands))
    run("tasks", "show", "sst2")
    run("tasks", "--help")
    run("--help")
    assert [commands.keys() for commands in told] == 3 * [COMMANDS.keys()], "the usage names them all"
    shown, group, whole = told
    assert shown["tasks"]["show"] is COMMANDS["tasks"]["show"]
    assert {name for name in COMMANDS if shown[name] is COMMANDS[name]} == set()
    assert {name for name in COMMANDS if group[name] is COMMANDS[name]} == {"tasks"}
    assert whole == COMMANDS


def test_an_unknown_backbone_is_named(run, files, tmp_path):
    data = ("--train_file", files["train"], "--validation_file", files["validation"], *TEMPLATES)
    arguments = (*data, "--output_dir", str(tmp_path / "out"))
    code, _, err = run("train", "--backbone", "bundled:nonsense", *arguments)
    assert code == 2
    assert "bundled backbone 'nonsense'" in err
    code, _, err = run("train", "--backbone", str(tmp_path / "nowhere"), *arguments)
    assert code == 1
    assert "Cannot load" in err
    assert "Traceback" not in err


def test_an_unexpected_error_is_one_line_too(run, monkeypatch):
    """What torch and transformers raise once reached the user as a traceback."""

    def broken(path: str, name: str) -> None:
        raise RuntimeError("size mismatch:\n\tcopying a param")

    monkeypatch.setattr("softprompt.artefact.read_metadata", broken)
    code, out, err = run("prompts", "show", "--path", "x")
    assert (code, out) == (1, "")
    assert err == "softprompt: unexpected RuntimeError: size mismatch: copying a param (--debug shows where)\n"
    assert "Traceback" in run("prompts", "show", "--path", "x", "--debug")[2]


def test_options_may_be_spelled_with_hyphens(run):
    code, out, _ = run("train", "--backbone", "x", "--output-dir", "a-b", "--on-bad-row=skip", "--print_config")
    assert code == 0
    assert "on_bad_row: skip" in out
    assert "output_dir: a-b" in out


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["tasks", "list"], 1),
        (["--debug", "tasks", "list"], 1),
        (["serve", "--help"], 0),
        (["--debug", "serve", "--help"], 0),
    ],
)
def test_the_process_of_a_command_but_not_of_a_server_keeps_freed_memory(monkeypatch, capsys, words, kept):
    asked = []
    monkeypatch.setattr(app, "keep_freed_memory", lambda: asked.append(words))
    monkeypatch.setattr("sys.argv", ["softprompt", *words])
    assert app.main() == 0
    assert len(asked) == kept
    app.main(words)
    assert len(asked) == kept, "a program that calls a command has its own process"
