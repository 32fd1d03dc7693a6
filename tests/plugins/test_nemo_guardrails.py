"""The plugin `nemo_guardrails` with the real package, on rails that need no model, or ask one through our SDK.

Where the package is not installed, `test_nemo_configuration.py` runs this file in an environment that has it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.programs import ASK, environment, run

from spanrelay import ConfigurationError, GuardrailRejected, MiddlewareError, astream_model, execution_intercept, use
from spanrelay.config import PolicyFile
from spanrelay.plugins.activation import Activation
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, asked, said
from spanrelay_testkit.exchange import Answer, Request, reply
from spanrelay_testkit.model_scripts import pages
from spanrelay_testkit.model_server import ModelServer

pytest.importorskip("nemoguardrails", reason="pip install 'spanrelay[guardrails]', or set SPANRELAY_TEST_NEMO=1")
# What it says of itself; ours are errors, as everywhere.
pytestmark = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:(nemoguardrails|pydantic)\b.*")

AUTO = "from opentelemetry.instrumentation.auto_instrumentation import run"

YAML = r"""
rails:
  config:
    regex_detection:
      input:
        patterns: ['\bhunter\d+\b']
      output:
        patterns: ['launch code']
  input:
    flows: [regex check input, mask names of users, look closely]
  output:
    flows: [regex check output, mask names of models]
"""
COLANG = """
define subflow mask names of users
  $user_message = execute mask(text=$user_message)

define subflow mask names of models
  $bot_message = execute mask(text=$bot_message)

define subflow look closely
  $fine = execute look(text=$user_message)
  if not $fine
    bot refuse to respond
    stop
"""
ACTIONS = """
from nemoguardrails.actions import action

@action()
async def mask(text):
    return text.replace("Alice", "[name]")

@action()
async def look(text):
    if "crash" in text:
        raise OSError("no eyes")
    return "shady" not in text
"""
RIDDLE = """
define subflow speak a riddle
  create event RiddleException(message="no text, whatever the configuration says of exceptions")
  stop
"""
JUDGED_YAML = """
rails:
  input:
    flows: [judge the user]
  output:
    flows: [judge the model]
"""
JUDGED_COLANG = """
define subflow judge the user
  $fine = execute judge(text=$user_message)
  if not $fine
    bot refuse to respond
    stop

define subflow judge the model
  $fine = execute judge(text=$bot_message)
  if not $fine
    bot refuse to respond
    stop
"""
JUDGE = """
import openai
from nemoguardrails.actions import action

@action()
async def judge(text):
    async with openai.AsyncOpenAI(base_url={url!r}, api_key="none") as client:
        messages = [{{"role": "user", "content": "judge: " + text}}]
        answer = await client.chat.completions.create(model="judge", messages=messages)
    return answer.choices[0].message.content == "fine"
"""
NAME = "nemo_guardrails.input"
OUTPUT = "nemo_guardrails.output"


def talk(request: Request) -> Answer:
    """The judge's verdict; the launch code for whoever wants it; else an echo."""
    text = request.last_user_text
    if text.startswith("judge: "):
        return reply("bad" if "bad" in text else "fine")
    return reply("the launch code is 0000" if "code" in text else f"Alice heard: {text}")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(talk) as running:
        yield running


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[None]:
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    yield
    instrumentor.uninstrument()


@pytest.fixture
def client(instrumented: None, server: ModelServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client


Install = Callable[..., Activation]


@pytest.fixture
def install(tmp_path: Path, capture: Capture) -> Iterator[Install]:
    """Writes a rails configuration and puts `[plugins.nemo_guardrails]` in force with it."""
    activations: list[Activation] = []

    def put(yaml: str = YAML, colang: str = COLANG, actions: str = ACTIONS, more: str = "") -> Activation:
        rails = tmp_path / "rails"
        rails.mkdir(exist_ok=True)
        for name, text in (("config.yml", yaml), ("rails.co", colang), ("actions.py", actions)):
            (rails / name).write_text(text)
        file = tmp_path / "spanrelay.toml"
        file.write_text(f'[plugins.nemo_guardrails]\nconfig_path = "rails"\n{more}')
        activations.append(Activation([PolicyFile(str(file), "chosen")]))
        activations[-1].start()
        return activations[-1]

    yield put
    for activation in activations:
        activation.close()


def messages(*texts: str) -> Any:
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]


