"""Policy around chat models: once for each request that is sent, at the provider where that is patched."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import SecretStr

from spanrelay import GuardrailRejected, execution_intercept, guardrail, request_intercept, stream_intercept
from spanrelay.errors import MiddlewareError
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.policy import PolicyConfig, PolicyPlugin
from spanrelay.plugins.policy.limits import Limits
from spanrelay.records import Message, ModelResponse, Text, ToolCall, ToolDefinition
from spanrelay_langchain import LangChainInstrumentor
from spanrelay_langchain.clients import leaves_policy_to_client
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, asked
from spanrelay_testkit.model_server import ModelServer

from .judged import ANSWER, QUESTION, JudgedModels
from .test_models import Router
from .ways import STREAMS, WAYS, Fake, chat, each_stream, each_way, each_way_of_a_chain, each_whole, fake


class Seen(list[Any]):
    """A guardrail that lets everything pass and keeps the model and the messages that it judged."""

    def entry(self) -> Any:
        @guardrail(name="seen", kinds=["llm"])
        def seen(call: Any) -> None:
            self.append((call.request.model, [message.text for message in call.request.messages]))

        return seen


@pytest.fixture
def seen(policy: Any) -> Seen:
    seen = Seen()
    policy(seen.entry())
    return seen


# --- once for each request ---


@each_way
def test_policy_sees_what_goes_over_the_wire_once(
    ask: Any, instrumented: Capture, server: ModelServer, policy: Any
) -> None:
    wires: list[Any] = []

    @request_intercept
    def look(call: Any) -> None:
        wires.append(call.wire)

    policy(look)
    ask(chat(server), QUESTION)
    assert [wire["messages"] for wire in wires] == [[{"role": "user", "content": QUESTION}]]


@each_way
def test_a_model_that_nobody_patches_is_judged_once(ask: Any, instrumented: Capture, seen: Seen) -> None:
    ask(fake(), QUESTION)
    assert seen == [("fake-1", [QUESTION])]


@each_way
def test_an_unpatched_client_is_judged_once(ask: Any, capture: Capture, server: ModelServer, seen: Seen) -> None:
    instrumentor = LangChainInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    try:
        ask(chat(server), QUESTION)
    finally:
        instrumentor.uninstrument()
    assert seen == [("gpt-5", [QUESTION])]


def test_a_router_is_judged_itself_and_once_for_each_request(
    instrumented: Capture, server: ModelServer, seen: Seen
) -> None:
    Router(models=[chat(server), chat(server)]).invoke(QUESTION)
    assert [model for model, _ in seen] == [None, "gpt-5", "gpt-5"]
    assert len(server.requests) == 2


@each_way_of_a_chain
def test_a_fallback_is_judged_as_a_request_of_its_own(
    ask: Any, instrumented: Capture, server: ModelServer, seen: Seen
) -> None:
    ask(fake(fails=True).with_fallbacks([chat(server)]), QUESTION)
    assert [model for model, _ in seen] == ["fake-1", "gpt-5"]


def test_a_cached_answer_is_no_request(instrumented: Capture, server: ModelServer, seen: Seen) -> None:
    set_llm_cache(InMemoryCache())
    try:
        for _ in range(2):
            chat(server, timeout=7).invoke(QUESTION)
    finally:
        set_llm_cache(None)
    assert len(seen) == len(server.requests) == 1


class Homemade(ChatOpenAI):
    """Sends in a way of its own, although it holds a client that is patched."""

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(ANSWER))])


def test_a_subclass_that_sends_otherwise_is_judged_where_it_is_asked(
    instrumented: Capture, server: ModelServer, seen: Seen
) -> None:
    model = Homemade(model="gpt-5", base_url=server.url, api_key="none")
    assert model.invoke(QUESTION).text == ANSWER
    assert seen == [("gpt-5", [QUESTION])]


def test_a_known_client_is_trusted_only_while_it_is_patched(capture: Capture, server: ModelServer) -> None:
    model = chat(server)
    assert not leaves_policy_to_client(model, asynchronous=False)
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    assert leaves_policy_to_client(model, asynchronous=False)
    assert leaves_policy_to_client(model, asynchronous=True)
    assert not leaves_policy_to_client(fake(), asynchronous=False)
    instrumentor.uninstrument()
    assert not leaves_policy_to_client(model, asynchronous=True)


def test_azures_models_leave_policy_to_their_clients_too(capture: Capture, server: ModelServer) -> None:
    azure = AzureChatOpenAI(
        azure_endpoint=server.address, azure_deployment="gpt-5", api_version="preview", api_key=SecretStr("none")
    )
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    assert leaves_policy_to_client(azure, asynchronous=False)
    assert leaves_policy_to_client(azure, asynchronous=True)
    instrumentor.uninstrument()


class Elsewhere:
    """Stands in a model for its client, and sends nothing through it."""

    def create(self, **options: Any) -> Any:
        raw = {"choices": [{"message": {"role": "assistant", "content": ANSWER}}]}
        chunks = [{"choices": [{"index": 0, "delta": {"content": "Blue", "role": "assistant"}}]}]
        return contextlib.nullcontext(chunks) if options.get("stream") else raw

    @property
    def with_raw_response(self) -> Any:
        return SimpleNamespace(
            create=lambda **options: SimpleNamespace(parse=lambda: self.create(**options), headers={})
        )


@pytest.mark.parametrize("ask", [WAYS["invoke"], WAYS["stream"]], ids=["invoke", "stream"])
def test_an_answer_that_passed_by_the_client_is_refused_where_there_is_policy(
    ask: Any, instrumented: Capture, server: ModelServer, policy: Any
) -> None:
    model = chat(server)
    model.client = Elsewhere()
    assert ask(model, QUESTION).startswith("Blue")
    policy(Seen().entry())
    with pytest.raises(MiddlewareError, match="'ChatOpenAI' answered without its client"):
        ask(model, QUESTION)


# --- refusing and answering ---


class TestPolicy(JudgedModels):
    ways = WAYS
    streams = STREAMS

    def model(self, server: ModelServer | None = None) -> Any:
        return fake() if server is None else chat(server)


# --- changing the request ---


@each_way
def test_edited_messages_reach_the_model_as_messages_and_the_others_as_the_very_objects(
    ask: Any, instrumented: Capture, policy: Any
) -> None:
    @request_intercept
    def mask(call: Any) -> Any:
        messages = [
            replace(message, parts=[Text(message.text.replace("4711", "****"))]) if message.role == "user" else message
            for message in call.request.messages
        ]
        return replace(call.request, messages=messages)

    policy(mask)
    model, system = fake(), SystemMessage("Be brief.")
    ask(model, [system, HumanMessage("My PIN is 4711", id="h1", additional_kwargs={"kept": True})])
    [sent] = model.asked
    assert sent[0] is system
    assert sent[1] == HumanMessage("My PIN is ****", id="h1", additional_kwargs={"kept": True})
    assert asked(instrumented.span) == "Be brief.My PIN is ****"


@each_way
def test_parameters_tools_and_model_that_policy_sets_reach_the_model(
    ask: Any, instrumented: Capture, policy: Any
) -> None:
    @request_intercept
    def other(call: Any) -> Any:
        parameters = {**call.request.parameters, "temperature": 0.0, "stop_sequences": ["X"]}
        return replace(call.request, model="fake-2", tools=[ToolDefinition("f")], parameters=parameters)

    policy(other)
    model = fake()
    ask(model, QUESTION)
    [options] = model.options
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert options == {"stop": ["X"], "temperature": 0.0, "model": "fake-2", "tools": tools}
    assert instrumented.span.name == "chat fake-2"


def test_messages_that_policy_adds_are_new_and_the_rest_keep_their_place(instrumented: Capture, policy: Any) -> None:
    @request_intercept
    def instruct(call: Any) -> Any:
        return replace(call.request, system=[Text("Policy.")])

    policy(instruct)
    model, question = fake(), HumanMessage(QUESTION)
    model.invoke([question])
    assert model.asked[0] == [SystemMessage("Policy."), question]
    assert model.asked[0][1] is question


def test_policy_may_not_turn_a_stream_on(instrumented: Capture, policy: Any) -> None:
    @request_intercept
    def on(call: Any) -> Any:
        return replace(call.request, stream=True)

    policy(on)
    with pytest.raises(MiddlewareError, match="may not turn `stream` on or off"):
        fake().invoke(QUESTION)


# --- changing the answer ---


def test_an_answer_with_tool_calls_is_a_message_with_tool_calls(instrumented: Capture, policy: Any) -> None:
    @execution_intercept
    def canned(call: Any) -> Any:
        return ModelResponse(messages=[Message("assistant", [ToolCall("c1", "f", {"a": 1})])])
        yield

    policy(canned)
    whole = fake().invoke(QUESTION)
    chunks = list(fake().stream(QUESTION))
    streamed = chunks[0]
    for chunk in chunks[1:]:
        streamed = streamed + chunk
    assert whole.tool_calls == streamed.tool_calls == [{"name": "f", "args": {"a": 1}, "id": "c1", "type": "tool_call"}]
    assert whole.id is not None and whole.id.startswith("lc_run--")


@each_way
def test_policy_sends_again(ask: Any, instrumented: Capture, policy: Any) -> None:
    @execution_intercept(buffered=True)
    def twice(call: Any) -> Any:
        yield call
        return (yield call)

    policy(twice)
    model = fake()
    assert ask(model, QUESTION) == ANSWER
    assert len(model.asked) == 2


@each_whole
def test_policy_sends_copies_together(ask: Any, instrumented: Capture, policy: Any) -> None:
    @execution_intercept
    def both(call: Any) -> Any:
        responses = yield [call.with_request(replace(call.request, model=name)) for name in ("a", "b")]
        return responses[1]

    policy(both)
    model = fake()
    assert ask(model, QUESTION) == ANSWER
    assert sorted(options["model"] for options in model.options) == ["a", "b"]


@each_stream
def test_a_stream_intercept_that_refuses_ends_the_stream(ask: Any, instrumented: Capture, policy: Any) -> None:
    @stream_intercept
    def stop(call: Any, event: Any) -> Any:
        raise PermissionError("enough")

    policy(stop)
    with pytest.raises(PermissionError, match="enough"):
        ask(fake(), QUESTION)
    assert instrumented.span.status.status_code.name == "ERROR"


def test_an_intercept_sees_the_answer_of_a_stream_when_it_has_ended(instrumented: Capture, policy: Any) -> None:
    told: list[str] = []

    @execution_intercept
    def read(call: Any) -> Any:
        response = yield call
        told.append(response.record.text)

    policy(read)

    async def go() -> None:
        async for _ in fake().astream(QUESTION):
            pass

    list(fake().stream(QUESTION))
    asyncio.run(go())
    assert told == [ANSWER, ANSWER]


def test_what_a_middleware_asks_is_not_its_own_matter(instrumented: Capture, policy: Any) -> None:
    judge = Fake(model="judge", says="fine")

    @guardrail(kinds=["llm"])
    def judged(call: Any) -> str | None:
        return None if judge.invoke(call.request.messages[-1].text).text == "fine" else "not fine"

    policy(judged)
    assert fake().invoke(QUESTION).text == ANSWER
    assert len(judge.asked) == 1


# --- a framework's word ---


class Pretender(Fake):
    """Says that it is one model and asks another, or offers tools that nobody told of."""

    model: str | None = "ok"  # type: ignore[assignment] - one that names no model is a case
    client: Any = None
    wire: Any = None

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        self.client.chat.completions.create(messages=[{"role": "user", "content": QUESTION}], **self.wire)
        return super()._generate(messages, stop, run_manager, **kwargs)

    def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        for _ in self.client.chat.completions.create(
            messages=[{"role": "user", "content": QUESTION}], stream=True, **self.wire
        ):
            pass
        yield from super()._stream(messages, stop, run_manager, **kwargs)


def names_secret(call: Any) -> str | None:
    wire = call.outgoing()
    return "no secrets" if wire.get("model") == "secret-1" or wire.get("tools") else None


@each_way
@pytest.mark.parametrize("says", ["ok", None], ids=["another name", "no name"])
@pytest.mark.parametrize(
    "wire",
    [{"model": "secret-1"}, {"model": "ok", "tools": [{"type": "function", "function": {"name": "delete_all"}}]}],
    ids=["another model", "a tool"],
)
def test_what_a_model_of_the_applications_sends_is_judged_whatever_it_says_of_itself(
    ask: Any, says: str | None, wire: Any, instrumented: Capture, server: ModelServer, policy: Any
) -> None:
    policy(guardrail(name="secret", kinds=["llm"])(names_secret))
    client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
    with client, pytest.raises(GuardrailRejected, match="no secrets"):
        ask(Pretender(model=says, client=client, wire=wire), QUESTION)
    assert server.requests == []
    assert len([span for span in instrumented.spans if span.name.startswith("chat")]) == 1


@each_way
def test_a_model_of_the_applications_that_keeps_its_word_is_judged_once(
    ask: Any, instrumented: Capture, server: ModelServer, seen: Seen
) -> None:
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        ask(Pretender(client=client, wire={"model": "ok"}), QUESTION)
    assert [model for model, _ in seen] == ["ok"]
    assert len(server.requests) == 1


@pytest.mark.parametrize("models", [["secret-1"], ["ok"], ["ok", "secret-1"], ["secret-1", "ok", "ok"]])
def test_each_sending_beneath_a_model_counts_once(
    models: list[str], instrumented: Capture, server: ModelServer
) -> None:
    class Several(Fake):
        model: str = "ok"

        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
            for model in models:
                client.chat.completions.create(model=model, messages=[{"role": "user", "content": QUESTION}])
            return super()._generate(messages, stop, run_manager, **kwargs)

    context = Context(PolicyConfig(process=Limits(max_calls=len(models))), "policy")
    PolicyPlugin().register(context)
    with contextlib.closing(context), openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        Several().invoke(QUESTION)
        assert len(server.requests) == len(models)
        with pytest.raises(GuardrailRejected, match=f"{len(models)} of the {len(models)} model calls"):
            Several().invoke(QUESTION)
