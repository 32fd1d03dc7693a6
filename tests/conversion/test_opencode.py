"""What is told of opencode alone; what holds of every coding agent is in `test_coding_agents.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conversion.captures import converted, told

SECOND = 1_000_000_000


class Spans:
    """Spans of one trace as opencode records them, each a second after the one before, and ended together."""

    def __init__(self) -> None:
        self._spans: list[dict[str, Any]] = []

    def add(self, name: str, above: str | None = None, **told: Any) -> str:
        number = len(self._spans) + 1
        own = f"{number:016x}"
        span = {"traceId": "a" * 32, "spanId": own, "name": name, "startTimeUnixNano": number * SECOND}
        attributes = [{"key": key.replace("__", "."), "value": {"stringValue": str(v)}} for key, v in told.items()]
        end = 100 * SECOND if not name.endswith("doStream") else number * SECOND + 1
        self._spans.append({**span, "parentSpanId": above, "endTimeUnixNano": end, "attributes": attributes})
        return own

    def ask(self, above: str, session: str, prompt: str, parent: str | None = None, **answer: Any) -> str:
        """Call a model, and return the SDK's span around that."""
        known: dict[str, Any] = {"session__id": session}
        if parent is not None:
            known["ai__request__headers__x-parent-session-id"] = parent
        around = self.add("ai.streamText", above, ai__operationId="ai.streamText", **known)
        messages = json.dumps([{"role": "user", "content": [{"type": "text", "text": prompt}]}])
        known["ai__prompt__messages"] = messages
        told = {f"ai__response__{name}": value for name, value in answer.items()}
        self.add("ai.streamText.doStream", around, ai__operationId="ai.streamText.doStream", **known, **told)
        return around

    def write(self, path: Path) -> Path:
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "opencode"}}]}
        scopes = [{"scope": {"name": "opencode"}, "spans": self._spans}]
        path.write_text(json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": scopes}]}))
        return path


def test_a_sub_agent_stands_beneath_the_call_that_began_it(tmp_path: Path) -> None:
    spans = Spans()
    root = spans.add("SessionPrompt.run")
    given = {"prompt": "read it", "subagent_type": "general"}
    call = {"toolCallId": "call_1", "toolName": "task", "input": given}
    around = spans.ask(root, "ses_1", "help", text="Yes.", toolCalls=json.dumps([call]))
    run = spans.add("Tool.execute", root, tool__name="task", session__id="ses_1", **{"tool.call_id": "call_1"})
    known = {"ai__toolCall__name": "task", "ai__toolCall__id": "call_1", "ai__toolCall__args": json.dumps(given)}
    done = json.dumps({"title": "t", "output": "it says so"})
    spans.add("ai.toolCall", around, ai__operationId="ai.toolCall", ai__toolCall__result=done, **known)
    spans.ask(spans.add("SessionPrompt.run", run), "ses_2", "read it", parent="ses_1", text="It says so.")
    ((document,), _) = converted([spans.write(tmp_path / "spans.jsonl")], tmp_path)
    (child,) = document["subagent_trajectories"]
    assert document["session_id"] == "ses_1"
    assert (child["agent"]["name"], child["agent"]["extra"]) == ("general", {"id": "ses_2"})
    assert [step["source"] for step in told(child)] == ["user", "agent"]
    (result,) = document["steps"][-1]["observation"]["results"]
    assert (result["content"], result["source_call_id"]) == ("it says so", "call_1")
    assert result["subagent_trajectory_ref"] == [{"trajectory_id": child["trajectory_id"]}]


def test_the_call_that_names_a_session_is_no_step(tmp_path: Path) -> None:
    spans = Spans()
    root = spans.add("SessionPrompt.run")
    spans.ask(spans.add("SessionPrompt.ensureTitle", root), "ses_1", "a title, please", text="A title")
    spans.ask(root, "ses_1", "hello", text="Hi.")
    ((document,), _) = converted([spans.write(tmp_path / "spans.jsonl")], tmp_path)
    assert [step["message"] for step in document["steps"]] == ["hello", "Hi."]


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ('"two words"', "two words"),
        ('"say \\"hi\\" twice"', 'say "hi" twice'),
        ('"one" and "two"', '"one" and "two"'),
        ("plain", "plain"),
    ],
)
def test_a_question_is_without_the_quote_marks_that_the_command_line_put_around_it(
    stored: str, asked: str, tmp_path: Path
) -> None:
    spans = Spans()
    spans.ask(spans.add("SessionPrompt.run"), "ses_1", stored, text="Hi.")
    ((document,), _) = converted([spans.write(tmp_path / "spans.jsonl")], tmp_path)
    assert document["steps"][0]["message"] == asked


def test_a_run_whose_span_of_the_sdk_was_lost_is_of_its_session(tmp_path: Path) -> None:
    spans = Spans()
    root = spans.add("SessionPrompt.run")
    spans.ask(root, "ses_1", "help", text="Yes.")
    spans.add("Tool.execute", root, tool__name="read", session__id="ses_1", **{"tool.call_id": "call_1"})
    hook = {"hook_event_name": "UserPromptSubmit", "session_id": "ses_1", "prompt": "help", "prompt_id": "msg_1"}
    kept = {"_spanrelay_hook": {"agent": "opencode", "time": SECOND, "hook": hook}}
    (tmp_path / "hooks.jsonl").write_text(json.dumps(kept))
    documents, _ = converted([spans.write(tmp_path / "spans.jsonl"), tmp_path / "hooks.jsonl"], tmp_path / "made")
    assert [document["session_id"] for document in documents] == ["ses_1"]
