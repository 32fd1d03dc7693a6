"""The plugin `policy`: which tools and models may be used, and how much of them.

It judges what is sent, also after an intercept or a fallback has changed it, and counts every sending. What it
cannot judge it refuses.
"""

from __future__ import annotations

import copy
import fnmatch
import math
import re
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, Literal, cast

from spanrelay import _json
from spanrelay.errors import GuardrailRejected
from spanrelay.pipeline.middleware import execution_intercept, guardrail, request_intercept
from spanrelay.plugins.counts import Counts, Limits, Share
from spanrelay.plugins.plugin import Context, Diagnostic
from spanrelay.records import JSON, Kind, ModelRequest, ModelResponse, ToolDefinition, Usage

MODELS: frozenset[Kind] = frozenset({"llm", "embedder", "reranker"})
"""The kinds of call that name a model."""
INNERMOST = 1_000_000
"""The priority of what counts: within every other intercept, so that each of their sendings passes it."""
OUTSIDE_COUNTS = INNERMOST - 1
"""The priority of what refuses a sending, which then does not count."""
BYTES_PER_TOKEN = 4
"""What a token is taken for where the provider reports no usage."""
_OF_THE_APPLICATION = ("function", "custom")
"""Types of tools that the application runs, so that each execution is judged by itself."""


@dataclass(slots=True)
class Names:
    """Glob patterns of names, compared without regard to case. Without `allow`, all names are allowed."""

    allow: list[str] | None = None
    deny: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class Tools(Names):
    """As `Names`; what becomes of a request that offers a refused function to the model, and of its execution.

    `refused`: the execution raises, or answers with the reason, for the model to read.
    """

    offered: Literal["pass", "remove", "refuse"] = "pass"
    refused: Literal["raise", "answer"] = "raise"


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
    """The keys of `[plugins.policy]`. `parameters` and `prices` are by glob pattern of model; the first counts."""

    tools: Tools = field(default_factory=Tools)
    models: Names = field(default_factory=Names)
    session: Limits = field(default_factory=Limits)
    process: Limits = field(default_factory=Limits)
    parameters: dict[str, Parameters] = field(default_factory=dict[str, Parameters])
    prices: dict[str, Price] = field(default_factory=dict[str, Price])


class PolicyPlugin:
    """Entry point `spanrelay_plugin`: allow and deny lists, budgets and rates.

    Args:
        clock: Seconds that only grow.
    """

    name = "policy"
    config_model = PolicyConfig

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[str, Counts] = {}

    def validate(self, config: PolicyConfig) -> list[Diagnostic]:
        """Find limits that limit nothing sensible, patterns that match nothing, and costs without prices."""
        found = [*_bad_amounts(config.session, "session"), *_bad_amounts(config.process, "process")]
        for names, key in ((config.tools, "tools"), (config.models, "models")):
            for list_name in ("allow", "deny"):
                if "" in (getattr(names, list_name) or ()):
                    found.append(Diagnostic("has an empty pattern", "remove it, or write '*'", f"{key}.{list_name}"))
        for pattern, parameters in config.parameters.items():
            if not parameters.told():
                found.append(Diagnostic("sets nothing", "write one, such as temperature", f'parameters."{pattern}"'))
        for pattern, price in config.prices.items():
            found += _bad_amounts(price, f'prices."{pattern}"')
        limits_cost = config.session.max_cost_usd is not None or config.process.max_cost_usd is not None
        if limits_cost and not config.prices:
            remedy = 'write [plugins.policy.prices."<model>"] with input and output, unless the provider reports costs'
            found.append(Diagnostic("is empty while a cost is limited", remedy, "prices", "warning"))
        if not _says_anything(config):
            remedy = "write a list such as tools.deny or a limit such as session.max_calls, or remove the table"
            found.append(Diagnostic("allows everything, so nothing is in force", remedy, "", "warning"))
        return found

    def register(self, context: Context) -> None:
        """Put in force what the config says, and nothing for what it does not say."""
        config: PolicyConfig = context.config
        tools, models = _Judge("tool", config.tools), _Judge("model", config.models)
        if tools.judges:
            _use_tools(context, tools, config.tools)
        if models.judges:
            context.use(guardrail(name="models", kinds=MODELS)(models.model_refusal))
        if config.parameters:
            _use_parameters(context, config.parameters)
        if config.session.are_set() or config.process.are_set():
            # One count for each file, whatever its limits become when it is read again: a reload forgives nothing.
            counts = self._counts.setdefault(context.file, Counts(self._clock))
            _Meter(config, counts, f"{context.name}.limits").use(context)


