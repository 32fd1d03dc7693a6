"""Which names of models a request has, and what a model goes by."""

from __future__ import annotations

from typing import Any

import pytest

from spanrelay.codecs.naming import models_within, names_of


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("gpt-5", ["gpt-5"]),
        ("us.anthropic.claude", ["us.anthropic.claude", "anthropic.claude"]),
        ("projects/p/locations/l/endpoints/7", ["projects/p/locations/l/endpoints/7", "7"]),
        ("tunedModels/mine", ["tunedModels/mine", "mine"]),
        ("models/gemini-3", ["models/gemini-3", "gemini-3"]),
        ("publishers/google/models/gemini-3", ["publishers/google/models/gemini-3", "gemini-3"]),
        ("projects/p/locations/l/models/9", ["projects/p/locations/l/models/9", "9"]),
        ("projects/p/publishers/google/models/g", ["projects/p/publishers/google/models/g", "g"]),
        ("accounts/fireworks/models/llama", ["accounts/fireworks/models/llama"]),
        ("mine/models/llama", ["mine/models/llama"]),
        ("library/llama3.2", ["library/llama3.2", "llama3.2"]),
        ("registry.ollama.ai/library/llama3.2:1b", ["registry.ollama.ai/library/llama3.2:1b", "llama3.2:1b"]),
        ("library/", ["library/"]),
        ("acme/llama", ["acme/llama"]),
        ("allowed/../secret", ["secret"]),
        ("gpt-4..5", ["gpt-4..5"]),
    ],
)
def test_a_model_goes_by_its_name_and_by_what_that_is_another_spelling_of(model: str, names: list[str]) -> None:
    assert list(names_of(model)) == names


@pytest.mark.parametrize(
    ("wire", "named"),
    [
        ({"model": "known by itself"}, []),
        ({"model": {"id": "known by itself", "fallback": {"model": "b"}}}, ["b"]),
        ({"model_name": "a"}, ["a"]),
        ({"model_id": "a"}, ["a"]),
        ({"base_model": "a"}, ["a"]),
        ({"model": "known by itself", "safety_model": "a"}, ["a"]),
        (
            {"type": "compare", "parameters": {"judge": {"model": "a"}, "model_a": "b", "model_b": {"model": "c"}}},
            ["a", "b", "c"],
        ),
        ({"parameters": {"model_to_evaluate": "a", "metadata": {"model": "mine"}}}, ["a"]),
        ({"tools": [{"function": {"name": "f", "parameters": {"model_a": "mine"}}}]}, []),
        ({"configuration": {"llm": {"model": "a"}, "tts": {"model": "b"}, "stt": {"model": "c"}}}, ["a", "b", "c"]),
        ({"llm": {"model": "a"}, "tts": {"model": "b"}, "stt": {"model": "c"}}, ["a", "b", "c"]),
        ({"judge_definition": {"name": "j", "model_name": "a"}}, ["a"]),
        ({"interaction": {"agent": "g", "agent_config": {"model": "a"}, "input": {"model": "b"}}}, ["a", "b"]),
        ({"voice": {"type": "replicated", "model": "a"}}, ["a"]),
        ({"guardrails": [{"moderation_llm_v1": {"model_name": "a"}}]}, ["a"]),
        ({"requests": [{"body": {"model": "a"}}, {"params": {"model": {"id": "b"}}}]}, ["a", "b"]),
        ({"compound_custom": {"models": {"answering_model": "a", "reasoning_model": "b"}}}, ["a", "b"]),
        ({"requests": [{"body": {"metadata": {"model": "mine"}}}]}, []),
    ],
)
def test_models_are_found_by_names_by_objects_and_in_batches(wire: dict[str, Any], named: list[str]) -> None:
    assert list(models_within(wire)) == named
