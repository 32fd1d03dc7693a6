"""What asks a model past every instrumentor of ours is told, or refused where the file says so: SDKs and plain HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.own_environment import programs_of
from tests.plugins.test_programs import DENY, configure
from tests.programs import ASK, NOTHING_RECORDED, Run, run

from spanrelay.providers import SDKS
from spanrelay_testkit.model_server import ModelServer

STOP = f'{DENY}on_unguarded = "stop"\n'
OTHER = '[plugins.policy]\nmodels.deny = ["other"]\non_unguarded = "stop"\n'

ELSEWHERE = """
import socket
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *more, **options: resolve("127.0.0.1", *more, **options)
"""
"""Every name is this machine's, so that a provider's host can be asked without one."""

CLIENTS = {
    "httpx": "import httpx\nask = lambda: httpx.post(url, json=body)\n",
    "httpx2": "import httpx2\nask = lambda: httpx2.Client().request('post', url, json=body)\n",
    "async httpx": "import asyncio, httpx\nask = lambda: asyncio.run(httpx.AsyncClient().post(url, json=body))\n",
    "async httpx2": "import asyncio, httpx2\nask = lambda: asyncio.run(httpx2.AsyncClient().post(url, json=body))\n",
    "requests": "import requests\nask = lambda: requests.post(url, json=body)\n",
    "urllib3": "import urllib3\nask = lambda: urllib3.request('POST', url, json=body)\n",
    "urllib": "import json\nfrom urllib.request import urlopen\n"
    "ask = lambda: urlopen(url, json.dumps(body).encode()).read()\n",
}
AIOHTTP = """
import aiohttp, asyncio
async def ask_it():
    async with aiohttp.ClientSession(url.rpartition("/v1")[0]) as session:
        async with session.post("/v1/chat/completions", json=body) as answer:
            await answer.read()
ask = lambda: asyncio.run(ask_it())
"""


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


def posting(client: str, server: ModelServer, host: str = "api.anthropic.com") -> str:
    """A program that asks a model at `host` twice by an HTTP client."""
    url = server.url.replace("127.0.0.1", host) + "/chat/completions"
    return f"""
import spanrelay
url, body = {url!r}, {{"model": "m", "messages": [{{"role": "user", "content": "hello"}}]}}
{ELSEWHERE}{client}
for _ in range(2):
    try:
        ask()
        print("sent")
    except spanrelay.GuardrailRejected as refusal:
        print(refusal.name)
"""


def check_posting(ran: Run, server: ModelServer, *, stops: bool) -> None:
    assert (ran.code, ran.out.split()) == (0, ["policy.on_unguarded" if stops else "sent"] * 2), ran.err
    assert len(server.requests) == (0 if stops else 2)
    assert ran.err.count("a request to api.anthropic.com is made by an HTTP client, which nothing guards") == (
        not stops
    )
    assert len(ran.err.splitlines()) == (not stops)


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
@pytest.mark.parametrize("text", [DENY, STOP])
def test_an_http_client_that_asks_a_provider_is_told_once_or_refused(
    tmp_path: Path, server: ModelServer, client: str, text: str
) -> None:
    configure(tmp_path, text)
    check_posting(run(posting(client, server), tmp_path, server), server, stops=text == STOP)


def test_without_policy_and_to_other_hosts_http_clients_are_left_alone(tmp_path: Path, server: ModelServer) -> None:
    without = run(posting(CLIENTS["httpx"], server), tmp_path)
    configure(tmp_path, STOP)
    other = run(posting(CLIENTS["httpx"], server, "api.example.com"), tmp_path)
    assert [(ran.out, ran.err) for ran in (without, other)] == [("sent\nsent\n", "")] * 2
    assert len(server.requests) == 4


def test_what_an_instrumented_sdk_sends_is_not_refused(tmp_path: Path, server: ModelServer) -> None:
    configure(tmp_path, OTHER)
    url = server.url.replace("127.0.0.1", "api.openai.com")
    program = f"""
{ELSEWHERE}
import asyncio, httpx, openai
hello = [{{"role": "user", "content": "hello"}}]
for client in (openai.OpenAI(base_url={url!r}), openai.OpenAI(base_url={url!r}, http_client=httpx.Client())):
    client.chat.completions.create(model="m", messages=hello)
    list(client.chat.completions.create(model="m", messages=hello, stream=True))
    try:
        client.post("/files", cast_to=object, body={{}})
    except openai.NotFoundError:
        print("sent")
