"""What a document says beside its conversation: for whom it ran, with what, how long, and in which tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.programs import run as start
from tests.trajectory.program import Program, call, calls, says, tool, user

from spanrelay import use
from spanrelay.assembly.atif import violations
from spanrelay.codecs import openai_chat, openai_completions, openai_responses
from spanrelay.observation.declarations import sanitizer
from spanrelay.observation.observers import Field, watching
from spanrelay.observation.sanitizing import finished
from spanrelay.records import AgentInfo, SpanRecord, Tokens, Usage
from spanrelay_testkit.model_server import ModelServer

PLACE: dict[str, Any] = {"service_name": "shop", "service_version": "2.1", "environment": "prod"}


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def agent_steps(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for step in document["steps"] if step["source"] == "agent"]


def test_a_document_says_for_whom_and_what_it_ran_and_where(program: Program) -> None:
    known = {"user_id": "ann", "metadata": {"eval_case": "c-17"}, **PLACE}
    root = program.agent(session_id="s1", **known)
    program.ask(root, [user("hi")], says("hello"), known=known)
    program.end(root)
    document = program.document()
    assert document["extra"] == {
        "user": "ann",
        "metadata": {"eval_case": "c-17"},
        "service": {"name": "shop", "version": "2.1"},
        "environment": "prod",
        "otel": {"trace_id": f"{root.trace_id:032x}"},
    }
    assert not any("metadata" in step["extra"] or "user" in step["extra"] for step in document["steps"])


def test_a_service_without_a_name_of_its_own_is_not_named(program: Program) -> None:
    program.ask(None, [user("hi")], says("hello"), known={"service_name": "unknown_service:python"})
    assert set(program.document()["extra"]) == {"otel"}


def test_what_only_the_end_of_a_run_says_stands_in_its_document_too(program: Program) -> None:
    root = program.agent(session_id="s1")
    program.ask(root, [user("hi")], says("hello"))
    program.end(root, user_id="ann", metadata={"eval_case": 17})
    extra = program.document()["extra"]
    assert (extra["user"], extra["metadata"]) == ("ann", {"eval_case": 17})


def test_a_step_says_what_is_not_so_for_the_whole_document(program: Program) -> None:
    root = program.agent(session_id="s1", metadata={"case": 1}, user_id="ann")
    program.ask(root, [user("q")], says("a"), known={"metadata": {"case": 1, "phase": "draft"}, "user_id": "ann"})
    program.end(root)
    other = program.agent(session_id="s1", metadata={"case": 2}, user_id="bob")
    program.ask(other, [user("q"), says("a"), user("r")], says("b"), known={"metadata": {"case": 2}, "user_id": "bob"})
    program.end(program.begin("tool", other, metadata={"case": 2}), tool=None)
    program.end(other)
    document = program.document()
    assert document["extra"]["metadata"] == {"case": 1}
    first, second, third = agent_steps(document)
    assert first["extra"]["metadata"] == {"phase": "draft"}
    assert "user" not in first["extra"]
    assert (second["extra"]["metadata"], second["extra"]["user"]) == ({"case": 2}, "bob")
    assert third["observation"]["results"][0]["extra"]["metadata"] == {"case": 2}


def test_the_parameters_of_calls_stand_where_they_change(program: Program) -> None:
    root = program.agent(session_id="s")
    given = {"temperature": 0.3, "seed": 7, "max_tokens": 100, "reasoning_effort": "low"}
    history = [user("q")]
    for parameters in (given, given, {**given, "temperature": 0.9}, {}):
        program.ask(root, history, says("a"), parameters=parameters)
        history = [*history, says("a"), user("more")]
    program.end(root)
    told = [step["extra"].get("parameters") for step in agent_steps(program.document())]
    assert told == [
        {"temperature": 0.3, "seed": 7, "max_tokens": 100},
        None,
        {"temperature": 0.9, "seed": 7, "max_tokens": 100},
        {},
    ]


def test_each_model_call_and_each_run_of_a_tool_says_how_long_it_took(program: Program) -> None:
    root = program.agent(session_id="s")
    program.ask(root, [user("q")], calls(("c1", "look", {})))
    program.use(root, "look", {}, "seen", "c1")
    program.end(root)
    (step,) = agent_steps(program.document())
    assert step["extra"]["duration_sec"] == 1.0
    assert step["observation"]["results"][0]["extra"]["duration_sec"] == 1.0


def test_nothing_is_said_twice_and_no_zero_of_what_was_not_used(program: Program) -> None:
    root = program.agent(session_id="s")
    usage = Usage(10, 5, reasoning_tokens=0, input_audio_tokens=0, output_audio_tokens=0, cache_write_tokens=0)
    program.ask(root, [user("q")], says("a"), usage=usage)
    program.end(root)
    document = program.document()
    (step,) = agent_steps(document)
    assert step["metrics"] == {"prompt_tokens": 10, "completion_tokens": 5}
    assert str(document).count(f"{root.trace_id:032x}") == 1
    assert str(document).count(step["timestamp"]) == len(document["steps"])


def test_a_step_of_another_trace_names_it(program: Program) -> None:
    for words in ("one", "two"):
        root = program.agent(session_id="s")
        program.ask(root, [user(words)], says(f"to {words}"))
        program.end(root)
    first, second = agent_steps(program.document())
    assert "trace_id" not in first["extra"]["otel"]
    assert second["extra"]["otel"]["trace_id"] == f"{root.trace_id:032x}"


def test_a_sub_agent_of_another_service_says_so(program: Program) -> None:
    root = program.agent(session_id="s", **PLACE)
    outer = program.begin("tool", root, **PLACE)
    child = program.begin("agent", outer, agent=AgentInfo("far"), service_name="other", environment="prod")
    program.ask(child, [user("q")], says("a"), known={"service_name": "other", "environment": "prod"})
    program.end(child)
    program.end(outer)
    program.end(root)
    document = program.document()
    assert document["extra"]["service"] == {"name": "shop", "version": "2.1"}
    (below,) = document["subagent_trajectories"]
    assert below["extra"] == {"service": {"name": "other"}, "environment": "prod"}


@pytest.mark.parametrize("version", ["1.7", "1.8"])
def test_a_document_is_of_the_version_that_is_asked_for(tmp_path: Path, version: str) -> None:
    program = Program(tmp_path, version=version)
    root = program.agent(session_id="s")
    outer = program.begin("tool", root)
    child = program.agent("helper", outer)
    program.ask(child, [user("q")], says("a"), tools=[tool("x")])
    program.end(child)
    program.end(outer)
    program.writer.flush()
    program.ask(root, [user("q")], says("a"))
    program.end(root)
    document = program.document()
    versions = {each["schema_version"] for each in (document, *document["subagent_trajectories"])}
    assert versions == {f"ATIF-v{version}"}


LOGPROBS = [{"token": "H", "logprob": -0.25, "bytes": [72], "top_logprobs": []}, {"token": "i", "logprob": -1}]
CHAT = {"id": "r", "model": "m", "prompt_token_ids": [1, 2, 3]}
MESSAGE = {"role": "assistant", "content": "Hi"}
TOLD = Tokens([1, 2, 3], [7, 8], [-0.25, -1.0])


def test_chat_answers_tell_their_tokens() -> None:
    choice = {"index": 0, "message": MESSAGE, "logprobs": {"content": LOGPROBS}, "token_ids": [7, 8]}
    assert openai_chat.decode_response({**CHAT, "choices": [choice]}).tokens == TOLD
    inside = {**MESSAGE, "prompt_token_ids": [1], "generation_token_ids": [7], "generation_log_probs": [-0.5]}
    told = openai_chat.decode_response({"choices": [{"message": inside}]}).tokens
    assert told == Tokens([1], [7], [-0.5])
    refusal = {"message": {"role": "assistant", "refusal": "No"}, "logprobs": {"content": None, "refusal": LOGPROBS}}
    assert openai_chat.decode_response({"choices": [refusal]}).tokens == Tokens(None, None, [-0.25, -1.0])


ODD: list[dict[str, Any]] = [
    {},
    {"logprobs": None},
    {"logprobs": 3},
    {"logprobs": {"content": [{"token": "a"}]}},
    {"logprobs": {"content": [{"logprob": float("-inf")}]}},
    {"token_ids": None},
    {"token_ids": ["a"]},
    {"token_ids": [True]},
]


@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_list_of_numbers_is_nothing(odd: dict[str, Any]) -> None:
    assert openai_chat.decode_response({"choices": [{"message": MESSAGE, **odd}]}).tokens is None


def test_streamed_chat_answers_tell_the_tokens_of_all_chunks() -> None:
    stream = openai_chat.accumulator()
    stream.add(
        {**CHAT, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
    )
    for word, told, number in (("H", LOGPROBS[0], 7), ("i", LOGPROBS[1], 8)):
        choice = {"index": 0, "delta": {"content": word}, "finish_reason": None, "token_ids": [number]}
        stream.add({"id": "r", "choices": [{**choice, "logprobs": {"content": [told], "refusal": None}}]})
    stream.add({"id": "r", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "logprobs": None}]})
    response = openai_chat.decode_response(stream.result())
    assert (response.text, response.tokens) == ("Hi", TOLD)


def test_completions_tell_their_tokens_whole_and_streamed() -> None:
    logprobs = {"tokens": ["H", "i"], "token_logprobs": [-0.25, -1], "text_offset": [0, 1]}
    choice = {"index": 0, "text": "Hi", "logprobs": logprobs, "token_ids": [7, 8], "prompt_token_ids": [1, 2, 3]}
    assert openai_completions.decode_response({"choices": [choice]}).tokens == TOLD
    stream = openai_completions.accumulator()
    for at, word in enumerate("Hi"):
        piece = {"token_logprobs": [logprobs["token_logprobs"][at]], "tokens": [word]}
        stream.add(
            {"choices": [{"text": word, "logprobs": piece, "token_ids": [7 + at], "prompt_token_ids": [1, 2, 3]}]}
        )
    assert openai_completions.decode_response(stream.result()).tokens == TOLD


def test_responses_tell_their_tokens() -> None:
    text = {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": LOGPROBS}
    item = {"type": "message", "role": "assistant", "content": [text]}
    assert openai_responses.decode_response({"output": [item]}).tokens == Tokens(None, None, [-0.25, -1.0])


@sanitizer
def unchanged(field: Field) -> Any:
    return field.value


def test_where_a_sanitizer_reads_what_was_said_no_tokens_say_it_again() -> None:
    record = SpanRecord(1, 2, kind="llm", response=openai_chat.decode_response({"choices": [{"token_ids": [7]}]}))
    assert record.response is not None
    assert record.response.tokens == Tokens(completion_ids=[7])
    with use(unchanged):
        watchers = watching(None)
        assert watchers is not None
        told = finished(record, watchers).response
    assert told is not None
    assert told.tokens is None


RUN = """
import openai, spanrelay
client = openai.OpenAI()
with spanrelay.scope("my agent", session="s1", user="ann", metadata={"eval_case": "c-17"}):
    messages = [{"role": "user", "content": "hello"}]
    client.chat.completions.create(model="m", messages=messages, temperature=0.3, seed=7)
