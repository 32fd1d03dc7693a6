"""The model server speaks to the real SDK as the provider would; instrumentor tests stand on it."""

import asyncio
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

import spanrelay_testkit
from spanrelay_testkit.model_server import ModelServer, error, raw, reply, tool_call

HELLO = [{"role": "user", "content": "hello there"}]


def client_of(server: ModelServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)


@pytest.fixture
def echo() -> Iterator[tuple[ModelServer, openai.OpenAI]]:
    with ModelServer() as server, client_of(server) as client:
        yield server, client


def test_without_a_script_the_model_echoes_with_usage(echo: tuple[ModelServer, openai.OpenAI]) -> None:
    answer = echo[1].chat.completions.create(model="gpt-5", messages=HELLO)
    assert answer.id == "chatcmpl-1"
    assert answer.choices[0].message.content == "You said: hello there"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


def test_what_arrived_can_be_looked_at(echo: tuple[ModelServer, openai.OpenAI]) -> None:
    server, client = echo
    client.chat.completions.create(model="gpt-5", messages=HELLO, extra_headers={"X-Mine": "1"})
    [request] = server.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["x-mine"] == "1"
    assert request.body == {"model": "gpt-5", "messages": HELLO}


def test_a_stream_says_the_same_as_the_whole_answer() -> None:
    said = reply("One two  three", reasoning="hm well", tool_calls=[tool_call("f", x=1), tool_call("g", "{bad")])
    with ModelServer([said, said]) as server, client_of(server) as client:
        whole = client.chat.completions.create(model="m", messages=HELLO).choices[0].message
        deltas = [
            chunk.choices[0].delta for chunk in client.chat.completions.create(model="m", messages=HELLO, stream=True)
        ]
    assert "".join(delta.content or "" for delta in deltas) == whole.content == "One two  three"
    arguments = {0: "", 1: ""}
    for delta in deltas:
        for part in delta.tool_calls or []:
            arguments[part.index] += part.function.arguments
    assert list(arguments.values()) == [call.function.arguments for call in whole.tool_calls or []]


def test_usage_ends_a_stream_only_when_asked_for(echo: tuple[ModelServer, openai.OpenAI]) -> None:
    plain = list(echo[1].chat.completions.create(model="m", messages=HELLO, stream=True))
    options = {"include_usage": True}
    full = list(echo[1].chat.completions.create(model="m", messages=HELLO, stream=True, stream_options=options))
    assert [chunk.usage for chunk in plain if chunk.usage] == []
    assert full[-1].choices == []
    assert full[-1].usage is not None


def test_responses_stream_ends_with_the_finished_response() -> None:
    said = reply("Four plus", reasoning="sum it", tool_calls=[tool_call("add", a=4, b=5)])
    with ModelServer([said, said]) as server, client_of(server) as client:
        whole = client.responses.create(model="m", input="4+5")
        events = list(client.responses.create(model="m", input="4+5", stream=True))
    assert [item.type for item in whole.output] == ["reasoning", "message", "function_call"]
    assert events[-1].type == "response.completed"
    assert [item.type for item in events[-1].response.output] == [item.type for item in whole.output]
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "Four plus"


def test_embeddings_are_the_same_as_floats_and_as_base64(echo: tuple[ModelServer, openai.OpenAI]) -> None:
    packed = echo[1].embeddings.create(model="e", input=["a", "b"], dimensions=4)
    plain = echo[1].embeddings.create(model="e", input=["a", "b"], dimensions=4, encoding_format="float")
    assert [item.embedding for item in packed.data] == [item.embedding for item in plain.data]
    assert [len(item.embedding) for item in plain.data] == [4, 4]


def test_azure_finds_its_deployment_by_path(echo: tuple[ModelServer, openai.OpenAI]) -> None:
    server, _ = echo
    with openai.AzureOpenAI(
        azure_endpoint=server.address, api_key="none", api_version="2025-01-01", azure_deployment="mine"
    ) as client:
        client.chat.completions.create(model="mine", messages=HELLO)
    assert server.requests[-1].path == "/openai/deployments/mine/chat/completions"
    assert server.requests[-1].query == {"api-version": "2025-01-01"}


