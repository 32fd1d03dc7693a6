"""Whole spans: every attribute of a run, its model calls and a tool that somebody had to permit, in both dialects.

Ids are counted, and nothing is left open.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from inspect import getattr_static, isasyncgenfunction, iscoroutinefunction, isfunction
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import PermissionResultAllow

from spanrelay.instrumentation.patching import Patch
from spanrelay.tracing import default_tracing
from spanrelay_claude_agent_sdk import ClaudeAgentSDKInstrumentor, __version__
from spanrelay_testkit.capture import Capture, at_work
from spanrelay_testkit.contract.snapshots import SnapshotContract, Told

from .provider import Provider
from .ways import QUESTION, SESSION, WAYS, WEATHER, skies, weather_model

README = Path(__file__).parents[1] / "README.md"
MODEL = "claude-opus-5-5"


async def permit(name: str, given: Any, context: Any) -> Any:
    """Lets everything pass."""
    return PermissionResultAllow()


VARYING = frozenset(
    {
        "gen_ai.response.time_to_first_chunk",
        "claude_agent_sdk.duration_api_ms",
        "claude_agent_sdk.total_cost_usd",
    }
)
PERMISSION = {
    "claude_agent_sdk.permission.tool": WEATHER,
    "claude_agent_sdk.permission.call_id": "toolu_weather",
    "claude_agent_sdk.permission.decision": "allow",
}
SPANS = (
    Told("invoke_agent claude", (1, 1, None), {"claude_agent_sdk.permission": PERMISSION}),
    Told(f"chat {MODEL}", (1, 2, 1), {}, "CLIENT"),
    Told(f"execute_tool {WEATHER}", (1, 3, 1), {}),
    Told(f"chat {MODEL}", (1, 4, 1), {}, "CLIENT"),
)


RUN = {
    "claude_agent_sdk.duration_api_ms": "varies",
    "claude_agent_sdk.num_turns": 2,
    "claude_agent_sdk.result": "success",
    "claude_agent_sdk.terminal_reason": "completed",
    "claude_agent_sdk.total_cost_usd": "varies",
    "claude_agent_sdk.usage.cache_read_tokens": 10,
    "claude_agent_sdk.usage.cache_write_tokens": 6,
    "claude_agent_sdk.usage.input_tokens": 24,
    "claude_agent_sdk.usage.output_tokens": 14,
    "gen_ai.request.model": MODEL,
    "input.mime_type": "text/plain",
    "input.value": QUESTION,
    "llm.model_name": MODEL,
    "output.mime_type": "text/plain",
    "output.value": "I was told: sunny in Rome",
}
MODEL_CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "anthropic",
    "gen_ai.request.model": MODEL,
    "gen_ai.response.time_to_first_chunk": "varies",
    "llm.model_name": MODEL,
    "llm.provider": "anthropic",
    "llm.system": "anthropic",
    "llm.token_count.completion": 7,
    "llm.token_count.prompt": 20,
    "llm.token_count.prompt_details.cache_read": 5,
    "llm.token_count.prompt_details.cache_write": 3,
    "openinference.span.kind": "LLM",
    "session.id": SESSION,
}
GENAI_CALL = {
    **MODEL_CALL,
    "gen_ai.conversation.id": SESSION,
    "gen_ai.request.stream": True,
    "gen_ai.response.model": MODEL,
    "gen_ai.system_instructions": '[{"type":"text","content":"Be brief."}]',
    "gen_ai.usage.cache_creation.input_tokens": 3,
    "gen_ai.usage.cache_read.input_tokens": 5,
    "gen_ai.usage.input_tokens": 20,
    "gen_ai.usage.output_tokens": 7,
}
OPENINFERENCE_CALL = {
    **MODEL_CALL,
    "llm.input_messages.0.message.content": "Be brief.",
    "llm.input_messages.0.message.role": "system",
    "llm.input_messages.1.message.content": QUESTION,
    "llm.input_messages.1.message.role": "user",
    "llm.invocation_parameters": f'{{"model":"{MODEL}","stream":true}}',
    "llm.output_messages.0.message.role": "assistant",
    "llm.request.model_name": MODEL,
    "llm.response.model_name": MODEL,
    "input.mime_type": "text/plain",
    "output.mime_type": "text/plain",
}
ASKED = '{"role":"user","parts":[{"type":"text","content":"How is the weather in Rome?"}]}'
SAID = (
    '{"role":"assistant","parts":[{"type":"text","content":"Let me see."},{"type":"tool_call","id":"toolu_weather",'
    '"name":"mcp__skies__get_weather","arguments":{"city":"Rome"}}],"finish_reason":"tool_call"}'
)
TOLD = '{"role":"tool","parts":[{"type":"tool_call_response","id":"toolu_weather","response":"sunny in Rome"}]}'
ANSWERED = '{"role":"assistant","parts":[{"type":"text","content":"I was told: sunny in Rome"}],"finish_reason":"stop"}'
TOOL_CALL = "message.tool_calls.0.tool_call"
ATTRIBUTES: dict[str, list[dict[str, Any]]] = {
    "genai": [
        {
            **RUN,
            "agent.name": "claude",
            "gen_ai.agent.name": "claude",
            "gen_ai.conversation.id": SESSION,
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.system_instructions": '[{"type":"text","content":"Be brief."}]',
            "openinference.span.kind": "AGENT",
            "session.id": SESSION,
        },
        {
            **GENAI_CALL,
            "gen_ai.input.messages": f"[{ASKED}]",
            "gen_ai.output.messages": f"[{SAID}]",
            "gen_ai.response.finish_reasons": ("tool_use",),
            "gen_ai.response.id": "msg_0001",
        },
        {
            "gen_ai.conversation.id": SESSION,
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.call.arguments": '{"city":"Rome"}',
            "gen_ai.tool.call.id": "toolu_weather",
            "gen_ai.tool.call.result": "sunny in Rome",
            "gen_ai.tool.name": WEATHER,
            "openinference.span.kind": "TOOL",
            "session.id": SESSION,
            "tool.id": "toolu_weather",
            "tool.name": WEATHER,
        },
        {
            **GENAI_CALL,
            "gen_ai.input.messages": f"[{ASKED},{SAID},{TOLD}]",
            "gen_ai.output.messages": f"[{ANSWERED}]",
            "gen_ai.response.finish_reasons": ("end_turn",),
            "gen_ai.response.id": "msg_0002",
        },
    ],
    "openinference": [
        {
            **RUN,
            "agent.name": "claude",
            "gen_ai.operation.name": "invoke_agent",
            "llm.input_messages.0.message.content": "Be brief.",
            "llm.input_messages.0.message.role": "system",
            "llm.request.model_name": MODEL,
            "openinference.span.kind": "AGENT",
            "session.id": SESSION,
        },
        {
            **OPENINFERENCE_CALL,
            "gen_ai.response.id": "msg_0001",
            "input.value": QUESTION,
            "llm.finish_reason": "tool_use",
            "llm.output_messages.0.message.content": "Let me see.",
            f"llm.output_messages.0.{TOOL_CALL}.function.arguments": '{"city":"Rome"}',
            f"llm.output_messages.0.{TOOL_CALL}.function.name": WEATHER,
            f"llm.output_messages.0.{TOOL_CALL}.id": "toolu_weather",
            "output.value": "Let me see.",
        },
        {
            "gen_ai.operation.name": "execute_tool",
            "input.mime_type": "application/json",
            "input.value": '{"city":"Rome"}',
            "openinference.span.kind": "TOOL",
            "output.mime_type": "text/plain",
            "output.value": "sunny in Rome",
            "session.id": SESSION,
            "tool.id": "toolu_weather",
            "tool.name": WEATHER,
        },
        {
            **OPENINFERENCE_CALL,
            "gen_ai.response.id": "msg_0002",
            "input.value": "sunny in Rome",
            "llm.finish_reason": "end_turn",
            "llm.input_messages.2.message.content": "Let me see.",
            "llm.input_messages.2.message.role": "assistant",
            f"llm.input_messages.2.{TOOL_CALL}.function.arguments": '{"city":"Rome"}',
            f"llm.input_messages.2.{TOOL_CALL}.function.name": WEATHER,
            f"llm.input_messages.2.{TOOL_CALL}.id": "toolu_weather",
            "llm.input_messages.3.message.content": "sunny in Rome",
            "llm.input_messages.3.message.role": "tool",
            "llm.input_messages.3.message.tool_call_id": "toolu_weather",
            "llm.output_messages.0.message.content": "I was told: sunny in Rome",
            "output.value": "I was told: sunny in Rome",
        },
    ],
}
CONTENT = (
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "input.",
    "llm.input_messages",
    "llm.output_messages",
    "output.",
)


class TestSnapshots(SnapshotContract):
    scope = ("spanrelay_claude_agent_sdk", __version__)
    ways = tuple(WAYS.values())
    spans = SPANS
    attributes = ATTRIBUTES
    content = CONTENT
    varying = VARYING
    readme = README
    always_told = SnapshotContract.always_told | {"claude_agent_sdk.usage.total_tokens"}

    def row_of(self, attribute: str) -> str:
        """A number stands for every number, and a message for its fields."""
        return re.sub(r"^(llm\.(?:in|out)put_messages)\..*", r"\1", attribute)

    def record(self, run: Any, capture: Capture, request: Any) -> None:
        """A run with one tool."""
        with at_work(capture, ClaudeAgentSDKInstrumentor), Provider(weather_model) as provider:
            mine = request.getfixturevalue("options")(
                provider,
                mcp_servers=skies(),
                model=MODEL,
                session_id=SESSION,
                system_prompt="Be brief.",
                permission_mode="default",
                can_use_tool=permit,
            )
            run(QUESTION, mine)


# --- what is patched ---

KINDS: dict[str, Callable[[Any], bool]] = {
    "InternalClient.process_query": isasyncgenfunction,
    "ClaudeSDKClient.connect": iscoroutinefunction,
    "ClaudeSDKClient.query": iscoroutinefunction,
    "ClaudeSDKClient.interrupt": iscoroutinefunction,
    "Query.__init__": isfunction,
    "Query.close": iscoroutinefunction,
    "Query._handle_sdk_mcp_request": iscoroutinefunction,
    "SubprocessCLITransport._build_command": isfunction,
    "OpenTelemetryMiddleware.__call__": iscoroutinefunction,
}
TABLE = ClaudeAgentSDKInstrumentor().patches(default_tracing())


@pytest.mark.parametrize("patch", TABLE, ids=lambda patch: patch.attribute)
def test_every_patch_point_is_there_and_of_its_kind(patch: Patch) -> None:
    assert patch.module in ClaudeAgentSDKInstrumentor.modules
    owner, _, name = patch.attribute.rpartition(".")
    assert KINDS[patch.attribute](getattr_static(getattr(import_module(patch.module), owner), name))


def test_every_kind_is_in_the_table() -> None:
    assert {patch.attribute for patch in TABLE} == KINDS.keys()


def test_the_readme_names_every_mark_that_there_is() -> None:
    from spanrelay_claude_agent_sdk import marks

    text = README.read_text()
    for name, value in vars(marks).items():
        if name.isupper():
            assert f"`{value}`" in text
