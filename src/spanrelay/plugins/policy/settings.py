"""What `[plugins.policy]` may say, and what is wrong with what it says.

Nothing here judges a call.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from spanrelay.pipeline.middleware import Mode
from spanrelay.plugins.plugin import Diagnostic, Secret
from spanrelay.plugins.policy.limits import AMOUNTS, Limits, OnRefusal
from spanrelay.plugins.policy.storage import Storage, doubts_about_storage
from spanrelay.records import JSON, Usage


@dataclass(slots=True)
class Approval:
    """Who is asked: `url` is sent a POST with a JSON description, else a terminal is used where there is one.

    `timeout` is in seconds. A function that the program registers is asked before either.
    """

    url: str | None = None
    headers: dict[str, Secret] = field(default_factory=dict[str, Secret])
    terminal: bool = True
    timeout: float = 60.0


@dataclass(slots=True)
class Names:
    """Glob patterns of names, compared as people mean them. Without `allow`, all names are allowed.

    `mode`: `observe` puts them on trial, whatever the plugin is. `on_refusal`: `ask` lets an approver decide.
    """

    allow: list[str] | None = None
    deny: list[str] = field(default_factory=list[str])
    mode: Mode | None = None
    on_refusal: OnRefusal | None = None


ORDERED = ("lt", "le", "gt", "ge")
"""Comparisons of what has an order: numbers with numbers, texts with texts."""


@dataclass(slots=True)
class Rule:
    """What keeps a tool from being executed: every comparison of one argument holds; without any, its name does.

    `tool` is a glob pattern, `argument` a JSON pointer into what the tool is given. `matches` is a pattern of RE2 that
    is found in a text, or in the JSON of anything else. `missing` says what becomes of a call without the argument.
    """

    tool: str
    argument: str = ""
    eq: Any = None
    ne: Any = None
    lt: Any = None
    le: Any = None
    gt: Any = None
    ge: Any = None
    in_: list[Any] | None = None
    matches: str | None = None
    missing: Literal["refuse", "pass"] = "refuse"
    mode: Mode | None = None
    on_refusal: OnRefusal | None = None

    def comparisons(self) -> dict[str, Any]:
        """Return what the argument is compared with, by comparison."""
        named = {"eq": self.eq, "ne": self.ne, "in": self.in_, "matches": self.matches}
        named |= {name: getattr(self, name) for name in ORDERED}
        return {name: wanted for name, wanted in named.items() if wanted is not None}


@dataclass(slots=True)
class Tools(Names):
    """As `Names`; what becomes of a request that offers a refused function to the model, and of its execution.

    `refused`: the execution raises, or answers with the reason, for the model to read. `unseen`: what becomes of a
    request with the result of a refused tool whose execution SpanRelay did not see. `unnamed`: what becomes of an offer
    of tools by names that the request does not say (MCP servers without `allowed_tools`, stored prompts).
    """

    offered: Literal["pass", "remove", "refuse"] = "pass"
    refused: Literal["raise", "answer"] = "raise"
    unseen: Literal["refuse", "warn", "pass"] = "refuse"
    unnamed: Literal["refuse", "pass"] = "refuse"
    rules: list[Rule] = field(default_factory=list[Rule])


@dataclass(slots=True)
class Price:
    """What a model costs, in US dollars for a million tokens; `cached_input` is `input` unless said."""

    input: float
    output: float
    cached_input: float | None = None

    def of(self, usage: Usage) -> float:
        """Return the US dollars that `usage` costs."""
        cached = usage.cache_read_tokens or 0
        fresh = max((usage.input_tokens or 0) - cached, 0)
        rate = self.input if self.cached_input is None else self.cached_input
        return (fresh * self.input + cached * rate + (usage.output_tokens or 0) * self.output) / 1e6


@dataclass(slots=True)
class Parameters:
    """What a request has whatever the application asks for; None leaves it to the application."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop_sequences: list[str] | None = None
    reasoning_effort: str | None = None
    service_tier: str | None = None

    def told(self) -> dict[str, JSON]:
        """Return those that are not left to the application."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name)) is not None}


@dataclass(slots=True)
class PolicyConfig:
    """The keys of `[plugins.policy]`. `parameters` and `prices` are by glob pattern of model; the first counts.

    `on_unguarded`: an SDK that no instrumentor guards is warned of once, or ends the program when it is imported.
    """

    tools: Tools = field(default_factory=Tools)
    models: Names = field(default_factory=Names)
    session: Limits = field(default_factory=Limits)
    user: Limits = field(default_factory=Limits)
    process: Limits = field(default_factory=Limits)
    counts: Storage = field(default_factory=Storage)
    parameters: dict[str, Parameters] = field(default_factory=dict[str, Parameters])
    prices: dict[str, Price] = field(default_factory=dict[str, Price])
    on_unguarded: Literal["warn", "stop"] = "warn"
    on_refusal: OnRefusal | None = None
    approval: Approval | None = None

    def limits(self) -> tuple[Limits, ...]:
        """Return the limits of a session, of a user, and of the process."""
        return self.session, self.user, self.process


def doubts_about(config: PolicyConfig) -> list[Diagnostic]:
    """Find limits that limit nothing sensible, and costs without prices."""
    found = [*doubts_about_storage(config.counts)]
    for limits, key in zip(config.limits(), ("session", "user", "process"), strict=True):
        found += _bad_amounts(limits, AMOUNTS, key)
    found += _bad_approval(config.approval) if config.approval is not None else []
    for pattern, parameters in config.parameters.items():
        if not parameters.told():
            found.append(Diagnostic("sets nothing", "write one, such as temperature", f'parameters."{pattern}"'))
        for name, value in parameters.told().items():
            if isinstance(value, float) and not math.isfinite(value):
                key = f'parameters."{pattern}".{name}'
                found.append(Diagnostic("is a number that JSON has no form for", "write another", key))
    for pattern, price in config.prices.items():
        found += _bad_amounts(price, [each.name for each in fields(price)], f'prices."{pattern}"')
    if config.counts.shared and not any(limits.are_set() for limits in config.limits()):
        remedy = "write a limit such as session.max_calls, or remove the table"
        found.append(Diagnostic("keeps counts, but nothing is limited", remedy, "counts", "warning"))
    if any(limits.max_cost_usd is not None for limits in config.limits()) and not config.prices:
        remedy = 'write [plugins.policy.prices."<model>"] with input and output, unless the provider reports costs'
        found.append(Diagnostic("is empty while a cost is limited", remedy, "prices", "warning"))
    if not _says_anything(config):
        remedy = "write a list such as tools.deny or a limit such as session.max_calls, or remove the table"
        found.append(Diagnostic("allows everything, so it has no effect", remedy, "", "warning"))
    return found


def _bad_approval(approval: Approval) -> list[Diagnostic]:
    found: list[Diagnostic] = []
    if approval.url is not None and not approval.url.startswith(("http://", "https://")):
        found.append(
            Diagnostic("is not a URL that can be called", "write one with http:// or https://", "approval.url")
        )
    if not (math.isfinite(approval.timeout) and approval.timeout > 0):
        found.append(Diagnostic("is not a valid time to wait", "write a number of seconds above 0", "approval.timeout"))
    return found


def _says_anything(config: PolicyConfig) -> bool:
    lists = any(names.allow is not None or names.deny for names in (config.tools, config.models))
    others = bool(config.tools.rules) or bool(config.parameters) or config.on_unguarded == "stop"
    return lists or others or any(limits.are_set() for limits in config.limits())


def _bad_amounts(amounts: Any, names: Iterable[str], key: str) -> list[Diagnostic]:
    return [
        Diagnostic("is not a number of at least 0", "write one, or remove the key", f"{key}.{name}")
        for name in names
        for amount in [getattr(amounts, name)]
        if amount is not None and not (math.isfinite(amount) and amount >= 0)
    ]
