#!/usr/bin/env bash
# opentelemetry-configuration 0.66b2, opentelemetry-exporter-otlp-proto-http 1.45.2, Python 3.10 to 3.13
#
# One would guess that `tls: {ca_file: ca.pem}` of an exporter in the file of OTEL_CONFIG_FILE is the authority that its
# server's certificate is checked against: the schema has it, and the file is valid with it.
#
# What happens: the block is read by nobody, for OTLP over HTTP and over gRPC. The exporter trusts the authorities that it
# knows by itself, or those of OTEL_EXPORTER_OTLP_CERTIFICATE, a variable that the file is to stand in for. No warning.
#
# Why it matters: a file that works with another language's SDK sends nothing here; the retries end with an error of the
# certificate, which looks like a wrong ca.pem. A client's certificate in the file is not shown either.
#
# Output seen:
#   with ca_file in the file, the server got 0 requests
#   with OTEL_EXPORTER_OTLP_CERTIFICATE beside it, 1
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  opentelemetry-sdk==1.45.2 opentelemetry-configuration==0.66b2 opentelemetry-exporter-otlp-proto-http==1.45.2

cd "$folder"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
  -keyout key.pem -out ca.pem 2>/dev/null
cat >ask.py <<'PYTHON'
import logging
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry import trace
from opentelemetry.configuration import configure_sdk, load_config_file

got: list[str] = []


class Server(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        got.append(self.path)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


class Quiet(ThreadingHTTPServer):
    def handle_error(self, *args: object) -> None: ...


server = Quiet(("127.0.0.1", 0), Server)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("ca.pem", "key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
with open("otel.yaml", "w") as file:
    file.write(f"""
file_format: "1.0"
tracer_provider:
  processors:
    - simple:
        exporter:
          otlp_http:
            endpoint: https://localhost:{server.server_port}/v1/traces
            timeout: 2000
            tls: {{ca_file: ca.pem}}
""")
logging.disable()
configure_sdk(load_config_file("otel.yaml"))
trace.get_tracer("app").start_span("work").end()
print(len(got))
PYTHON
unset REQUESTS_CA_BUNDLE CURL_CA_BUNDLE # requests would trust these over the exporter's own certificate
file=$("$folder/venv/bin/python" ask.py)
echo "with ca_file in the file, the server got $file requests"
variable=$(OTEL_EXPORTER_OTLP_CERTIFICATE=ca.pem "$folder/venv/bin/python" ask.py)
echo "with OTEL_EXPORTER_OTLP_CERTIFICATE beside it, $variable"
[[ "$file $variable" == "0 1" ]]
