#!/usr/bin/env bash
# datasets 5.2.0, Python 3.11
#
# One would guess: what load_dataset("json") makes of a JSON Lines file follows from the values in it: three lines are
# three rows, whatever their second column is called.
#
# What happens: a column `type` beside one called `payload` or `message` whose objects have not all the same keys is taken
# for the session log of a coding agent. The features become eleven others (harness, session_id, prompt, …), none of
# which is in the file, and loading asks for the package `teich` and fails without it. Where the objects are all alike,
# the same names are loaded as rows. parse_agent_traces=False loads them always.
#
# Why it matters: logs of events and webhooks are called just so. A job works for months, until one object has a key
# more than the others, and then loses its columns; a stream hands out the eleven before any row fails.
#
# Output seen:
#   body, differing: 3 rows of type, body
#   payload, alike: 3 rows of type, payload
#   payload, differing: "To support decoding agent traces, please install 'teich'.", as a stream 11 columns with harness
#   message, differing: "To support decoding agent traces, please install 'teich'.", as a stream 11 columns with harness
#   payload, differing, parse_agent_traces=False: 3 rows of type, payload
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check datasets==5.2.0

cat > "$folder/program.py" <<'PYTHON'
import json
import pathlib
import sys
import tempfile

import datasets

datasets.disable_progress_bars()


def load(column, objects, **options):
    folder = pathlib.Path(tempfile.mkdtemp(dir=sys.argv[1]))
    rows = [json.dumps({"type": "order", column: each}) for each in objects]
    (folder / "orders.jsonl").write_text("\n".join(rows))
    path = str(folder / "orders.jsonl")
    try:
        rows = datasets.load_dataset("json", data_files=path, split="train", cache_dir=str(folder), **options)
    except datasets.exceptions.DatasetGenerationError as error:
        stream = datasets.load_dataset("json", data_files=path, split="train", cache_dir=str(folder), streaming=True)
        return f'"{error.__cause__}", as a stream {len(stream.features)} columns with {next(iter(stream.features))}'
    return f"{len(rows)} rows of {', '.join(rows.column_names)}"


ALIKE = [{"id": 1}, {"id": 2}, {"id": 3}]
DIFFERING = [{"id": 1}, {"id": 2, "note": "in a box"}, {"id": 3}]
print("body, differing:", load("body", DIFFERING))
print("payload, alike:", load("payload", ALIKE))
print("payload, differing:", load("payload", DIFFERING))
print("message, differing:", load("message", DIFFERING))
print("payload, differing, parse_agent_traces=False:", load("payload", DIFFERING, parse_agent_traces=False))
PYTHON

HF_HOME="$folder/home" "$folder/venv/bin/python" "$folder/program.py" "$folder" 2>/dev/null | tee "$folder/out"
diff "$folder/out" - <<'EXPECTED'
body, differing: 3 rows of type, body
payload, alike: 3 rows of type, payload
payload, differing: "To support decoding agent traces, please install 'teich'.", as a stream 11 columns with harness
message, differing: "To support decoding agent traces, please install 'teich'.", as a stream 11 columns with harness
payload, differing, parse_agent_traces=False: 3 rows of type, payload
EXPECTED
