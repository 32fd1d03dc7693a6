"""Runs of rails as traces: every way to run them, what stops them, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from spanrelay import current_scope
from spanrelay_testkit.capture import Capture, said
from spanrelay_testkit.exchange import error
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import named, tree

pytest.importorskip("nemoguardrails", reason="set SPANRELAY_TEST_NEMO=1")

from .bots import COLANG, YAML, Way, at_work, bot, generated, generated_synchronously, streamed, talk, user

# What it says of itself; ours are errors, as everywhere.
pytestmark = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:(nemoguardrails|pydantic)\b.*")

INPUT_RAILS = [
    "  run_guardrail regex check input",
    "    run_guardrail detect_regex_pattern",
    "  run_guardrail look closely",
    "    run_guardrail look",
]
STREAMING = YAML.partition("  output:")[0]
"""Rails that let a stream through: a stream has no rails behind it unless they are told to stream."""


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(talk) as running:
        yield running


def attributes(capture: Capture, name: str) -> dict[str, Any]:
    return dict(named(capture, name).attributes or {})


@pytest.mark.proves("nemo-guardrails", "one trace")
@pytest.mark.parametrize("run", [generated, generated_synchronously])
def test_a_generation_is_one_trace_with_its_rails_actions_and_one_model_call(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    assert run(bot(server), "hi") == "Hello, you."
    assert tree(instrumented) == [
        "LLMRails.generate",
        *INPUT_RAILS,
        "  generate_user_intent",
        "    chat gpt-5",
        "  run_guardrail check the answer",
        "    run_guardrail look",
    ]
    assert attributes(instrumented, "LLMRails.generate") == {
        "openinference.span.kind": "CHAIN",
        "input.value": "hi",
        "input.mime_type": "text/plain",
        "output.value": "Hello, you.",
        "output.mime_type": "text/plain",
    }
    assert attributes(instrumented, "run_guardrail check the answer") == {
        "gen_ai.operation.name": "run_guardrail",
        "openinference.span.kind": "GUARDRAIL",
        "gen_ai.guardrail.component.name": "check the answer",
        "gen_ai.guardrail.verdict.type": "allow",
        "gen_ai.guardrail.action.type": "allow",
        "rail.name": "check the answer",
        "rail.type": "output",
        "rail.stop": False,
    }
    chat = named(instrumented, "chat gpt-5")
    assert said(chat) == "Hello, you."
    assert (chat.attributes or {})["gen_ai.usage.output_tokens"] == 2
    assert (chat.attributes or {})["gen_ai.provider.name"] == "openai"


@pytest.mark.proves("nemo-guardrails", "streaming")
def test_a_stream_ends_its_run_when_it_is_read(instrumented: Capture, server: ModelServer) -> None:
    assert streamed(bot(server, STREAMING), "hi") == "Hello, you."
    assert tree(instrumented) == ["LLMRails.stream", *INPUT_RAILS, "  generate_user_intent", "    chat gpt-5"]
    assert attributes(instrumented, "LLMRails.stream")["output.value"] == "Hello, you."
    assert said(named(instrumented, "chat gpt-5")) == "Hello, you."
    assert attributes(instrumented, "chat gpt-5")["gen_ai.request.stream"] is True


def test_a_stream_is_current_while_it_works_and_never_in_between(instrumented: Capture, server: ModelServer) -> None:
    async def read() -> list[Any]:
        return [current_scope() async for _ in bot(server, STREAMING).stream_async(messages=user("hi"))]

    assert set(at_work(read())) == {None}


def test_a_stream_that_is_left_says_so(instrumented: Capture, server: ModelServer) -> None:
    async def read() -> None:
        chunks = bot(server, STREAMING).stream_async(messages=user("hi"))
        await anext(chunks)
        await chunks.aclose()

    at_work(read())
    assert attributes(instrumented, "LLMRails.stream")["spanrelay.incomplete"] == "closed"
    assert attributes(instrumented, "LLMRails.stream")["output.value"] == "Hello,"


@pytest.mark.parametrize(
    ("text", "rail", "verdicts"),
    [("shady", "look closely", ["allow", "allow", "deny"]), ("hunter2", "regex check input", ["deny", "deny"])],
)
def test_a_rail_that_stops_the_run_says_so_and_no_model_is_asked(
    instrumented: Capture, server: ModelServer, text: str, rail: str, verdicts: list[str]
) -> None:
    server.requests.clear()
    assert generated(bot(server), text) == "I'm sorry, I can't respond to that."
    assert server.requests == []
    stopped = attributes(instrumented, f"run_guardrail {rail}")
    assert (stopped["gen_ai.guardrail.verdict.type"], stopped["rail.stop"]) == ("deny", True)
    found = [dict(span.attributes or {}).get("gen_ai.guardrail.verdict.type") for span in instrumented.spans]
    assert [verdict for verdict in found if verdict] == verdicts


def test_a_check_is_a_run_whose_output_is_its_verdict(instrumented: Capture, server: ModelServer) -> None:
    rails = bot(server)
    assert at_work(rails.check_async(user("hi"))).status.value == "passed"
    assert tree(instrumented) == ["LLMRails.check", *INPUT_RAILS]
    assert json.loads(attributes(instrumented, "LLMRails.check")["output.value"]) == {
        "status": "passed",
        "content": "hi",
    }
    instrumented.clear()
    assert at_work(rails.check_async(user("shady"))).rail == "look closely"
    assert json.loads(attributes(instrumented, "LLMRails.check")["output.value"])["rail"] == "look closely"


def test_rails_side_by_side_are_rails_of_their_run(instrumented: Capture, server: ModelServer) -> None:
    yaml = YAML.replace("  input:\n    flows", "  input:\n    parallel: true\n    flows")
    assert yaml != YAML
    assert generated(bot(server, yaml), "shady") == "I'm sorry, I can't respond to that."
    outline = [line for line in tree(instrumented) if "rail" in line]
    assert sorted(line for line in outline if line.startswith("  run_")) == [INPUT_RAILS[2], INPUT_RAILS[0]]
    closely = attributes(instrumented, "run_guardrail look closely")
    assert (closely["rail.type"], closely["rail.stop"]) == ("input", True)


def test_what_an_action_raises_is_its_error_and_the_run_goes_the_toolkits_way(
    instrumented: Capture, server: ModelServer
) -> None:
    assert generated(bot(server), "crash") == "I'm sorry, an internal error has occurred."
    span = named(instrumented, "run_guardrail look")
    assert not span.status.is_ok
    assert (span.attributes or {})["error.type"] == "action_failed"
    assert attributes(instrumented, "run_guardrail look closely")["rail.stop"] is True


def test_a_model_that_fails_fails_the_run_with_the_toolkits_own_error(instrumented: Capture) -> None:
    from nemoguardrails.exceptions import LLMCallException

    with ModelServer(lambda _: error(401)) as broken:
        rails = bot(broken)
        with pytest.raises(LLMCallException, match="401"):
            generated(rails, "hi")
    assert attributes(instrumented, "chat gpt-5")["http.response.status_code"] == 401
    for name in ("generate_user_intent", "LLMRails.generate"):
        assert not named(instrumented, name).status.is_ok


def test_a_run_that_is_cancelled_leaves_nothing_open(instrumented: Capture, server: ModelServer) -> None:
    started = asyncio.Event()

    async def hang(text: str) -> bool:
        started.set()
        await asyncio.Event().wait()
        return True

    async def cancel() -> None:
        rails = bot(server)
        rails.register_action(hang, "look")
        task = asyncio.ensure_future(rails.generate_async(messages=user("hi")))
        await started.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    at_work(cancel())
    assert instrumented.ledger.open == []
    assert attributes(instrumented, "LLMRails.generate")["spanrelay.incomplete"] == "cancelled"


def test_runs_at_the_same_time_keep_apart(instrumented: Capture, server: ModelServer) -> None:
    rails = bot(server)

    async def ask() -> None:
        await asyncio.gather(*(rails.generate_async(messages=user(f"hi {at}")) for at in range(20)))

    at_work(ask())
    by_trace: dict[int, list[str]] = {}
    for span in instrumented.spans:
        assert span.context is not None
        by_trace.setdefault(span.context.trace_id, []).append(span.name)
    assert len(by_trace) == 20
    assert {tuple(sorted(each)) for each in by_trace.values()} == {tuple(sorted(next(iter(by_trace.values()))))}


def test_the_toolkits_own_spans_are_not_made_beside_ours(
    instrumented: Capture, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry import trace

    monkeypatch.setattr(trace, "get_tracer_provider", lambda: instrumented.provider)
    yaml = YAML + "tracing: {{enabled: true, adapters: [{{name: OpenTelemetry}}]}}\n"
    answer = at_work(bot(server, yaml).generate_async(messages=user("hi")))
    assert answer.response[0]["content"] == "Hello, you."
    assert len(instrumented.spans) == 9
    assert not [span.name for span in instrumented.spans if span.name.startswith("guardrails.")]


def test_a_dialog_asks_tools_of_the_application(instrumented: Capture, server: ModelServer) -> None:
    assert generated(bot(server, colang=COLANG), "how many are left?") == "There are 6 left."
    assert [line for line in tree(instrumented) if line not in INPUT_RAILS][:4] == [
        "LLMRails.generate",
        "  generate_user_intent",
        "    chat gpt-5",
        "  execute_tool count_stock",
    ]
    tool = attributes(instrumented, "execute_tool count_stock")
    assert (tool["gen_ai.tool.call.arguments"], tool["gen_ai.tool.call.result"]) == ('{"thing":"chairs"}', "6")


def test_rails_behind_a_stream_are_part_of_its_run(instrumented: Capture, server: ModelServer) -> None:
    yaml = YAML.replace("  output:\n", "  output:\n    streaming: {{enabled: true, chunk_size: 200}}\n").replace(
        "[check the answer]", "[regex check output]"
    )
    yaml = yaml.replace("      input:\n", "      output:\n        patterns: [forbidden]\n      input:\n", 1)
    assert streamed(bot(server, yaml), "hi") == "Hello, you."
    assert tree(instrumented) == [
        "LLMRails.stream",
        *INPUT_RAILS,
        "  generate_user_intent",
        "    chat gpt-5",
        "  run_guardrail regex check output",
        "    run_guardrail detect_regex_pattern",
        "  run_guardrail detect_regex_pattern",
    ], "the toolkit runs the rail on the whole answer, and its action on each part of the stream"


def test_a_stream_that_nobody_reads_ends_when_it_is_dropped(instrumented: Capture, server: ModelServer) -> None:
    async def drop() -> None:
        rails = bot(server, STREAMING)
        chunks = rails.stream_async(messages=user("hi"))
        await asyncio.gather(*rails._active_tasks)
        del chunks

    at_work(drop())
    assert attributes(instrumented, "LLMRails.stream")["spanrelay.incomplete"] == "abandoned"
    assert instrumented.ledger.open == []
