#!/usr/bin/env bash
# opentelemetry-sdk 1.45.2, Python 3.11
#
# One would guess that a forked child sends what was counted in the child: its MeterProvider gives itself another
# service.instance.id after the fork, and a BatchSpanProcessor forgets its parent's spans.
#
# What happens: the child goes on from what its parent had counted, and sends that under the name of the other instance,
# with the parent's start time. Whoever adds up over instances counts the parent's part once more for each child.
#
# Why it matters: tokens and calls of agents are added up over the workers of gunicorn, Celery or multiprocessing: with
# an application that is loaded before its four workers are forked, what it used until then is billed five times.
#
# Output seen:
#   parent: 5 calls, child: 6 calls, another instance: True, the same start: True
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check opentelemetry-sdk==1.45.2

cat > "$folder/program.py" <<'PYTHON'
import json
import os

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

reader = InMemoryMetricReader()
calls = MeterProvider([reader]).get_meter("m").create_counter("calls")


def told():
    (resource,) = reader.get_metrics_data().resource_metrics
    (point,) = resource.scope_metrics[0].metrics[0].data.data_points
    return point.value, point.start_time_unix_nano, resource.resource.attributes.get("service.instance.id")


for _ in range(5):
    calls.add(1)
read, write = os.pipe()
child = os.fork()
if not child:
    calls.add(1)
    os.write(write, json.dumps(told()).encode())
    os._exit(0)
os.waitpid(child, 0)
count, start, instance = told()
its_count, its_start, its_instance = json.loads(os.read(read, 65536))
print(
    f"parent: {count} calls, child: {its_count} calls, another instance: {instance != its_instance}, "
    f"the same start: {start == its_start}"
)
raise SystemExit((count, its_count, instance != its_instance, start == its_start) != (5, 6, True, True))
PYTHON

"$folder/venv/bin/python" "$folder/program.py"
