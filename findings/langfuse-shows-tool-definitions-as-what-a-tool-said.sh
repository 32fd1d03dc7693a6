#!/usr/bin/env bash
# langfuse 5.0.4, langchain-core 1.8.3, Python 3.11
#
# One would guess: the input of a recorded model call is the messages that were sent; the definitions of the tools stand
# by themselves, among the parameters or in a field of their own.
#
# What happens: the LangChain handler puts each definition behind the messages as a message of role "tool", so without a
# tool_call_id and with an object as content. The last thing in the input is what a tool can do, not what anybody said;
# behind a real result of that tool it looks like a second one. Nothing else on the span has the definitions.
#
# Why it matters: data sets, evaluations and replays made from such inputs hold results that no tool gave, services refuse
# them (a message of a tool has to name its call), and "the last message" or "the last result" is always a definition.
#
# Output seen:
#   user: "Weather?"
#   assistant: "", calls ['call_1']
#   tool: "Sunny." for call_1
#   tool: {"type": "function", "function": {"name": "weather", "parameters": {}}}
#   definitions elsewhere: []
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check langfuse==5.0.4 langchain-core==1.8.3

cat > "$folder/program.py" <<'PYTHON'
import json

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langfuse import Langfuse
from langfuse.langchain import CallbackHandler
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

kept = InMemorySpanExporter()
langfuse = Langfuse(public_key="none", secret_key="none", span_exporter=kept)
CALL = {"name": "weather", "args": {}, "id": "call_1"}
messages = [HumanMessage("Weather?"), AIMessage("", tool_calls=[CALL]), ToolMessage("Sunny.", tool_call_id="call_1")]
tool = {"type": "function", "function": {"name": "weather", "parameters": {}}}
model = GenericFakeChatModel(messages=iter([AIMessage("It is sunny.")])).bind(tools=[tool])
model.invoke(messages, config={"callbacks": [CallbackHandler()]})
langfuse.flush()
[span] = kept.get_finished_spans()
for message in json.loads(span.attributes["langfuse.observation.input"]):
    calls = f", calls {[call['id'] for call in message['tool_calls']]}" if "tool_calls" in message else ""
    answered = f" for {message['tool_call_id']}" if "tool_call_id" in message else ""
    print(f"{message['role']}: {json.dumps(message['content'])}{calls}{answered}")
elsewhere = [key for key, value in span.attributes.items() if '"parameters"' in str(value) and not key.endswith(".input")]
print("definitions elsewhere:", elsewhere)
PYTHON

"$folder/venv/bin/python" "$folder/program.py" 2>/dev/null | tee "$folder/out"
diff "$folder/out" - <<'EXPECTED'
user: "Weather?"
assistant: "", calls ['call_1']
tool: "Sunny." for call_1
tool: {"type": "function", "function": {"name": "weather", "parameters": {}}}
definitions elsewhere: []
EXPECTED