def _says_anything(config: PolicyConfig) -> bool:
    lists = any(names.allow is not None or names.deny for names in (config.tools, config.models))
    return lists or bool(config.parameters) or config.session.are_set() or config.process.are_set()


def _bad_amounts(amounts: Any, key: str) -> list[Diagnostic]:
    return [
        Diagnostic("is not a number of at least 0", "write one, or remove the key", f"{key}.{each.name}")
        for each in fields(amounts)
        for amount in [getattr(amounts, each.name)]
        if amount is not None and not (math.isfinite(amount) and amount >= 0)
    ]


class _Judge:
    """The lists for one sort of name, compiled."""

    def __init__(self, what: str, names: Names) -> None:
        self._what = what
        self._allow = None if names.allow is None else _pattern(names.allow)
        self._deny = [(pattern, _pattern([pattern])) for pattern in names.deny]
        self.judges = names.allow is not None or bool(names.deny)
        self.refusal = lru_cache(maxsize=1024)(self._refusal)
        """Returns why what goes by any of the names given may not be used, or None."""

    def _refusal(self, *names: str) -> str | None:
        for name in names:
            for pattern, compiled in self._deny:
                if compiled.match(name.casefold()):
                    return f"{self._what} {name!r} is denied by {pattern!r}"
        if self._allow is not None and not any(self._allow.match(name.casefold()) for name in names):
            return f"{self._what} {names[0]!r} is not among those allowed"
        return None

    def model_refusal(self, call: Any) -> str | None:
        """Return why the model that `call` is about to be sent to may not be used, or None."""
        model = _model_of(call)
        if model is not None:
            return self.refusal(model)
        return None if self._allow is None else "the request names no model, and only some are allowed"


def _pattern(globs: list[str]) -> re.Pattern[str]:
    """Compile patterns into one, which matches nothing where there are none."""
    return re.compile("|".join(fnmatch.translate(glob.casefold()) for glob in globs) or r"(?!)")


def _model_of(call: Any) -> str | None:
    """The model that a call is about to be sent to."""
    model = call.outgoing().get("model")
    return model if isinstance(model, str) else call.request.model


def _use_parameters(context: Context, parameters: dict[str, Parameters]) -> None:
    known = [(_pattern([glob]), each.told()) for glob, each in parameters.items()]

    def set_parameters(call: Any) -> ModelRequest | None:
        model = (_model_of(call) or "").casefold()
        told = next((told for glob, told in known if glob.match(model)), None)
        # A copy: what one request holds, another intercept may change.
        return replace(call.request, parameters={**call.request.parameters, **copy.deepcopy(told)}) if told else None

    context.use(request_intercept(name="parameters", kinds=["llm"], priority=INNERMOST)(set_parameters))


def _use_tools(context: Context, judge: _Judge, config: Tools) -> None:
    answers = config.refused == "answer"
    context.use(guardrail(name="tools", kinds=["tool"], answers=answers)(lambda call: judge.refusal(call.request.name)))
    if config.offered == "pass":
        # Only a provider's own tools can be refused here, which few requests offer: no guardrail's span for each.
        _use_provider_tools(context, judge)
    else:
        _use_offers(context, judge, remove=config.offered == "remove")


def _use_provider_tools(context: Context, judge: _Judge) -> None:
    def send(call: Any) -> Generator[Any, Any, None]:
        reason = _refusal_of_offers(judge, (tool for tool in _tools_of(call) if tool.type not in _OF_THE_APPLICATION))
        if reason is not None:
            raise GuardrailRejected(reason, f"{context.name}.offered_tools")
        yield call

    context.use(execution_intercept(name="offered_tools", kinds=["llm"], priority=OUTSIDE_COUNTS)(send))


def _use_offers(context: Context, judge: _Judge, *, remove: bool) -> None:
    def remove_offers(call: Any) -> ModelRequest | None:
        kept = [tool for tool in call.request.tools if _offer_refusal(judge, tool) is None]
        refused = any(_offer_refusal(judge, tool) is not None for tool in _tools_of(call))
        return replace(call.request, tools=kept) if refused else None

    offers = guardrail(name="offered_tools", kinds=["llm"])
    context.use(offers(lambda call: _refusal_of_offers(judge, _tools_of(call))))
    if remove:
        context.use(request_intercept(name="removed_tools", kinds=["llm"], priority=INNERMOST)(remove_offers))


