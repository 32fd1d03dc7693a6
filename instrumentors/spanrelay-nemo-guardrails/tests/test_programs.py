"""Programs that ask rails, as they are: their trajectory, and policy out of a `spanrelay.toml`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.programs import Run
from tests.programs import run as run_program
from tests.trajectory.program import accept
from tests.trajectory.spans import story

from spanrelay.assembly.atif import violations
from spanrelay_testkit.model_server import ModelServer

pytest.importorskip("nemoguardrails", reason="set SPANRELAY_TEST_NEMO=1")

from .bots import COLANG, LETTERS, PLAIN, YAML, talk

# Not by its launcher: the environment that has the package may have no scripts of ours.
OPENING = """
import asyncio
import spanrelay
from spanrelay_nemo_guardrails import NemoGuardrailsInstrumentor
spanrelay.activate()
NemoGuardrailsInstrumentor().instrument()

from nemoguardrails import LLMRails, RailsConfig
from nemoguardrails.embeddings.providers import register_embedding_provider
{letters}
register_embedding_provider(Letters)

async def look(text: str) -> bool:
    return "shady" not in text

async def count_stock(thing: str) -> int:
    print("counted", thing)
    return len(thing)

rails = LLMRails(RailsConfig.from_content({colang!r}, {yaml!r}))
rails.register_action(look)
rails.register_action(count_stock)
print(rails.generate(messages=[{{"role": "user", "content": {question!r}}}])["content"])
"""
POLICY = """
[plugins.policy]
tools.deny = ["count_*"]
[plugins.policy.parameters."*"]
temperature = 0.25
"""


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(talk) as running:
        yield running


def run(colang: str, question: str, folder: Path, server: ModelServer) -> Run:
    yaml = YAML.format(url=server.url)
    program = OPENING.format(letters=LETTERS, colang=colang, yaml=yaml, question=question)
    return run_program(program, folder, server, launched=False, DO_NOT_TRACK="1")


def told(ran: Run) -> list[str]:
    """The story of the one document."""
    [document] = ran.trajectories
    assert violations(document) == []
    accept(document)
    return [line.partition(" {'prompt_tokens'")[0] for line in story(document)]


def test_a_run_reads_like_the_conversation_with_the_model(tmp_path: Path, server: ModelServer) -> None:
    ran = run(PLAIN, "hi", tmp_path, server)
    assert ran.out == "Hello, you.\n"
    assert told(ran)[-1] == "agent Hello, you."


def test_a_file_refuses_a_tool_and_rewrites_a_parameter(tmp_path: Path, server: ModelServer) -> None:
    (tmp_path / "spanrelay.toml").write_text(POLICY)
    ran = run(COLANG, "how many are left?", tmp_path, server)
    assert ran.out == "", "the tool has not run"
    assert "GuardrailRejected: guardrail 'policy.tools' refused the call: tool 'count_stock' is denied" in ran.err
    assert "is denied by 'count_*'" in str(ran.trajectories)
    assert [request.body["temperature"] for request in server.requests] == [0.25]