def test_other_routes_are_served_too(echo: tuple[ModelServer, openai.OpenAI]) -> None:
    client = echo[1]
    assert "gpt-5" in [model.id for model in client.models.list()]
    assert client.completions.create(model="m", prompt="Say it").choices[0].text == "You said: Say it"
    first = client.responses.create(model="m", input="hi")
    assert client.responses.retrieve(first.id).output_text == "You said: hi"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("none-such")


def test_errors_keep_their_status_headers_and_html() -> None:
    answers = [error(429, headers={"retry-after": "7"}), error(502, "<html>bad gateway</html>")]
    with ModelServer(answers) as server, client_of(server) as client:
        with pytest.raises(openai.RateLimitError) as limited:
            client.chat.completions.create(model="m", messages=HELLO)
        assert limited.value.response.headers["retry-after"] == "7"
        with pytest.raises(openai.InternalServerError) as gateway:
            client.chat.completions.create(model="m", messages=HELLO)
        assert gateway.value.response.text == "<html>bad gateway</html>"


def test_a_cut_stream_gives_what_came_before() -> None:
    got: list[str] = []
    with ModelServer([reply("a b c d", cut_after=3)]) as server, client_of(server) as client:
        stream = client.chat.completions.create(model="m", messages=HELLO, stream=True)
        with pytest.raises(openai.APIConnectionError):
            for chunk in stream:
                got.append(chunk.choices[0].delta.content or "")
    assert got == ["", "a", " b"]


def test_an_error_inside_a_stream_reaches_the_client() -> None:
    said = reply("a b", in_stream_error={"message": "overloaded", "type": "server_error", "code": "x"})
    with ModelServer([said]) as server, client_of(server) as client:
        stream = client.chat.completions.create(model="m", messages=HELLO, stream=True)
        with pytest.raises(openai.APIError, match="overloaded"):
            list(stream)


def test_a_held_stream_waits_for_its_event() -> None:
    release = threading.Event()
    with ModelServer([reply("a b", hold=release, hold_after=2)]) as server, client_of(server) as client:
        stream = client.chat.completions.create(model="m", messages=HELLO, stream=True)
        seen = [next(stream).choices[0].delta.content for _ in range(2)]
        release.set()
        seen += [chunk.choices[0].delta.content for chunk in stream]
    assert seen == ["", "a", " b", None]


def test_compressed_answers_are_read_like_others() -> None:
    with ModelServer([reply("a b", gzip=True)] * 2) as server, client_of(server) as client:
        whole = client.chat.completions.create(model="m", messages=HELLO)
        chunks = list(client.chat.completions.create(model="m", messages=HELLO, stream=True))
    assert whole.choices[0].message.content == "a b"
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "a", " b", None]


def test_a_recorded_stream_goes_out_byte_for_byte() -> None:
    recorded = b'data: {"id":"x","choices":[]}\n\ndata: [DONE]\n\n'
    with ModelServer([raw(recorded, "text/event-stream")]) as server:
        request = urllib.request.Request(f"{server.url}/chat/completions", b"{}", method="POST")
        with urllib.request.urlopen(request) as answer:
            assert answer.read() == recorded


def test_a_script_that_has_run_out_says_so() -> None:
    with (
        ModelServer([]) as server,
        client_of(server) as client,
        pytest.raises(openai.BadRequestError, match="has 0 answers"),
    ):
        client.chat.completions.create(model="m", messages=HELLO)


async def test_many_async_clients_at_once_get_their_own_answers() -> None:
    with ModelServer() as server:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:

            async def ask(number: int) -> bool:
                message = {"role": "user", "content": f"number {number}"}
                answer = await client.chat.completions.create(model="m", messages=[message])
                return answer.choices[0].message.content == f"You said: number {number}"

            assert all(await asyncio.gather(*[ask(number) for number in range(50)]))


def test_the_server_runs_no_sdk() -> None:
    folder = Path(spanrelay_testkit.__file__).parent
    sources = [*folder.glob("*_wire.py"), *(folder / f"{name}.py" for name in ("exchange", "model_server"))]
    assert len(sources) >= 6
    assert not [path for path in sources if "import openai" in path.read_text()]


def test_a_request_that_is_no_json_is_kept_as_bytes() -> None:
    with ModelServer() as server:
        request = urllib.request.Request(f"{server.url}/chat/completions", b"not json", method="POST")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        with refused.value as answer:
            assert "error" in json.loads(answer.read())
        assert server.requests[0].raw == b"not json"
        assert server.requests[0].body is None
