"""Which tools are executed, and which are offered to a model.

Where a request names or offers a tool, its codec says; nothing of a request is read here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from typing import Any

from spanrelay.codecs.offers import BY_APPLICATION, Offer, offers_of
from spanrelay.errors import GuardrailRejected
from spanrelay.pipeline.middleware import Mode, Place, execution_intercept, guardrail, request_intercept
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.policy.approval import Approvals
from spanrelay.plugins.policy.limits import OnRefusal
from spanrelay.plugins.policy.loops import Calls, Loops
from spanrelay.plugins.policy.names import Judge
from spanrelay.plugins.policy.rules import ArgumentRule, refusal_by
from spanrelay.plugins.policy.settings import Tools
from spanrelay.records import ToolCall


def use_tools(context: Context, judge: Judge, config: Tools, approvals: Approvals, calls: Calls) -> None:
    """Judge tools where they are executed, and where a request offers them."""
    Loops(partial(_named, judge), config, calls, approvals, config.mode, config.on_refusal).use(context)
    answers, patience = config.refused == "answer", approvals.patience
    executed = guardrail(name="tools", kinds=["tool"], answers=answers, mode=config.mode, timeout=patience)
    asks = approvals.around(lambda call: judge.refusal(call.request.name), "tools", config.on_refusal, config.mode)
    context.use(executed(asks))
    offers = Offers(judge, config, on_trial=(config.mode or context.mode) == "observe")
    asks = approvals.around(offers.refusal, "offered_tools", config.on_refusal, config.mode)
    if config.offered == "pass":
        # Only a provider's own tools can be refused here, which few requests offer: no guardrail's span for each.
        _use_for_provider(context, asks, config.mode, patience)
        return
    context.use(guardrail(name="offered_tools", kinds=["llm"], mode=config.mode, timeout=patience)(asks))
    if config.offered == "remove":
        removes = request_intercept(name="removed_tools", kinds=["llm"], mode=config.mode)
        context.use(removes(offers.remove).standing(Place.REFUSES))


def _named(judge: Judge, asked: ToolCall) -> str | None:
    return judge.refusal(asked.name) if asked.namespace is None else judge.refusal(asked.name, asked.namespace)


def _use_for_provider(context: Context, asks: Any, mode: Mode | None, patience: float) -> None:
    """Refuse what offers a tool that the provider runs, and let pass what the application will run."""

    def send(call: Any) -> Generator[Any, Any, None]:
        reason = asks(call)
        if inspect.isawaitable(reason):
            reason = yield reason
        if reason is not None:
            raise GuardrailRejected(reason, f"{context.name}.offered_tools")
        yield call

    offered = execution_intercept(name="offered_tools", kinds=["llm"], mode=mode, timeout=patience)
    context.use(offered(send).standing(Place.REFUSES))


def use_rules(context: Context, config: Tools, approvals: Approvals, calls: Calls) -> None:
    """Judge what tools are given; rules of one mode, and of one way to refuse, are one guardrail."""
    alike: dict[tuple[Mode | None, OnRefusal | None], list[ArgumentRule]] = {}
    for number, rule in enumerate(config.rules):
        key = (rule.mode or config.mode, rule.on_refusal or config.on_refusal)
        alike.setdefault(key, []).append(ArgumentRule(rule, number))
    for (mode, on_refusal), rules in alike.items():
        way = "".join(f"_{each}" for each in (mode, on_refusal) if each)
        name, refusal = f"rules{way}", refusal_by(rules)
        answers = config.refused == "answer"
        judges = guardrail(name=name, kinds=["tool"], answers=answers, mode=mode, timeout=approvals.patience)
        judge = partial(_judge_given, refusal)
        context.use(judges(approvals.around(judge, name, on_refusal, mode)))
        Loops(refusal, config, calls, approvals, mode, on_refusal, f"unseen_rules{way}").use(context)


def _judge_given(refusal: Callable[..., str | None], call: Any) -> str | None:
    request, name = call.request, getattr(call.boundary, "text_argument", None)
    if name is not None and isinstance(request.arguments, str):
        # A framework gives a text to the only argument that there is.
        return refusal(replace(request, arguments={name: request.arguments}))
    return refusal(request, call.given)


class Offers:
    """Judges the tools that a request names or offers."""

    def __init__(self, judge: Judge, config: Tools, *, on_trial: bool) -> None:
        self._judge = judge
        self._unnamed = config.unnamed == "refuse"
        self._all = config.offered != "pass"
        # On trial nothing has been removed before a request is judged.
        self._sifts = on_trial and config.offered == "remove"

    def refusal(self, call: Any) -> str | None:
        """Return why a request may not be sent with the tools that it offers, or None."""
        asked = call.outgoing()
        if self._sifts:
            asked = call.codec.sift_tools(asked, self._keeps)
        for offer in (*offers_of(call.codec, asked), *call.offered_beside):
            reason = self._refusal(offer)
            if reason is not None:
                return f"the request offers a tool to the model: {reason} ({offer.place})"
        return None

    def remove(self, call: Any) -> None:
        """Take refused tools out of the request."""
        asked = call.outgoing()
        if call.codec.sift_tools(asked, self._keeps) is not asked:
            # A copy: what is left goes to other intercepts, which may change it.
            copied = call.wire if asked is call.original else asked
            call.wire = dict(call.codec.sift_tools(copied, self._keeps))

    def _keeps(self, offer: Offer) -> bool:
        return self._refusal(offer) is None

    def _refusal(self, offer: Offer) -> str | None:
        if offer.kind in BY_APPLICATION and not self._all:
            return None
        reason = None
        if offer.names:
            reason = (self._judge.denial if offer.group else self._judge.refusal)(*offer.names)
        if reason is None and offer.unnamed and self._unnamed and (self._judge.denies or not offer.names):
            kind = "toolset" if offer.kind.startswith("agent_toolset_") else offer.kind
            reason = _UNNAMED.get(kind, _UNNAMED["mcp"]).format(*offer.names)
        return reason


_UNNAMED = {
    "mcp": (
        "the tools of MCP server {0!r} have names that the request does not list; "
        "list them in `allowed_tools`, or write tools.unnamed = 'pass'"
    ),
    "mcp_toolset": (
        "the tools of MCP server {0!r} have names that the request does not list; enable them one by one in `configs`, "
        "or write tools.unnamed = 'pass'"
    ),
    "toolset": (
        "the tools of {0!r} have names that the request does not list; disable the set and enable them one by one in "
        "`configs`, or write tools.unnamed = 'pass'"
    ),
    "cached_content": ("the request does not say which tools a cache offers; write tools.unnamed = 'pass' to allow it"),
    "prompt": ("the request does not say which tools a stored prompt offers; write tools.unnamed = 'pass' to allow it"),
}
