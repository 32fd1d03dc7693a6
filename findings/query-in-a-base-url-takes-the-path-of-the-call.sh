#!/usr/bin/env bash
# mistralai 3.7.0, openai 3.57.0, Python 3.11
#
# One would guess: a gateway's address with a query, https://gateway/llm?tenant=a, given as server_url or base_url, keeps
# that query behind the path of the call, as httpx does with params of a client, or is refused.
#
# What happens: both put the path of the call behind the whole text, and so into the query. openai sends it there, glued to
# the value (a slash went before the question mark). mistralai then replaces the query by that of the call, which is
# empty: neither the tenant nor the path is sent, and all calls, of whatever kind, go to one address.
#
# Why it matters: the server routes and answers by something else than what was asked, a gateway that takes any path loses
# its tenant, and whoever tells the kind of a call by its path, as instrumentation on the wire does, sees none.
#
# Output seen:
#   mistralai, chat: https://gateway.test/llm
#   mistralai, embeddings: https://gateway.test/llm
#   openai, chat: https://gateway.test/llm/?tenant=achat/completions
#   openai, embeddings: https://gateway.test/llm/?tenant=aembeddings
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check mistralai==3.7.0 openai==3.57.0

cat > "$folder/program.py" <<'PYTHON'
import httpx2
from mistralai.client import Mistral
from openai import OpenAI

URL = "https://gateway.test/llm?tenant=a"
MESSAGES = [{"role": "user", "content": "hello"}]
ANSWER = {"id": "1", "object": "list", "created": 1, "model": "m", "choices": [], "data": [], "usage": {}}


def answer(request):
    print(request.url)
    return httpx2.Response(200, json=ANSWER)


answering = httpx2.Client(transport=httpx2.MockTransport(answer))
mistral = Mistral(api_key="none", server_url=URL, client=answering)
openai = OpenAI(api_key="none", base_url=URL, http_client=answering)
for call, ask in {
    "mistralai, chat": lambda: mistral.chat.complete(model="m", messages=MESSAGES),
    "mistralai, embeddings": lambda: mistral.embeddings.create(model="m", inputs=["hello"]),
    "openai, chat": lambda: openai.chat.completions.create(model="m", messages=MESSAGES),
    "openai, embeddings": lambda: openai.embeddings.create(model="m", input="hello", encoding_format="float"),
}.items():
    print(call, end=": ")
    ask()
PYTHON

"$folder/venv/bin/python" "$folder/program.py" 2>/dev/null | tee "$folder/out"
diff "$folder/out" - <<'EXPECTED'
mistralai, chat: https://gateway.test/llm
mistralai, embeddings: https://gateway.test/llm
openai, chat: https://gateway.test/llm/?tenant=achat/completions
openai, embeddings: https://gateway.test/llm/?tenant=aembeddings
EXPECTED
