#!/usr/bin/env bash
# nemo-relay 0.10.4, Python 3.11
#
# One would guess that what places cache breakpoints counts those that the caller has placed: Anthropic takes four, and
# answers 400 to a fifth. And that it knows a model by its family, or says that it does not.
#
# What happens: NeMo Relay's cache governor adds one from the fourth run on, also where the caller has four. It marks the
# last tool only, and never the system prompt behind it, which is five times as long here. For claude-sonnet-5 and
# claude-opus-5, whose names it does not know, it marks nothing at all, and logs nothing.
#
# Why it matters: a program that cached by hand fails after its third run, in production and not in its tests.
#
# Output seen:
#   claude-sonnet-4-5: [0, 0, 0, 1, 1, 1], in the last request 1 in tools, 0 in system, 0 in messages
#   claude-sonnet-4-5, four of the caller's: [4, 4, 4, 5, 5, 5], in the last request 1 in tools, 4 in system, 0 in messages
#   claude-sonnet-5: [0, 0, 0, 0, 0, 0], in the last request 0 in tools, 0 in system, 0 in messages
#   claude-opus-5: [0, 0, 0, 0, 0, 0], in the last request 0 in tools, 0 in system, 0 in messages
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check nemo-relay==0.10.4

cat > "$folder/program.py" <<'PYTHON'
import asyncio
import json

import nemo_relay
from nemo_relay import adaptive, codecs, llm, plugin, scope

TOOLS = [{"name": "tide", "description": "When the tide comes. " * 400, "input_schema": {"type": "object"}}]
LONG = [{"type": "text", "text": "You answer briefly. " * 2000}]
OWN = [
    {"type": "text", "text": f"{number} You answer briefly. " * 300, "cache_control": {"type": "ephemeral"}}
    for number in range(4)
]


def marks(value):
    return json.dumps(value).count("cache_control")


async def runs(told, model, system):
    sent = []

    async def answer(request):
        sent.append(request.content)
        said = {"content": [{"type": "text", "text": "ok"}], "stop_reason": "end_turn"}
        usage = {"input_tokens": 1, "output_tokens": 1}
        return {"id": "m", "type": "message", "role": "assistant", "model": model, **said, "usage": usage}

    codec = codecs.AnthropicMessagesCodec()
    for number in range(6):
        messages = [{"role": "user", "content": f"question {number}"}]
        body = {"model": model, "max_tokens": 9, "tools": TOOLS, "system": system, "messages": messages}
        with scope.scope("agent", nemo_relay.ScopeType.Agent):
            request = nemo_relay.LLMRequest({}, body)
            await llm.execute("anthropic", request, answer, model_name=model, codec=codec, response_codec=codec)
        await asyncio.sleep(0.2)  # it learns on a thread of its own
    places = ", ".join(f"{marks(sent[-1][place])} in {place}" for place in ("tools", "system", "messages"))
    print(f"{told}: {[marks(each) for each in sent]}, in the last request {places}")


async def main():
    state = adaptive.StateConfig(adaptive.BackendSpec.in_memory())
    learns, governs = adaptive.TelemetryConfig(learners=["acg"]), adaptive.AcgConfig(provider="anthropic")
    config = adaptive.AdaptiveConfig(agent_id="agent", state=state, telemetry=learns, acg=governs)
    active = await plugin.initialize(plugin.PluginConfig(components=[adaptive.ComponentSpec(config)]))
    await runs("claude-sonnet-4-5", "claude-sonnet-4-5", LONG)
    await runs("claude-sonnet-4-5, four of the caller's", "claude-sonnet-4-5", OWN)
    await runs("claude-sonnet-5", "claude-sonnet-5", LONG)
    await runs("claude-opus-5", "claude-opus-5", LONG)
    del active


asyncio.run(main())
PYTHON

"$folder/venv/bin/python" "$folder/program.py" | tee "$folder/out"
diff "$folder/out" - <<'EXPECTED'
claude-sonnet-4-5: [0, 0, 0, 1, 1, 1], in the last request 1 in tools, 0 in system, 0 in messages
claude-sonnet-4-5, four of the caller's: [4, 4, 4, 5, 5, 5], in the last request 1 in tools, 4 in system, 0 in messages
claude-sonnet-5: [0, 0, 0, 0, 0, 0], in the last request 0 in tools, 0 in system, 0 in messages
claude-opus-5: [0, 0, 0, 0, 0, 0], in the last request 0 in tools, 0 in system, 0 in messages
EXPECTED
