#!/usr/bin/env bash
# openai's SDK uploads an open file from its beginning, wherever it stands; `requests` uploads what is left of it.
#
# Versions: openai 3.57.0, requests 2.34.2 (Python 3.11).
# One would guess: whoever has read the head of a file, or moved past lines that are not to go, and hands the open file
# to `files.create(file=…)` uploads the rest, as by `requests` and as `file.read()` would give it.
# What happens: the SDK's HTTP package goes back to the first byte when it writes a form. The provider gets what had been
# skipped too; for a batch those are requests that are asked and paid for. Nothing is said.
# Why it matters: what checks or counts a file from where it stands checks something else than is sent.
# Output seen:
#   openai: sends the skipped line: True
#   requests: sends the skipped line: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openai==3.57.0 requests==2.34.2
cat >"$folder/upload.py" <<'PY'
import http.server
import io
import threading

import openai
import requests

got = []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        got.append(self.rfile.read(int(self.headers["content-length"])))
        answer = b'{"id": "f", "object": "file", "bytes": 1, "created_at": 1, "filename": "a", "purpose": "batch", "status": "processed"}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/v1"


def moved():
    file = io.BytesIO(b'{"skipped": 1}\n{"meant": 2}\n')
    file.readline()
    return file


openai.OpenAI(base_url=url, api_key="none").files.create(file=moved(), purpose="batch")
requests.post(f"{url}/files", files={"file": moved()}, data={"purpose": "batch"})
for name, body in zip(("openai", "requests"), got, strict=True):
    print(f"{name}: sends the skipped line: {b'skipped' in body}")
PY
told=$("$folder/venv/bin/python" "$folder/upload.py")
echo "$told"
grep -q "^openai: sends the skipped line: True$" <<<"$told"
grep -q "^requests: sends the skipped line: False$" <<<"$told"
