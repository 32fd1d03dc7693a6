"""Whole spans: a generation with its rails and actions, and one that a rail refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.whole_spans import check, each_form, recorded

from spanrelay_nemo_guardrails import NemoGuardrailsInstrumentor
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.model_server import ModelServer

pytest.importorskip("nemoguardrails", reason="set SPANRELAY_TEST_NEMO=1")

from .bots import bot, generated, talk

# What it says of itself; ours are errors, as everywhere.
pytestmark = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:(nemoguardrails|pydantic)\b.*")


@each_form
def test_the_spans_of_rails_are_these(form: str) -> None:
    with recorded(form, NemoGuardrailsInstrumentor, OpenAIInstrumentor) as capture, ModelServer(talk) as server:
        assert generated(bot(server), "hi") == "Hello, you."
        generated(bot(server), "something shady")
        check(Path(__file__).with_name("spans.json"), form, capture)
