#!/usr/bin/env bash
# mistralai 3.7.0, opentelemetry-sdk 1.45.2, opentelemetry-exporter-otlp-proto-http 1.45.2, Python 3.10 or newer
#
# One would guess: MISTRAL_SDK_TELEMETRY=dedicated has the client send a span of each call to Mistral, whatever else the
# process traces; and a client that has asked the global provider for its tracer, as it does when it is made, has its
# spans there.
# What happens: where a global tracer provider is set, `dedicated` turns the client's spans off altogether, and only its
# debug log says so. The tracer is asked for all the same, and no span of any call is made of it.
#
# Why it matters: a program traced by anybody, `opentelemetry-instrument` included, loses the telemetry that its
# environment asks for, and gets none in exchange; and whoever takes a tracer by that name for a sign that calls are
# traced is wrong. Only `global`, or configure_telemetry() in code, records them.
#
# Output seen:
#   dedicated, alone: 1 spans sent to the provider, 0 in the process; tracers: none
#   dedicated, beside a global provider: 0 spans sent to the provider, 0 in the process; tracers: mistralai_sdk_tracer
#   global, beside a global provider: 0 spans sent to the provider, 1 in the process; tracers: mistralai_sdk_tracer
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check mistralai==3.7.0 opentelemetry-sdk==1.45.2 \
    opentelemetry-exporter-otlp-proto-http==1.45.2

cat >"$work/show.py" <<'PYTHON'
import gzip
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mistralai.client import Mistral
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
sent = 0


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        global sent
        body = self.rfile.read(int(self.headers["content-length"]))
        answer = b""
        if self.path == "/spans":
            body = gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body
            request = ExportTraceServiceRequest.FromString(body)
            sent += sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
        else:
            answer = json.dumps(ANSWER).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def main() -> None:
    how, beside = sys.argv[1:]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    os.environ |= {"MISTRAL_SDK_TELEMETRY": how, "MISTRAL_OTLP_TRACES_ENDPOINT": f"{url}/spans"}
    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    if beside == "beside":
        trace.set_tracer_provider(provider)
    client = Mistral(api_key="k", server_url=url)
    client.chat.complete(model="m", messages=[{"role": "user", "content": "hello"}])
    own = next((h.tracer_provider for h in client.sdk_configuration._hooks.before_request_hooks
                if getattr(h, "tracer_provider", None)), None)
    if own is not None:
        own.force_flush()
    tracers = ", ".join(scope.name for scope in provider._tracers)
    print(sent, len(kept.get_finished_spans()), tracers or "none", sep="|")


main()
PYTHON

show() {
    "$work/venv/bin/python" "$work/show.py" "$@" 2>/dev/null
}

alone=$(show dedicated alone)
dedicated=$(show dedicated beside)
global=$(show global beside)
for each in "dedicated, alone=$alone" "dedicated, beside a global provider=$dedicated" \
    "global, beside a global provider=$global"; do
    IFS='|' read -r sent here tracers <<<"${each#*=}"
    echo "${each%%=*}: $sent spans sent to the provider, $here in the process; tracers: $tracers"
done
[[ $alone == "1|0|none" && $dedicated == "0|0|mistralai_sdk_tracer" && $global == "0|1|mistralai_sdk_tracer" ]]
