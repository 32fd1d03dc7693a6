"""What commands have in common that tell of a configuration file: its name in the arguments, and what it asks for."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping

from spanrelay import config
from spanrelay.config import PolicyPlace
from spanrelay.plugins.activation import Plan, make_plan
from spanrelay.plugins.loading import Shelf


def add_actions(parser: argparse.ArgumentParser, actions: Mapping[str, str], *, bare: Collection[str] = ()) -> None:
    """Tell a parser its actions, by name and summary, each of which takes a file but for those that are `bare`."""
    parser.set_defaults(unfinished=parser)
    parsers = parser.add_subparsers(dest="action", metavar="ACTION")
    for name, summary in actions.items():
        action = parsers.add_parser(name, help=summary, description=summary)
        action.set_defaults(unfinished=None, file="")
        if name not in bare:
            action.add_argument(
                "file",
                nargs="?",
                default="",
                metavar="FILE",
                help="as if SPANRELAY_CONFIG named it (default: the files a program started here would read)",
            )


def planned(options: argparse.Namespace) -> tuple[Plan, list[PolicyPlace]]:
    """Return what the file asks for, or the files that a program started here would read, and where those are."""
    places = config.policy_places(options.file or config.load()[0].config_file)
    return make_plan([place.file for place in places if not place.why_not], Shelf()), places