"""


def test_a_run_of_a_program_can_be_told_from_others_by_its_document(tmp_path: Path) -> None:
    settings = {
        "OTEL_RESOURCE_ATTRIBUTES": "service.name=shop,deployment.environment.name=prod",
        "SPANRELAY_ATIF_VERSION": "1.8",
    }
    with ModelServer() as server:
        ran = start(RUN, tmp_path, server, **settings)
    (document,) = ran.trajectories
    extra = document["extra"]
    assert (extra["user"], extra["metadata"]) == ("ann", {"eval_case": "c-17"})
    assert (extra["service"]["name"], extra["environment"]) == ("shop", "prod")
    (step,) = agent_steps(document)
    assert step["extra"]["parameters"] == {"temperature": 0.3, "seed": 7}
    assert step["extra"]["duration_sec"] > 0
    assert document["schema_version"] == "ATIF-v1.8"


def test_the_tokens_of_a_call_stand_in_its_metrics(program: Program) -> None:
    root = program.agent(session_id="s")
    record = program.begin("llm", root)
    found = call([user("q")], says("Hi"))
    found["response"].tokens = TOLD
    program.end(record, **found)
    blind = program.begin("llm", root)
    program.end(blind, **found, content=False)
    program.end(root)
    document = program.document()
    first, second = agent_steps(document)
    assert first["metrics"]["prompt_token_ids"] == [1, 2, 3]
    assert first["metrics"]["completion_token_ids"] == [7, 8]
    assert first["metrics"]["logprobs"] == [-0.25, -1.0]
    assert "logprobs" not in second["metrics"]
    assert violations(document) == []