asyncio.run(openai.AsyncOpenAI(base_url={url!r}).chat.completions.create(model="m", messages=hello))
"""
    ran = run(program, tmp_path, server, SPANRELAY_QUIET="true")
    assert (ran.code, ran.out, ran.err) == (0, "sent\nsent\n", "")


@pytest.mark.parametrize("client", [CLIENTS["httpx"], CLIENTS["requests"]])
def test_what_a_call_of_ours_sends_is_not_refused(tmp_path: Path, server: ModelServer, client: str) -> None:
    configure(tmp_path, OTHER)
    program = posting(client, server).replace(
        "ask()", "spanrelay.run_model(lambda wire: ask() and {}, body, codec='openai_chat', provider='p')"
    )
    ran = run(program, tmp_path, server, SPANRELAY_QUIET="true")
    assert (ran.out, ran.err) == ("sent\nsent\n", "")


@pytest.mark.parametrize("env", [{}, {"OTEL_TRACES_SAMPLER": "always_off"}, {"OTEL_SDK_DISABLED": "true"}])
def test_what_an_instrumented_sdk_sends_is_not_refused_where_nothing_else_is_asked_for(
    tmp_path: Path, server: ModelServer, env: dict[str, str]
) -> None:
    configure(tmp_path, '[plugins.policy]\non_unguarded = "stop"\n')
    program = f"""
{ELSEWHERE}
import asyncio, openai, spanrelay
url, hello = {server.url.replace("127.0.0.1", "api.openai.com")!r}, [{{"role": "user", "content": "hello"}}]
client = openai.OpenAI(base_url=url)
def files():
    try:
        client.post("/files", cast_to=object, body={{}})
    except openai.NotFoundError:
        print("sent")
files()
spanrelay.run_tool("t", files)
client.chat.completions.create(model="m", messages=hello)
spanrelay.run_tool("t", lambda: client.chat.completions.create(model="m", messages=hello))
asyncio.run(openai.AsyncOpenAI(base_url=url).chat.completions.create(model="m", messages=hello))
"""
    ran = run(program, tmp_path, server, SPANRELAY_QUIET="true", **env)
    assert (ran.code, ran.out, ran.err) == (0, "sent\nsent\n", "")
    assert len(server.requests) == 5


WITHIN = {
    "a tool": "spanrelay.run_tool('t', ask)",
    "a tool of a decorator": "spanrelay.tool(ask)()",
    "a run of an agent": "spanrelay.agent(ask)()",
    "a tool in a model's call": "spanrelay.run_model(lambda wire: spanrelay.run_tool('t', ask) and {}, "
    "{**body, 'model': 'n'}, codec='openai_chat', provider='p')",
}


@pytest.mark.parametrize("within", WITHIN.values(), ids=WITHIN)
@pytest.mark.parametrize("text", [DENY, STOP])
def test_what_a_tool_or_an_agent_asks_of_models_is_told_or_refused_like_anything_else(
    tmp_path: Path, server: ModelServer, text: str, within: str
) -> None:
    configure(tmp_path, text)
    program = posting(CLIENTS["httpx"], server).replace("ask()", within)
    check_posting(run(program, tmp_path, server, SPANRELAY_QUIET="true"), server, stops=text == STOP)


@pytest.mark.parametrize("text", [DENY, STOP])
def test_an_sdk_that_nobody_knows_is_told_though_it_says_of_itself_what_known_ones_say(
    tmp_path: Path, server: ModelServer, text: str
) -> None:
    configure(tmp_path, text)
    client = "import httpx\nask = lambda: httpx.post(url, json=body, headers={'x-stainless-lang': 'python'})\n"
    check_posting(run(posting(client, server), tmp_path, server), server, stops=text == STOP)


# --- what was used and not recorded ------------------------------------------------------------------------

NOT_RECORDED = (
    "spanrelay: openai was used and not recorded; spanrelay-openai is installed and not in force: "
    "start the program with opentelemetry-instrument, or call spanrelay.activate()\n"
)


@pytest.mark.parametrize("left_out", ["spanrelay_openai", "*"])
@pytest.mark.parametrize("launched", [True, False])
def test_an_sdk_whose_instrumentor_the_environment_leaves_out_is_told_so_at_the_end(
    tmp_path: Path, server: ModelServer, left_out: str, launched: bool
) -> None:
    program = ASK if launched else f"import spanrelay\nspanrelay.activate()\n{ASK}"
    ran = run(program, tmp_path, server, launched=launched, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=left_out)
    told = NOT_RECORDED.partition("; ")[0]
    assert ran.err == f"{told}; OTEL_PYTHON_DISABLED_INSTRUMENTATIONS leaves spanrelay-openai out\n"


@pytest.mark.parametrize("imported", ["", "import openai\n"])
def test_an_sdk_whose_instrumentor_was_not_applied_is_told_at_the_end(
    tmp_path: Path, server: ModelServer, imported: str
) -> None:
    program = f"{imported}import spanrelay\nspanrelay.activate(instrument=False)\n"
    assert run(program + ASK + ASK, tmp_path, server, launched=False).err == NOT_RECORDED
    assert run(program + ASK, tmp_path, server, launched=False, SPANRELAY_QUIET="true").err == ""
    assert run(program + ASK, tmp_path, server, launched=False, OTEL_SDK_DISABLED="true").err == NOTHING_RECORDED
    assert run(program + "import openai\nopenai.OpenAI()", tmp_path, server, launched=False).err == ""


def test_a_process_that_was_forked_tells_of_its_own_calls_alone(tmp_path: Path, server: ModelServer) -> None:
    program = f"import spanrelay, os, sys\nspanrelay.activate(instrument=False)\n{ASK}"
    program += "pid = os.fork()\nif pid: os.waitpid(pid, 0)\nsys.exit()\n"
    assert run(program, tmp_path, server, launched=False).err == NOT_RECORDED


def test_a_server_that_sigterm_ends_tells_it_too(tmp_path: Path, server: ModelServer) -> None:
    program = f"import spanrelay, os, signal\nspanrelay.activate(instrument=False)\n{ASK}"
    program += "os.kill(os.getpid(), signal.SIGTERM)\n"
    assert run(program, tmp_path, server, launched=False, SPANRELAY_SIGTERM="on").err == NOT_RECORDED


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_the_worker_of_a_pool_tells_it_too(tmp_path: Path, server: ModelServer, how: str) -> None:
    program = f"""
