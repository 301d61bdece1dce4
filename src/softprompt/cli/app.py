"""From the command line to a command, and from its error to an exit code."""

from __future__ import annotations

import inspect
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from jsonargparse import auto_cli

from softprompt.cli import backbones, prompts, serve, tasks
from softprompt.cli.demo import demo
from softprompt.cli.evaluate import evaluate_prompt
from softprompt.cli.inspect import inspect_prompts
from softprompt.cli.predict import predict
from softprompt.cli.pretrain import pretrain
from softprompt.cli.recommend import recommend_settings
from softprompt.cli.report import report_studies
from softprompt.cli.study import run_study
from softprompt.cli.train import train_prompts
from softprompt.errors import ConfigError, SoftpromptError
from softprompt.loop.allocator import keep_freed_memory

__all__ = ["COMMANDS", "main"]

FAILED, USAGE, INTERRUPTED = 1, 2, 130

COMMANDS: dict[str, Any] = {
    "demo": demo,
    "train": train_prompts,
    "evaluate": evaluate_prompt,
    "predict": predict,
    "inspect": inspect_prompts,
    "serve": serve.run_server,
    "keys": {"_help": "Make keys that a server asks for.", "new": serve.new_key},
    "pretrain": pretrain,
    "recommend": recommend_settings,
    "study": run_study,
    "report": report_studies,
    "prompts": {
        "_help": "Look at prompts, and exchange them with other libraries and the hub.",
        "list": prompts.list_prompts,
        "show": prompts.show,
        "combine": prompts.combine_prompts,
        "import": prompts.import_prompt,
        "export": prompts.export,
        "push": prompts.push,
        "pull": prompts.pull,
    },
    "tasks": {"_help": "Look at the tasks known by name.", "list": tasks.list_tasks, "show": tasks.show},
    "backbones": {
        "_help": "Look at the backbones that come with softprompt, make their family anew, and check them.",
        "list": backbones.list_backbones,
        "show": backbones.show,
        "recipes": backbones.recipes,
        "make": backbones.make,
        "check": backbones.check,
        "curves": backbones.curves,
    },
}
"""Every command, by name; a nested mapping is a group of them.

No function here is named like a public name of softprompt: the parser looks its functions up in the package, and
would load the room behind that name."""

DESCRIPTION = """Train, measure and use soft prompts on frozen language models.

Every option can stand in a YAML file (--config FILE); options on the command line win. --on_bad_row may be spelled
--on-bad-row, and so on. What to show needs no option: softprompt tasks show sst2, softprompt inspect FOLDER. Nor
does what to run: softprompt study length. --debug, anywhere, shows where an error came from."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: What follows `softprompt`; those of the process if None.

    Returns:
        0, or 1 if the command failed, 2 if it was asked for wrongly, 130 after Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = _with_option([_with_underscores(argument) for argument in given if argument != "--debug"])
    if arguments is None and given[:1] != ["serve"]:  # the process is ours; what a server holds should go back
        keep_freed_memory()
    if not sys.stderr.isatty():  # bars of the libraries below us would fill a log; our own progress is plain there
        os.environ.setdefault("TQDM_DISABLE", "1")
    for name in ("torchao", "torch.utils._pytree"):  # where torchao is installed: kernels of other machines are missing
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        auto_cli(
            _asked_for(given), args=given, as_positional=False, prog="softprompt", description=DESCRIPTION,
            version=version("softprompt"),
        )  # fmt: skip
    except SystemExit as stop:  # help, version and usage errors of the parser
        return stop.code if isinstance(stop.code, int) else USAGE
    except SoftpromptError as error:
        return _fail(error, debug, USAGE if isinstance(error, ConfigError) else FAILED)
    except KeyboardInterrupt:
        print("softprompt: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(error, debug, FAILED)
    except Exception as error:
        return _fail(error, debug, FAILED, f"unexpected {type(error).__name__}: {error} (--debug shows where)")
    return 0


def _with_underscores(argument: str) -> str:
    """An option as the parser knows it: `--on-bad-row=skip` is `--on_bad_row=skip`."""
    option, equals, value = argument.partition("=")
    return option[:2] + option[2:].replace("-", "_") + equals + value if option.startswith("--") else argument


def _with_option(arguments: list[str]) -> list[str]:
    """Arguments as the parser knows them: `tasks show sst2` is `tasks show --name=sst2`, and so are others."""
    match arguments:
        case ["prompts" | "tasks" | "backbones" as group, "show", what, *rest] if not what.startswith("-"):
            option = next(iter(inspect.signature(COMMANDS[group]["show"]).parameters))
            return [group, "show", f"--{option}={what}", *rest]
        case ["inspect", what, *rest] if not what.startswith("-"):
            return ["inspect", f"--prompt={what}", *rest]
        case ["report", what, *rest] if not what.startswith("-"):
            return ["report", f"--results={what}", *rest]
        case ["study", what, *rest] if not what.startswith("-"):
            return ["study", f"--grid={what}", *rest]
    return arguments


def _asked_for(arguments: list[str], commands: dict[str, Any] = COMMANDS) -> dict[str, Any]:
    """The commands for the parser: to read the options of all takes 0.2 s, so only those of one named are read."""
    match arguments:
        case [name, *rest] if name in commands and name != "_help":
            told: dict[str, Any] = {key: text if key == "_help" else _unread for key, text in commands.items()}
            asked = commands[name]
            return told | {name: _asked_for(rest, asked) if isinstance(asked, dict) else asked}
    return commands


def _unread() -> None:
    """Stands in for a command that is not asked for."""


def _fail(error: Exception, debug: bool, code: int, message: str = "") -> int:
    if debug:
        traceback.print_exception(error)
    else:
        print(f"softprompt: {' '.join((message or str(error)).split())}", file=sys.stderr)
    return code
