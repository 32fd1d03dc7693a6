"""The places where the SDK is wrapped: each is there, of its colour, and reached by every kind of client."""

from __future__ import annotations

import gc
import importlib
import inspect
import logging
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import httpx2
import openai
import pytest

from spanrelay._guard import losses
from spanrelay.instrumentation.instrumentor import Instrumentor
from spanrelay.instrumentation.patching import Patch, Patches
from spanrelay.tracing import Tracing, recording
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, asked, said
from spanrelay_testkit.exchange import raw, reply
from spanrelay_testkit.model_server import ModelServer

RESOURCES = Path(str(openai.__file__)).parent / "resources"
VERSION = metadata.version("openai")
WHOLE_TABLE = OpenAIInstrumentor().patches(Tracing("spanrelay_openai"))
TABLE = tuple(patch for patch in WHOLE_TABLE if not patch.newer)
"""What every supported version has."""
QUESTION: Any = [{"role": "user", "content": "Which colour has the sky?"}]


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[Capture]:
    """The spans of the test's calls, with the SDK instrumented."""
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    yield capture
    instrumentor.uninstrument()


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """A provider that always says `Blue.`."""
    with ModelServer(lambda request: reply("Blue.")) as server:
        yield server


def place(patch: Patch) -> Any:
    """What stands at a patch point."""
    found: Any = importlib.import_module(patch.module)
    for name in patch.attribute.split("."):
        found = inspect.getattr_static(found, name)
    return found


# --- the table against the installed SDK ---


@pytest.mark.parametrize("patch", TABLE, ids=lambda patch: patch.attribute)
def test_each_patch_point_is_there_and_of_the_colour_of_its_class(patch: Patch) -> None:
    function = place(patch)
    assert inspect.isfunction(function)
    assert inspect.iscoroutinefunction(function) is patch.attribute.startswith("Async")
    assert not inspect.isasyncgenfunction(function)


@pytest.mark.parametrize("patch", TABLE, ids=lambda patch: patch.attribute)
def test_each_patch_point_takes_the_arguments_that_its_wrapper_reads(patch: Patch) -> None:
    parameters = list(inspect.signature(place(patch)).parameters)
    if patch.attribute.endswith(".request"):
        assert parameters[:3] == ["self", "cast_to", "options"]
    else:
        assert {"response", "options"} <= set(parameters)


def test_the_table_names_both_colours_of_the_same_methods() -> None:
    methods = {"Sync": set[str](), "Async": set[str]()}
    for patch in TABLE:
        owner, _, method = patch.attribute.partition(".")
        methods[owner.removesuffix("APIClient")].add(method)
    assert methods["Sync"] == methods["Async"] == {"request", "_process_response"}


def test_no_class_of_the_sdk_has_a_request_of_its_own_that_passes_the_patch_points_by() -> None:
    clients = [openai.OpenAI, openai.AsyncOpenAI, openai.AzureOpenAI, openai.AsyncAzureOpenAI]
    for client in clients:
        owners = {method: owner_of(client, method) for method in ("request", "_process_response")}
        assert set(owners.values()) <= {"SyncAPIClient", "AsyncAPIClient"}, client


def owner_of(kind: type, method: str) -> str:
    """The name of the class that defines a method."""
    return next(owner.__name__ for owner in kind.__mro__ if method in vars(owner))


CONNECTING = [patch for patch in WHOLE_TABLE if patch.attribute.endswith(".connect")]
CONNECTED = [patch for patch in WHOLE_TABLE if patch.attribute.endswith("Connection.__init__")]


@pytest.mark.parametrize("patch", CONNECTED, ids=lambda patch: f"{patch.module}.{patch.attribute}")
def test_a_connection_keeps_what_it_speaks_over_where_its_wrapper_looks(patch: Patch) -> None:
    assert patch.module in OpenAIInstrumentor.modules
    owner = vars(importlib.import_module(patch.module))[patch.attribute.partition(".")[0]]
    connects_again = ".beta.realtime." not in patch.module  # where nothing is made a second time
    made = owner(object(), **({"make_ws": None} if connects_again else {}))
    assert ({"_connection", "_make_ws"} if connects_again else {"_connection"}) <= set(vars(made))


@pytest.mark.parametrize("patch", CONNECTING, ids=lambda patch: patch.module)
def test_what_opens_a_connection_is_there_and_takes_the_arguments_that_its_wrapper_reads(patch: Patch) -> None:
    function = place(patch)
    names_a_model = patch.wrapper == patch.wrapper.__self__.connect  # type: ignore[attr-defined] - a bound method
    assert ({"extra_query", "model"} if names_a_model else {"extra_query"}) <= set(
        inspect.signature(function).parameters
    )
    assert not inspect.iscoroutinefunction(function)
    assert patch.module in OpenAIInstrumentor.modules


