#!/usr/bin/env bash
# litellm 1.110.2, Python 3.11
#
# One would guess: whatever LiteLLM's SDK asks of a provider goes out by httpx, as completions and embeddings do, so that
# an instrumentor of the HTTP client has a span of it and puts the trace into its headers, and a proxy, a pool or a client
# that is given (litellm.client_session) is used.
#
# What happens: litellm.ocr and aocr are sent by native code. No Python client takes part: neither httpx, requests, aiohttp
# nor urllib3, nor http.client beneath them. An embedding in the same program goes by httpx.
#
# Why it matters: instrumentation of HTTP clients, tests that stand in for one, and hooks of a client have no call, though
# documents left the program and pages were paid for; no `traceparent` reaches the server either.
#
# Output seen:
#   embedding: the server was asked once; sent by httpx
#   ocr: the server was asked once; sent by none of them
#   aocr: the server was asked once; sent by none of them
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check litellm==1.110.2 requests urllib3

cat > "$folder/program.py" <<'PYTHON'
import asyncio
import http.client
import http.server
import json
import os
import threading

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # ask nobody for prices
import aiohttp
import httpx
import litellm
import requests
import urllib3

asked, sent_by = [], set()
PAGE = {"index": 0, "markdown": "hello", "images": [], "dimensions": None}
ANSWERS = {
    "/ocr": {"model": "mistral-ocr-latest", "pages": [PAGE], "usage_info": {"pages_processed": 1}},
    "/embeddings": {"id": "1", "object": "list", "model": "mistral-embed", "usage": {"prompt_tokens": 1, "total_tokens": 1},
                    "data": [{"index": 0, "object": "embedding", "embedding": [0.5]}]},
}


class Provider(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        asked.append(self.path)
        body = json.dumps(next(answer for end, answer in ANSWERS.items() if self.path.endswith(end))).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def watch(owner, method, client):
    real = getattr(owner, method)

    def watched(*args, **kwargs):
        sent_by.add(client)
        return real(*args, **kwargs)

    setattr(owner, method, watched)


watch(httpx.Client, "send", "httpx")
watch(httpx.AsyncClient, "send", "httpx")
watch(requests.Session, "send", "requests")
watch(aiohttp.ClientSession, "_request", "aiohttp")
watch(urllib3.HTTPConnectionPool, "urlopen", "urllib3")
watch(http.client.HTTPConnection, "request", "http.client")

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
HOW = {"api_base": f"http://127.0.0.1:{server.server_port}", "api_key": "none"}
PAPER = {"model": "mistral/mistral-ocr-latest", "document": {"type": "document_url", "document_url": "https://example.com/a.pdf"}}


def show(way, ask):
    asked.clear()
    sent_by.clear()
    ask()
    times = "once" if len(asked) == 1 else f"{len(asked)} times"
    print(f"{way}: the server was asked {times}; sent by {', '.join(sorted(sent_by)) or 'none of them'}")


show("embedding", lambda: litellm.embedding("mistral/mistral-embed", ["x"], **HOW))
show("ocr", lambda: litellm.ocr(**PAPER, **HOW))
show("aocr", lambda: asyncio.run(litellm.aocr(**PAPER, **HOW)))
PYTHON

"$folder/venv/bin/python" "$folder/program.py" 2>/dev/null | grep "; sent by" | tee "$folder/out"
diff "$folder/out" - <<'EXPECTED'
embedding: the server was asked once; sent by httpx
ocr: the server was asked once; sent by none of them
aocr: the server was asked once; sent by none of them
EXPECTED
