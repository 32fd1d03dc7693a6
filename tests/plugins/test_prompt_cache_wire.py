"""What is sent is what the program wrote, and marks: of every provider, whatever a request holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from benchmarks.saving import Asked
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.shared_data import exchanges, needs_shared

from spanrelay.codecs import (
    anthropic_messages,
    bedrock_converse,
    gemini_generate_content,
    openai_chat,
    openai_responses,
)
from spanrelay.plugins.prompt_cache import governor
from spanrelay.plugins.prompt_cache.governor import Governor
from spanrelay.plugins.prompt_cache.marking import unmarked
from spanrelay.plugins.prompt_cache.rules import Rules
from spanrelay_testkit.prompt_caching import CachingProvider, Prices

APIS: dict[str, tuple[Any, str]] = {
    "anthropic_messages": (anthropic_messages, "anthropic"),
    "bedrock_converse": (bedrock_converse, "aws.bedrock"),
    "openai_chat_completions": (openai_chat, "openai"),
    "openai_responses": (openai_responses, "openai"),
    "google_generate_content": (gemini_generate_content, "gcp.gemini"),
    "google_stream_generate_content": (gemini_generate_content, "gcp.gemini"),
}
"""By the name of its recorded traffic: how its requests are read, and the provider's name on a span."""
OWN = ("cache_control", "cachePoint", "prompt_cache")
EVERY = frozenset(("anthropic", "bedrock", "openai", "google"))


