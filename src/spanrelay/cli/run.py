"""Run a coding agent, or any program, under SpanRelay: recorded, and held by policy.

`spanrelay run claude -p "..."` takes the command as you type it. Nothing of yours is changed on disk.
"""

from __future__ import annotations

import argparse

from spanrelay.coding_agents import running
from spanrelay.coding_agents.folder import Belongs
from spanrelay.coding_agents.running import Options

EXAMPLES = (
    "spanrelay run claude                     # as you would type it, recorded",
    "spanrelay run --dry-run codex exec hello # what would be set, and nothing else",
    "spanrelay run --gateway node agent.js    # any program that asks a model",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `run` takes."""
    parser.add_argument("--dry-run", action="store_true", help="print what would be set and started, and start nothing")
    parser.add_argument(
        "--session", metavar="ID", help="the session that its trajectory belongs to; by default its own"
    )
    parser.add_argument("--user", metavar="ID", help="whose it is")
    parser.add_argument(
        "--metadata", metavar="NAME=VALUE", action="append", default=[], type=_pair, help="told of it; may be repeated"
    )
    parser.add_argument(
        "--gateway", action="store_true", help="stand between it and its models; policy for models does so by itself"
    )
    parser.add_argument("program", metavar="CMD", help="the program")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="and its arguments")


def run(options: argparse.Namespace) -> int:
    """Run the program; returns its exit status.

    Raises:
        SpanRelayError: nothing was started; the message says why.
    """
    command = [options.program, *options.arguments]
    wanted = Options(command, Belongs(options.session, options.user, dict(options.metadata)), options.gateway)
    if options.dry_run:
        for line in running.dry_run(wanted):
            print(line)
        return 0
    return running.run(wanted)


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, not {text!r}")
    return name, value