import multiprocessing, spanrelay
spanrelay.activate(instrument=False)
def ask():
    {ASK.strip().replace(chr(10), chr(10) + "    ")}
if __name__ == "__main__":
    process = multiprocessing.get_context({how!r}).Process(target=ask)
    process.start()
    process.join()
"""
    assert run(program, tmp_path, server, launched=False).err == NOT_RECORDED


def test_what_a_framework_of_ours_records_is_not_told(tmp_path: Path, server: ModelServer) -> None:
    pytest.importorskip("langchain_openai", reason="the framework is not installed")
    program = """
import spanrelay
spanrelay.activate(instrument=["langchain"])
from langchain_openai import ChatOpenAI
print(ChatOpenAI(model="m").invoke("hello").content)
print(len(list(ChatOpenAI(model="m").stream("hello"))) > 1)
"""
    ran = run(program, tmp_path, server, launched=False, SPANRELAY_QUIET="")
    assert "not recorded" not in ran.err
    assert ran.code == 0, ran.err


TRACED = """
import spanrelay
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
spanrelay.activate(instrument=False)
"""
TRACER = "trace.get_tracer('openinference.instrumentation.openai')"


def test_what_others_record_is_not_told(tmp_path: Path, server: ModelServer) -> None:
    program = f"{TRACED}with {TRACER}.start_as_current_span('chat'): {ASK.strip().replace(chr(10), '; ')}"
    assert run(program, tmp_path, server, launched=False, SPANRELAY_QUIET="").err.count("not recorded") == 0


def test_to_ask_for_a_tracer_is_no_recording(tmp_path: Path, server: ModelServer) -> None:
    assert run(f"{TRACED}{TRACER}{ASK}", tmp_path, server, launched=False).err == NOT_RECORDED


def test_where_spans_pass_unseen_a_tracer_is_taken_for_a_recording(tmp_path: Path, server: ModelServer) -> None:
    for asked, told in ((TRACER, ""), ("", NOT_RECORDED)):
        ran = run(f"{TRACED}{asked}{ASK}", tmp_path, server, launched=False, OTEL_TRACES_SAMPLER="always_off")
        assert ran.err == told
    own = f"{TRACED}own = TracerProvider()\nown.get_tracer('openinference.instrumentation.openai'){ASK}"
    assert run(own, tmp_path, server, launched=False).err == ""


def test_what_is_beneath_a_span_that_is_not_sampled_is_not_told(tmp_path: Path, server: ModelServer) -> None:
    unsampled = "trace.use_span(trace.NonRecordingSpan(trace.SpanContext(1, 1, True)))"
    program = f"{TRACED}with {unsampled}: {ASK.strip().replace(chr(10), '; ')}"
    assert run(program, tmp_path, server, launched=False).err == ""


# --- SDKs without our packages, in an environment of their own ---------------------------------------------

apart = pytest.mark.skipif(
    os.environ.get("SPANRELAY_TEST_UNGUARDED") != "1",
    reason="set SPANRELAY_TEST_UNGUARDED=1 to install SDKs without our packages for them apart",
)

PACKAGES = (
    "aiohttp",
    "anthropic",
    "boto3",
    "cohere",
    "google-genai",
    "groq",
    "huggingface_hub",
    "mistralai",
    "ollama",
    "openai",
)

AGENT_OF_BEDROCK = """
import boto3, spanrelay
spanrelay.activate()
agents = boto3.client('bedrock-agent-runtime', region_name='eu-west-1', endpoint_url=url, aws_access_key_id='k',
                      aws_secret_access_key='k')
