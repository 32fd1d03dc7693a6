"""Sessions of opencode are read from its database and from what it exports, and tell the same."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.conversion.captures import converted, told

from spanrelay.otlp_in import databases, files

Row = dict[str, Any]
SESSION = "ses_1"


def tokens(given: int) -> Row:
    return {"input": given, "output": 3, "reasoning": 2, "cache": {"read": 4, "write": 1}}


def text(words: str, **more: Any) -> Row:
    return {"type": "text", "text": words, **more}


def tool(key: str, **state: Any) -> Row:
    given = {
        "status": "completed",
        "input": {"filePath": "a"},
        "output": "4711",
        "time": {"start": 2_100, "end": 2_200},
    }
    return {"type": "tool", "tool": "read", "callID": key, "state": {**given, **state}}


def user(at: int, *parts: Row) -> tuple[Row, list[Row]]:
    return {"role": "user", "time": {"created": at}}, list(parts)


def answer(at: int, *parts: Row, **more: Any) -> tuple[Row, list[Row]]:
    finish = {"type": "step-finish", "reason": "stop", "tokens": tokens(at)}
    times = {"created": at, "completed": at + 500}
    return {"role": "assistant", "modelID": "m", "time": times, **more}, [{"type": "step-start"}, *parts, finish]


SAID = [
    user(1_000, text('"Read \\"a\\", please."')),
    answer(2_000, {"type": "reasoning", "text": "A file."}, text("I look."), tool("c1")),
    answer(3_000, text("4711.")),
    user(4_000, text("Again.")),
    answer(5_000, tool("c1", status="error", error="gone", time={"start": 5_100, "end": 5_200})),
    answer(6_000, text("Gone.")),
]


def rows(said: list[tuple[Row, list[Row]]], session: str = SESSION, **more: Any) -> list[tuple[str, Row]]:
    """Return the rows of a session, by their tables."""
    found: list[tuple[str, Row]] = [("session", {"id": session, "version": "1.18.33", "time_created": 900, **more})]
    for number, (message, parts) in enumerate(said):
        key, created = f"msg_{session}_{number}", message["time"]["created"]
        common = {"session_id": session, "time_created": created}
        found.append(("message", {"id": key, "data": message, **common}))
        for place, part in enumerate(parts):
            found.append(("part", {"id": f"prt_{number}_{place}", "message_id": key, "data": part, **common}))
    return found


def database(path: Path, *sessions: list[tuple[str, Row]]) -> Path:
    columns = {
        "session": ("id", "version", "time_created", "parent_id", "revert"),
        "message": ("id", "session_id", "time_created", "data"),
        "part": ("id", "message_id", "session_id", "time_created", "data"),
    }
    with closing(sqlite3.connect(path)) as made, made:
        for table, names in columns.items():
            made.execute(f"CREATE TABLE {table} ({', '.join(names)})")
        for table, row in (each for session in sessions for each in session):
            values = [row.get(name) for name in columns[table]]
            given = [json.dumps(value) if isinstance(value, dict) else value for value in values]
            made.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(given))})", given)
    return path


def exported(path: Path, said: list[tuple[Row, list[Row]]]) -> Path:
    messages = [
        {
            "info": {**message, "id": f"msg_{number}", "sessionID": SESSION},
            "parts": [{**part, "id": f"prt_{place}"} for place, part in enumerate(parts)],
        }
        for number, (message, parts) in enumerate(said)
    ]
    info = {"id": SESSION, "version": "1.18.33", "time": {"created": 900}}
    path.write_text(json.dumps({"info": info, "messages": messages}, indent=2))
    return path


EXPECTED = [
    {"source": "user", "message": 'Read "a", please.'},
    {
        "source": "agent",
        "message": "I look.",
        "reasoning": "A file.",
        "calls": {"c1": ("read", {"filePath": "a"})},
        "results": {"c1": "4711"},
        "tokens": (2_005, 5, 4),
    },
    {"source": "agent", "message": "4711.", "tokens": (3_005, 5, 4)},
    {"source": "user", "message": "Again."},
    {
        "source": "agent",
        "message": "",
        "calls": {"c1 of 4": ("read", {"filePath": "a"})},
        "results": {"c1 of 4": "gone"},
        "failed": {"c1 of 4"},
        "tokens": (5_005, 5, 4),
    },
    {"source": "agent", "message": "Gone.", "tokens": (6_005, 5, 4)},
]


def as_expected(document: Row) -> str:
    """Return what a document tells; an id that a model gave twice is known by the message it was in."""
    return repr(told(document)).replace(f"of msg_{SESSION}_4", "of 4").replace("of msg_4", "of 4")


def test_a_database_and_an_export_tell_the_same(tmp_path: Path) -> None:
    sources = [database(tmp_path / "opencode.db", rows(SAID)), exported(tmp_path / "export.json", SAID)]
    assert [files.is_telemetry(source) for source in sources] == [True, True]
    for number, source in enumerate(sources):
        (document,), summary = converted([source], tmp_path / f"{number}")
        assert summary.findings == []
        assert as_expected(document) == repr(EXPECTED)
        assert (document["session_id"], document["agent"]["version"]) == (SESSION, "1.18.33")


def test_what_was_taken_back_is_left_out_as_its_agent_does(tmp_path: Path) -> None:
    source = database(tmp_path / "opencode.db", rows(SAID, revert={"messageID": f"msg_{SESSION}_3"}))
    (document,), _ = converted([source], tmp_path / "out")
    assert [step["message"] for step in document["steps"]] == ['Read "a", please.', "I look.", "4711."]


def test_sessions_of_one_database_are_documents_and_those_of_sub_agents_within_theirs(tmp_path: Path) -> None:
    began = tool("c1", input={"subagent_type": "general"}, metadata={"sessionId": "ses_2"})
    main = rows([user(1_000, text("Use a helper.")), answer(2_000, began), answer(3_000, text("Done."))])
    child = rows([user(2_110, text("Help.")), answer(2_150, text("Helped."))], "ses_2", parent_id=SESSION)
    other = rows([user(1_000, text("Hello.")), answer(2_000, text("Hi."))], "ses_3")
    documents, _ = converted([database(tmp_path / "opencode.db", main, child, other)], tmp_path / "out")
    assert [each["session_id"] for each in documents] == [SESSION, "ses_3"]
    (helper,) = documents[0]["subagent_trajectories"]
    assert (helper["agent"]["name"], helper["agent"]["extra"]["id"]) == ("general", "ses_2")
    assert [step["message"] for step in helper["steps"]] == ["Help.", "Helped."]


def test_sessions_are_taken_out_of_a_database_with_those_that_they_began(tmp_path: Path) -> None:
    sessions = [
        rows([user(1_000, text("Hello."))], key, parent_id=above)
        for key, above in [("ses_1", None), ("ses_2", "ses_1"), ("ses_3", "ses_2"), ("ses_4", None)]
    ]
    path = database(tmp_path / "opencode.db", *sessions)
    wanted = {place.partition(" ")[2] for place, _ in databases.rows_of(path, {"ses_1"}) if "session" in place}
    assert wanted == {"ses_1", "ses_2", "ses_3"}
    assert len(list(databases.rows_of(path, {"ses_1"}))) == 9
    assert list(databases.rows_of(path, {"ses_none"})) == []
    assert {file.name for file in tmp_path.iterdir()} == {"opencode.db"}


def test_what_a_call_cost_is_told_where_prices_are_known(tmp_path: Path) -> None:
    message, (begin, finish) = answer(2_000)
    said = [user(1_000, text("Hello.")), (message, [begin, text("Hi."), {**finish, "cost": 0.25}])]
    said += [user(3_000, text("More.")), (message | {"time": {"created": 4_000}}, [begin, {**finish, "cost": 0}])]
    (document,), _ = converted([database(tmp_path / "opencode.db", rows(said))], tmp_path / "out")
    assert [(step.get("metrics") or {}).get("cost_usd") for step in document["steps"]] == [None, 0.25, None, None]


def test_a_call_that_a_hook_refused_is_told_to_be_refused(tmp_path: Path) -> None:
    said = [user(1_000, text("Read a.")), answer(2_000, tool("c1", status="error", error="not that"))]
    decided = {"permissionDecision": "deny", "permissionDecisionReason": "not that"}
    hook = {"hook_event_name": "PreToolUse", "session_id": SESSION, "tool_name": "read", "tool_use_id": "c1"}
    kept = {"agent": "opencode", "time": 2_050_000_000, "hook": {**hook, "tool_input": {"filePath": "a"}}}
    answered = {"answer": json.dumps({"hookSpecificOutput": decided})}
    (tmp_path / "hooks.jsonl").write_text(json.dumps({"_spanrelay_hook": {**kept, **answered}}))
    sources = [database(tmp_path / "opencode.db", rows(said)), tmp_path / "hooks.jsonl"]
    (document,), summary = converted(sources, tmp_path / "out")
    assert summary.findings == []
    (call,) = document["steps"][1]["tool_calls"]
    assert call["extra"]["refused"]


def test_a_message_of_several_model_calls_is_as_many_steps_and_one_that_failed_says_so(tmp_path: Path) -> None:
    message, first = answer(2_000, tool("c1"))
    _, second = answer(3_000, text("Done."))
    failed = answer(5_000, error={"name": "APIError", "data": {"message": "503 down"}})
    said = [user(1_000, text("Read a.")), (message, [*first, *second]), user(4_000, text("More.")), failed]
    (document,), _ = converted([exported(tmp_path / "export.json", said)], tmp_path / "out")
    assert [step["source"] for step in document["steps"]] == ["user", "agent", "agent", "user", "agent"]
    assert document["steps"][-1]["extra"]["error"]["message"] == "503 down"


def test_what_the_program_says_in_a_users_place_is_not_the_users(tmp_path: Path) -> None:
    said = [user(1_000, text("Go on.", synthetic=True)), answer(2_000, text("Done."))]
    (document,), _ = converted([exported(tmp_path / "export.json", said)], tmp_path / "out")
    assert [step["source"] for step in document["steps"]] == ["system", "agent"]


@pytest.mark.parametrize("cut", [False, True])
def test_a_database_that_is_of_others_or_damaged_is_named(cut: bool, tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    if cut:
        database(path, rows(SAID * 50))
        path.write_bytes(path.read_bytes()[:9_000])
    else:
        with closing(sqlite3.connect(path)) as made, made:
            made.execute("CREATE TABLE session (id)")
        assert not files.is_telemetry(path)
    _, summary = converted([path], tmp_path / "out")
    assert [finding.place for finding in summary.findings] == [str(path)]
