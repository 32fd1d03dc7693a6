#!/usr/bin/env bash
# mcp 2.3.0, Python 3.11
#
# One would guess: a handler of the low-level server that may return a plain dict (the SDK's HandlerResult is an object,
# a dict or None) is as good in each protocol version that the server speaks; what a version adds the SDK fills in.
#
# What happens: protocol 2026-07-28, which two parts of this SDK speak with each other by default, requires `resultType`.
# In its own objects the SDK has it by default, and a dict that answers a method of the program's own gets it stamped; a
# dict that answers tools/call is validated *before* that and refused: "Handler returned an invalid result". The same
# server answers the same dict to a client of 2025-11-25.
#
# Why it matters: servers, middleware and caches that hand out dicts pass all tests with one client and fail each call of
# another; the error says nothing of the field, only the server's log does.
#
# Output seen:
#   2025-11-25, object: hi
#   2026-07-28, object: hi
#   2025-11-25, dict: hi
#   2026-07-28, dict: Handler returned an invalid result
#   2026-07-28, dict with resultType: hi
#   2026-07-28, dict from a method of one's own: complete
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check mcp==2.3.0

cat > "$folder/program.py" <<'PYTHON'
import asyncio

import mcp_types as types
from mcp.client import Client
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

CONTENT = [{"type": "text", "text": "hi"}]
ANSWERS = {
    "object": types.CallToolResult(content=[types.TextContent(type="text", text="hi")]),
    "dict": {"content": CONTENT},
    "dict with resultType": {"content": CONTENT, "resultType": "complete"},
}


class Own(types.Result):
    result_type: str = "missing"


async def tools(context, params):
    return types.ListToolsResult(tools=[types.Tool(name="greet", input_schema={"type": "object"})])


async def call(mode, kind):
    async def greet(context, params):
        return ANSWERS[kind]

    async with Client(Server("s", on_list_tools=tools, on_call_tool=greet), mode=mode) as client:
        try:
            said = (await client.call_tool("greet", {})).content[0].text
        except MCPError as error:
            said = error.message
        print(f"{client.protocol_version}, {kind}: {said}")


async def call_own():
    async def own(context, params):
        return {}

    server = Server("s")
    server.add_request_handler("acme/own", types.RequestParams, own)
    async with Client(server) as client:
        asked = types.Request[types.RequestParams, str](method="acme/own", params=types.RequestParams())
        said = await client.session.send_request(asked, Own)
        print(f"{client.protocol_version}, dict from a method of one's own: {said.result_type}")


for mode, kind in (("legacy", "object"), ("auto", "object"), ("legacy", "dict"), ("auto", "dict"),
                   ("auto", "dict with resultType")):
    asyncio.run(call(mode, kind))
asyncio.run(call_own())
PYTHON

"$folder/venv/bin/python" "$folder/program.py" 2>/dev/null | tee "$folder/out"
diff "$folder/out" - <<'EXPECTED'
2025-11-25, object: hi
2026-07-28, object: hi
2025-11-25, dict: hi
2026-07-28, dict: Handler returned an invalid result
2026-07-28, dict with resultType: hi
2026-07-28, dict from a method of one's own: complete
EXPECTED
