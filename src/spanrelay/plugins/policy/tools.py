"""Which tools are executed, and which are offered to a model.

Every place of a request that offers a tool is read by `_tools_of`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import replace
from typing import Any, cast

from spanrelay.errors import GuardrailRejected
from spanrelay.pipeline.middleware import execution_intercept, guardrail, request_intercept
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.policy.loops import Calls, Loops
from spanrelay.plugins.policy.names import Judge
from spanrelay.plugins.policy.order import INNERMOST, OUTSIDE_COUNTS
from spanrelay.plugins.policy.settings import Tools
from spanrelay.records import ModelRequest, ToolDefinition

_OF_THE_APPLICATION = ("function", "custom")
"""Types of tools that the application runs, so that each execution is judged by itself."""


def use_tools(context: Context, judge: Judge, config: Tools, calls: Calls) -> None:
    """Judge tools where they are executed, and where a request offers them."""
    if config.unseen != "pass":
        Loops(judge, config, calls, context.name).use(context)
    answers = config.refused == "answer"
    context.use(guardrail(name="tools", kinds=["tool"], answers=answers)(lambda call: judge.refusal(call.request.name)))
    if config.offered == "pass":
        # Only a provider's own tools can be refused here, which few requests offer: no guardrail's span for each.
        _use_provider_tools(context, judge)
    else:
        _use_offers(context, judge, remove=config.offered == "remove")


def _use_provider_tools(context: Context, judge: Judge) -> None:
    def send(call: Any) -> Generator[Any, Any, None]:
        reason = _refusal_of_offers(judge, (tool for tool in _tools_of(call) if tool.type not in _OF_THE_APPLICATION))
        if reason is not None:
            raise GuardrailRejected(reason, f"{context.name}.offered_tools")
        yield call

    context.use(execution_intercept(name="offered_tools", kinds=["llm"], priority=OUTSIDE_COUNTS)(send))


def _use_offers(context: Context, judge: Judge, *, remove: bool) -> None:
    def remove_offers(call: Any) -> ModelRequest | None:
        kept = [tool for tool in call.request.tools if _offer_refusal(judge, tool) is None]
        refused = any(_offer_refusal(judge, tool) is not None for tool in _tools_of(call))
        return replace(call.request, tools=kept) if refused else None

    offers = guardrail(name="offered_tools", kinds=["llm"])
    context.use(offers(lambda call: _refusal_of_offers(judge, _tools_of(call))))
    if remove:
        context.use(request_intercept(name="removed_tools", kinds=["llm"], priority=INNERMOST)(remove_offers))


def _refusal_of_offers(judge: Judge, tools: Iterable[ToolDefinition]) -> str | None:
    reasons = (reason for tool in tools if (reason := _offer_refusal(judge, tool)) is not None)
    reason = next(reasons, None)
    return None if reason is None else f"the request offers a tool to the model: {reason}"


def _offer_refusal(judge: Judge, tool: ToolDefinition) -> str | None:
    """A tool that the provider runs goes by its type too, since its name may be the application's choice."""
    return judge.refusal(tool.name) if tool.type in _OF_THE_APPLICATION else judge.refusal(tool.name, tool.type)


def _tools_of(call: Any) -> list[ToolDefinition]:
    """The tools that a request offers; nothing else of it is read."""
    tools = call.outgoing().get("tools")
    return cast("list[ToolDefinition]", call.codec.decode_request({"tools": tools}).tools) if tools else []
