#!/usr/bin/env bash
# cerebras_cloud_sdk 1.91.0, Python 3.11
#
# One would guess that the chunks of a stream are of the SDK's chunk type: `object` says `chat.completion.chunk`, and a
# field that a server leaves out is None, as with openai's SDK.
#
# What happens: the SDK types a chunk as a union of answer, chunk and error, and takes the first that validates. A chunk
# without `system_fingerprint`, which OpenAI's API calls optional, validates as none; the SDK then makes it a
# ChatCompletionResponse, whose choices have `delta` as a plain dict: `chunk.choices[0].delta.content` raises.
#
# Why it matters: proxies, gateways, caches and guardrails that answer in a provider's place, and servers that speak
# OpenAI's API to this SDK, send no fingerprint. Whoever answers for Cerebras has to send one, be it empty.
#
# Output seen:
#   with a fingerprint: ChatChunkResponse, delta is a ChatChunkResponseChoiceDelta
#   without: ChatCompletionResponse, delta is a dict
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check cerebras_cloud_sdk==1.91.0

cat > "$folder/program.py" <<'PYTHON'
import http.server
import json
import threading

from cerebras.cloud.sdk import Cerebras

CHUNK = {
    "id": "1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}],
}


class Provider(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        chunk = {**CHUNK, "system_fingerprint": "fp"} if asked["model"] == "with a fingerprint" else CHUNK
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = Cerebras(base_url=f"http://127.0.0.1:{server.server_port}", api_key="none", warm_tcp_connection=False)
for model in ("with a fingerprint", "without"):
    messages = [{"role": "user", "content": "hello"}]
    [chunk] = client.chat.completions.create(model=model, messages=messages, stream=True)
    print(f"{model}: {type(chunk).__name__}, delta is a {type(chunk.choices[0].delta).__name__}")
PYTHON

"$folder/venv/bin/python" "$folder/program.py" 2>/dev/null | tee "$folder/out"
diff "$folder/out" - <<'EXPECTED'
with a fingerprint: ChatChunkResponse, delta is a ChatChunkResponseChoiceDelta
without: ChatCompletionResponse, delta is a dict
EXPECTED
