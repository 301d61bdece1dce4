"""The command line: `softprompt COMMAND`. One function per command; heavy libraries load inside it."""

from softprompt.cli.app import main

__all__ = ["main"]
