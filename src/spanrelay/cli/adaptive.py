"""Show what the plugin `prompt_cache` has learned of agents and decides by it, or forget it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from spanrelay._voice import say
from spanrelay.cli.configured import add_actions, planned
from spanrelay.cli.printing import print_table
from spanrelay.errors import ConfigurationError
from spanrelay.plugins.keeping import StoreError
from spanrelay.plugins.places import place_of
from spanrelay.plugins.prompt_cache.learned import Place, memory_of
from spanrelay.plugins.prompt_cache.memory import Memory, Odds, Scaffold
from spanrelay.plugins.prompt_cache.planning import Terms, best_ttl
from spanrelay.plugins.prompt_cache.plugin import PromptCacheConfig, terms_of
from spanrelay.plugins.prompt_cache.rules import rules_of
from spanrelay.view.facts import plural

ACTIONS = {
    "show": "show what is known of each model with its tools and system prompt, and where a mark would stand",
    "reset": "forget what is known",
}

EXAMPLES = ("spanrelay adaptive show", "spanrelay adaptive reset spanrelay.toml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `adaptive` takes."""
    add_actions(parser, ACTIONS)


def run(options: argparse.Namespace) -> int:
    """Do one of `ACTIONS`; returns 1 where nothing is kept, or it cannot be read."""
    plan, _ = planned(options)
    tables = [each.config for each in plan.components if isinstance(each.config, PromptCacheConfig)]
    kept = [table for table in tables if table.path is not None or table.url is not None]
    if not kept:
        told = "keeps what it learns in the memory of its process" if tables else "is in no file"
        say(f"[plugins.prompt_cache] {told}; give it a path or a url there, and a program that has run since")
        return 1
    try:
        for table in kept:
            place = place_of(table.path, table.url, "prompt_cache")
            assert place is not None
            (_reset if options.action == "reset" else _show)(place, terms_of(table))
    except (StoreError, ConfigurationError) as error:
        say(str(error))
        return 1
    return 0


def _reset(place: Place, _: Terms) -> None:
    place.forget()
    place.close()
    print("forgotten; programs that run now still know what they have counted")


def _show(place: Place, terms: Terms) -> None:
    memory = memory_of(place.read())
    place.close()
    scaffolds = sorted(memory.recalled.values(), key=lambda each: -each.reuse.asked)
    headings = ("scaffold", "model", "used", "again", "goes on", "within 1 h", "marks")
    print_table(headings, [list(_row(each, memory, terms)) for each in scaffolds], sys.stdout, elastic=())
    for (api, model), account in sorted(memory.accounts.items()):
        told = f"{plural(account.answers, 'answer')}, {account.sent:,.0f} tokens of input, {account.net:,.0f} saved"
        print(f"{api} {model}: {told}, {account.tokens_per_character:.2f} tokens a character")


def _row(scaffold: Scaffold, memory: Memory, terms: Terms) -> Iterator[str]:
    yield scaffold.name
    yield scaffold.model
    yield str(scaffold.reuse.asked)
    turns = Odds(*(sum(getattr(odds, name) for odds in (scaffold.first, scaffold.further)) for name in _COUNTS))
    for odds, again in ((scaffold.reuse, scaffold.reuse.soon), (turns, turns.soon), (turns, turns.later)):
        yield f"{100 * min(again / odds.asked, 1):.0f}%" if odds.asked else ""
    rules = rules_of(scaffold.api, scaffold.model)
    sorts: dict[str, Any] = {
        "system": ((memory.reuse, scaffold.reuse),) * 2,
        "first message": (memory.sorts(scaffold, 0), (memory.further, scaffold.further)),
        "later ones": ((memory.further, scaffold.further),) * 2,
    }
    found = {name: best_ttl(rules, terms, *each) for name, each in sorts.items()} if rules is not None else {}
    yield ", ".join(f"{name} {ttl}" for name, ttl in found.items() if ttl) or "none"


_COUNTS = ("asked", "soon", "later")
