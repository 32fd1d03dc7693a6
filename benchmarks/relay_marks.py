"""What NeMo Relay's cache governor makes of requests: run where its package is, and nothing of ours.

`python -m benchmarks.relay_marks FILE`: the file has a list of sessions, each a list of bodies of the Messages API.
Each session is one scope of an agent. What is sent in the place of each body is written there, null where that is it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

_LEARNS_S = 0.05
"""Seconds behind a session in which the package learns from it on a thread of its own."""


async def _sent(sessions: list[list[Any]]) -> list[list[Any]]:
    import nemo_relay
    from nemo_relay import adaptive, codecs, llm, plugin, scope

    state = adaptive.StateConfig(adaptive.BackendSpec.in_memory())
    learns, marks = adaptive.TelemetryConfig(learners=["acg"]), adaptive.AcgConfig(provider="anthropic")
    config = adaptive.AdaptiveConfig(agent_id="agent", state=state, telemetry=learns, acg=marks)
    active = await plugin.initialize(plugin.PluginConfig(components=[adaptive.ComponentSpec(config)]))
    codec, seen = codecs.AnthropicMessagesCodec(), list[Any]()

    async def answer(request: Any) -> Any:
        seen.append(request.content)
        said = {"content": [{"type": "text", "text": "ok"}], "stop_reason": "end_turn"}
        usage = {"input_tokens": 1, "output_tokens": 1}
        return {"id": "m", "type": "message", "role": "assistant", "model": "m", **said, "usage": usage}

    found: list[list[Any]] = []
    for bodies in sessions:
        seen.clear()
        with scope.scope("agent", nemo_relay.ScopeType.Agent):
            for body in bodies:
                request = nemo_relay.LLMRequest({}, body)
                model = body["model"]
                await llm.execute("anthropic", request, answer, model_name=model, codec=codec, response_codec=codec)
        found.append([None if sent == body else sent for sent, body in zip(seen, bodies, strict=True)])
        await asyncio.sleep(_LEARNS_S)
    del active  # which is in force while somebody has it
    return found


def main() -> None:
    """Read the file, run the sessions one after the other, and write the file anew."""
    file = Path(sys.argv[1])
    file.write_text(json.dumps(asyncio.run(_sent(json.loads(file.read_text())))))


if __name__ == "__main__":
    main()
