"""`docs/reference/cli.md`: the commands, as their parser has them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from spanrelay.cli import COMMANDS, file_of, make_parser

HEAD = """\
# The command `spanrelay`

As `spanrelay COMMAND --help` has it. The exit status is 0, 1 where a fault was found, and 2 for wrong usage; `run` ends
with that of what it ran. `spanrelay completion` makes the completion of a shell.
"""


def row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def taken(action: argparse.Action) -> str:
    """An argument as it is typed."""
    value = action.metavar or ("" if action.choices is None else "{" + ",".join(map(str, action.choices)) + "}")
    value = str(value) if action.nargs != 0 else ""
    if not action.option_strings:
        return f"`{value or action.dest.upper()}`"
    return ", ".join(
        f"`{option} {value or action.dest.upper()}`" if action.nargs != 0 else f"`{option}`"
        for option in action.option_strings
    )


def meaning(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """What help says of an argument, and whether it must be there."""
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    return f"{text} (required)" if action.required and action.option_strings else text


def arguments(parser: argparse.ArgumentParser) -> str:
    given = [
        row(taken(action), meaning(action, parser))
        for action in parser._actions
        if action.help != argparse.SUPPRESS
        and not isinstance(action, argparse._SubParsersAction | argparse._HelpAction)
    ]
    return "".join(["| | |\n|---|---|\n", *given]) if given else ""


def parsers(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every parser beneath one that has no more beneath it, with what is typed to reach it."""
    beneath = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in beneath:
        for each, one in action.choices.items():
            yield from parsers(one, f"{name} {each}")
    if not beneath:
        yield name, parser


def cli() -> str:
    parts = [HEAD]
    for command in COMMANDS:
        file = file_of(command)
        parts += [f"## `{command}`\n", f"{(file.__doc__ or '').strip()}\n"]
        for name, parser in parsers(make_parser(command), "spanrelay"):
            if name != f"spanrelay {command}":
                parts += [f"`{name}`: {parser.description}\n"]
            parts += [arguments(parser)] if arguments(parser) else []
        parts += ["```text\n" + "\n".join(file.EXAMPLES) + "\n```\n"]
    return "\n".join(parts)
