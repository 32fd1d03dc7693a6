"""The `spanrelay` command: lists, shows, compares, adds up, checks and exports trajectories, and looks at plugins.

Each command has its own file with `add_arguments` and `run`; none knows another.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from spanrelay._voice import say
from spanrelay.cli import (
    agents,
    collect,
    completion,
    convert,
    diff,
    doctor,
    export,
    gateway,
    hook,
    install,
    listing,
    plugins,
    recover,
    run,
    setup,
    show,
    stats,
    uninstall,
    validate,
    view,
)
from spanrelay.errors import SpanRelayError

COMMANDS = {
    "run": run,
    "agents": agents,
    "install": install,
    "uninstall": uninstall,
    "list": listing,
    "show": show,
    "view": view,
    "recover": recover,
    "doctor": doctor,
    "setup": setup,
    "diff": diff,
    "stats": stats,
    "export": export,
    "validate": validate,
    "convert": convert,
    "plugins": plugins,
    "gateway": gateway,
    "collect": collect,
    "hook": hook,
    "completion": completion,
}


class _Formatter(argparse.HelpFormatter):
    """Fills paragraphs, and leaves what is indented as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n\n")
        filled = super()._fill_text
        return "\n\n".join(each if "\n  " in each else filled(each, width, indent) for each in paragraphs)


def _examples(lines: Sequence[str]) -> str:
    return "\n  ".join(("examples:", *lines))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    what = "Record AI agents, hold policy at their calls, and look at what they did."
    parser = argparse.ArgumentParser(prog="spanrelay", description=what)
    parser.add_argument("--version", action="version", version=f"spanrelay {version('spanrelay')}")
    parser.set_defaults(unfinished=parser, whole=parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        summary = (command.__doc__ or "").splitlines()[0]
        subparser = commands.add_parser(name, help=summary, description=summary, formatter_class=_Formatter)
        subparser.set_defaults(unfinished=None)
        command.add_arguments(subparser)
        subparser.epilog = "\n\n".join(filter(None, (subparser.epilog, _examples(command.EXAMPLES))))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 when it found a fault, 2 for wrong usage."""
    options = make_parser().parse_args(argv)
    _tolerate_locales()
    if options.unfinished is not None:  # no command, or one that lacks its action: what there is says more than usage
        options.unfinished.print_help(sys.stderr)
        return 2
    try:
        status = COMMANDS[options.command].run(options)
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
