#!/usr/bin/env bash
# anthropic's tool runner keeps the conversation at the server: its second request has neither the question nor the tools.
#
# Versions: anthropic 2.14.0 (Python 3.11).
# One would guess: client.beta.messages.tool_runner(...) is a loop around messages.create, and each turn sends the whole
# history and the tools again, as the loop in a program does.
# What happens: the first request has `"thread": {"type": "create"}`, and each later one
# `"thread": {"type": "continue", "previous_message_id": ...}` with the results of the tools alone: no question, no
# answer, no `tools`. A gateway that does not know the field gets a result for a call it has never seen.
# Why it matters: whoever reads one request (a log, a guardrail, a redaction of the prompt, a count of tokens, a cache by
# prompt) sees a fragment; a trajectory has to be put together by the id of the answer before.
# Output seen:
#   request 1: messages=['user'] tools=['ring'] thread={'type': 'create'}
#   request 2: messages=['user'] tools=None thread={'type': 'continue', 'previous_message_id': 'msg_1'}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet anthropic==2.14.0
cat >"$folder/ask.py" <<'PY'
import json

import anthropic
import httpx2

seen = []


def answer(request):
    seen.append(json.loads(request.content))
    content = [{"type": "tool_use", "id": "toolu_1", "name": "ring", "input": {}}]
    if len(seen) > 1:
        content = [{"type": "text", "text": "Done."}]
    body = {
        "id": f"msg_{len(seen)}",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5",
        "content": content,
        "stop_reason": "tool_use" if len(seen) == 1 else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    return httpx2.Response(200, json=body)


@anthropic.beta_tool
def ring() -> str:
    """Ring the bell."""
    return "rang"


client = anthropic.Anthropic(api_key="none", http_client=httpx2.Client(transport=httpx2.MockTransport(answer)))
client.beta.messages.tool_runner(
    model="claude-sonnet-5", max_tokens=9, messages=[{"role": "user", "content": "ring"}], tools=[ring]
).until_done()
for number, sent in enumerate(seen, 1):
    tools = sent.get("tools") and [tool["name"] for tool in sent["tools"]]
    roles = [message["role"] for message in sent["messages"]]
    print(f"request {number}: messages={roles} tools={tools} thread={sent.get('thread')}")
first, second = seen
assert first["thread"] == {"type": "create"}, first
assert second["thread"] == {"type": "continue", "previous_message_id": "msg_1"}, second
assert "tools" not in second and len(second["messages"]) == 1, second
PY
"$folder/venv/bin/python" "$folder/ask.py"
