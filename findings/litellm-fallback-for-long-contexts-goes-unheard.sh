#!/usr/bin/env bash
# litellm 1.110.2, Python 3.11
#
# One would guess: context_window_fallback_dict={"small": "large"} is `fallbacks` for one kind of error: callbacks hear of
# the call that answered, and it does not matter whether the model is given by position or by name.
#
# What happens: the second call goes round LiteLLM's own wrapper, which does the telling: log_pre_api_call is called for
# it, and then no callback hears of its success, nor of a failure. Where the model is given by position, the way
# completion(model, messages) is declared, there is no second call but a TypeError (it assigns to a tuple).
#
# Why it matters: the larger and dearer model's answers are in no log, no cost, no trace and no budget that hangs on
# callbacks; the program sees an answer, telemetry a call that neither worked nor failed.
#
# Output seen:
#   fallbacks: asked small, large; heard: success of large; answered by large
#   context_window_fallback_dict: asked small, large; heard: nothing; answered by large
#   by position: asked small; heard: nothing; TypeError
#   no fallback: asked small; heard: failure of small; ContextWindowExceededError
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check litellm==1.110.2

cat > "$folder/program.py" <<'PYTHON'
import http.server
import json
import os
import threading
import time

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # ask nobody for prices
import litellm
from litellm.integrations.custom_logger import CustomLogger

asked, heard = [], []
TOO_LONG = {"message": "This model's maximum context length is 10 tokens.", "code": "context_length_exceeded"}


class Provider(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        model = json.loads(self.rfile.read(int(self.headers["content-length"])))["model"]
        asked.append(model)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}
        answer = {"id": "1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
        body = json.dumps({"error": TOO_LONG} if model == "small" else answer).encode()
        self.send_response(400 if model == "small" else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Hearing(CustomLogger):
    def log_success_event(self, kwargs, response_obj, start_time, end_time):
        heard.append(f"success of {kwargs['model']}")

    def log_failure_event(self, kwargs, response_obj, start_time, end_time):
        heard.append(f"failure of {kwargs['model']}")


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
litellm.callbacks = [Hearing()]
MESSAGES = [{"role": "user", "content": "hello"}]
HOW = {"api_base": f"http://127.0.0.1:{server.server_port}", "api_key": "none", "max_retries": 0}
LARGER = {"openai/small": "openai/large"}


def show(way, ask):
    asked.clear()
    heard.clear()
    try:
        said = f"answered by {ask().model}"
    except Exception as error:
        said = type(error).__name__
    first = list(asked)
    litellm.completion("openai/last", MESSAGES, **HOW)  # callbacks run in threads: wait until a later call is heard of
    until = time.monotonic() + 30
    while "success of last" not in heard and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(2)
    before = [event for event in heard if event != "success of last"]
    print(f"{way}: asked {', '.join(first)}; heard: {', '.join(before) or 'nothing'}; {said}")


def by_name(**fallback):
    return lambda: litellm.completion(model="openai/small", messages=MESSAGES, **HOW, **fallback)


show("fallbacks", by_name(fallbacks=["openai/large"]))
show("context_window_fallback_dict", by_name(context_window_fallback_dict=LARGER))
show("by position",
     lambda: litellm.completion("openai/small", MESSAGES, **HOW, context_window_fallback_dict=LARGER))
show("no fallback", by_name())
PYTHON

"$folder/venv/bin/python" "$folder/program.py" 2>/dev/null | grep "; heard:" | tee "$folder/out"
diff "$folder/out" - <<'EXPECTED'
fallbacks: asked small, large; heard: success of large; answered by large
context_window_fallback_dict: asked small, large; heard: nothing; answered by large
by position: asked small; heard: nothing; TypeError
no fallback: asked small; heard: failure of small; ContextWindowExceededError
EXPECTED
