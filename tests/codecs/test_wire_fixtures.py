"""The wire fixtures read as their golden records say, streamed or whole, and an SDK agrees that they are valid."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from spanrelay._json import dumps, loads
from spanrelay.codecs import openai_chat, openai_responses, sse
from spanrelay.records import ModelResponse

WIRE = Path(__file__).parents[2] / "testkit" / "wire"
CODECS = {"openai_chat": openai_chat, "openai_responses": openai_responses}
MODELS = {"openai_chat": ChatCompletion, "openai_responses": Response}
CASES = [case for api in CODECS for case in sorted((WIRE / api).iterdir())]

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.name}")


def codec_of(case: Path) -> ModuleType:
    return CODECS[case.parent.name]


def read(case: Path, name: str) -> dict[str, Any]:
    return loads((case / name).read_bytes())


def plain(value: Any) -> Any:
    """A record as JSON: its class, and the fields that are not at their default."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    shown = {key: plain(item) for key, item in fields.items() if item is not False and item not in (None, "", [], {})}
    return {"is": type(value).__name__, **shown}


def streamed(case: Path, data: bytes) -> ModelResponse:
    accumulator = codec_of(case).accumulator()
    for event in sse.events(data):
        accumulator.add(event)
    return codec_of(case).decode_response(accumulator.result())


@each_case
def test_bodies_read_as_the_golden_records(case: Path) -> None:
    codec = codec_of(case)
    records = {
        "request": plain(codec.decode_request(read(case, "request.json"))),
        "response": plain(codec.decode_response(read(case, "response.json"))),
    }
    assert json.loads(dumps(records)) == read(case, "records.json")


@each_case
def test_stream_reads_as_the_whole_body(case: Path) -> None:
    whole = codec_of(case).decode_response(read(case, "response.json"))
    assert streamed(case, (case / "stream.sse").read_bytes()) == whole


@each_case
def test_a_stream_cut_at_any_event_gives_what_had_arrived(case: Path) -> None:
    whole = codec_of(case).decode_response(read(case, "response.json"))
    frames = sse.Splitter().feed((case / "stream.sse").read_bytes())
    length = 0
    for count in range(len(frames) + 1):
        partial = streamed(case, b"".join(frames[:count]))
        assert whole.text.startswith(partial.text)
        assert len(partial.text) >= length
        assert len(partial.tool_calls) <= len(whole.tool_calls)
        length = len(partial.text)


@each_case
def test_a_body_made_from_the_record_alone_is_valid_and_reads_back(case: Path) -> None:
    codec = codec_of(case)
    response = codec.decode_response(read(case, "response.json"))
    if response.error is not None and not response.messages:
        assert codec.decode_response(codec.encode_response(response)).error == response.error
        return
    body = codec.encode_response(response)
    MODELS[case.parent.name].model_validate(body)
    back = codec.decode_response(body)
    assert (back.id, back.model, back.messages, back.usage) == (
        response.id,
        response.model,
        response.messages,
        response.usage,
    )


@each_case
def test_fixture_itself_is_valid_to_the_sdk(case: Path) -> None:
    body = read(case, "response.json")
    if "id" in body:
        MODELS[case.parent.name].model_validate(body)
