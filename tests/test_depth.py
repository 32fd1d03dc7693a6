"""What a model or a program nests deeper than anybody looks is cut in the record, and costs nothing else."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.trajectory.program import Program, answers, calls, outline, says, user

from spanrelay import _guard, _json, use
from spanrelay._masking import MASK, mask_value
from spanrelay.observation.declarations import sanitizer
from spanrelay.observation.observers import Field, observers
from spanrelay.plugins.pii import Redactor, Rule
from spanrelay.plugins.pii_redaction import PiiRedactionConfig, Profile, sanitizers
from spanrelay.records import Message, Opaque, ToolCall, ToolDefinition
from spanrelay.semconv.values import structure
from spanrelay_testkit.capture import captured
from spanrelay_testkit.exchange import Answer, Request, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

DEPTHS = (50, 200, 300, 480, 900, 1000, 1020, 5000, 100_000)
KEY = "sk-" + "a1" * 20


def nested(depth: int, inside: str = "") -> str:
    """The JSON text of lists in lists."""
    return "[" * depth + inside + "]" * depth


def lists(depth: int, inside: Any = None) -> list[Any]:
    """Lists in lists."""
    value: Any = inside
    for _ in range(depth):
        value = [value]
    return value


@pytest.fixture(autouse=True)
def nothing_stays_registered() -> Iterator[None]:
    yield
    assert observers.entries == ()


@pytest.mark.parametrize("depth", DEPTHS)
def test_arguments_as_a_model_nests_them_leave_a_whole_document(tmp_path: Path, depth: int) -> None:
    program = Program(tmp_path)
    text = nested(depth)
    wanted = calls(("c1", "dig", text))
    root = program.agent(session_id="s")
    program.ask(root, [user("dig")], wanted)
    program.use(root, "dig", text, text)
    program.ask(root, [user("dig"), wanted, answers("c1", text)], says("done"))
    program.end(root)
    document = program.document()
    assert outline(document) == ["user: dig", "agent: ", "agent: done"]
    assert len(document["steps"][1]["observation"]["results"]) == 1


@pytest.mark.parametrize("depth", [50, 200, 300, 480, 900])
def test_values_as_a_program_nests_them_leave_a_whole_document(tmp_path: Path, depth: int) -> None:
    program = Program(tmp_path)
    deep = lists(depth)
    wanted = Message("assistant", [ToolCall("c1", "dig", {"path": deep}), Opaque("odd", {"a": deep})])
    root = program.agent(session_id="s", metadata={"deep": deep})
    tools = [ToolDefinition("dig", None, {"type": "object", "properties": deep})]
    asked = [user("dig"), Message("user", [Opaque("odd", deep)])]
    program.ask(root, asked, wanted, tools=tools, parameters={"output_type": deep}, known={"metadata": {"deep": deep}})
    program.use(root, "dig", {"path": deep}, {"found": deep})
    program.ask(root, [*asked, wanted, answers("c1", deep)], says("done"), tools=tools)
    program.end(root)
    document = program.document()
    assert outline(document)[-1] == "agent: done"
    assert document["steps"][2]["tool_calls"][0]["function_name"] == "dig"


@sanitizer
def unchanged(field: Field) -> Any:
    return field.value


@pytest.mark.parametrize("dialect", ["genai", "openinference"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_model_that_nests_deep_is_recorded_and_answers_as_ever(depth: int, dialect: str) -> None:
    import openai

    from spanrelay_openai import OpenAIInstrumentor

    text = nested(depth, f'"{KEY}"')

    def answer(request: Request) -> Answer:
        return reply(tool_calls=[tool_call("dig", text)])

    hide = sanitizers(PiiRedactionConfig(builtin=Profile("redact", detector="all")))
    instrumentor = OpenAIInstrumentor()
    with ModelServer(answer) as server, captured(dialect=dialect) as capture, ExitStack() as using:
        for each in (unchanged, *hide):
            using.enter_context(use(each))
        instrumentor.instrument(tracer_provider=capture.provider)
        try:
            client = using.enter_context(openai.OpenAI(base_url=server.url, api_key="none"))
            given = client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
        finally:
            instrumentor.uninstrument()
        told = "".join(span.to_json() for span in capture.spans)
    (call,) = given.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.arguments == text
    assert KEY not in told
    assert "dig" in told


def test_what_is_nested_too_deep_to_be_masked_is_left_out() -> None:
    assert KEY not in json.dumps(mask_value(lists(_json.MAX_DEPTH - 1, KEY)))
    assert MASK in json.dumps(mask_value(lists(_json.MAX_DEPTH - 1, KEY)))
    for depth in (_json.MAX_DEPTH + 2, 300, 5000):
        assert KEY not in json.dumps(mask_value(lists(depth, KEY)))


def test_every_walk_ends_at_the_same_depth() -> None:
    deep = lists(5000, KEY)
    hidden = Redactor([Rule("mask", detector="api_key")]).redact
    walks: list[Callable[[Any], Any]] = [mask_value, structure, hidden, lambda v: _json.loads(_json.dumps(v))]
    for walk in walks:
        text = json.dumps(walk(deep))
        assert _json.TOO_DEEP in text
        assert text.count("[") <= _json.MAX_DEPTH + 2


def test_equal_values_are_equal_whatever_the_order_of_their_names() -> None:
    one, other = {"b": 1, "a": {"d": 1, "c": "\ud800"}}, {"a": {"c": "\ud800", "d": 1}, "b": 1}
    assert _json.dumps_sorted(one) == _json.dumps_sorted(other)
    assert _json.dumps_sorted({"b": 1, "a": 2}) == '{"a":2,"b":1}'


def test_json_that_nobody_can_read_is_told_as_such() -> None:
    with pytest.raises(ValueError, match="nested too deep"):
        _json.loads(nested(200_000))


@pytest.mark.swallows
def test_a_failure_of_ours_fills_a_few_lines_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def down(depth: int) -> list[Any]:
        return [down(depth + 1) for _ in range(1)]

    with caplog.at_level(logging.WARNING, "spanrelay"), _guard.guarded("going down a well"):
        down(0)
    assert "RecursionError" in caplog.text
    assert caplog.text.count("\n") < 60
    assert _guard.losses.take() == {"failures while going down a well": 1}
