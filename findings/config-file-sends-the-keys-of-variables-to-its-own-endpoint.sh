#!/usr/bin/env bash
# opentelemetry-configuration 0.66b2, opentelemetry-exporter-otlp-proto-http 1.45.2, Python 3.10 to 3.13
#
# One would guess that beside OTEL_CONFIG_FILE no other variable counts unless the file names it: OpenTelemetry's
# specification says that they must be ignored.
#
# What happens: exporters are built with what the file says, and the stock exporter of OTLP over HTTP adds the headers of
# OTEL_EXPORTER_OTLP_HEADERS to those that it is given, and takes an endpoint that it is not given from
# OTEL_EXPORTER_OTLP_ENDPOINT.
#
# Why it matters: the key of one server, in a variable of the machine or container, is sent to whatever server the file
# names. A file with two exporters sends it to both.
#
# Output seen:
#   the file's endpoint got: authorization: of-the-file, api-key: of-variables
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  opentelemetry-sdk==1.45.2 opentelemetry-configuration==0.66b2 opentelemetry-exporter-otlp-proto-http==1.45.2

cd "$folder"
OTEL_EXPORTER_OTLP_HEADERS=api-key=of-variables "$folder/venv/bin/python" - <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry import trace
from opentelemetry.configuration import configure_sdk, load_config_file

got: dict[str, str] = {}


class Server(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        got.update((name.lower(), value) for name, value in self.headers.items())
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
with open("otel.yaml", "w") as file:
    file.write(f"""
file_format: "1.0"
tracer_provider:
  processors:
    - simple:
        exporter:
          otlp_http:
            endpoint: http://127.0.0.1:{server.server_port}/v1/traces
            headers: [{{name: authorization, value: of-the-file}}]
""")
configure_sdk(load_config_file("otel.yaml"))
trace.get_tracer("app").start_span("work").end()
named = ", ".join(f"{name}: {got[name]}" for name in ("authorization", "api-key") if name in got)
print(f"the file's endpoint got: {named}")
assert named == "authorization: of-the-file, api-key: of-variables"
PYTHON
