#!/usr/bin/env bash
# opentelemetry-exporter-otlp-proto-http 1.45.2, requests 2.34.2, Python 3.10 or newer.
#
# One would guess: OTEL_EXPORTER_OTLP_CERTIFICATE names the certificate that the exporter trusts, whatever other variables
# say, as OpenTelemetry's specification has it.
#
# What happens: with REQUESTS_CA_BUNDLE (or CURL_CA_BUNDLE) in the environment, as company images set it, requests prefers
# that bundle to the `verify` of the exporter's session. The exporter retries, logs SSL errors and loses the spans, though
# the certificate that it was given is the right one; the same program without the variable delivers.
#
# Why it matters: a collector with a certificate of one's own stops receiving when the image gains a CA bundle.
#
# Output seen:
#   without REQUESTS_CA_BUNDLE: SUCCESS
#   with REQUESTS_CA_BUNDLE:    FAILURE
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2 requests==2.34.2 certifi
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -keyout "$folder/key.pem" -out "$folder/cert.pem" 2>/dev/null

cat >"$folder/program.py" <<'PY'
import logging, os, ssl, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider

logging.disable(logging.CRITICAL)


class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


server = HTTPServer(("localhost", 0), Collector)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1] + "/cert.pem", sys.argv[1] + "/key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()

os.environ["OTEL_EXPORTER_OTLP_CERTIFICATE"] = sys.argv[1] + "/cert.pem"
exporter = OTLPSpanExporter(endpoint=f"https://localhost:{server.server_port}/v1/traces", timeout=3)
span = TracerProvider().get_tracer("t").start_span("s")
span.end()
print(exporter.export([span]).name)
PY

bundle=$("$folder/venv/bin/python" -c "import certifi; print(certifi.where())")
without=$(env -u REQUESTS_CA_BUNDLE -u CURL_CA_BUNDLE -u HTTPS_PROXY -u https_proxy "$folder/venv/bin/python" "$folder/program.py" "$folder")
with=$(env -u CURL_CA_BUNDLE -u HTTPS_PROXY -u https_proxy REQUESTS_CA_BUNDLE="$bundle" "$folder/venv/bin/python" "$folder/program.py" "$folder")
echo "without REQUESTS_CA_BUNDLE: $without"
echo "with REQUESTS_CA_BUNDLE:    $with"
[ "$without" = SUCCESS ] && [ "$with" = FAILURE ]
