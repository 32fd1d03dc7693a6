"""Stands for Claude Code in tests: reads its settings as that does, reports telemetry, and calls its hooks.

Its arguments say what it does, one after the other.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

SESSION = "0f0e0d0c-0000-4000-8000-000000000001"


def settings() -> dict[str, Any]:
    return json.loads(Path(sys.argv[sys.argv.index("--settings") + 1]).read_text())


def hook(event: str, **told: Any) -> str:
    """Run the hooks of an event; returns what they say."""
    given = json.dumps({"hook_event_name": event, "session_id": SESSION, **told})
    commands = [each["command"] for entry in settings()["hooks"].get(event, []) for each in entry["hooks"]]
    outside = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = [
        subprocess.run(each, shell=True, input=given, capture_output=True, text=True, env=outside) for each in commands
    ]
    return "".join(each.stdout for each in done)


def report(*events: dict[str, Any]) -> None:
    """Send log records as its telemetry does."""
    records = [
        {
            "timeUnixNano": str(time.time_ns()),
            "attributes": [
                {"key": key, "value": {"stringValue": str(value)}}
                for key, value in {"session.id": SESSION, **event}.items()
            ],
        }
        for event in events
    ]
    scope = {"scope": {"name": "com.anthropic.claude_code.events"}, "logRecords": records}
    body = json.dumps({"resourceLogs": [{"scopeLogs": [scope]}]}).encode()
    url = settings()["env"]["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"]
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()


def answer(number: int, words: str) -> None:
    asked = {"event.name": "api_request", "request_id": f"r-{number}", "model": "m", "input_tokens": 10}
    report(asked, {"event.name": "assistant_response", "request_id": f"r-{number}", "response": words})


def tool(name: str, key: str) -> None:
    said = hook("PreToolUse", tool_name=name, tool_input={"file_path": "x"}, tool_use_id=key)
    print(said or f"{name} may run", flush=True)
    result = "refused" if "deny" in said else "done"
    hook("PostToolBatch", tool_calls=[{"tool_name": name, "tool_use_id": key, "tool_response": result}])


def session() -> None:
    hook("UserPromptSubmit", prompt="do it", prompt_id="p-1")
    answer(1, "I write.")
    tool("Write", "t-1")
    answer(2, "I read.")
    tool("Read", "t-2")
    answer(3, "Done.")
    hook("Stop", last_assistant_message="Done.")


def turn(number: int) -> None:
    """Be asked, answer, use a tool, and say what has been reported."""
    hook("UserPromptSubmit", prompt=f"turn {number}", prompt_id=f"p-{number}")
    answer(number, f"said {number}")
    print(f"said {number}", flush=True)


def interrupted(number: int, frame: object) -> None:
    print("interrupted", flush=True)
    sys.exit(5)


for number, argument in enumerate(sys.argv[1:]):
    if argument == "turn":
        turn(number)
    elif argument == "echo":
        print(sys.stdin.read(), end="")
    elif argument == "session":
        session()
    elif argument == "email":
        answer(4, "I wrote to ann@example.com.")
    elif argument == "deaf":
        report({"event.name": "api_request", "request_id": "r-1", "model": "m"})
        time.sleep(60)
    elif argument in ("wait", "heed"):
        if argument == "heed":
            signal.signal(signal.SIGINT, interrupted)
        print("waiting", flush=True)
        time.sleep(60)
    elif argument.startswith("exit "):
        sys.exit(int(argument.removeprefix("exit ")))
