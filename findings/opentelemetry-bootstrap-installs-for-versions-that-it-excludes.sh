#!/usr/bin/env bash
# opentelemetry-instrumentation 0.66b2, Python 3.10 to 3.13
#
# One would guess that `opentelemetry-bootstrap` leaves out instrumentation of versions that it does not support: each row of
# its table has a range, and it has a warning for what is outside, "is available but version … is installed. Skipping."
#
# What happens: it asks `specifier.filter(version)`, which returns an iterator, and an iterator is never false. Whatever has
# the right name counts, in any version, and the warning is never said.
#
# Why it matters: instrumentation is installed that refuses to be in force as the program starts, and with it what that needs.
# What a fleet's image gets by `opentelemetry-bootstrap -a install` says nothing of what will be recorded.
#
# Output seen:
#   pika 0.11.2 is outside pika >= 0.12.0: opentelemetry-bootstrap asks for opentelemetry-instrumentation-pika==0.66b2
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check opentelemetry-instrumentation==0.66b2 pika==0.11.2

wanted=$("$folder/venv/bin/opentelemetry-bootstrap" -a requirements)
grep -qx 'opentelemetry-instrumentation-pika==0.66b2' <<<"$wanted"
echo "pika 0.11.2 is outside pika >= 0.12.0: opentelemetry-bootstrap asks for $(grep pika <<<"$wanted")"