def test_every_way_to_open_a_connection_is_in_the_table() -> None:
    known = {patch.module for patch in WHOLE_TABLE if patch.newer}
    # Those that join a call or a session which was begun elsewhere name no model at all.
    joining = {"openai.resources.live.forks", "openai.resources.live.sideband"}
    found = {
        f"openai.resources.{'.'.join(path.relative_to(RESOURCES).with_suffix('').parts)}"
        for path in RESOURCES.rglob("*.py")
        if "    def connect(" in path.read_text()
    }
    assert found - joining <= known


# --- an SDK that is built otherwise ---


@pytest.fixture
def strange(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module in the place of the SDK's, which has one class and one method only."""
    module = ModuleType("strange_base_client")

    class SyncAPIClient:
        def request(self, text: str) -> str:
            return f"answer to {text}"

    vars(module)["SyncAPIClient"] = SyncAPIClient
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def around(wrapped: Callable[..., str], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    return f"[{wrapped(*args, **kwargs)}]"


def strange_table(*attributes: str) -> Patches:
    """A patch table over the strange module, in force."""
    table = tuple(Patch("strange_base_client", attribute, around) for attribute in attributes)
    patches = Patches("openai", ("strange_base_client",), lambda: table)
    patches.apply()
    return patches


def test_missing_patch_points_cost_one_warning_that_says_what_to_do(
    strange: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    strange_table("SyncAPIClient.request", "SyncAPIClient._process_response", "AsyncAPIClient.request", "gone")
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.name == "spanrelay"
    assert record.getMessage() == (
        f"openai {VERSION} has no strange_base_client.SyncAPIClient._process_response, "
        "strange_base_client.AsyncAPIClient.request, strange_base_client.gone, so its calls are not instrumented as "
        "they should be; install a version that SpanRelay supports"
    )
    assert losses.take() == {"patch points not found in openai": 3}


def test_the_patch_points_that_are_there_are_used_and_put_back(strange: ModuleType) -> None:
    original = vars(strange.SyncAPIClient)["request"]
    patches = strange_table("SyncAPIClient.request", "AsyncAPIClient.request")
    assert losses.take() == {"patch points not found in openai": 1}
    assert strange.SyncAPIClient().request("a question") == "[answer to a question]"
    patches.undo()
    assert vars(strange.SyncAPIClient)["request"] is original
    assert strange.SyncAPIClient().request("a question") == "answer to a question"


def test_a_package_without_metadata_is_reported_all_the_same(
    strange: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    table = (Patch("strange_base_client", "gone", around),)
    Patches("strange-package", ("strange_base_client",), lambda: table).apply()
    assert "strange-package (unknown version) has no strange_base_client.gone" in caplog.text
    assert losses.take() == {"patch points not found in strange-package": 1}


@pytest.mark.swallows
def test_a_class_that_cannot_be_patched_costs_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = ModuleType("strange_base_client")
    vars(module)["SyncAPIClient"] = int  # its attributes cannot be set
    monkeypatch.setitem(sys.modules, module.__name__, module)
    strange_table("SyncAPIClient.bit_length")
    assert losses.take() == {"failures while instrumenting openai": 1}


@pytest.mark.swallows
def test_a_table_that_fails_does_not_reach_who_instruments(
    strange: ModuleType, monkeypatch: pytest.MonkeyPatch, capture: Capture
) -> None:
    class Broken(Instrumentor):
        package, requires, modules = "openai", (), ("strange_base_client",)
        name, version = "spanrelay_broken", "0"

        def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
            raise RuntimeError("the table is broken")

    Broken().instrument(tracer_provider=capture.provider)
    Broken().uninstrument()
    assert losses.take() == {"failures while instrumenting openai": 1}


# --- requests that are no inference ---

OTHER_ROUTES: dict[str, Callable[[openai.OpenAI], Any]] = {
    "models.list": lambda client: client.models.list(),
    "models.retrieve": lambda client: client.models.retrieve("gpt-5"),
    "files.list": lambda client: client.files.list(),
    "containers.create": lambda client: client.containers.create(name="mine"),
    "chat.completions.list": lambda client: client.chat.completions.list(),
    "chat.completions.update": lambda client: client.chat.completions.update("chatcmpl-1", metadata={"a": "b"}),
    "responses.retrieve": lambda client: client.responses.retrieve("resp_1"),
    "responses.cancel": lambda client: client.responses.cancel("resp_1"),
    "responses.delete": lambda client: client.responses.delete("resp_1"),
    "vector_stores.search": lambda client: client.vector_stores.search("vs_1", query="sky"),
    "client.get of an inference route": lambda client: client.get("/chat/completions", cast_to=object),
}


@pytest.mark.parametrize("ask", OTHER_ROUTES.values(), ids=OTHER_ROUTES)
def test_a_route_that_is_no_inference_makes_no_span(ask: Callable[[openai.OpenAI], Any], instrumented: Capture) -> None:
    with ModelServer() as server, openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        # The server has not all of these routes; what counts is that the request went out.
        try:
            ask(client)
        except openai.APIStatusError as error:
            assert error.status_code in (404, 405)
        assert len(server.requests) == 1
    assert instrumented.spans == ()


def test_an_inference_route_under_any_prefix_and_with_a_query_is_recorded(instrumented: Capture) -> None:
    answer = raw(b'{"id": "1", "object": "chat.completion", "model": "m", "choices": []}')
    with ModelServer([answer]) as server, openai.OpenAI(base_url=server.url, api_key="none") as client:
        client.post("/proxy/chat/completions?tenant=1", body={"model": "m", "messages": QUESTION}, cast_to=object)
    assert asked(instrumented.span) == QUESTION[0]["content"]


# --- who makes the call ---


def ask(client: Any) -> Any:
    return client.chat.completions.create(model="gpt-5", messages=QUESTION)


@pytest.fixture
def module_client(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The SDK's module as a client of the server."""
    openai._reset_client()
    monkeypatch.setattr(openai, "base_url", f"{server.url}/")
    monkeypatch.setattr(openai, "api_key", "none")
    yield openai
    client = openai._client
    if client is not None:
        client.close()
    openai._reset_client()


def test_a_call_of_the_module_is_recorded(module_client: Any, instrumented: Capture) -> None:
    assert ask(module_client).choices[0].message.content == "Blue."
    assert said(instrumented.span) == "Blue."


def test_a_client_with_other_options_is_recorded(server: ModelServer, instrumented: Capture) -> None:
    with openai.OpenAI(base_url=server.url, api_key="none") as client:
        ask(client.with_options(timeout=5.0, max_retries=1))
    assert said(instrumented.span) == "Blue."


def test_a_client_class_of_the_application_is_recorded(server: ModelServer, instrumented: Capture) -> None:
    class OwnClient(openai.OpenAI):
        def request(self, *args: Any, **kwargs: Any) -> Any:
            return super().request(*args, **kwargs)

    with OwnClient(base_url=server.url, api_key="none") as client:
        ask(client)
    assert said(instrumented.span) == "Blue."


@pytest.mark.parametrize("package", [httpx2, httpx], ids=lambda package: package.__name__)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_over_an_http_client_of_the_application_is_recorded(
    package: Any, stream: bool, server: ModelServer, instrumented: Capture
) -> None:
    with package.Client(headers={"x-mine": "1"}) as http:
        client = openai.OpenAI(base_url=server.url, api_key="none", http_client=http)
        answer: Any = client.chat.completions.create(model="gpt-5", messages=QUESTION, stream=stream)
        if stream:
            assert "".join(chunk.choices[0].delta.content or "" for chunk in answer) == "Blue."
    assert server.requests[0].headers["x-mine"] == "1"
    assert (asked(instrumented.span), said(instrumented.span)) == (QUESTION[0]["content"], "Blue.")


@pytest.mark.parametrize("package", [httpx2, httpx], ids=lambda package: package.__name__)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_async_client_over_an_http_client_of_the_application_is_recorded(
    package: Any, stream: bool, server: ModelServer, instrumented: Capture
) -> None:
    async with package.AsyncClient() as http:
        client = openai.AsyncOpenAI(base_url=server.url, api_key="none", http_client=http)
        answer: Any = await client.chat.completions.create(model="gpt-5", messages=QUESTION, stream=stream)
        if stream:
            assert "".join([chunk.choices[0].delta.content or "" async for chunk in answer]) == "Blue."
    assert (asked(instrumented.span), said(instrumented.span)) == (QUESTION[0]["content"], "Blue.")


# --- transports that hand out other streams than the network's ---

BODY = b'{"id": "1", "object": "chat.completion", "model": "m", "choices": [{"index": 0, "message": '
BODY += b'{"role": "assistant", "content": "Blue."}, "finish_reason": "stop"}]}'
EVENTS = (
    b'data: {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"content": "Bl',
    b'ue."}, "finish_reason": "stop"}]}\n\ndata: [DO',
    b"NE]\n\n",
)


def answering(package: Any, content: Any, kind: str) -> Any:
    """A transport that answers without a network."""
    return package.MockTransport(lambda request: package.Response(200, headers={"content-type": kind}, content=content))


@pytest.mark.parametrize("package", [httpx2, httpx], ids=lambda package: package.__name__)
def test_an_answer_of_a_transport_of_the_application_is_recorded(package: Any, instrumented: Capture) -> None:
    with package.Client(transport=answering(package, BODY, "application/json")) as http:
        ask(openai.OpenAI(api_key="none", http_client=http))
    assert said(instrumented.span) == "Blue."


@pytest.mark.parametrize("package", [httpx2, httpx], ids=lambda package: package.__name__)
def test_a_stream_of_a_transport_of_the_application_is_recorded(package: Any, instrumented: Capture) -> None:
    with package.Client(transport=answering(package, iter(EVENTS), "text/event-stream")) as http:
        client = openai.OpenAI(api_key="none", http_client=http)
        for _ in client.chat.completions.create(model="m", messages=QUESTION, stream=True):
            pass
    assert said(instrumented.span) == "Blue."
    assert instrumented.record(instrumented.span).incomplete is None


async def in_pieces() -> AsyncIterator[bytes]:
    for piece in EVENTS:
        yield piece


@pytest.mark.parametrize("package", [httpx2, httpx], ids=lambda package: package.__name__)
async def test_an_async_stream_of_a_transport_of_the_application_is_recorded(
    package: Any, instrumented: Capture
) -> None:
    async with package.AsyncClient(transport=answering(package, in_pieces(), "text/event-stream")) as http:
        client = openai.AsyncOpenAI(api_key="none", http_client=http)
        async for _ in await client.chat.completions.create(model="m", messages=QUESTION, stream=True):
            pass
    assert said(instrumented.span) == "Blue."


def test_a_provider_is_told_the_span_only_where_that_was_asked_for(
    instrumented: Capture, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with openai.OpenAI(base_url=server.url, api_key="none", default_headers={"x-mine": "1"}) as client:
        ask(client)
        monkeypatch.setattr(recording, "propagate", True)
        ask(client)
    silent, told = (request.headers for request in server.requests)
    assert "traceparent" not in silent
    span = instrumented.spans[1].context
    assert span is not None
    assert told["traceparent"] == f"00-{span.trace_id:032x}-{span.span_id:016x}-01"
    assert told["x-mine"] == "1"
    assert "baggage" not in told


class Contrary(str):
    """A text that compares with nothing."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise OSError("no comparing")

    def __hash__(self) -> int:
        raise OSError("no hash")


def test_a_path_that_cannot_be_compared_is_sent_as_without_us(instrumented: Capture, server: ModelServer) -> None:
    with openai.OpenAI(base_url=server.url, api_key="none") as client:
        answer = client.post(
            Contrary("/chat/completions"), body={"model": "gpt-5", "messages": list(QUESTION)}, cast_to=httpx.Response
        )
    assert answer.status_code == 200
    assert instrumented.span.name == "chat gpt-5"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_that_the_application_lets_go_is_gone_before_its_call_is_read(
    instrumented: Capture, server: ModelServer, *, stream: bool
) -> None:
    with openai.OpenAI(base_url=server.url, api_key="none") as client:
        answer = client.chat.completions.create(model="gpt-5", messages=QUESTION, stream=stream)
        if stream:
            list(answer)
    known = weakref.ref(client)
    del client, answer
    gc.collect()  # the client's parts know each other
    assert instrumented.ledger.behind
    assert known() is None


# --- who reads the body of a streaming response by hand ---

READINGS: dict[str, Callable[[Any], Any]] = {
    "iter_bytes": lambda response: b"".join(response.iter_bytes()),
    "iter_raw": lambda response: b"".join(response.http_response.iter_raw()),
    "iter_lines": lambda response: list(response.iter_lines()),
    "iter_text": lambda response: "".join(response.iter_text()),
    "read, twice": lambda response: response.read() + response.read(),
    "text": lambda response: response.text(),
}


@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS)
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_body_that_the_application_reads_by_hand_is_the_same_and_recorded(
    read: Callable[[Any], Any], compressed: bool, stream: bool, capture: Capture
) -> None:
    instrumentor, told = OpenAIInstrumentor(), []
    for instrumented in (False, True):
        if instrumented:
            instrumentor.instrument(tracer_provider=capture.provider)
        with ModelServer([reply("Blue.", gzip=compressed)]) as server:
            client: Any = openai.OpenAI(base_url=server.url, api_key="none")
            create = client.chat.completions.with_streaming_response.create
            with create(model="gpt-5", messages=QUESTION, stream=stream) as response:
                told.append(read(response))
            client.close()
    instrumentor.uninstrument()
    assert told[0] == told[1]
    assert said(capture.span) == "Blue."
    assert capture.record(capture.span).incomplete is None
