#!/usr/bin/env bash
# google-adk 2.13.0, opentelemetry-sdk 1.44.0, Python 3.11
#
# One would guess: where a model answers with two tool calls, there are two spans with gen_ai.operation.name
# "execute_tool", each with the name of a tool and the id of a call; with one call there is one.
#
# What happens: with two or more calls there is one span more, `execute_tool (merged)`, of the same operation, beside the
# others: its gen_ai.tool.name is "(merged tools)", a tool that does not exist, and its gen_ai.tool.call.id the id of an
# event, which no model asked for. It is a help for ADK's own user interface, and part of the schema that is aligned with
# OpenTelemetry's conventions, the default, as well.
#
# Why it matters: counts of tool calls are too high for parallel calls only, a list of tools has one that nobody wrote, and
# joining calls and results by id leaves one over in each such turn.
#
# Output seen:
#   1 call: execute_tool weather (tool weather, id asked for: True)
#   2 calls: execute_tool weather (tool weather, id asked for: True)
#   2 calls: execute_tool weather (tool weather, id asked for: True)
#   2 calls: execute_tool (merged) (tool (merged tools), id asked for: False)
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check google-adk==2.13.0 opentelemetry-sdk==1.44.0

cat > "$folder/program.py" <<'PYTHON'
import asyncio

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmResponse
from google.adk.runners import InMemoryRunner
from google.genai import types
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

kept, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)


class Model(BaseLlm):
    calls: list[types.FunctionCall]

    async def generate_content_async(self, request, stream=False):
        called = any(part.function_response for content in request.contents for part in content.parts)
        parts = [types.Part(text="Sunny.")] if called else [types.Part(function_call=call) for call in self.calls]
        yield LlmResponse(content=types.Content(role="model", parts=parts))


def weather(city: str) -> dict:
    """Tells the weather."""
    return {"weather": "sun"}


async def run(*cities):
    kept.clear()
    calls = [types.FunctionCall(id=f"call_{city}", name="weather", args={"city": city}) for city in cities]
    agent = LlmAgent(name="agent", model=Model(model="m", calls=calls), tools=[weather])
    runner = InMemoryRunner(agent=agent, app_name="app")
    session = await runner.session_service.create_session(app_name="app", user_id="u")
    said = types.Content(role="user", parts=[types.Part(text="Weather?")])
    async for _ in runner.run_async(user_id="u", session_id=session.id, new_message=said):
        pass
    for span in kept.get_finished_spans():
        if span.attributes.get("gen_ai.operation.name") == "execute_tool":
            asked = span.attributes["gen_ai.tool.call.id"] in [call.id for call in calls]
            count = "1 call" if len(cities) == 1 else f"{len(cities)} calls"
            print(f"{count}: {span.name} (tool {span.attributes['gen_ai.tool.name']}, id asked for: {asked})")


asyncio.run(run("Ulm"))
asyncio.run(run("Ulm", "Bonn"))
PYTHON

"$folder/venv/bin/python" "$folder/program.py" 2>/dev/null | tee "$folder/out"
diff "$folder/out" - <<'EXPECTED'
1 call: execute_tool weather (tool weather, id asked for: True)
2 calls: execute_tool weather (tool weather, id asked for: True)
2 calls: execute_tool weather (tool weather, id asked for: True)
2 calls: execute_tool (merged) (tool (merged tools), id asked for: False)
EXPECTED
