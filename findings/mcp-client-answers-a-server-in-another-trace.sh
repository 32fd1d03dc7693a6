#!/usr/bin/env bash
# What an MCP client does for a server's request is in another trace, though the request says which one it belongs to.
#
# Packages: mcp 2.3.0, opentelemetry-sdk 1.45.2.
# One would guess: a server that asks its client for a model (sampling/createMessage) within a call of a tool sends its
# trace along in `params._meta`, as every request of SDK 2 does, and the client, whose server side follows such a trace,
# runs its callback within it: the model call is beneath the tool.
# What happens: the trace is in the request, and the callback can read it there. The client does not follow it: the
# callback runs in the context in which the session was entered. Spans of its model call begin a trace of their own.
# Why it matters: tokens that a tool spends by way of sampling are in traces that nothing connects to the agent's run, and
# a session that was entered within another request puts them into that request's trace.
# Seen: {"same trace in the request": true, "same trace in the callback": false}
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check mcp==2.3.0 opentelemetry-sdk==1.45.2

cat > "$folder/server.py" <<'PYTHON'
import warnings

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import SamplingMessage, TextContent
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

warnings.simplefilter("ignore")
trace.set_tracer_provider(TracerProvider())
server = MCPServer("asks")


@server.tool()
async def ask(context: Context) -> str:
    said = SamplingMessage(role="user", content=TextContent(type="text", text="Sky?"))
    return (await context.session.create_message([said], max_tokens=5)).content.text


server.run("stdio")
PYTHON

cat > "$folder/client.py" <<'PYTHON'
import asyncio
import json
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import CreateMessageResult, TextContent
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

trace.set_tracer_provider(TracerProvider())
tracer = trace.get_tracer("app")
seen = {}


async def sampling(context, params):
    with tracer.start_as_current_span("model") as span:
        seen["callback"] = span.get_span_context().trace_id
    seen["request"] = int(context.meta["traceparent"].split("-")[1], 16)
    return CreateMessageResult(role="assistant", content=TextContent(type="text", text="Blue."), model="m")


async def main():
    server = StdioServerParameters(command=sys.executable, args=[sys.argv[1]])
    async with stdio_client(server) as (read, write), ClientSession(read, write, sampling_callback=sampling) as session:
        await session.initialize()
        with tracer.start_as_current_span("agent") as agent:
            result = await session.call_tool("ask", {})
        assert result.content[0].text == "Blue."
        own = agent.get_span_context().trace_id
        print(json.dumps({f"same trace in the {place}": seen[place] == own for place in ("request", "callback")}))


asyncio.run(main())
PYTHON

seen=$("$folder/venv/bin/python" "$folder/client.py" "$folder/server.py")
echo "$seen"
[ "$seen" = '{"same trace in the request": true, "same trace in the callback": false}' ]
