"""`spanrelay gateway` serves until it is told to stop, and leaves trajectories of what went through it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest
from tests.programs import environment

from spanrelay_testkit.exchange import reply
from spanrelay_testkit.model_server import ModelServer

POLICY = '[plugins.policy]\nmodels.deny = ["secret-*"]\n'
LOCAL = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}


@contextmanager
def serving(folder: Path, *options: str, **settings: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The command at work in a folder, and what it said when it had begun."""
    command = [sys.executable, "-m", "spanrelay", "gateway", "--port", "0", *options]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment(None, {**LOCAL, **settings}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        try:
            told = [program.stdout.readline().rstrip() for _ in range(4)]
            yield program, told
        finally:
            program.kill()


def url_in(line: str) -> str:
    return line.partition("=")[2].partition("  ")[0]


def documents_in(folder: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted((folder / ".spanrelay/trajectories").glob("*.json"))]


@pytest.mark.skipif(os.name == "nt", reason="a program cannot be sent SIGTERM there")
def test_it_serves_under_a_policy_and_ends_when_what_is_on_its_way_is_over(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(POLICY)
    hold = threading.Event()
    with (
        ModelServer(lambda request: reply("Hello.", hold=hold if b"slow" in request.raw else None)) as server,
        serving(tmp_path, "--config", "own.toml", "--upstream", f"openai={server.url}") as (program, told),
    ):
        assert [line.strip().partition("=")[0] for line in told[1:]] == [
            "OPENAI_BASE_URL",
            "ANTHROPIC_BASE_URL",
            "GOOGLE_GEMINI_BASE_URL",
        ]
        headers = {"session.id": "s1"}
        with openai.OpenAI(base_url=url_in(told[1]), api_key="none", max_retries=0, default_headers=headers) as client:
            chat = client.chat.completions
            chat.create(model="gpt-5", messages=[{"role": "user", "content": "hi"}])
            with pytest.raises(openai.PermissionDeniedError, match="'secret-1' is denied"):
                chat.create(model="secret-1", messages=[{"role": "user", "content": "hi"}])
            answers: list[str | None] = []
            messages: list[object] = [{"role": "user", "content": "slow"}]
            late = threading.Thread(
                target=lambda: answers.append(chat.create(model="gpt-5", messages=messages).choices[0].message.content)  # type: ignore[arg-type]
            )
            late.start()
            while len(server.requests) < 2:
                late.join(0.01)
            program.send_signal(signal.SIGTERM)
            hold.set()
            late.join()
        assert program.wait(30) == 0
        assert answers == ["Hello."]
        assert program.stderr is not None
        assert "lost or left out" not in program.stderr.read()
    [document] = documents_in(tmp_path)
    assert document["session_id"] == "s1"
    assert [step["message"] for step in document["steps"]].count("Hello.") == 2  # type: ignore[attr-defined,index]
    assert [request.model for request in server.requests] == ["gpt-5", "gpt-5"]


WRONG = {
    "a policy that is none": (["--config", "own.toml"], "own.toml"),
    "an upstream that is none": (["--upstream", "openai"], "must be NAME=URL"),
    "a token that is not there": (["--token-variable", "NOT_THERE"], "NOT_THERE must hold a token"),
    "an address without a token": (["--host", "0.0.0.0"], "give it a token"),
}


@pytest.mark.parametrize("case", WRONG)
def test_where_something_is_wrong_nothing_is_started_and_the_message_says_what(case: str, tmp_path: Path) -> None:
    options, why = WRONG[case]
    (tmp_path / "own.toml").write_text("[plugins.policy]\nmodels.denied = 3\n")
    done = subprocess.run(
        [sys.executable, "-m", "spanrelay", "gateway", "--port", "0", *options],
        cwd=tmp_path,
        env=environment(None, LOCAL),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert why in done.stderr
    assert done.stdout == ""


def test_a_token_is_asked_for_and_not_shown(tmp_path: Path) -> None:
    token = "0123456789abcdef"
    with (
        ModelServer(lambda request: reply("Hello.")) as server,
        serving(tmp_path, "--token-variable", "HOUSE", "--upstream", f"openai={server.url}", HOUSE=token) as (_, told),
    ):
        assert token not in "".join(told)
        url = url_in(told[1])
        assert "/r/$HOUSE/openai" in url
        asked = {"model": "m", "messages": []}
        assert httpx.post(f"{url.replace('$HOUSE', token)}/chat/completions", json=asked).status_code == 200
        assert httpx.post(f"{url.replace('/r/$HOUSE', '')}/chat/completions", json=asked).status_code == 401