for ask in (lambda: agents.list_sessions(), lambda: agents.invoke_agent(agentId='a', agentAliasId='b', sessionId='c',
                                                                      inputText='hi')):
    try:
        ask()
    except Exception as error:
        print(type(error).__name__)
"""

ASKING = {
    "openai": "import openai\nopenai.OpenAI(base_url=url).chat.completions.create(model='m', messages=hello)",
    "anthropic": "import anthropic\n"
    "anthropic.Anthropic(base_url=url, api_key='k').messages.create(model='m', max_tokens=1, messages=hello)",
    "groq": "import groq\ngroq.Groq(base_url=url, api_key='k').chat.completions.create(model='m', messages=hello)",
    "google-genai": "from google import genai\n"
    "genai.Client(api_key='k', http_options={'base_url': url}).models.generate_content(model='m', contents='hi')",
    "mistralai": "from mistralai.client import Mistral\n"
    "Mistral(api_key='k', server_url=url).chat.complete(model='m', messages=hello)",
    "cohere": "import cohere\ncohere.ClientV2(api_key='k', base_url=url).chat(model='m', messages=hello)",
    "ollama": "import ollama\nollama.Client(host=url).chat(model='m', messages=hello)",
    "huggingface_hub": "import huggingface_hub\nhuggingface_hub.InferenceClient(base_url=url).chat_completion(hello)",
    "boto3": "import boto3\nboto3.client('bedrock-runtime', region_name='eu-west-1', endpoint_url=url, "
    "aws_access_key_id='k', aws_secret_access_key='k').converse("
    "modelId='m', messages=[{'role': 'user', 'content': [{'text': 'hi'}]}])",
}
SHARED = ("huggingface_hub", "boto3")
NATIVE = ("anthropic",)
"""These open spans of their own."""
ASKED = {"mistralai": "; MISTRAL_SDK_TELEMETRY=global lets it record itself"}
"""What is said of those that do so where they are asked."""


@pytest.fixture(scope="module")
def python() -> str:
    return str(programs_of("unguarded", (), PACKAGES, unpinned=("websockets",)) / "python")


def asking(package: str, server: ModelServer, how: str = "") -> str:
    return f"""
import sys
url, hello = {server.url.removesuffix("/v1")!r}, [{{"role": "user", "content": "hello"}}]
print("first line", flush=True)
try:
    {(how or ASKING[package]).replace(chr(10), chr(10) + "    ")}
except Exception as error:
    print(type(error).__name__)
