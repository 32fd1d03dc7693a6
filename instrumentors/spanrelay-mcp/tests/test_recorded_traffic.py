"""A recorded session with a public server goes through the real SDK once more: both sides see nothing of us."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest
from mcp import ClientSession
from tests.shared_data import SHARED, exchanges, needs_shared

from spanrelay_mcp import MCPInstrumentor
from spanrelay_testkit.capture import Capture, at_work

from .ways import FIRST, http_client

pytestmark = [needs_shared, pytest.mark.skipif(FIRST, reason="the session was recorded with a newer protocol")]
SESSION = [*exchanges("mcp_*.jsonl")]


def replayed() -> Any:
    """The server that answers with what was recorded."""
    assert SHARED is not None
    spec = importlib.util.spec_from_file_location("replay", SHARED / "traffic" / "replay.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ReplayServer([str(SHARED / "traffic")])


async def went_through() -> tuple[list[Any], list[Any]]:
    """Have the recorded session again; returns what the SDK gave and what it sent."""
    with replayed() as server:
        return await talked_with(server)


async def talked_with(server: Any) -> tuple[list[Any], list[Any]]:
    call = SESSION[-1]["request"]["body"]["params"]

    async def progress(*told: Any) -> None: ...

    url = f"{server.url_for_group(SESSION[0]['group'])}/mcp"
    async with http_client(url) as (read, write, *_), ClientSession(read, write) as session:
        given = [
            await session.initialize(),
            await session.list_tools(),
            await session.call_tool(call["name"], call["arguments"], progress_callback=progress),
        ]
    return [each.model_dump() for each in given], [entry["body"] for entry in server.log if entry.get("body")]


async def test_the_session_is_what_it_is_without_us_and_its_call_is_recorded(capture: Capture) -> None:
    bare = await went_through()
    with at_work(capture, MCPInstrumentor):
        ours = await went_through()
    assert ours[0] == bare[0]
    assert [body["method"] for body in ours[1]] == [body["method"] for body in bare[1]]
    [sent] = [body for body in ours[1] if body["method"] == "tools/call"]
    assert sent["params"]["_meta"].pop("traceparent")[36:52] == f"{capture.span.context.span_id:016x}"
    assert sent["params"] == SESSION[-1]["request"]["body"]["params"] | {"_meta": sent["params"]["_meta"]}
    truth = SESSION[-1]["truth"]
    attributes = dict(capture.span.attributes or {})
    assert attributes["gen_ai.tool.call.result"] == truth["text"]
    [asked] = truth["tool_calls"]
    assert attributes["gen_ai.tool.name"] == asked["name"]
    assert json.loads(attributes["gen_ai.tool.call.arguments"]) == asked["arguments"]
    assert attributes["mcp.protocol.version"] == SESSION[0]["truth"]["mcp_protocol_version"]
