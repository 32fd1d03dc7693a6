"""The contract of any call, for calls of a tool over MCP: the client's side, whose server has its own span beneath."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from spanrelay import execution_intercept, use
from spanrelay.records import ToolResult
from spanrelay.semconv import names
from spanrelay_mcp import MCPInstrumentor
from spanrelay_testkit.capture import Capture, scope_of
from spanrelay_testkit.contract import CallContract
from spanrelay_testkit.contract.policies import OTHER, racing
from spanrelay_testkit.contract.subject import ANSWER
from spanrelay_testkit.half import Form, Half, Outcome

from .ways import FIRST, Server, Way, in_memory, over_http

TOOL = "ask"


class Request(NamedTuple):
    """What the tool was asked."""

    last_user_text: str


class Asked:
    """A server with one tool, and what that was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.mcp = Server("oracle")
        self.mcp.add_tool(self.ask)

    async def ask(self, question: str) -> str:
        """Answer a question."""
        self.requests.append(Request(question))
        return ANSWER


class Client:
    """A session, and what is to be shown each message that it sends."""

    def __init__(self) -> None:
        self.session: Any = None
        self.note: Callable[[Any], None] = lambda message: None


def text_of(result: Any) -> str:
    [block] = result.content
    return block.text


async def by_position(half: Half, client: Client, question: Any) -> Outcome:
    result = await half.settle(client.session.call_tool(TOOL, question))
    return Outcome(text_of(result), (type(result), type(result.content[0])))


async def by_name(half: Half, client: Client, question: Any) -> Outcome:
    result = await half.settle(client.session.call_tool(name=TOOL, arguments=question))
    return Outcome(text_of(result), (type(result), type(result.content[0])))


class ToolCalls(CallContract):
    """What is the same whatever carries the messages."""

    instrumentor = MCPInstrumentor
    halves: ClassVar[Mapping[str, Half]] = {"async": Half(asynchronous=True)}
    forms: ClassVar[Mapping[str, Form]] = {"by position": by_position, "by name": by_name}
    always_told = names.MCP_METHOD

    connected: ClassVar[Way]

    @contextlib.asynccontextmanager
    async def talking(self, half: Half, *answers: Any, **options: Any) -> AsyncGenerator[Any]:
        server, client = Asked(), Client()
        async with self.connected(server.mcp, lambda message: client.note(message)) as client.session:
            await client.session.list_tools()  # else it asks for them within its first call
            yield server, client

    @contextlib.asynccontextmanager
    async def under_transport(self, client: Any, capture: Capture) -> AsyncGenerator[None]:
        client.note = lambda message: capture.tracer().start_span("http").end()
        yield

    def question(self, text: str) -> Any:
        return {"question": text}

    def call(self, client: Any, question: Any) -> Any:
        return client.session.call_tool(TOOL, question)

    def bound_call(self, client: Any) -> Callable[[Any], Any]:
        ask = client.session.call_tool
        return lambda question: ask(TOOL, question)

    def calls_of(self, capture: Capture) -> list[ReadableSpan]:
        """Return those of the client: the server's stand beneath them, and the SDK has some of its own."""
        ours = [span for span in capture.spans if scope_of(span) == self.instrumentor.name]
        return [span for span in ours if span.kind is SpanKind.CLIENT]

    def asked(self, span: ReadableSpan) -> str:
        told = (span.attributes or {}).get(names.TOOL_ARGUMENTS)
        return json.loads(str(told))["question"] if told else ""

    def said(self, span: ReadableSpan) -> str:
        return str((span.attributes or {}).get(names.TOOL_RESULT, ""))

    def redact(self, call: Any) -> None:
        call.request.arguments["question"] = call.request.arguments["question"].replace("secret", "***")

    def answer_from_cache(self, call: Any) -> Any:
        return ToolResult(OTHER)
        yield call

    def text_in(self, response: Any) -> str:
        return str(response.record.content)

    async def test_two_branches_sent_together_are_read_apart(self, half: Half, instrumented: Capture) -> None:
        """A server out of reach of the caller's context is under policy of its own, here the same: it asks twice."""
        seen: list[str] = []
        async with self.talking(half) as (server, client):
            with use(execution_intercept(name="race")(racing(seen, self.text_in))):
                await half.settle(self.call(client, self.question("hi")))
        assert (len(server.requests), len(seen)) == ((2, 2) if self.judged == 1 else (4, 6))
        assert set(seen) == {ANSWER}
        assert self.said(self.call_of(instrumented)) == ANSWER


class TestInMemory(ToolCalls):
    connected: ClassVar[Way] = staticmethod(in_memory)
    judged = 2 if FIRST else 1


class TestOverHTTP(ToolCalls):
    connected: ClassVar[Way] = staticmethod(over_http)
    judged = 2
