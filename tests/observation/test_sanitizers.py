"""Sanitizers: what they return is all that is recorded, and the call never notices."""

from __future__ import annotations

import contextvars
import logging
import operator
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, Status, StatusCode

from spanrelay import _guard, mark, run_tool, scope, tracing, use
from spanrelay.observation import sieve
from spanrelay.observation.declarations import metadata_injector, sanitizer
from spanrelay.observation.observers import Field, observers
from spanrelay.pipeline.managed import run_model
from spanrelay.records import SpanRecord
from spanrelay.telemetry.front import put_in_front
from spanrelay.telemetry.processor import RelaySpanProcessor
from spanrelay.telemetry.projection import SanitizedView
from spanrelay.telemetry.worker import Worker
from spanrelay.tracing import Tracing
from spanrelay_testkit.capture import Capture, asked, captured, said

SECRET = "4111-1111"
HIDDEN = "[card]"


def hide(value: Any) -> Any:
    """`value` with the secret hidden wherever it stands."""
    if isinstance(value, str):
        return value.replace(SECRET, HIDDEN)
    if isinstance(value, dict):
        return {hide(key): hide(item) for key, item in value.items()}
    return [hide(item) for item in value] if isinstance(value, list) else value


@sanitizer
def cards(field: Field) -> Any:
    return hide(field.value)


@pytest.fixture(autouse=True)
def nothing_stays_registered() -> Iterator[None]:
    yield
    assert observers.entries == ()


def told(capture: Capture) -> str:
    """Everything that an exporter can read of the spans."""
    return "".join(span.to_json() for span in capture.spans)


