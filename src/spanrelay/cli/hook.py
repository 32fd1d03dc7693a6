"""Answer a hook of a coding agent: its JSON comes on stdin, and what the agent is to do goes to stdout.

A run that is under way answers; where there is none, the policy files of this place are asked alone.
"""

from __future__ import annotations

import argparse
import sys

from spanrelay._voice import say
from spanrelay.coding_agents import hook_client
from spanrelay.coding_agents.agents import AGENTS
from spanrelay.coding_agents.hooks import Unjudged, answer_alone

EXAMPLES = (
    "spanrelay hook claude < event.json",
    "spanrelay hook codex --alone < event.json   # by the policy files alone",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `hook` takes."""
    parser.add_argument("--alone", action="store_true", help="ask the policy files, and no run that is under way")
    parser.add_argument("agent", choices=sorted(AGENTS), help="whose hook it is")


def run(options: argparse.Namespace) -> int:
    """Print the answer to one hook."""
    if not options.alone:
        sys.argv = [sys.argv[0], options.agent]
        return hook_client.main()
    try:
        sys.stdout.buffer.write(answer_alone(AGENTS[options.agent], sys.stdin.buffer.read()))
    except Unjudged as refused:
        say(str(refused))
        return hook_client.REFUSED
    return 0