"""


@apart
@pytest.mark.parametrize("package", ASKING)
def test_an_sdk_that_nothing_guards_is_told_at_its_use_or_ends_the_program(
    tmp_path: Path, server: ModelServer, python: str, package: str
) -> None:
    [ours] = [sdk.ours for sdk in SDKS if sdk.package == package]
    remedy = f"pip install {ours}" if ours else "SpanRelay has no instrumentor for it yet"
    program = asking(package, server)
    ran = run(program, tmp_path, server, python=python, SPANRELAY_QUIET="")
    told = f"spanrelay: {package} was used and not recorded; {remedy}{ASKED.get(package, '')}\n"
    assert (told in ran.err) is (package not in NATIVE), ran.err
    asked = len(server.requests)
    assert asked > 0
    configure(tmp_path, DENY)
    ran = run(program, tmp_path, server, python=python)
    told = (
        f"spanrelay: {package!r} is used and nothing guards it, so the configured policy does not hold for it; {remedy}"
    )
    assert ran.err.splitlines().count(told) == 1, ran.err
    assert len(server.requests) == 2 * asked
    configure(tmp_path, STOP)
    ran = run(program, tmp_path, server, python=python)
    if package in SHARED:
        assert (ran.code, ran.out) == (0, "first line\nGuardrailRejected\n"), ran.err
    else:
        assert (ran.code, ran.out) == (1, "first line\n"), ran.err
        assert ran.err == f"{told.replace('is used', 'is imported')}\n"
    assert len(server.requests) == 2 * asked


CONFIGURED = """
from mistralai.client import Mistral
from mistralai.extra.observability.telemetry import configure_telemetry
client = Mistral(api_key='k', server_url=url)
configure_telemetry(client, %r)
client.chat.complete(model='m', messages=hello)"""


@apart
@pytest.mark.parametrize("how", ["variable", "global", "dedicated"])
def test_an_sdk_that_is_asked_to_record_itself_is_not_told(
    tmp_path: Path, server: ModelServer, python: str, how: str
) -> None:
    said = asking("mistralai", server) if how == "variable" else asking("mistralai", server, CONFIGURED % how)
    ran = run(
        *(said, tmp_path, server),
        python=python,
        SPANRELAY_QUIET="",
        MISTRAL_SDK_TELEMETRY="global" if how == "variable" else "",
        MISTRAL_OTLP_TRACES_ENDPOINT=server.url,  # in place of the provider's own
    )
    assert "not recorded" not in ran.err
    assert len(ran.trajectories) == (how != "dedicated"), ran.err


@apart
def test_an_agent_of_bedrock_asks_a_model_and_the_keeping_of_its_sessions_does_not(
    tmp_path: Path, server: ModelServer, python: str
) -> None:
    configure(tmp_path, STOP)
    ran = run(f"url = {server.address!r}\n{AGENT_OF_BEDROCK}", tmp_path, server, launched=False, python=python)
    assert (ran.code, ran.out) == (0, "ClientError\nGuardrailRejected\n"), ran.err
    assert {request.path for request in server.requests} == {"/sessions/"}


@apart
@pytest.mark.parametrize("text", [DENY, STOP])
def test_aiohttp_that_asks_a_provider_is_told_once_or_refused(
    tmp_path: Path, server: ModelServer, python: str, text: str
) -> None:
    configure(tmp_path, text)
    check_posting(run(posting(AIOHTTP, server), tmp_path, server, python=python), server, stops=text == STOP)


@apart
def test_an_sdk_that_was_imported_before_is_refused_by_activate(
    tmp_path: Path, server: ModelServer, python: str
) -> None:
    configure(tmp_path, STOP)
    program = "import groq, spanrelay\ntry:\n    spanrelay.activate()\n"
    program += "except spanrelay.ConfigurationError as error:\n    print(error)"
    ran = run(program, tmp_path, launched=False, python=python)
    assert ran.out.startswith("'groq' is imported and nothing guards it"), ran.err


@apart
def test_the_command_says_what_nothing_guards(tmp_path: Path, python: str) -> None:
    configure(tmp_path, DENY)
    program = "import sys\nfrom spanrelay.cli import main\nsys.exit(main(['plugins', *sys.argv[1:]]))"
    checked = run(program, tmp_path, launched=False, python=python, arguments=("validate",))
    shown = run(program, tmp_path, launched=False, python=python, arguments=("show",))
    assert [checked.code, checked.err, shown.code] == [0, "", 0]
    # `validate` answers the question itself; beside the plugins that `show` prints it is a remark, marked as ours.
    for said in (checked.out, shown.err.replace("spanrelay: warning: ", "warning: ")):
        warned = [line for line in said.splitlines() if line.startswith("warning: ")]
        assert [line.split()[1] for line in warned] == [sdk.package for sdk in SDKS if sdk.package in PACKAGES]
        for line in warned:
            assert "is installed, and nothing guards it" in line
        assert warned[0].endswith("nothing guards it; pip install spanrelay-openai")
