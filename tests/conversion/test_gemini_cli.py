"""What is told of Gemini CLI alone; what holds of every coding agent is in `test_coding_agents.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.conversion.captures import converted, told
from tests.conversion.leavings import Left
from tests.shared_data import needs_shared

pytestmark = needs_shared


def test_a_chat_file_of_an_older_version_which_is_one_object_is_read(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in Left("gemini", "basic", "session").files[0].read_text().splitlines()]
    last = {line["id"]: line for line in lines if "id" in line}  # each is whole the last time that it stands there
    old = tmp_path / "session-2025.json"
    old.write_text(json.dumps({**lines[0], "messages": list(last.values())}, indent=2))
    ((document,), summary) = converted([old], tmp_path / "old")
    ((newer,), _) = converted(Left("gemini", "basic", "session").files, tmp_path / "new")
    assert summary.findings == []
    assert told(document) == [step for step in told(newer) if step["source"] != "system"]


def test_results_that_a_resumed_session_sends_twice_are_told_once(tmp_path: Path) -> None:
    of = Left("gemini", "policy", "otlp")
    twice = tmp_path / "twice.jsonl"
    twice.write_text("\n".join(_with_results_twice(line) for line in of.files[0].read_text().splitlines()))
    assert twice.read_text().count("functionResponse") > of.files[0].read_text().count("functionResponse")
    ((document,), _) = converted([twice], tmp_path / "out")
    assert document == of.document(tmp_path / "once")


def _with_results_twice(line: str) -> str:
    """Return spans with each result of a tool behind itself in what models are sent."""
    request = json.loads(line)
    for resource in request.get("resourceSpans") or []:
        for pair in (a for scope in resource["scopeSpans"] for span in scope["spans"] for a in span["attributes"]):
            if pair["key"] == "gen_ai.input.messages" and "functionResponse" in pair["value"]["stringValue"]:
                contents = json.loads(pair["value"]["stringValue"])
                repeated = [each for content in contents for each in [content] * _times(content)]
                pair["value"]["stringValue"] = json.dumps(repeated)
    return json.dumps(request)


def _times(content: dict[str, Any]) -> int:
    return 2 if any("functionResponse" in part for part in content["parts"]) else 1
