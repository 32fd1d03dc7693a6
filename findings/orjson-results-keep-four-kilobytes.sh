#!/usr/bin/env bash
# orjson.dumps: each result that is kept holds 4 KB or more of memory, though it is a bytes of thirteen.
#
# Versions: orjson 3.13.0 (Python 3.11, Linux).
# One would guess: what is returned takes its length and the 33 bytes of any bytes; sys.getsizeof says so too.
# What happens: the room that the JSON was written in stays with the result. 20,000 results of 13 bytes take 80 MB; a copy
# of each takes 1 MB. Lengths on which the allocator finds a hole may take less.
# Why it matters: whoever keeps results (a queue of lines, a cache, an index, batches that wait to be sent) and bounds
# them by len() keeps many times as much. `bytes(memoryview(result))` is the cure; `bytes(result)` is no copy.
# Output seen:
#   orjson.dumps:           4133 bytes each, len 13, getsizeof 46
#   bytes(memoryview(…)):     66 bytes each, len 13, getsizeof 46
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet orjson==3.13.0
cat >"$folder/keep.py" <<'PY'
import sys

import orjson

COUNT = 20_000


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def taken(make):
    before = resident()
    kept = [make() for _ in range(COUNT)]
    each = (resident() - before) / COUNT
    print(f"{sys.argv[1]:22}{each:6.0f} bytes each, len {len(kept[0])}, getsizeof {sys.getsizeof(kept[0])}")
    return each


if sys.argv[1] == "orjson.dumps:":
    sys.exit(taken(lambda: orjson.dumps({"k": "xxxxx"})) < 1000)
sys.exit(taken(lambda: bytes(memoryview(orjson.dumps({"k": "xxxxx"})))) > 200)
PY
for way in "orjson.dumps:" "bytes(memoryview(…)):"; do
  "$folder/venv/bin/python" "$folder/keep.py" "$way"
done
