#!/usr/bin/env bash
# logfire 5.4.0, Python 3.11
#
# One would guess: scrubbing is about what Logfire sends to its own service, or about passwords and keys; the attribute
# `session.id` of OpenTelemetry's conventions, and a tool's result, reach an exporter that the program adds as they are.
#
# What happens: "session" is one of the words that are scrubbed by default, in names and in values, in the spans of every
# library (logfire.configure sets the global provider) and for every exporter. `session.id` of each session becomes one
# and the same text, as does any value that has the word in it: an agent named session-planner, a tool's result. The
# same sentence within gen_ai.output.messages, and the same id as gen_ai.conversation.id, are on a list of names that stay.
#
# Why it matters: whoever groups by session.id, or by another id such as "session-17", gets one session of all; results of
# tools are gone from one attribute of a span and readable in another of the next.
#
# Output seen:
#   session.id: [Scrubbed due to 'session'], [Scrubbed due to 'session']
#   group_id: [Scrubbed due to 'session'], [Scrubbed due to 'session']
#   gen_ai.conversation.id: session-1, session-2
#   gen_ai.agent.name: [Scrubbed due to 'session'], [Scrubbed due to 'session']
#   gen_ai.tool.call.result: [Scrubbed due to 'Session'], [Scrubbed due to 'Session']
#   gen_ai.output.messages: Session 1 is over., Session 2 is over.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check logfire==5.4.0

cat > "$folder/program.py" <<'PYTHON'
import logfire
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

kept = InMemorySpanExporter()
logfire.configure(send_to_logfire=False, console=False, additional_span_processors=[SimpleSpanProcessor(kept)])
for number in (1, 2):
    with trace.get_tracer("any library").start_as_current_span("execute_tool clock") as span:
        span.set_attributes(
            {
                "session.id": str(number),
                "group_id": f"session-{number}",
                "gen_ai.conversation.id": f"session-{number}",
                "gen_ai.agent.name": "session-planner",
                "gen_ai.tool.call.result": f"Session {number} is over.",
                "gen_ai.output.messages": f"Session {number} is over.",
            }
        )
spans = kept.get_finished_spans()
for name in list(spans[0].attributes):
    if not name.startswith("logfire."):
        print(f"{name}: {', '.join(span.attributes[name] for span in spans)}")
PYTHON

"$folder/venv/bin/python" "$folder/program.py" 2>/dev/null | tee "$folder/out"
diff "$folder/out" - <<'EXPECTED'
session.id: [Scrubbed due to 'session'], [Scrubbed due to 'session']
group_id: [Scrubbed due to 'session'], [Scrubbed due to 'session']
gen_ai.conversation.id: session-1, session-2
gen_ai.agent.name: [Scrubbed due to 'session'], [Scrubbed due to 'session']
gen_ai.tool.call.result: [Scrubbed due to 'Session'], [Scrubbed due to 'Session']
gen_ai.output.messages: Session 1 is over., Session 2 is over.
EXPECTED
