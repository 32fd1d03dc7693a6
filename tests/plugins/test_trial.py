"""Policy on trial: everything is judged, what would have been is told, and nothing comes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import openai
import pytest
from tests.plugins.conftest import Shelf

from spanrelay import GuardrailRejected, execution_intercept, guardrail, request_intercept, run_tool, use
from spanrelay.config import PolicyFile
from spanrelay.pipeline.trial import take_report
from spanrelay.plugins.activation import Activation
from spanrelay.semconv import names
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import error
from spanrelay_testkit.model_server import ModelServer

HELLO: Any = [{"role": "user", "content": "hello"}]
TOOLS: Any = [{"type": "function", "function": {"name": name}} for name in ("get_x", "delete_x")]


@pytest.fixture(autouse=True)
def nothing_told_before() -> None:
    take_report()


def verdicts(capture: Capture) -> list[tuple[list[str], list[str]]]:
    """What would have been refused and changed, of each call of a model or a tool."""
    calls = [dict(span.attributes or {}) for span in capture.spans]
    told = [(_texts(call, names.WOULD_REFUSE), _texts(call, names.WOULD_CHANGE)) for call in calls]
    return [each for each in told if each != ([], [])]


def _texts(attributes: dict[str, Any], name: str) -> list[str]:
    return list(attributes.get(name, ()))


RULES = 'models.deny = ["secret-*"]\ntools = { deny = ["delete_*"], offered = "%s" }'
REFUSED = (
    "policy.offered_tools: the request offers a tool to the model: tool 'delete_x' is denied by 'delete_*' (tools[1])"
)


@pytest.mark.parametrize("stream", [False, True])
def test_a_plugin_on_trial_judges_and_refuses_nothing(
    policy: Any, client: openai.OpenAI, server: ModelServer, capture: Capture, stream: bool
) -> None:
    policy('mode = "observe"\n' + RULES % "refuse")
    answer = client.chat.completions.create(model="secret-1", messages=HELLO, tools=TOOLS, stream=stream)
    if stream:
        list(answer)
    assert run_tool("delete_x", lambda: "ran") == "ran"
    assert server.requests[0].body["tools"] == TOOLS
    assert verdicts(capture) == [
        (["policy.models: model 'secret-1' is denied by 'secret-*'", REFUSED], []),
        (["policy.tools: tool 'delete_x' is denied by 'delete_*'"], []),
    ]
    assert take_report() == "policy on trial would have refused 2 calls"
    assert take_report() is None


def test_what_would_have_been_removed_is_a_change_and_no_refusal(
    policy: Any, client: openai.OpenAI, server: ModelServer, capture: Capture
) -> None:
    policy('mode = "observe"\n' + RULES % "remove")
    client.chat.completions.create(model="m", messages=HELLO, tools=TOOLS)
    assert server.requests[0].body["tools"] == TOOLS
    assert verdicts(capture) == [([], ["policy.removed_tools: the request"])]
    assert take_report() == "policy on trial would have changed 1 call"


def test_the_span_of_a_guardrail_on_trial_has_its_verdict(policy: Any, capture: Capture) -> None:
    policy('tools = { deny = ["x"], mode = "observe" }')
    run_tool("x", lambda: 1)
    [judged] = [dict(s.attributes or {}) for s in capture.spans if names.GUARDRAIL_VERDICT_TYPE in (s.attributes or {})]
    assert judged[names.GUARDRAIL_VERDICT_TYPE] == "deny"
    assert judged[names.GUARDRAIL_ACTION_TYPE] == "allow"
    assert judged[names.POLICY_MODE] == "observe"
    assert judged[names.GUARDRAIL_VERDICT_REASON] == "tool 'x' is denied by 'x'"


def test_one_table_is_on_trial_and_another_is_not(policy: Any, client: openai.OpenAI, server: ModelServer) -> None:
    policy('models = { deny = ["secret-*"], mode = "observe" }\ntools.deny = ["delete_*"]')
    client.chat.completions.create(model="secret-1", messages=HELLO)
    with pytest.raises(GuardrailRejected):
        run_tool("delete_x", lambda: 1)
    policy('mode = "observe"\nmodels = { deny = ["secret-*"], mode = "enforce" }\ntools.deny = ["delete_*"]')
    run_tool("delete_x", lambda: 1)
    with pytest.raises(GuardrailRejected):
        client.chat.completions.create(model="secret-1", messages=HELLO)


def test_a_file_on_trial_loosens_nothing_that_stands_in_one_above(tmp_path: Any, capture: Capture) -> None:
    above, below = tmp_path / "above.toml", tmp_path / "below.toml"
    above.write_text('[plugins.policy]\ntools.deny = ["delete_*"]')
    tools = '[plugins.policy]\ntools.deny = ["get_*", "delete_*"]'
    below.write_text(f'include = ["{above.name}"]\n[policy]\nmode = "observe"\n{tools}')
    activation = Activation([PolicyFile(str(below), "chosen")], Shelf())  # type: ignore[arg-type]
    activation.start()
    try:
        with pytest.raises(GuardrailRejected):
            run_tool("delete_x", lambda: 1)
        assert run_tool("get_x", lambda: 1) == 1
    finally:
        activation.close()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[policy]\nmode = "try"', "policy.mode: is not one of the choices; write 'enforce' or 'observe'"),
        ('[plugins.policy]\nmode = "try"', "plugins.policy.mode: is not one of the choices"),
        ('[plugins.policy.tools]\nmode = "try"', "plugins.policy.tools.mode: is not one of the choices"),
    ],
)
def test_a_mode_that_is_none_is_told(tmp_path: Any, capture: Capture, text: str, told: str) -> None:
    path = tmp_path / "spanrelay.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match="cannot be put in force") as refused:
        Activation([PolicyFile(str(path), "chosen")], Shelf()).start()  # type: ignore[arg-type]
    assert told in str(refused.value)


# --- any middleware, declared in code ---


@guardrail(mode="observe")
def broken(call: Any) -> None:
    raise LookupError("no such rule")


@guardrail(mode="observe", kinds=["llm"])
def edits(call: Any) -> None:
    call.request = replace(call.request, model="other")


@request_intercept(mode="observe", kinds=["llm"])
def edits_in_place(call: Any) -> None:
    call.wire["model"] = "other"


@request_intercept(mode="observe", kinds=["llm"])
def halves(call: Any) -> Any:
    return {"model": "other"}


@execution_intercept(mode="observe")
def refuses_before(call: Any) -> Any:
    raise PermissionError("not today")
    yield call


@execution_intercept(mode="observe")
def refuses_after(call: Any) -> Any:
    yield call
    raise PermissionError("not that")


@execution_intercept(mode="observe", kinds=["llm"])
def replaces(call: Any) -> Any:
    response = yield call
    return replace(response.record, id="mine")


@execution_intercept(mode="observe")
def sends_thrice(call: Any) -> Any:
    yield [call.branch(), call.branch()]
    return (yield call)


@execution_intercept(mode="observe", buffered=True, kinds=["llm"])
def sends_another(call: Any) -> Any:
    return (yield call.with_request(replace(call.request, model="other")))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("rule", "refused", "changed"),
    [
        (broken, ["broken: guardrail 'broken' raised LookupError"], []),
        (edits, [], ["edits: the request"]),
        (edits_in_place, [], ["edits_in_place: the request"]),
        (halves, ["halves: policy left a request without 'messages'"], []),
        (refuses_before, ["refuses_before: not today"], []),
        (refuses_after, ["refuses_after: not that"], []),
        (replaces, [], ["replaces: the answer"]),
        (sends_thrice, [], []),
        (sends_another, [], ["sends_another: the request"]),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_nothing_comes_of_what_is_on_trial(
    client: openai.OpenAI, server: ModelServer, capture: Capture, rule: Any, refused: Any, changed: Any, stream: bool
) -> None:
    with use(rule):
        answer: Any = client.chat.completions.create(model="m", messages=HELLO, stream=stream)
        choices = [chunk.choices[0].delta for chunk in answer] if stream else [answer.choices[0].message]
    said = "".join(choice.content or "" for choice in choices)
    assert said == "ok"
    assert [request.body["model"] for request in server.requests] == ["m"]
    told = verdicts(capture)
    assert [[text[: len(refused[0])] for text in one] for one, _ in told if one] == ([refused] if refused else [])
    assert [one for _, one in told if one] == ([changed] if changed else [])


@execution_intercept(mode="observe")
def hides(call: Any) -> Any:
    try:
        return (yield call)
    except openai.RateLimitError:
        return (yield call)


def test_the_provider_s_exception_is_the_application_s_whatever_is_on_trial(
    capture: Capture, client: openai.OpenAI
) -> None:
    with ModelServer([error(429)]) as failing, use(hides), pytest.raises(openai.RateLimitError):
        client.with_options(base_url=failing.url).chat.completions.create(model="m", messages=HELLO)
    assert len(failing.requests) == 1


def test_a_request_edited_in_place_after_it_was_judged_is_judged_again(
    client: openai.OpenAI, server: ModelServer
) -> None:
    @request_intercept(kinds=["llm"])
    def first(call: Any) -> None:
        call.wire["user"] = "u"

    @guardrail(kinds=["llm"])
    def no_secret(call: Any) -> str | None:
        return "secret" if call.outgoing()["model"] == "secret-1" else None

    @execution_intercept(kinds=["llm"])
    def then(call: Any) -> Any:
        call.wire["model"] = "secret-1"
        return (yield call)

    with use(first), use(no_secret), use(then), pytest.raises(GuardrailRejected):
        client.chat.completions.create(model="m", messages=HELLO)
    assert server.requests == []
