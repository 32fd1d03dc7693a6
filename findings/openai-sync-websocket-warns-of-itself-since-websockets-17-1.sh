#!/usr/bin/env bash
# openai's sync WebSocket connections cannot send where warnings are errors, with websockets 17.1 and later.
#
# Versions: openai 3.57.0 with websockets 17.4, and with 16.1.1 (Python 3.11).
# One would guess: `with client.responses.connect() as connection` is used as both libraries' documentation has it, so
# no warning is the application's to see.
# What happens: the SDK calls websockets' sync `connect()` and keeps the connection without entering it. Since 17.1
# websockets warns of that, not where the connection is made but at its first message, and by its stack level it names
# whoever stands three frames above the transport. With warnings as errors, as test suites have them, the first
# `connection.send` raises; the async client is not concerned.
# Why it matters: it looks as if the application, or whatever wraps the connection, used a deprecated form; neither can
# change it.
# Output seen:
#   websockets 17.4 sync: DeprecationWarning
#   websockets 17.4 async: sent
#   websockets 16.1.1 sync: sent
#   websockets 16.1.1 async: sent
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/send.py" <<'PY'
import asyncio
import threading
import warnings
from importlib.metadata import version

from websockets.sync.server import serve

import openai

server = serve(lambda connection: [None for _ in connection], "127.0.0.1", 0)
threading.Thread(target=server.serve_forever, daemon=True).start()
given = {"api_key": "none", "websocket_base_url": f"ws://127.0.0.1:{server.socket.getsockname()[1]}/v1"}
warnings.simplefilter("error", DeprecationWarning)


def sync():
    with openai.OpenAI(**given).responses.connect() as connection:
        connection.response.create(model="m", input="hi")


async def later():
    async with openai.AsyncOpenAI(**given).responses.connect() as connection:
        await connection.response.create(model="m", input="hi")


for name, ask in (("sync", sync), ("async", lambda: asyncio.run(later()))):
    try:
        ask()
        done = "sent"
    except DeprecationWarning as warning:
        done = type(warning).__name__
    print(f"websockets {version('websockets')} {name}: {done}", flush=True)
PY
for websockets in 17.4 16.1.1; do
  python3 -m venv "$folder/$websockets"
  "$folder/$websockets/bin/pip" install --quiet openai==3.57.0 "websockets==$websockets"
  told=$("$folder/$websockets/bin/python" "$folder/send.py")
  echo "$told"
  [[ "$websockets" == 17.4 ]] && sync=DeprecationWarning || sync=sent
  grep -q "^websockets $websockets sync: $sync$" <<<"$told"
  grep -q "^websockets $websockets async: sent$" <<<"$told"
done
