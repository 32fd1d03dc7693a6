#!/usr/bin/env bash
# opentelemetry-sdk 1.45.2, gevent 26.9.0, greenlet 3.5.6, Python 3.11
#
# One would guess that a program under gevent's monkey patching may start a subprocess while a BatchSpanProcessor is
# there: between fork and exec nothing of the program runs.
#
# What happens: after a fork the processor starts its thread again in the child, which under gevent is a greenlet, and
# Thread.start() waits for it by letting others run. gevent.subprocess forks in Python, so other greenlets of the program
# go on in the child before it comes to exec: their work is done twice, and what they start forks again. The same
# program without the processor does its work once.
#
# Why it matters: the OpenAI SDK asks platform.platform() before its first request, which runs `uname -p`: agents under
# gevent (gunicorn's and Celery's gevent workers) may send requests twice, or wait for ever for a child that never
# comes to exec. Whoever instruments them has to patch first, and to do what starts subprocesses before the first greenlet.
#
# Output seen (the first number differs from run to run):
#   with a BatchSpanProcessor: 3 pieces of work began in forked children, of 5 that there are
#   without: 0
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    opentelemetry-sdk==1.45.2 gevent==26.9.0 greenlet==3.5.6

cat > "$folder/program.py" <<'PYTHON'
from gevent import monkey

monkey.patch_all()

import os
import subprocess
import sys

import gevent
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

if sys.argv[1] == "with":
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))

log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
parent = os.getpid()


def work():
    gevent.sleep(0.01)
    os.write(log, b"parent\n" if os.getpid() == parent else b"child\n")
    if os.getpid() != parent:
        os._exit(0)  # seen; what would go on here forks again and again
    subprocess.run(["uname", "-p"], stdout=subprocess.DEVNULL)


gevent.joinall([gevent.spawn(work) for _ in range(5)], timeout=10)
PYTHON

for how in with without; do
    timeout -s KILL 60 "$folder/venv/bin/python" "$folder/program.py" "$how" "$folder/$how" 2> "$folder/errors" || true
done
ran=$(grep -c child "$folder/with" || true)
never=$(grep -c child "$folder/without" || true)
echo "with a BatchSpanProcessor: $ran pieces of work began in forked children, of 5 that there are"
echo "without: $never"
[ "$ran" -gt 0 ] && [ "$never" -eq 0 ]