def answer(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"id": "r", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def ask(text: str) -> Any:
    request = {"model": "m", "messages": [{"role": "user", "content": text}], "user": text}
    return run_model(lambda wire: answer(f"you said {wire['messages'][0]['content']}"), request)


def test_a_model_call_is_recorded_as_sanitized_and_made_as_asked(capture: Capture) -> None:
    with use(cards):
        given = ask(f"pay with {SECRET}")
    assert given["choices"][0]["message"]["content"] == f"you said pay with {SECRET}"
    assert asked(capture.span) == f"pay with {HIDDEN}"
    assert said(capture.span) == f"you said pay with {HIDDEN}"
    assert SECRET not in told(capture)


def test_a_tool_call_is_recorded_as_sanitized_and_the_tools_objects_stay_as_they_are(capture: Capture) -> None:
    arguments, result = {"card": SECRET}, {"paid": [SECRET]}

    @sanitizer
    def in_place(field: Field) -> Any:
        if field.name == "arguments":
            field.value["card"] = HIDDEN
        if field.name == "result":
            field.value["paid"].clear()
        return field.value

    with use(in_place):
        assert run_tool("pay", lambda card: result, arguments) is result
        attributes = dict(capture.span.attributes or {})
    assert (arguments, result) == ({"card": SECRET}, {"paid": [SECRET]})
    assert attributes["gen_ai.tool.call.arguments"] == f'{{"card":"{HIDDEN}"}}'
    assert attributes["gen_ai.tool.call.result"] == '{"paid":[]}'


def test_everything_readable_of_our_spans_is_sanitized() -> None:
    provider = TracerProvider(shutdown_on_exit=False, resource=Resource({"service.name": SECRET, "host": SECRET}))
    exporter = InMemorySpanExporter()
    put_in_front(RelaySpanProcessor(content=True), provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.adopt(provider)
    own = tracing.default_tracing()
    before = own._provider
    own.use(provider)
    try:
        agent = scope(f"agent {SECRET}", session=SECRET, user=SECRET, metadata={"a": [SECRET]})
        with use(cards), pytest.raises(ValueError, match=SECRET), agent as work:
            mark(f"mark {SECRET}", {"b": SECRET})
            assert work.span is not None
            work.span.set_attribute("extra", SECRET)
            work.span.add_link(work.span.get_span_context(), {"c": SECRET})
            raise ValueError(f"no {SECRET}")
    finally:
        own.use(before)
        tracing.abandon(provider)
    [span] = exporter.get_finished_spans()
    assert SECRET not in span.to_json()
    assert span.resource.attributes["host"] == HIDDEN
    assert span.name == f"invoke_agent agent {HIDDEN}"
    assert span.status.description == f"no {HIDDEN}"
    assert span.events[0].name == f"mark {HIDDEN}"
    attributes = span.attributes or {}
    assert (attributes["session.id"], attributes["user.id"], attributes["extra"]) == (HIDDEN, HIDDEN, HIDDEN)
    assert attributes["metadata"] == f'{{"a":["{HIDDEN}"]}}'


def test_sanitizers_run_in_order_of_priority_each_on_what_the_one_before_left(capture: Capture) -> None:
    @sanitizer(fields=["result"], priority=2)
    def last(field: Field) -> str:
        return field.value + " last"

    @sanitizer(fields=["result"], priority=1)
    def first(field: Field) -> str:
        return field.value + " first"

    with use(last), use(first):
        run_tool("t", lambda: "done")
    assert (capture.span.attributes or {})["gen_ai.tool.call.result"] == "done first last"


def test_an_answer_that_others_have_given_is_not_looked_at_again(capture: Capture) -> None:
    """Counted, not timed: ten sanitizers of which one changes a request are two looks at each field, not ten."""
    names = [f"same-{number}" for number in range(9)]
    looks: list[str] = []

    def look(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code is sieve._is_exchange.__code__:
            looks.append(frame.f_code.co_name)

    with ExitStack() as registered:
        for name in names:
            registered.enter_context(use(sanitizer(name=name)(lambda field: field.value)))
        registered.enter_context(use(cards))
        sys.setprofile(look)
        try:
            ask(SECRET)
            read = told(capture)
        finally:
            sys.setprofile(None)
    assert SECRET not in read
    assert HIDDEN in read
    assert 0 < len(looks) <= 4


@pytest.mark.swallows
@pytest.mark.parametrize(
    "odd", [{"messages": [{"role": "user"}]}, {"messages": "text"}, None, 7, {"tools": [object()]}]
)
def test_what_does_not_fit_is_left_out_though_others_have_answered_before(capture: Capture, odd: Any) -> None:
    def change(field: Field) -> Any:
        return odd if field.name == "request" else field.value

    with use(sanitizer(name="a")(lambda field: field.value)), use(sanitizer(name="b")(change)):
        ask(SECRET)
        attributes = dict(capture.span.attributes or {})
    assert "gen_ai.input.messages" not in attributes
    assert set(_guard.losses.take()) == {"fields left out because the sanitizer 'b' failed"}


def test_a_sanitizer_sees_only_the_fields_and_kinds_it_names(capture: Capture) -> None:
    seen: list[tuple[str, str | None]] = []

    @sanitizer(fields=["result", "request"], kinds=["tool"])
    def watch(field: Field) -> Any:
        seen.append((field.name, field.kind))
        return field.value

    with use(watch):
        run_tool("t", lambda x: x, {"x": 1})
        ask("hello")
        told(capture)
    assert seen == [("result", "tool")]


def test_a_field_name_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fields= names 'reply'; use some of request, response"):
        sanitizer(fields=["reply"])(hide)  # pyright: ignore[reportArgumentType] - the mistake


def test_a_sanitizer_cannot_be_a_coroutine_function() -> None:
    async def later(field: Field) -> Any:
        return field.value

    with pytest.raises(TypeError, match="must be a plain function"):
        sanitizer(later)


@pytest.mark.swallows
def test_a_coroutine_that_comes_out_of_a_plain_function_is_told_and_left_behind_nowhere(
    capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    async def later(_: Any) -> Any: ...

    hides = sanitizer(fields=["arguments"])(lambda field: later(field))
    adds = metadata_injector(name="adds")(lambda record: later(record))
    with use(hides), use(adds):
        run_tool("t", lambda card: 1, SECRET)
    assert SECRET not in told(capture)
    assert "returned a coroutine, which nothing awaits here: it must be a plain function" in caplog.text
    assert sorted(_guard.losses.take().values()) == [1, 1]


def test_a_mark_on_a_span_of_another_provider_is_sanitized(capture: Capture) -> None:
    exporter = InMemorySpanExporter()
    other = TracerProvider(shutdown_on_exit=False)
    other.add_span_processor(SimpleSpanProcessor(exporter))
    with use(cards), other.get_tracer("other").start_as_current_span("theirs"):
        mark("paid", {"with": SECRET})
    (span,) = exporter.get_finished_spans()
    assert [dict(event.attributes or {}) for event in span.events] == [{"with": HIDDEN}]


def test_a_field_is_read_once_and_not_on_the_thread_of_the_call(capture: Capture) -> None:
    seen: list[str] = []

    @sanitizer(fields=["result"])
    def note(field: Field) -> Any:
        seen.append(threading.current_thread().name)
        return field.value

    with use(note):
        run_tool("t", lambda: "done")
        assert seen == []
        with ThreadPoolExecutor(4, thread_name_prefix="reader") as pool:
            list(pool.map(lambda _: capture.span.to_json(), range(8)))
    assert len(seen) == 1
    assert seen[0].startswith("reader")


def test_nothing_raw_is_left_behind_the_view(capture: Capture) -> None:
    with use(cards):
        run_tool("pay", lambda card: card, {"card": SECRET})
        view = capture.span
        view.to_json()
    assert isinstance(view, SanitizedView)
    assert view._ended._recorded is None
    assert SECRET not in repr(view._ended.record)


def broken_in(*fields: str) -> Any:
    @sanitizer(name="broken", fields=fields)  # pyright: ignore[reportArgumentType] - given by the test
    def broken(field: Field) -> Any:
        raise RuntimeError(f"cannot read {field.value}")

    return broken


@pytest.mark.swallows
def test_a_sanitizer_that_raises_loses_its_field_and_not_the_span(
    capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), use(broken_in("arguments", "mark", "name", "error")):
        with pytest.raises(ValueError, match=SECRET), scope("w", kind="tool", arguments=SECRET) as tool:
            tool.set_result("kept")
            mark(SECRET)
            raise ValueError(SECRET)
        shown = told(capture)
    assert SECRET not in shown + caplog.text
    assert capture.span.name == "execute_tool"
    assert (capture.span.attributes or {})["gen_ai.tool.call.result"] == "kept"
    assert capture.span.status.status_code is StatusCode.ERROR
    assert set(_guard.losses.take()) == {"fields left out because the sanitizer 'broken' failed"}


def test_numbers_of_any_length_pass_through_sanitizers(capture: Capture) -> None:
    number = 123456789012345678901234567890
    seen: list[Any] = []

    def look(field: Field) -> Any:
        seen.append(field.value)
        return field.value

    first, second = (sanitizer(name=name, fields=["arguments"])(look) for name in ("first", "second"))
    with use(first), use(second):
        with scope("w", kind="tool", arguments={"n": number}):
            pass
        shown = told(capture)
    assert len(seen) == 2
    assert str(seen[0]) == str(seen[1])
    assert str(number) in shown


@pytest.mark.swallows
@pytest.mark.parametrize("returned", [None, object(), {"messages": "all"}, {"messages": [{"role": "user"}]}, SECRET])
def test_what_is_no_such_field_is_not_recorded(returned: Any) -> None:
    with captured() as capture, use(sanitizer(name="s", fields=["request"])(lambda field: returned)):
        ask(SECRET)
        assert asked(capture.span) == ""
        assert "you said" in said(capture.span)


@pytest.mark.swallows
@pytest.mark.parametrize(
    ("field", "returned", "told"),
    [
        ("request", None, "returned None, where a dict of 'messages', "),
        ("request", SECRET, "returned a 'str', where a dict of 'messages', "),
        ("response", {"messages": SECRET}, "returned a 'dict', where a dict of 'messages' and"),
        ("name", 5, "returned a 'int', where a str is expected (field.value, or a changed one)"),
        (
            "request",
            {"messages": [], "parameters": {"x": object()}},
            "returned a 'dict' that is not JSON throughout; return plain",
        ),
    ],
)
def test_a_wrong_answer_is_told_by_its_type_and_what_was_expected(
    caplog: pytest.LogCaptureFixture, field: Any, returned: Any, told: str
) -> None:
    with captured(), use(sanitizer(name="s", fields=field)(lambda field: returned)):
        ask(SECRET)
    assert f"sanitizer 's', given {field!r}, {told}" in caplog.text
    assert "the field is left out" in caplog.text
    assert "sieve.py" not in caplog.messages[0]
    assert SECRET not in caplog.text


@pytest.mark.swallows
def test_a_sanitizer_that_raises_is_told_by_its_own_line(caplog: pytest.LogCaptureFixture) -> None:
    with captured(), use(broken_in("name")):
        ask(SECRET)
    assert re.search(rf"sanitizer 'broken', given 'name', raised \w+ at {re.escape(__file__)}:\d+; the", caplog.text)


@pytest.mark.swallows
def test_a_sanitizer_that_cannot_be_called_with_a_field_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    with captured(), use(sanitizer(name="s", fields=["name"])(operator.index)):
        ask(SECRET)
    assert "raised TypeError when it was called with the field as its one argument; the field" in caplog.text


@pytest.mark.swallows
@pytest.mark.parametrize(
    "field",
    ["request", "response", "arguments", "result", "input", "output", "mark", "metadata", "error", "name", "resource"],
)
def test_whatever_field_breaks_the_span_is_exported_without_it(field: str) -> None:
    with captured() as capture, use(broken_in(field)):
        with scope("outer", metadata={"m": "metadata"}):
            mark("a mark")
            ask("a question")
            with pytest.raises(ValueError, match="an error"):
                run_tool("t", raising, {"x": "arguments"})
        assert len(capture.spans) == 3
        for span in capture.spans:
            span.to_json()


def raising(x: str) -> None:
    raise ValueError("an error")


@contextmanager
def below(name: str, entry: Any) -> Iterator[None]:
    with scope(name) as entered:
        entered.use(entry)
        yield


def test_a_scopes_sanitizer_sees_the_scope_and_what_is_below_and_nothing_beside(capture: Capture) -> None:
    with scope("outer"):
        with below("inner", sanitizer(name="s", fields=["result"])(lambda field: "hidden")):
            run_tool("inside", lambda: "result")
        run_tool("beside", lambda: "result")
    results = {span.name: (span.attributes or {}).get("gen_ai.tool.call.result") for span in capture.of("TOOL")}
    assert results == {"execute_tool inside": "hidden", "execute_tool beside": "result"}


def test_siblings_on_threads_never_get_each_others_sanitizers(capture: Capture) -> None:
    together = threading.Barrier(8)

    def work(number: int) -> None:
        with below(f"w{number}", sanitizer(name="s", fields=["result"])(lambda field: f"{field.value} {number}")):
            together.wait(10)
            for _ in range(5):
                run_tool(f"t{number}", lambda: str(number))
                capture.tracer().start_span("theirs", attributes={"gen_ai.tool.call.result": str(number)}).end()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    results = [str((span.attributes or {})["gen_ai.tool.call.result"]) for span in capture.spans if span.name[0] != "i"]
    assert sorted(results) == sorted(f"{n} {n}" for n in range(8) for _ in range(10))


def test_a_sanitizer_holds_for_a_span_that_outlives_it(capture: Capture) -> None:
    handle = use(cards)
    theirs = capture.tracer().start_span("theirs")
    with scope("w", kind="tool", arguments=SECRET):
        handle.remove()
    theirs.set_attribute("prompt", SECRET)
    theirs.end()
    assert SECRET not in told(capture)


def test_a_sanitizer_sees_the_context_variables_of_the_call(capture: Capture) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")

    @sanitizer(fields=["result"])
    def by_tenant(field: Field) -> str:
        return tenant.get()

    def work(name: str) -> None:
        tenant.set(name)
        run_tool("t", lambda: "result")

    with use(by_tenant):
        contextvars.copy_context().run(work, "a")
        contextvars.copy_context().run(work, "b")
    assert [(s.attributes or {})["gen_ai.tool.call.result"] for s in capture.spans] == ["a", "b"]


def test_what_a_sanitizer_does_is_not_recorded(capture: Capture) -> None:
    @sanitizer(fields=["result"])
    def asks(field: Field) -> str:
        return run_tool("judge", lambda: "judged")

    with use(asks):
        run_tool("t", lambda: "result")
        assert (capture.span.attributes or {})["gen_ai.tool.call.result"] == "judged"


def test_a_provider_that_is_not_adopted_gets_sanitized_records() -> None:
    with captured(adopted=False) as capture, use(cards):
        with pytest.raises(ValueError, match=SECRET), scope("w", session=SECRET):
            mark("m", {"a": SECRET})
            run_tool("pay", lambda card: card, {"card": SECRET})
            raise ValueError(SECRET)
        assert SECRET not in told(capture)


# --- spans of other instrumentation ------------------------------------------------------------------------


def test_foreign_spans_are_sanitized_in_every_place(capture: Capture) -> None:
    with use(cards):
        context = capture.tracer().start_span("linked")
        span = capture.tracer().start_span(f"theirs {SECRET}", links=[Link(context.get_span_context(), {"a": SECRET})])
        span.set_attribute(
            "gen_ai.input.messages", f'[{{"role":"user","parts":[{{"type":"text","content":"{SECRET}"}}]}}]'
        )
        span.set_attribute("llm.input_messages.0.message.content", SECRET)
        span.set_attribute("llm.input_messages.0.message.role", "user")
        span.set_attribute("output.value", f'{{"card":"{SECRET}"}}')
        span.set_attribute("prompts", ["one", SECRET])
        span.set_attribute("structured", {"deep": {"card": SECRET}})
        span.set_attribute("gen_ai.request.model", "m")
        span.add_event(f"event {SECRET}", {"card": SECRET})
        span.record_exception(ValueError(SECRET))
        span.set_status(Status(StatusCode.ERROR, SECRET))
        span.end()
        context.end()
    attributes = dict(capture.spans[0].attributes or {})
    assert SECRET not in told(capture)
    assert attributes["llm.input_messages.0.message.content"] == HIDDEN
    assert attributes["llm.input_messages.0.message.role"] == "user"
    assert attributes["output.value"] == f'{{"card":"{HIDDEN}"}}'
    assert attributes["prompts"] == ("one", HIDDEN)
    assert attributes["gen_ai.request.model"] == "m"
    assert capture.spans[0].status.description == HIDDEN


FIELDS = [
    ("gen_ai.input.messages", '[{"role":"user","parts":[{"type":"text","content":"x"}]}]', "request"),
    ("gen_ai.output.messages", '[{"role":"assistant","parts":[{"type":"text","content":"x"}]}]', "response"),
    ("gen_ai.system_instructions", '[{"type":"text","content":"x"}]', "request"),
    ("gen_ai.tool.call.arguments", '{"a":1}', "arguments"),
    ("gen_ai.tool.call.result", '{"a":1}', "result"),
    ("input.value", '{"a":1}', "input"),
    ("output.value", "text", "output"),
    ("llm.input_messages.0.message.content", "text", "request"),
    ("llm.output_messages.0.message.content", "text", "response"),
    ("gen_ai.prompt.0.content", "text", "request"),
    ("gen_ai.completion.0.content", "text", "response"),
    ("metadata", '{"a":1}', "metadata"),
    ("session.id", "text", "attribute"),
    ("whatever", "text", "attribute"),
]


@pytest.mark.parametrize(("key", "value", "field"), FIELDS, ids=[key for key, _, _ in FIELDS])
def test_an_attribute_is_shown_as_the_field_it_holds(capture: Capture, key: str, value: str, field: str) -> None:
    seen: list[str] = []

    @sanitizer(fields=["request", "response", "arguments", "result", "input", "output", "metadata", "attribute"])
    def watch(shown: Field) -> Any:
        seen.append(shown.name)
        return shown.value

    with use(watch):
        span = capture.tracer().start_span("theirs")
        span.set_attribute(key, value)
        span.end()
    assert seen == [field]
    assert (capture.span.attributes or {})[key] == value


def test_input_and_output_of_a_foreign_tool_are_its_arguments_and_result(capture: Capture) -> None:
    with use(sanitizer(name="s", fields=["arguments", "result"])(lambda field: field.name)):
        span = capture.tracer().start_span("theirs", attributes={"openinference.span.kind": "TOOL"})
        span.set_attributes({"input.value": '{"a":1}', "output.value": "x"})
        span.end()
    attributes = capture.span.attributes or {}
    assert (attributes["input.value"], attributes["output.value"]) == ("arguments", "result")


@pytest.mark.swallows
def test_foreign_spans_lose_what_a_sanitizer_cannot_read(capture: Capture) -> None:
    with use(broken_in("attribute", "mark")):
        span = capture.tracer().start_span("theirs", attributes={"prompt": SECRET, "gen_ai.request.model": "m", "n": 1})
        span.add_event(SECRET)
        span.end()
    assert dict(capture.span.attributes or {}) == {"gen_ai.request.model": "m", "n": 1}
    assert capture.span.events == ()


def test_a_value_that_is_not_idempotent_is_made_once_also_for_inherited_identity(capture: Capture) -> None:
    @sanitizer(fields=["attribute", "metadata"])
    def once(field: Field) -> Any:
        if field.name == "metadata":
            return {**field.value, "times": field.value.get("times", 0) + 1}
        return {**field.value, "value": f"<{field.value['value']}>"}

    with use(once), scope("w", session="s", metadata={"a": 1}):
        capture.tracer().start_span("theirs").end()
        run_tool("t", lambda: None)
    for span in capture.spans:
        attributes = span.attributes or {}
        assert attributes["session.id"] == attributes["gen_ai.conversation.id"] == "<s>"
        assert attributes["metadata"] == '{"a":1,"times":1}'


# --- what else reads records -------------------------------------------------------------------------------


class Kept:
    """A sink that keeps what it is fed."""

    dirty = False

    def __init__(self) -> None:
        self.records: list[SpanRecord] = []

    def start(self, record: SpanRecord) -> None:
        self.records.append(record)

    end = start

    def idle(self) -> None: ...

    def flush(self, timeout: float, /) -> bool:
        return True

    def shutdown(self) -> None: ...


def test_trajectories_and_metrics_read_the_sanitized_record() -> None:
    sink, measured = Kept(), list[SpanRecord]()
    worker = Worker(lambda: sink, measured.append)
    provider = TracerProvider(shutdown_on_exit=False)
    put_in_front(RelaySpanProcessor(worker), provider)
    tracing.adopt(provider)
    try:
        with use(cards):
            run_tool("pay", lambda card: card, {"card": SECRET}, tracing=Tracing("spanrelay_test", provider=provider))
            span = provider.get_tracer("app").start_span(f"theirs {SECRET}", attributes={"input.value": SECRET})
            span.end()
            assert worker.flush(10)
    finally:
        tracing.abandon(provider)
        worker.shutdown(10)
    assert len(sink.records) == 4
    assert SECRET not in repr((sink.records, measured))


# --- metadata injectors ------------------------------------------------------------------------------------


def test_an_injector_adds_to_the_metadata_and_what_is_there_stays(capture: Capture) -> None:
    @metadata_injector
    def tenant(record: SpanRecord) -> dict[str, Any]:
        return {"tenant.id": record.name, "team": "other"}

    with use(tenant), scope("w", metadata={"team": "mine"}):
        run_tool("t", lambda: None)
        capture.tracer().start_span("theirs", attributes={"team": "theirs"}).end()
    tool, theirs, own = capture.spans
    assert (tool.attributes or {})["metadata"] == '{"tenant.id":"execute_tool t","team":"mine"}'
    assert (own.attributes or {})["metadata"] == '{"tenant.id":"invoke_agent w","team":"mine"}'
    attributes = theirs.attributes or {}
    assert (attributes["tenant.id"], attributes["team"]) == ("theirs", "theirs")


@pytest.mark.swallows
@pytest.mark.parametrize("entries", [{"a b": 1}, {"a": None}, {"a": {}}, {"a": [1, "b"]}, {"a": float("nan")}, ["a"]])
def test_one_invalid_entry_and_nothing_of_an_injector_is_added(entries: Any) -> None:
    good = metadata_injector(name="good")(lambda record: {"good": [1, 2.5]})
    bad = metadata_injector(name="bad")(lambda record: entries if isinstance(entries, list) else {**entries, "b": 1})
    with captured() as capture, use(good), use(bad):
        run_tool("t", lambda: None)
        assert (capture.span.attributes or {})["metadata"] == '{"good":[1,2.5]}'
    assert _guard.losses.take() == {"failures of the metadata injector 'bad'": 1}


def test_what_is_injected_is_sanitized_too(capture: Capture) -> None:
    with use(cards), use(metadata_injector(name="i")(lambda record: {"card": SECRET})):
        run_tool("t", lambda: None)
        assert (capture.span.attributes or {})["metadata"] == f'{{"card":"{HIDDEN}"}}'


def test_the_status_of_a_sanitized_error_is_masked_as_well(capture: Capture) -> None:
    key = "sk-" + "a1B2" * 8

    def fail() -> None:
        raise ValueError(f"{SECRET} is not known to {key}")

    with use(cards), pytest.raises(ValueError, match=SECRET):
        run_tool("pay", fail)
    assert capture.span.status.description == f"{HIDDEN} is not known to [masked key]"
    assert key not in told(capture)
