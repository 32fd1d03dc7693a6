"""Attributes that OpenInference has names of its own for: completions, embeddings, older calls, stored prompts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spanrelay import semconv, use
from spanrelay.codecs import openai_chat, openai_completions, openai_embeddings, openai_responses
from spanrelay.observation.declarations import sanitizer
from spanrelay.observation.observers import NOBODY, Field, watching
from spanrelay.observation.sanitizing import finished
from spanrelay.records import Kind, PromptTemplate, SpanRecord


def record_of(codec: Any, kind: Kind, asked: dict[str, Any], answered: dict[str, Any]) -> SpanRecord:
    request, response = codec.decode_request(asked), codec.decode_response(answered)
    return SpanRecord(1, 2, kind=kind, operation=codec.operation, request=request, response=response)


def attributes_of(record: SpanRecord, *, content: bool = True) -> dict[str, Any]:
    written = semconv.write(record, "openinference", content=content)
    return {**semconv.write_start(record, "openinference"), **written}


def read_back(attributes: dict[str, Any]) -> SpanRecord:
    record = SpanRecord(1, 2)
    semconv.read(attributes, record)
    return record


def completion() -> SpanRecord:
    choices = [{"text": text, "index": at, "finish_reason": "stop"} for at, text in enumerate("xy")]
    return record_of(openai_completions, "llm", {"model": "m", "prompt": ["a", "b"]}, {"id": "c", "choices": choices})


def embeddings(**asked: Any) -> SpanRecord:
    answer = {"model": "e", "data": [{"index": 0, "embedding": [0.5, 0.25]}, {"index": 1, "embedding": [1.0, 0.0]}]}
    return record_of(openai_embeddings, "embedder", {"model": "e", "input": ["a", "b"], **asked}, answer)


def test_a_completion_has_prompts_and_choices_and_no_messages() -> None:
    attributes = attributes_of(completion())
    assert [attributes[f"llm.prompts.{at}.prompt.text"] for at in (0, 1)] == ["a", "b"]
    assert [attributes[f"llm.choices.{at}.completion.text"] for at in (0, 1)] == ["x", "y"]
    assert not [name for name in attributes if "_messages" in name]


def test_prompts_and_choices_come_back_one_by_one() -> None:
    record, read = completion(), read_back(attributes_of(completion()))
    assert read.request and read.response and record.request and record.response
    assert read.request.messages == record.request.messages
    assert [message.text for message in read.response.messages] == ["x", "y"]


def test_prompts_and_choices_are_content() -> None:
    assert not [name for name in attributes_of(completion(), content=False) if ".text" in name]


def test_a_chat_call_keeps_its_messages() -> None:
    answer = {"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}}]}
    asked = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
    attributes = attributes_of(record_of(openai_chat, "llm", asked, answer))
    assert attributes["llm.input_messages.0.message.content"] == "a"
    assert attributes["llm.output_messages.0.message.content"] == "x"


def test_the_format_of_embeddings_is_called_what_the_request_calls_it() -> None:
    parameters = json.loads(attributes_of(embeddings(encoding_format="float"))["embedding.invocation_parameters"])
    assert parameters == {"model": "e", "encoding_format": "float"}
    read = read_back(attributes_of(embeddings(encoding_format="float")))
    assert read.request is not None and read.request.parameters == {"encoding_formats": ["float"]}


def test_embeddings_say_how_many_vectors_there_are_and_how_long() -> None:
    attributes = attributes_of(embeddings())
    assert json.loads(attributes["output.value"]) == {"embedding_count": 2, "embedding_dimensions": 2}
    assert attributes["output.mime_type"] == "application/json"
    read = read_back(attributes)
    assert read.response is not None
    assert read.response.parameters == {"embedding_count": 2, "embedding_dimensions": 2}
    assert not read.response.messages
    assert "output.value" not in attributes_of(embeddings(), content=False)


@pytest.mark.parametrize("output", [json.dumps({"data": [{"embedding": [0.5] * 100}]}), "[", "words", '{"id": "e1"}'])
def test_vectors_that_others_write_are_left_alone(output: str) -> None:
    read = read_back({"openinference.span.kind": "EMBEDDING", "embedding.model_name": "e", "output.value": output})
    assert read.response is None or not read.response.parameters


def test_parameters_name_the_model_even_where_there_is_nothing_else() -> None:
    asked = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
    attributes = attributes_of(record_of(openai_chat, "llm", asked, {"id": "c", "choices": []}))
    assert json.loads(attributes["llm.invocation_parameters"]) == {"model": "m"}


def test_a_call_of_the_older_kind_is_no_list_of_tool_calls() -> None:
    message = {"role": "assistant", "content": None, "function_call": {"name": "ring", "arguments": '{"times": 2}'}}
    answer = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "function_call"}]}
    record = record_of(openai_chat, "llm", {"model": "m", "messages": []}, answer)
    attributes = attributes_of(record)
    assert attributes["llm.output_messages.0.message.function_call_name"] == "ring"
    assert json.loads(attributes["llm.output_messages.0.message.function_call_arguments_json"]) == {"times": 2}
    assert not [name for name in attributes if "tool_calls" in name]
    read = read_back(attributes)
    assert read.response and record.response
    assert read.response.tool_calls == record.response.tool_calls


def stored_prompt() -> SpanRecord:
    prompt = {"id": "pmpt_1", "version": "2", "variables": {"city": "Rome"}}
    return record_of(openai_responses, "llm", {"model": "m", "prompt": prompt}, {"id": "r", "output": []})


@pytest.mark.parametrize(
    ("dialect", "name", "version"),
    [
        ("genai", "gen_ai.prompt.name", "gen_ai.prompt.version"),
        ("openinference", "prompt.id", "llm.prompt_template.version"),
    ],
)
def test_a_stored_prompt_is_named_without_what_is_put_into_it(dialect: str, name: str, version: str) -> None:
    record = stored_prompt()
    attributes = {**semconv.write_start(record, dialect), **semconv.write(record, dialect, content=False)}
    assert (attributes[name], attributes[version]) == ("pmpt_1", "2")
    assert "Rome" not in repr(attributes)
    read = read_back(attributes)
    assert read.request is not None
    assert read.request.parameters == {"prompt_id": "pmpt_1", "prompt_version": "2"}


def test_what_is_put_into_a_stored_prompt_is_content_and_comes_back() -> None:
    attributes = attributes_of(stored_prompt())
    assert json.loads(attributes["llm.prompt_template.variables"]) == {"city": "Rome"}
    read = read_back(attributes)
    assert read.request is not None
    assert read.request.prompt == PromptTemplate(None, {"city": "Rome"})


@pytest.mark.parametrize("variables", ['{"city":"Rome"}', {"city": "Rome"}])
def test_a_template_that_others_write_is_read(variables: Any) -> None:
    read = read_back(
        {
            "openinference.span.kind": "LLM",
            "llm.prompt_template.template": "The weather of {city}?",
            "llm.prompt_template.variables": variables,
            "llm.prompt_template.version": "3",
        }
    )
    assert read.request is not None
    assert read.request.prompt == PromptTemplate("The weather of {city}?", {"city": "Rome"})
    assert read.request.parameters == {"prompt_version": "3"}


def test_sanitizers_are_shown_what_a_prompt_was_made_of() -> None:
    def hide(field: Field) -> Any:
        return json.loads(json.dumps(field.value).replace("Rome", "somewhere"))

    with use(sanitizer(fields="request")(hide)):
        told = finished(stored_prompt(), watching(None) or NOBODY)
    assert told.request is not None
    assert told.request.prompt == PromptTemplate(None, {"city": "somewhere"})


def test_a_request_that_nobody_changed_asks_for_the_same_prompt() -> None:
    wire = {"model": "m", "prompt": {"id": "pmpt_1", "version": "2", "variables": {"city": "Rome"}}}
    request = openai_responses.decode_request(wire)
    request.parameters["temperature"] = 0.5
    assert openai_responses.encode_request(request, wire) == {**wire, "temperature": 0.5}
