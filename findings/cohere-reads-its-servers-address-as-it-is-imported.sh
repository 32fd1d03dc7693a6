#!/usr/bin/env bash
# cohere 7.3.1, Python 3.11
#
# One would guess that CO_API_URL and CO_API_KEY are read alike, when a client is made, as by other providers' SDKs.
#
# What happens: the key is read when a client is made, and the address once, when the class of clients is imported first
# (by `from cohere import ClientV2`, or by `cohere.ClientV2`, which imports it): it is the default of an argument. A
# variable that is set after that (by a test, or by a program that reads its `.env`) is of no effect: its key is used,
# and sent to the address that stood there before, Cohere's own as a rule.
#
# Why it matters: what is meant for a gateway or a test server goes to the provider, with the key for the other place.
# Whether it does hangs on who imported the package first; give `base_url` by name.
#
# Output seen:
#   set before the import: http://127.0.0.1:9
#   set after the import: https://api.cohere.com, with the key that was set after it
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check cohere==7.3.1

cd "$folder"
cat >before.py <<'PYTHON'
import os

os.environ.update(CO_API_URL="http://127.0.0.1:9", CO_API_KEY="key-of-the-gateway")
import cohere

print("set before the import:", cohere.ClientV2()._client_wrapper.get_base_url())
PYTHON
cat >after.py <<'PYTHON'
import os

from cohere import ClientV2

os.environ.update(CO_API_URL="http://127.0.0.1:9", CO_API_KEY="key-of-the-gateway")
wrapper = ClientV2()._client_wrapper
assert wrapper.get_headers()["Authorization"] == "Bearer key-of-the-gateway"
print("set after the import:", wrapper.get_base_url().rstrip("/") + ", with the key that was set after it")
PYTHON
unset CO_API_URL CO_API_KEY
told=$(venv/bin/python before.py && venv/bin/python after.py)
echo "$told"
[ "$told" = "set before the import: http://127.0.0.1:9
set after the import: https://api.cohere.com, with the key that was set after it" ] || {
  echo "cohere does something else now" >&2
  exit 1
}
