#!/usr/bin/env bash
# huggingface_hub's InferenceClient(model="a").chat_completion(model="b") asks a.
#
# Versions: huggingface_hub 2.4.0 (Python 3.11).
# One would guess: the argument of a call goes before the default of the client, as in the other tasks of this client
# (`model or self.model`).
# What happens: chat_completion takes `self.model or model` for the model to ask, and the body is then written with that:
# the call's own is dropped in silence. text_generation of the same client asks b.
# Why it matters: a program that keeps one client and picks models by call (a cheaper one, one that is allowed) asks and
# pays for another; only the request tells, so what is recorded or judged by the arguments of the call is wrong.
# Output seen:
#   chat_completion asks acme/a
#   text_generation asks acme/b
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet huggingface_hub==2.4.0
cat >"$folder/ask.py" <<'PY'
from huggingface_hub import InferenceClient
from huggingface_hub.hf_api import InferenceProviderMapping
from huggingface_hub.inference._providers import _common

for model in ("acme/a", "acme/b"):  # what the Hub would say of them
    for provider, task in (("groq", "conversational"), ("featherless-ai", "text-generation")):
        known = InferenceProviderMapping(
            provider=provider, hf_model_id=model, providerId=model, status="live", task=task
        )
        _common.HARDCODED_MODEL_INFERENCE_MAPPING.setdefault(provider, {})[model] = known


class Noting(InferenceClient):
    """Notes the request that would be sent."""

    def _inner_post(self, request_parameters, *, stream=False):
        self.asked = request_parameters.json["model"]
        return b'{"choices": [{"text": ""}]}'


chat = Noting(model="acme/a", provider="groq", token="none")
chat.chat_completion([{"role": "user", "content": "hi"}], model="acme/b")
print("chat_completion asks", chat.asked)
text = Noting(model="acme/a", provider="featherless-ai", token="none")
text.text_generation("hi", model="acme/b")
print("text_generation asks", text.asked)
PY
told=$("$folder/venv/bin/python" "$folder/ask.py")
echo "$told"
grep -q "^chat_completion asks acme/a$" <<<"$told"
grep -q "^text_generation asks acme/b$" <<<"$told"
