#!/usr/bin/env bash
# langsmith 0.15.1, opentelemetry-sdk 1.45.2, Python 3.11
#
# One would guess: in LangSmith's export to OpenTelemetry gen_ai.operation.name "chat" and "embeddings" are calls of a
# model, gen_ai.system is the provider that the run names (ls_provider), and token details are JSON, as everything
# nested in this export is.
#
# What happens: the filling of a prompt template is a `chat` too, a search in a store `embeddings`, and neither has a model.
# The system is guessed from the model's name: a run of Groq with openai/gpt-oss-20b says "openai", and anything without
# a known name, the tool and the prompt included, "langchain". Details of usage are str() of a dict, with single quotes.
#
# Why it matters: of an agent's run every template counts as a model call, cost and errors go to the wrong provider, and
# cached or reasoning tokens cannot be read by what reads the rest.
#
# Output seen:
#   prompt: chat, langchain, model None
#   retriever: embeddings, langchain, model None
#   llm: chat, openai, model openai/gpt-oss-20b
#   provider that the run names: groq
#   details of input tokens: {'cache_read': 3}
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check langsmith==0.15.1 \
    opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2

cat > "$folder/program.py" <<'PYTHON'
import os

os.environ |= {
    "LANGSMITH_TRACING": "true",
    "LANGSMITH_OTEL_ENABLED": "true",
    "LANGSMITH_OTEL_ONLY": "true",  # nothing leaves the process
    "LANGSMITH_API_KEY": "none",
}
from langsmith import Client, traceable
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

kept, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)
client = Client()
USAGE = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7, "input_token_details": {"cache_read": 3}}


def recorded(run_type, answer, **metadata):
    traceable(lambda: answer, run_type=run_type, name=run_type, client=client, metadata=metadata)()
    client.flush()
    told = kept.get_finished_spans()[-1].attributes
    model = told.get("gen_ai.request.model")
    print(f"{run_type}: {told['gen_ai.operation.name']}, {told['gen_ai.system']}, model {model}")
    return told


recorded("prompt", "Weather in Ulm?")
recorded("retriever", [{"page_content": "Sunny.", "type": "Document"}])
answer = {"role": "assistant", "content": "Sunny.", "usage_metadata": USAGE}
told = recorded("llm", answer, ls_provider="groq", ls_model_name="openai/gpt-oss-20b")
print("provider that the run names:", told["langsmith.metadata.ls_provider"])
print("details of input tokens:", told["gen_ai.usage.input_token_details"])
PYTHON

"$folder/venv/bin/python" "$folder/program.py" 2>/dev/null | tee "$folder/out"
diff "$folder/out" - <<'EXPECTED'
prompt: chat, langchain, model None
retriever: embeddings, langchain, model None
llm: chat, openai, model openai/gpt-oss-20b
provider that the run names: groq
details of input tokens: {'cache_read': 3}
EXPECTED
