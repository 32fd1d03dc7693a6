"""The `spanrelay` command: lists, shows, compares, adds up, checks and exports trajectories, and looks at plugins.

Each command has its own file with `add_arguments` and `run`; none knows another.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from typing import Any

from spanrelay._voice import say
from spanrelay.errors import SpanRelayError

COMMANDS = (
    "run",
    "agents",
    "install",
    "uninstall",
    "list",
    "show",
    "view",
    "watch",
    "recover",
    "doctor",
    "setup",
    "diff",
    "stats",
    "export",
    "validate",
    "convert",
    "plugins",
    "adaptive",
    "gateway",
    "collect",
    "hook",
    "completion",
)
"""In the order in which help has them. Each is imported when it is asked for: together they take half a second."""


def file_of(command: str) -> Any:
    """Return the module of a command."""
    return import_module(f"spanrelay.cli.{'listing' if command == 'list' else command}")


class _Formatter(argparse.HelpFormatter):
    """Fills paragraphs, and leaves what is indented as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n\n")
        filled = super()._fill_text
        return "\n\n".join(each if "\n  " in each else filled(each, width, indent) for each in paragraphs)


class _Parser(argparse.ArgumentParser):
    """Says of a word that it does not know which one it may have been meant for."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # Not public, and all that is asked about a word with the words that it can be. The list of all commands is
        # long: where one is near, that one is said alone.
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            near = _nearest(str(value), map(str, action.choices or ()))
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}{near}") if near else error from None

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride] - it is overloaded there
        self, args: Any = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As its own, but each command says itself what it does not know: it alone knows its options."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            names = [name for action in self._actions for name in action.option_strings]
            words = (f"{word}{_nearest(word.partition('=')[0], names)}" for word in unknown)
            self.error(f"unrecognized arguments: {' '.join(words)}")
        return found, unknown


def _nearest(word: str, known: Iterable[str]) -> str:
    near = get_close_matches(word, known, 1, cutoff=0.7)
    return f"; did you mean {near[0]!r}?" if near else ""


def _examples(lines: Sequence[str]) -> str:
    return "\n  ".join(("examples:", *lines))


def make_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of all commands, or of one, where that is known to be asked for."""
    what = "Record AI agents, hold policy at their calls, and look at what they did."
    parser = _Parser(prog="spanrelay", description=what)
    parser.add_argument("--version", action="version", version=f"spanrelay {version('spanrelay')}")
    parser.set_defaults(unfinished=parser, whole=parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name in COMMANDS if only is None else (only,):
        command = file_of(name)
        summary = (command.__doc__ or "").splitlines()[0]
        subparser = commands.add_parser(name, help=summary, description=summary, formatter_class=_Formatter)
        subparser.set_defaults(unfinished=None)
        command.add_arguments(subparser)
        subparser.epilog = "\n\n".join(filter(None, (subparser.epilog, _examples(command.EXAMPLES))))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 when it found a fault, 2 for wrong usage."""
    argv = sys.argv[1:] if argv is None else argv
    named = argv[0] if argv and argv[0] in COMMANDS else None
    options = make_parser(None if named == "completion" else named).parse_args(argv)
    _tolerate_locales()
    if options.unfinished is not None:  # no command, or one that lacks its action: what there is says more than usage
        options.unfinished.print_help(sys.stderr)
        return 2
    try:
        status = file_of(options.command).run(options)
        sys.stdout.flush()
        return status
    except SpanRelayError as error:
        say(str(error))
        return 1
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; without this the interpreter complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _tolerate_locales() -> None:
    """Let characters that the terminal's encoding has not be replaced: what was recorded is in any language."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