def _refusal_of_offers(judge: _Judge, tools: Iterable[ToolDefinition]) -> str | None:
    reasons = (reason for tool in tools if (reason := _offer_refusal(judge, tool)) is not None)
    reason = next(reasons, None)
    return None if reason is None else f"the request offers a tool to the model: {reason}"


def _offer_refusal(judge: _Judge, tool: ToolDefinition) -> str | None:
    """A tool that the provider runs goes by its type too, since its name may be the application's choice."""
    return judge.refusal(tool.name) if tool.type in _OF_THE_APPLICATION else judge.refusal(tool.name, tool.type)


def _tools_of(call: Any) -> list[ToolDefinition]:
    """The tools that a request offers; nothing else of it is read."""
    tools = call.outgoing().get("tools")
    return cast("list[ToolDefinition]", call.codec.decode_request({"tools": tools}).tools) if tools else []


class _Meter:
    """Counts what is sent, and refuses what is too much."""

    def __init__(self, config: PolicyConfig, counts: Counts, name: str) -> None:
        self._limits = (config.session, config.process)
        self._session = config.session if config.session.are_set() else None
        self._process: tuple[Share, ...] = (("", config.process, "this process"),) if config.process.are_set() else ()
        self._prices = [(_pattern([glob]), price) for glob, price in config.prices.items()]
        self._reads_usage = config.session.need_usage() or config.process.need_usage()
        self._counts = counts
        self._name = name

    def use(self, context: Context) -> None:
        """Register a guardrail, so that a refusal is seen as one, and within everything else what counts."""
        kinds: list[Kind] = [*MODELS] if any(_limits_models(each) for each in self._limits) else []
        if any(each.max_tool_calls is not None for each in self._limits):
            kinds.append("tool")
        context.use(guardrail(name="limits", kinds=kinds)(self._judge))
        context.use(execution_intercept(name="counts", kinds=kinds, priority=INNERMOST)(self._count))

    def _judge(self, call: Any) -> str | None:
        return self._counts.refusal(self._shares(call), tool=call.kind == "tool")

    def _count(self, call: Any) -> Generator[Any, Any, None]:
        shares, tool = self._shares(call), call.kind == "tool"
        reads = self._reads_usage and not tool
        estimate = _tokens(_json.dumps(call.outgoing())) if reads else 0
        reason = self._counts.admit(shares, tool=tool, tokens=estimate)
        if reason is not None:
            raise GuardrailRejected(reason, self._name)
        if not reads:
            yield call
            return
        try:
            response = yield call
        except Exception as error:
            if hasattr(error, "status_code"):  # the provider has answered, and does not charge for errors
                self._counts.correct(shares, -estimate, 0.0, "")
            raise
        self._correct(call, shares, response.record, estimate)

    def _correct(self, call: Any, shares: tuple[Share, ...], answer: ModelResponse, estimate: int) -> None:
        usage = answer.usage or Usage()
        if usage.input_tokens is None and usage.output_tokens is None:
            usage = replace(usage, input_tokens=estimate, output_tokens=_tokens(_said(answer)))
        tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
        model = _model_of(call) or ""
        self._counts.correct(shares, tokens - estimate, self._cost(model, usage), model)

    def _cost(self, model: str, usage: Usage) -> float | None:
        """What an answer has cost; None where neither the provider nor the configuration says."""
        if usage.cost_usd is not None:
            return usage.cost_usd
        folded = model.casefold()
        return next((price.of(usage) for glob, price in self._prices if glob.match(folded)), None)

    def _shares(self, call: Any) -> tuple[Share, ...]:
        """The session of a call is its conversation, else its trace."""
        if self._session is None:
            return self._process
        session = call.record.session_id or call.span.get_span_context().trace_id
        return ((session, self._session, "this session"), *self._process)


def _limits_models(limits: Limits) -> bool:
    return replace(limits, max_tool_calls=None).are_set()


def _said(answer: ModelResponse) -> bytes:
    """The text and the tool calls of an answer."""
    parts: list[Any] = [message.text for message in answer.messages]
    parts += [call.arguments for message in answer.messages for call in message.tool_calls]
    return _json.dumps(parts)


def _tokens(data: bytes) -> int:
    return -(-len(data) // BYTES_PER_TOKEN)