@pytest.fixture(autouse=True)
def nothing_is_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each request of any model long enough to be marked, so that all of them show where marks stand."""
    monkeypatch.setattr(governor, "rules_of", lambda *_: Rules(1))
    monkeypatch.setattr("spanrelay.plugins.prompt_cache.keys.MINIMUM_BYTES", 1)


def sent_by(stands: Governor, api: str, body: dict[str, Any]) -> Any:
    """Return what is sent of a request, whose answer begins."""
    codec, provider = APIS[api]
    call = Asked(body)
    call.codec, call.record.provider = codec, provider
    steps = stands.govern(call)
    assert next(steps) is call
    if call.begun is not None:
        call.begun()
    steps.close()
    return call.outgoing()


def every() -> Governor:
    return Governor(applies=True, providers=EVERY, max_wait_s=0, clock=lambda: 1.0)


def is_own(body: Any) -> bool:
    return any(f'"{mark}' in json.dumps(body) for mark in OWN)


def without_marks(api: str, body: Any) -> str:
    """Return the JSON of a body without marks, each text as the one block that its API takes for the same."""
    taken = unmarked(body)
    taken.pop("prompt_cache_key", None)
    if api not in ("anthropic_messages", "bedrock_converse"):
        return json.dumps(taken)

    def listed(content: Any) -> Any:
        block = {"text": content} if api == "bedrock_converse" else {"type": "text", "text": content}
        return [block] if isinstance(content, str) else content

    system = {"system": listed(taken["system"])} if taken.get("system") else {}
    messages = [{**one, "content": listed(one["content"])} for one in taken["messages"]]
    return json.dumps({**taken, **system, "messages": messages})


def check(stands: Governor, api: str, body: dict[str, Any]) -> bool:
    """Check what is sent of a request; return whether it has marks."""
    before = json.dumps(body)
    sent = sent_by(stands, api, body)
    assert json.dumps(body) == before, "the caller's own was changed"
    if sent is body:
        return False
    assert not is_own(body), "the caller's own marks stand alone"
    assert without_marks(api, sent) == without_marks(api, body)
    assert is_own(sent)
    assert json.dumps(sent).count('"cache_control"') + json.dumps(sent).count('"cachePoint"') <= 4
    return True


@needs_shared
@pytest.mark.parametrize("api", list(APIS))
def test_recorded_requests_are_what_the_program_wrote_and_marks(api: str) -> None:
    stands, marks, seen = every(), 0, 0
    for exchange in exchanges(f"{api}.jsonl"):
        body = exchange["request"]["body"]
        if isinstance(body, dict):
            seen += 1
            marks += check(stands, api, {"model": exchange["truth"]["request_model"], **body})
    assert seen > 5
    assert (marks == 0) if api.startswith("google") else (marks > 5), "only Gemini takes no hint"


_TEXT = st.sampled_from(["a", "b", " ", "", "\u00e9\u4e2d", "x" * 50])
_THOUGHT = {"type": "thinking", "thinking": "t", "signature": "s"}
_PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
_ANTHROPIC = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, _TEXT),
    st.builds(lambda text: {"type": "tool_result", "tool_use_id": "t", "content": text}, _TEXT),
    st.builds(lambda text: {"type": "tool_use", "id": "t", "name": "n", "input": {text: [1, 2.5, None]}}, _TEXT),
    st.sampled_from([_THOUGHT, {"type": "redacted_thinking", "data": "d"}, _PICTURE, {"type": "of_tomorrow"}]),
)
_CONVERSE = st.one_of(
    st.builds(lambda text: {"text": text}, _TEXT),
    st.builds(lambda text: {"toolResult": {"toolUseId": "t", "content": [{"text": text}]}}, _TEXT),
    st.builds(lambda text: {"toolUse": {"toolUseId": "t", "name": "n", "input": {"q": text}}}, _TEXT),
    st.just({"reasoningContent": {"reasoningText": {"text": "t", "signature": "s"}}}),
)
_TOOL = {"anthropic_messages": {"name": "t", "input_schema": {}}, "bedrock_converse": {"toolSpec": {"name": "t"}}}
_MARK = {"anthropic_messages": {"cache_control": {"type": "ephemeral"}}, "bedrock_converse": {"cachePoint": {}}}


def conversations(api: str) -> st.SearchStrategy[list[Any]]:
    block = _ANTHROPIC if api == "anthropic_messages" else _CONVERSE
    blocks = st.lists(block, min_size=1, max_size=25)
    return st.lists(_TEXT | blocks if api == "anthropic_messages" else blocks, min_size=1, max_size=8)


def body_of(api: str, contents: list[Any], *, tools: bool, system: str) -> dict[str, Any]:
    """A request, with what it begins with where there is something."""
    listed = [_TOOL[api]]
    said = [{"role": ("user", "assistant")[at % 2], "content": content} for at, content in enumerate(contents)]
    begins: dict[str, Any] = {}
    if tools:
        begins |= {"tools": listed} if api == "anthropic_messages" else {"toolConfig": {"tools": listed}}
    if system:
        begins |= {"system": system if api == "anthropic_messages" else [{"text": system}]}
    return {"model": "m", **begins, "messages": said}


@pytest.mark.parametrize("api", list(_TOOL))
@settings(max_examples=60)
@given(data=st.data())
def test_a_conversation_is_what_the_program_wrote_at_each_of_its_requests(api: str, data: st.DataObject) -> None:
    """The provider takes each: no fifth mark, none for an hour behind one for minutes, and none where none may be."""
    contents = data.draw(conversations(api))
    tools, system = data.draw(st.booleans()), data.draw(_TEXT)
    stands, provider = every(), CachingProvider(Prices(1))
    for number in range(1, len(contents) + 1):
        body = body_of(api, contents[:number], tools=tools, system=system)
        check(stands, api, body)
        sent = sent_by(stands, api, body)
        provider.ask(sent, 1.0)
        check_places(sent)


def check_places(sent: Any) -> None:
    """No mark stands at thinking or at a text that says nothing, or behind them."""
    for message in sent["messages"]:
        content = message["content"]
        for at, block in enumerate(content if isinstance(content, list) else ()):
            marked = block if "cache_control" in block else content[at - 1] if "cachePoint" in block else {"text": "a"}
            assert "thinking" not in marked
            assert "reasoningContent" not in marked
            assert str(marked.get("text", "a")).strip()


@pytest.mark.parametrize("api", list(_TOOL))
@settings(max_examples=30)
@given(data=st.data())
def test_a_callers_own_marks_stand_alone(api: str, data: st.DataObject) -> None:
    contents = data.draw(conversations(api).filter(lambda found: isinstance(found[-1], list)))
    at = data.draw(st.integers(0, len(contents[-1]) - 1))
    last = list(contents[-1])
    if api == "anthropic_messages":
        last[at] = {**last[at], **_MARK[api]}
    else:
        last.insert(at + 1, _MARK[api])
    body = body_of(api, [*contents[:-1], last], tools=True, system="s")
    stands = every()
    assert sent_by(stands, api, body) is sent_by(stands, api, body) is body


@pytest.mark.parametrize("key", ["prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"])
@pytest.mark.parametrize(("api", "said"), [("openai_chat_completions", "messages"), ("openai_responses", "input")])
def test_a_callers_own_key_is_the_only_one(api: str, said: str, key: str) -> None:
    body = {"model": "m", said: [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], key: "mine"}
    assert sent_by(every(), api, body) is body
