"""The conformance suite: true records pass, and what is told or sent otherwise is complained of."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conformance import is_here
from tests.provider_environment import beside_other_sdks, providers
from tests.shared_data import needs_shared

from spanrelay_testkit.conformance.__main__ import main
from spanrelay_testkit.conformance.drivers import all_drivers
from spanrelay_testkit.conformance.drivers.openai import OpenAI
from spanrelay_testkit.conformance.exchanges import Exchange
from spanrelay_testkit.conformance.page import figures_in, page
from spanrelay_testkit.conformance.suite import plan
from spanrelay_testkit.conformance.trial import tried, ways_of

PAGE = Path(__file__).parents[1] / "docs" / "providers.md"
STALE = "write the page anew: python -m tests.conformance --page docs/providers.md"
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
RECORD: dict[str, Any] = {
    "id": "made-up-1",
    "provider": "openai",
    "api": "chat_completions",
    "features": ["tool_calls", "reasoning", "cache_read"],
    "group": "made-up",
    "seq": 0,
    "request": {
        "method": "POST",
        "path": "/v1/chat/completions",
        "body": {
            "model": "gpt-5",
            "messages": [{"role": "user", "content": "How is the weather in Oslo?"}],
            "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
        },
    },
    "response": {
        "status": 200,
        "headers": {"content-type": "application/json"},
        "body": {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-5-2026",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "I will look.",
                        "reasoning_content": "A tool knows.",
                        "tool_calls": [CALL],
                    },
                    "finish_reason": "tool_calls",
                }
            ],
            "usage": {
                "prompt_tokens": 20,
                "completion_tokens": 10,
                "total_tokens": 30,
                "prompt_tokens_details": {"cached_tokens": 5},
                "completion_tokens_details": {"reasoning_tokens": 4},
            },
        },
    },
    "truth": {
        "streamed": False,
        "request_model": "gpt-5",
        "response_model": "gpt-5-2026",
        "response_id": "chatcmpl-1",
        "input_tokens": 20,
        "output_tokens": 10,
        "total_tokens": 30,
        "cached_input_tokens": 5,
        "cache_creation_input_tokens": None,
        "reasoning_tokens": 4,
        "input_tokens_total": 20,
        "output_tokens_total": 10,
        "usage_raw": {},
        "finish_reasons": ["tool_calls"],
        "status": None,
        "text": "I will look.",
        "reasoning_text": "A tool knows.",
        "refusal": None,
        "tool_calls": [
            {
                "id": "call_1",
                "name": "weather",
                "arguments": {"city": "Oslo"},
                "arguments_raw": '{"city": "Oslo"}',
            }
        ],
        "server_tool_calls": [],
        "choices": [],
        "error": None,
        "event_count": None,
    },
}


def changed(change: Callable[[dict[str, Any]], Any]) -> Exchange:
    record = copy.deepcopy(RECORD)
    change(record)
    return Exchange(record)


async def complaints(exchange: Exchange, driver: OpenAI | None = None) -> list[str]:
    driver = driver or OpenAI()
    return [each for way in ways_of(driver) for each in (await tried(driver, exchange, way)).complaints]


async def test_an_exchange_that_is_recorded_as_it_was_has_no_complaint() -> None:
    assert await complaints(Exchange(RECORD)) == []


FALSE: dict[str, Any] = {
    "streamed": True,
    "request_model": "gpt-4",
    "response_model": "gpt-4",
    "response_id": "chatcmpl-2",
    "total_tokens": 31,
    "cached_input_tokens": 6,
    "cache_creation_input_tokens": 1,
    "reasoning_tokens": 3,
    "input_tokens_total": 21,
    "output_tokens_total": 11,
    "finish_reasons": ["stop"],
    "text": "I look.",
    "reasoning_text": "Nobody knows.",
    "refusal": "No.",
    "tool_calls": [],
    "server_tool_calls": [{"type": "web_search_call", "id": "ws_1", "name": None}],
    "error": {"http_status": 400, "type": None, "code": None, "message": "no", "in_stream": False},
}


@pytest.mark.parametrize("field", FALSE)
async def test_a_truth_that_is_another_is_complained_of(field: str) -> None:
    found = await complaints(changed(lambda record: record["truth"].update({field: FALSE[field]})))
    assert len(found) >= 3  # sync, async and raw


@pytest.mark.parametrize("key", ["id", "name", "arguments_raw"])
async def test_a_tool_call_that_is_another_is_complained_of(key: str) -> None:
    found = await complaints(changed(lambda record: record["truth"]["tool_calls"][0].update({key: "other"})))
    assert any("tool call" in each for each in found)


class Forgetful(OpenAI):
    """Does not ask what was recorded."""

    def arguments(self, client: Any, exchange: Exchange) -> dict[str, Any]:
        found = super().arguments(client, exchange)
        del found["tools"]
        return found


async def test_a_driver_that_asks_for_something_else_is_complained_of() -> None:
    found = await complaints(Exchange(RECORD), Forgetful())
    assert "the SDK sends another 'tools'" in found
    assert "offered, but not told: tool 'weather'" in found


def folder_with(tmp_path: Path, *records: dict[str, Any]) -> Path:
    (tmp_path / "any.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return tmp_path


def test_a_folder_of_the_same_format_is_asked_and_the_last_line_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {**RECORD, "id": "made-up-2", "provider": "nobody", "group": "another"}
    strange = {**RECORD, "id": "made-up-3", "api": "unheard_of"}
    assert main([str(folder_with(tmp_path, RECORD, other, strange))]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == "2 passed of 2"
    assert lines[0].startswith("not served: made-up-3 (openai unheard_of): no driver")


def test_a_failure_is_named_and_is_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {**RECORD, "id": "made-up-2", "truth": {**RECORD["truth"], "input_tokens_total": 1}}
    assert main([str(folder_with(tmp_path, RECORD, wrong))]) == 1
    out = capsys.readouterr().out
    assert "FAILED made-up-2 (openai, sync)\n    input_tokens_total: 20, not 1\n" in out
    assert out.splitlines()[-1].endswith("passed of 3")  # the two are a run, too


def test_exchanges_of_a_group_are_a_run_in_their_order(tmp_path: Path) -> None:
    second = {**RECORD, "id": "made-up-2", "seq": 1}
    [(_, run)] = plan(folder_with(tmp_path, second, RECORD)).runs
    assert [exchange.id for exchange in run] == ["made-up-1", "made-up-2"]


def test_no_exchanges_are_told_and_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spanrelay_testkit.conformance.__main__.BESIDE", tmp_path)
    assert main([]) == 0
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().out.count("no recorded exchanges") == 2


@needs_shared
@pytest.mark.slow
@pytest.mark.skipif(not is_here(), reason="the providers' SDKs are not here")
def test_every_recorded_exchange_passes_here(tmp_path: Path) -> None:
    check_all(sys.executable, tmp_path)


@needs_shared
@beside_other_sdks("anthropic")
def test_every_recorded_exchange_passes_where_the_providers_sdks_are(tmp_path: Path) -> None:
    check_all(providers() / "python", tmp_path)


def check_all(python: str | Path, folder: Path) -> None:
    written = folder / "providers.md"
    command = [python, "-m", "spanrelay_testkit.conformance", "--page", written]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert PAGE.read_text() == written.read_text(), STALE


def test_the_page_has_the_sdks_and_versions_that_there_are() -> None:
    text = PAGE.read_text()
    assert page(all_drivers(), figures_in(text)) == text, STALE
