#!/usr/bin/env bash
# huggingface_hub's client cannot read a streamed chunk whose text has U+2028, U+2029 or U+0085 unescaped.
#
# Versions: huggingface_hub 2.4.0 (Python 3.11).
# One would guess: JSON and server-sent events let these characters stand as they are (an event's lines end in CR or LF
# alone), so a model may say them in a stream as it may in a whole answer.
# What happens: the client reads a stream by `response.iter_lines()` of its HTTP package, which ends lines where
# `str.splitlines` does; the JSON of the event is cut in two, and `json.decoder.JSONDecodeError` ends the stream. The
# same text in a whole answer is read.
# Why it matters: the answer is lost, by an exception that is none of the SDK's; whoever reads the same bytes (a proxy,
# a recorder) finds nothing wrong with them.
# Output seen:
#   whole: 'a\u2028b'
#   stream: JSONDecodeError: Unterminated string starting at: line 1 column 69 (char 68)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet huggingface_hub==2.4.0
cat >"$folder/ask.py" <<'PY'
import http.server
import json
import threading

from huggingface_hub import InferenceClient


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = {"role": "assistant", "content": "a\u2028b"}
        name = "delta" if asked["stream"] else "message"
        body = {"choices": [{"index": 0, name: said, "finish_reason": None}], "created": 1, "id": "c", "model": "m"}
        text = json.dumps(body, ensure_ascii=False)
        data = (f"data: {text}\n\ndata: [DONE]\n\n" if asked["stream"] else text).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if asked["stream"] else "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = InferenceClient(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none")
hello = [{"role": "user", "content": "hi"}]
print("whole:", ascii(client.chat_completion(hello).choices[0].message.content))
try:
    print("stream:", ascii("".join(chunk.choices[0].delta.content for chunk in client.chat_completion(hello, stream=True))))
except ValueError as error:
    print(f"stream: {type(error).__name__}: {error}")
PY
told=$("$folder/venv/bin/python" "$folder/ask.py")
echo "$told"
grep -q "^whole: 'a.u2028b'$" <<<"$told"
grep -q "^stream: JSONDecodeError" <<<"$told"