def chat(client: openai.OpenAI, text: str) -> str | None:
    return client.chat.completions.create(model="m", messages=messages(text)).choices[0].message.content


def chat_stream(client: openai.OpenAI, text: str) -> str:
    stream = client.chat.completions.create(model="m", messages=messages(text), stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def chat_raw(client: openai.OpenAI, text: str) -> str | None:
    raw = client.chat.completions.with_raw_response.create(model="m", messages=messages(text))
    return raw.parse().choices[0].message.content


def responses(client: openai.OpenAI, text: str) -> str:
    return client.responses.create(model="m", input=text).output_text


def responses_stream(client: openai.OpenAI, text: str) -> str:
    stream = client.responses.create(model="m", input=text, stream=True)
    return "".join(event.delta for event in stream if event.type == "response.output_text.delta")


def completions(client: openai.OpenAI, text: str) -> str:
    return client.completions.create(model="m", prompt=text).choices[0].text


def later(client: openai.OpenAI, text: str) -> str | None:
    async def ask() -> Any:
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key="none", max_retries=0) as other:
            return await other.chat.completions.create(model="m", messages=messages(text))

    return asyncio.run(ask()).choices[0].message.content


def later_stream(client: openai.OpenAI, text: str) -> str:
    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key="none", max_retries=0) as other:
            stream = await other.chat.completions.create(model="m", messages=messages(text), stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    return asyncio.run(ask())


ways = pytest.mark.parametrize(
    "ask",
    [chat, chat_stream, chat_raw, responses, responses_stream, completions, later, later_stream],
    ids=lambda way: way.__name__,
)


@ways
def test_a_blocked_input_is_never_sent_and_the_reason_is_the_rail(
    install: Install, client: openai.OpenAI, server: ModelServer, capture: Capture, ask: Any
) -> None:
    install()
    with pytest.raises(GuardrailRejected) as refused:
        ask(client, "my password is hunter2")
    assert (refused.value.reason, refused.value.name) == ("regex check input", NAME)
    assert server.requests == []
    [verdict] = capture.of("GUARDRAIL")
    assert (verdict.attributes or {})["gen_ai.guardrail.verdict.reason"] == "regex check input"


@ways
def test_what_the_rails_rewrite_is_sent_and_handed_out(
    install: Install, client: openai.OpenAI, server: ModelServer, capture: Capture, ask: Any
) -> None:
    install()
    assert ask(client, "I am Alice") == "[name] heard: I am [name]"
    [request] = server.requests
    assert request.last_user_text == "I am [name]"
    [span] = capture.of("LLM")
    assert (asked(span), said(span)) == ("I am [name]", "[name] heard: I am [name]")
    if ask in (chat, chat_raw, responses, later):  # a stream tells its usage only where it is asked to
        assert (span.attributes or {})["gen_ai.usage.output_tokens"] == 5, "the usage stays the provider's"


@ways
def test_a_blocked_output_does_not_reach_the_application(
    install: Install, client: openai.OpenAI, server: ModelServer, capture: Capture, ask: Any
) -> None:
    install()
    with pytest.raises(GuardrailRejected) as refused:
        ask(client, "the code please")
    assert (refused.value.reason, refused.value.name) == ("regex check output", OUTPUT)
    assert len(server.requests) == 1
    [span] = capture.of("LLM")
    assert span.status.status_code.name == "ERROR"
    assert "regex check output" in str(span.status.description)


def test_no_chunk_of_a_blocked_output_is_handed_out(install: Install, client: openai.OpenAI) -> None:
    install()
    with pytest.raises(GuardrailRejected):
        client.chat.completions.create(model="m", messages=messages("the code please"), stream=True)


def test_a_managed_stream_is_judged_too(install: Install, capture: Capture) -> None:
    install()

    async def events(wire: dict[str, Any]) -> Any:
        for text in ("the launch", " code is 0000"):
            yield {"choices": [{"index": 0, "delta": {"role": "assistant", "content": text}}]}

    async def ask() -> None:
        await astream_model(events, {"model": "m", "messages": messages("hello")})

    with pytest.raises(GuardrailRejected, match="regex check output"):
        asyncio.run(ask())


def test_a_request_keeps_what_the_rails_do_not_know(
    install: Install, client: openai.OpenAI, server: ModelServer
) -> None:
    install()
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    parts = [{"type": "text", "text": "I am "}, picture, {"type": "text", "text": "Alice"}]
    said_before: Any = [{"role": "system", "content": "Alice"}, *messages("Alice?", "Alice!")]
    sent: Any = [*said_before, {"role": "user", "content": parts, "name": "u"}]
    client.chat.completions.create(model="m", messages=sent, extra_body={"novel": [1, None]})
    [request] = server.requests
    assert request.body["novel"] == [1, None]
    assert request.body["messages"][:3] == said_before, "what was judged in earlier turns stays"
    rewritten = [{"type": "text", "text": "I am [name]"}, picture]
    assert request.body["messages"][3] == {"role": "user", "content": rewritten, "name": "u"}


@pytest.mark.parametrize(
    "turn",
    [
        messages("hunter2"),
        [*messages("hi", "hello"), *messages("hunter2"), *messages("and more")],
        [*messages("hi", "hello", "hunter2"), {"role": "assistant", "content": "Sure, "}],
        [
            *messages("hunter2"),
            {
                "role": "assistant",
                "content": "wait",
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c", "content": "done"},
        ],
    ],
    ids=["alone", "not last", "before a prefill", "before tools"],
)
def test_everything_that_the_user_says_in_a_turn_is_judged(
    install: Install, client: openai.OpenAI, server: ModelServer, turn: Any
) -> None:
    install()
    with pytest.raises(GuardrailRejected, match="regex check input"):
        client.chat.completions.create(model="m", messages=turn)
    assert server.requests == []


def test_embeddings_are_judged_where_their_kind_is_asked_for(
    install: Install, client: openai.OpenAI, server: ModelServer
) -> None:
    activation = install()
    client.embeddings.create(model="e", input="hunter2")
    activation.close()
    install(more='kinds = ["llm", "embedder"]')
    with pytest.raises(GuardrailRejected):
        client.embeddings.create(model="e", input=["fine", "hunter2"])
    client.embeddings.create(model="e", input=["fine", "Alice"])
    assert [request.body["input"] for request in server.requests] == ["hunter2", ["fine", "[name]"]]


@pytest.mark.parametrize("ask", [chat, later])
def test_a_rail_that_fails_blocks(install: Install, client: openai.OpenAI, server: ModelServer, ask: Any) -> None:
    install()
    for text in ("shady", "crash"):
        with pytest.raises(GuardrailRejected, match="look closely"):
            ask(client, text)
    assert server.requests == []


def test_rails_that_leave_nothing_or_cannot_answer_block(
    install: Install, client: openai.OpenAI, server: ModelServer
) -> None:
    activation = install(actions=ACTIONS.replace('text.replace("Alice", "[name]")', '""'))
    with pytest.raises(GuardrailRejected, match="the input rails removed the whole text"):
        chat(client, "Alice")
    activation.close()
    install(
        yaml=YAML.replace("regex check input, mask names of users, look closely", "speak a riddle"),
        colang=COLANG + RIDDLE,
    )
    with pytest.raises(MiddlewareError, match="the input rails of 'nemo_guardrails' failed: ValidationError"):
        chat(client, "Alice")
    assert server.requests == []


def test_exceptions_of_rails_are_refusals(install: Install, client: openai.OpenAI, server: ModelServer) -> None:
    raising = COLANG.replace(
        "    bot refuse to respond\n    stop",
        "    if $config.enable_rails_exceptions\n"
        '      create event LookException(message="no")\n'
        "    else\n      bot refuse to respond\n    stop",
    )
    install(yaml=f"enable_rails_exceptions: true\n{YAML}", colang=raising)
    with pytest.raises(GuardrailRejected, match="look closely"):
        chat(client, "shady")
    assert server.requests == []


def test_an_answer_of_other_middleware_is_judged(install: Install, client: openai.OpenAI, server: ModelServer) -> None:
    @execution_intercept
    def cache(call: Any) -> Any:
        return {"choices": [{"message": {"role": "assistant", "content": "the launch code"}}]}
        yield call

    install()
    with use(cache), pytest.raises(GuardrailRejected, match="regex check output"):
        chat(client, "hello")
    assert server.requests == []


@pytest.mark.parametrize("ask", [chat, chat_stream, later, later_stream])
def test_the_calls_of_a_rail_neither_recurse_nor_merge_into_the_users(
    install: Install, client: openai.OpenAI, server: ModelServer, capture: Capture, ask: Any
) -> None:
    install(JUDGED_YAML, JUDGED_COLANG, JUDGE.format(url=server.url))
    assert ask(client, "hello") == "Alice heard: hello"
    sent = ["judge: hello", "hello", "judge: Alice heard: hello"]
    assert [request.last_user_text for request in server.requests] == sent
    of_user, of_model, call = sorted(capture.of("LLM"), key=lambda span: span.name)
    assert [span.name for span in (of_user, of_model, call)] == ["chat judge", "chat judge", "chat m"]
    assert {asked(span) for span in (of_user, of_model)} == {sent[0], sent[2]}
    assert (asked(call), said(call)) == ("hello", "Alice heard: hello")
    for span in (of_user, of_model):
        assert span.parent is not None and call.context is not None
        assert span.parent.span_id == call.context.span_id
    assert len(capture.of("GUARDRAIL")) == 1


@pytest.mark.parametrize("ask", [chat, later])
def test_what_a_judge_blocks_is_not_sent(
    install: Install, client: openai.OpenAI, server: ModelServer, ask: Any
) -> None:
    install(JUDGED_YAML, JUDGED_COLANG, JUDGE.format(url=server.url))
    with pytest.raises(GuardrailRejected, match="judge the user"):
        ask(client, "something bad")
    assert [request.model for request in server.requests] == ["judge"]


def test_two_configurations_do_not_judge_each_others_calls(
    install: Install, client: openai.OpenAI, server: ModelServer, tmp_path: Path
) -> None:
    install(JUDGED_YAML, JUDGED_COLANG, JUDGE.format(url=server.url)).close()
    files = []
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text('[plugins.nemo_guardrails]\nconfig_path = "rails"\noutput = false')
        files.append(PolicyFile(str(tmp_path / name), "chosen"))
    activation = Activation(files)
    activation.start()
    try:
        chat(client, "hello")
    finally:
        activation.close()
    assert [request.model for request in server.requests] == ["judge", "judge", "m"]


def test_calls_of_many_threads_and_loops_are_judged_at_the_same_time(
    install: Install, client: openai.OpenAI, server: ModelServer
) -> None:
    install(JUDGED_YAML, JUDGED_COLANG, JUDGE.format(url=server.url))
    answers: list[str | None] = []

    def work(ask: Any, text: str) -> None:
        answers.append(ask(client, text))

    threads = [
        threading.Thread(target=work, args=(ask, f"{ask.__name__} {at}")) for at in range(2) for ask in (chat, later)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, answers)) == sorted(
        f"Alice heard: {name} {at}" for at in range(2) for name in ("chat", "later")
    )


def test_conversations_are_not_kept(install: Install, client: openai.OpenAI, capture: Capture) -> None:
    activation = install()
    chat(client, "I am Alice")
    capture.clear()
    rails = activation.contexts[0].entries[0].function.__self__  # type: ignore[attr-defined]
    gc.collect()
    assert rails._rails.events_history_cache == {}
    assert list(rails._passed) == []


def test_one_side_can_be_off_and_a_reload_changes_it(
    install: Install, client: openai.OpenAI, server: ModelServer, tmp_path: Path
) -> None:
    activation = install(more="output = false")
    assert chat(client, "the code, Alice") == "the launch code is 0000"
    (tmp_path / "spanrelay.toml").write_text('[plugins.nemo_guardrails]\nconfig_path = "rails"\ninput = false')
    activation.reload()
    with pytest.raises(GuardrailRejected, match="regex check output"):
        chat(client, "the code, Alice")
    assert [request.last_user_text for request in server.requests] == ["the code, [name]", "the code, Alice"]


@pytest.mark.parametrize(
    ("yaml", "colang", "said"),
    [
        (
            "rails: {input: {key: 'sk-hidden",
            "",
            "config_path cannot be loaded: found unexpected end of stream at line 1",
        ),
        ("rails: {output: {flows: {sk-hidden: 1}}}", "", "config_path cannot be loaded: rails.output.flows: Input"),
        ("rails: {input: {flows: [sneeze]}}", "", "the provided input rail flow `sneeze` does not exist"),
        ("rails: {}", "", "the rails configuration has no rails for a side that is switched on"),
        ('colang_version: "2.x"', "flow main\n  match never\n", "the rails are in Colang 2.x"),
    ],
    ids=["no YAML", "wrong type", "unknown rail", "no rails", "Colang 2"],
)
def test_rails_that_cannot_be_loaded_are_told_without_their_text(
    install: Install, yaml: str, colang: str, said: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        install(yaml, colang, more="")
    assert said.casefold() in str(refused.value).casefold()
    assert "plugins.nemo_guardrails: cannot be installed: " in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path, capture: Capture) -> None:
    file = tmp_path / "spanrelay.toml"
    file.write_text('[plugins.nemo_guardrails]\nconfig_path = "nowhere"')
    with pytest.raises(ConfigurationError, match=r"config_path cannot be loaded: .*nowhere"):
        Activation([PolicyFile(str(file), "chosen")]).start()


def test_a_program_is_judged_with_nothing_but_a_file(tmp_path: Path, server: ModelServer) -> None:
    file = tmp_path / "chosen.toml"
    yaml = "rails: {config: {regex_detection: {input: {patterns: [hello]}}}, input: {flows: [regex check input]}}"
    file.write_text(f"[plugins.nemo_guardrails]\nconfig_yaml = '{yaml}'")
    # Not by its launcher: the environment that has the package may have no scripts of ours.
    program = "import spanrelay\nfrom spanrelay_openai import OpenAIInstrumentor\nspanrelay.activate()\n"
    program += f"OpenAIInstrumentor().instrument()\n{ASK}"
    ran = run(program, tmp_path, server, launched=False, SPANRELAY_CONFIG=str(file), DO_NOT_TRACK="1")
    assert "GuardrailRejected: guardrail 'nemo_guardrails.input' refused the call: regex check input" in ran.err
    assert server.requests == []


def test_what_the_page_tells_to_type_refuses_what_it_says(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "nemo-guardrails.md").read_text()
    typed = re.search(r"```bash\npip install [^\n]*\n(.*?)```", page, re.DOTALL)
    assert typed is not None
    # The environment that has the package may have no scripts of ours.
    (programs := tmp_path / "bin").mkdir()
    for name, module in (("opentelemetry-instrument", AUTO), ("spanrelay", "from spanrelay.cli import main")):
        (programs / name).write_text(f"#!{sys.executable}\n{module} as run\nimport sys\nsys.exit(run())\n")
        (programs / name).chmod(0o755)
    shutil.copy(root / "examples" / "weather_agent.py", tmp_path / "app.py")
    with ModelServer(pages) as server:
        path = os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.environ["PATH"]))
        settings = environment(server, {"PATH": path, "DO_NOT_TRACK": "1"})
        done = subprocess.run(
            ["bash", "-eu"], input=typed[1], cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=300
        )
    assert done.returncode == 0, done.stderr
    assert "guardrail 'nemo_guardrails.input' refused the call: regex check input" in done.stderr
    assert "And in Atlantis?" in done.stdout and "refused" in done.stdout


def test_the_rails_of_the_docs_hold(tmp_path: Path, client: openai.OpenAI, server: ModelServer) -> None:
    page = (Path(__file__).parents[2] / "docs" / "nemo-guardrails.md").read_text()
    [block] = [block for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "colang_content" in block]
    (tmp_path / "rails.toml").write_text(block)
    activation = Activation([PolicyFile(str(tmp_path / "rails.toml"), "chosen")])
    activation.start()
    try:
        for text, rail in (("sk-" + "a1" * 12, "regex check input"), ("is acme better?", "no competitors")):
            with pytest.raises(GuardrailRejected, match=rail):
                chat(client, text)
        assert chat(client, "hello") == "Alice heard: hello"
    finally:
        activation.close()
    assert len(server.requests) == 1
