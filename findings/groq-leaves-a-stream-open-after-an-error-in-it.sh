#!/usr/bin/env bash
# groq 1.7.0, openai 3.57.0, httpx 0.28.1, Python 3.11
#
# One would guess that SDKs which the same generator makes treat a stream alike: where an error event comes in it, they
# raise, and the connection goes back to the pool, as openai's does.
#
# What happens: groq's Stream raises APIError and leaves its response open. As long as the program handles or keeps the
# exception, whose traceback holds what reads the stream, the connection is taken: with a pool of one, a request that is
# made in the `except` block waits until it times out. openai's Stream closes the response as it raises.
#
# Why it matters: Groq answers a tool call that does not fit its schema with such an event (`tool_use_failed`), which an
# agent's loop meets and answers by asking again; each such try takes a further connection. Instrumentation that waits
# for a stream to be read to its end or closed does not see this one end.
#
# Output seen:
#   openai: raised APIError, response closed: True, next request: answered
#   groq: raised APIError, response closed: False, next request: APITimeoutError
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check groq==1.7.0 openai==3.57.0 httpx==0.28.1

cat > "$folder/program.py" <<'PYTHON'
import http.server
import threading

import groq
import httpx
import openai

CHUNK = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{}}]}\n\n'
FAILED = b'data: {"error":{"message":"no","type":"invalid_request_error","code":"tool_use_failed"}}\n\n'
HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True}


class Provider(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in (CHUNK, FAILED):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"

for sdk, kind in ((openai, openai.OpenAI), (groq, groq.Groq)):
    http_client = httpx.Client(limits=httpx.Limits(max_connections=1), timeout=httpx.Timeout(10, pool=1))
    client = kind(base_url=url, api_key="none", max_retries=0, http_client=http_client)
    stream = client.chat.completions.create(**HELLO)
    try:
        list(stream)
    except sdk.APIError as error:
        raised, closed = type(error).__name__, stream.response.is_closed
        try:  # again, as an agent does
            client.chat.completions.create(**HELLO).close()
            following = "answered"
        except sdk.APIError as again:
            following = type(again).__name__
    print(f"{sdk.__name__}: raised {raised}, response closed: {closed}, next request: {following}")
PYTHON

"$folder/venv/bin/python" "$folder/program.py" | tee "$folder/out"
diff "$folder/out" - <<'EXPECTED'
openai: raised APIError, response closed: True, next request: answered
groq: raised APIError, response closed: False, next request: APITimeoutError
EXPECTED
