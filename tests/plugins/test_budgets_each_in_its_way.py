"""Tables of limits each with a mode and a way to refuse of its own, and what is counted of calls that end oddly."""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest
from langchain_openai import ChatOpenAI
from openai._models import FinalRequestOptions

from spanrelay import ConfigurationError, GuardrailRejected, arun_model, run_tool, scope
from spanrelay.config import PolicyFile
from spanrelay.pipeline.trial import take_report
from spanrelay.plugins.activation import Activation
from spanrelay.plugins.keeping import turn
from spanrelay.plugins.policy import ApprovalRequest, PolicyPlugin, approve_with
from spanrelay.plugins.policy.counts import Counts
from spanrelay.plugins.policy.limits import MINUTE, Limits, Spent
from spanrelay.plugins.policy.loops import Calls
from spanrelay.plugins.policy.stores import MemoryStore
from spanrelay.records import ToolCallResponse
from spanrelay_langchain import LangChainInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import raw
from spanrelay_testkit.model_server import ModelServer

HELLO: Any = [{"role": "user", "content": "hello"}]


def ask(client: Any, session: str = "s") -> None:
    with scope("agent", session=session):
        client.chat.completions.create(model="m", messages=HELLO)


def would_refuse(capture: Capture) -> list[str]:
    told = [(span.attributes or {}).get("spanrelay.policy.would_refuse") for span in capture.spans]
    return [reason for reasons in told if reasons for reason in reasons]  # type: ignore[union-attr]


@pytest.fixture
def decisions() -> Iterator[tuple[list[bool], list[ApprovalRequest]]]:
    """An approver that gives the answers in their order, and what it was asked."""
    answers: list[bool] = []
    asked: list[ApprovalRequest] = []

    def decide(request: ApprovalRequest) -> bool:
        asked.append(request)
        return answers.pop(0)

    with approve_with(decide):
        yield answers, asked


# --- modes ---


@pytest.mark.parametrize("table", ["session", "user", "process"])
def test_one_table_on_trial_refuses_nothing_and_says_what_it_would(
    capture: Capture, policy: Any, client: Any, table: str
) -> None:
    policy(f'{table} = {{ max_calls = 1, mode = "observe" }}')
    for _ in range(3):
        ask(client)
    assert any("1 of the 1 model calls allowed" in reason for reason in would_refuse(capture))


@pytest.mark.parametrize("first", ["session", "process"])
def test_a_table_on_trial_loosens_no_other(capture: Capture, policy: Any, client: Any, first: str) -> None:
    other = "process" if first == "session" else "session"
    policy(f'{first} = {{ max_calls = 1, mode = "observe" }}\n{other} = {{ max_calls = 2 }}')
    ask(client)
    ask(client)
    with pytest.raises(GuardrailRejected, match="2 of the 2 model calls"):
        ask(client)


def test_one_table_is_enforced_where_the_plugin_is_on_trial(capture: Capture, policy: Any, client: Any) -> None:
    policy('mode = "observe"\nprocess = { max_calls = 1, mode = "enforce" }\nuser.max_calls = 1')
    ask(client)
    with pytest.raises(GuardrailRejected, match="this process"):
        ask(client)


def test_on_trial_a_frameworks_call_and_the_providers_beneath_it_count_once(
    capture: Capture, policy: Any, client: Any, server: ModelServer
) -> None:
    policy('process = { max_calls = 2, mode = "observe" }')
    take_report()
    instrumentor = LangChainInstrumentor()
    instrumentor.instrument()
    try:
        model = ChatOpenAI(model="m", base_url=server.url, api_key=pydantic.SecretStr("none"), max_retries=0)
        model.invoke("hello")
        model.invoke("hello")
        assert take_report() is None
        model.invoke("hello")
        assert take_report() == "policy on trial would have refused 1 call"
    finally:
        instrumentor.uninstrument()


# --- asking ---


def test_an_approver_may_let_one_call_over_a_budget_pass(
    capture: Capture, policy: Any, client: Any, server: ModelServer, decisions: Any
) -> None:
    answers, asked = decisions
    policy('session = { max_calls = 1, on_refusal = "ask" }')
    ask(client)
    answers += [True, False]
    ask(client)
    with pytest.raises(GuardrailRejected, match="2 of the 1 model calls allowed; the approver denies it"):
        ask(client)
    assert [request.guardrail for request in asked] == ["policy.limits_ask"] * 2
    assert len(server.requests) == 2


def test_what_one_table_may_ask_another_still_refuses(
    capture: Capture, policy: Any, client: Any, decisions: Any
) -> None:
    decisions[0].append(True)
    policy('session = { max_calls = 1, on_refusal = "ask" }\nprocess.max_calls = 1')
    ask(client)
    with pytest.raises(GuardrailRejected, match="this process has made"):
        ask(client)


def test_counts_that_cannot_be_read_are_nothing_to_ask_about(
    capture: Capture, policy: Any, client: Any, tmp_path: Path, decisions: Any
) -> None:
    path = tmp_path / "counts.sqlite3"
    policy(f'counts.path = "{path}"\nprocess = {{ max_calls = 1, on_refusal = "ask" }}')
    ask(client)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE counts SET count = 'x'")
    db.close()
    with pytest.raises(GuardrailRejected, match="cannot be read or written"):
        ask(client)
    assert decisions[1] == []


def test_an_approver_may_let_the_result_of_a_tool_that_nobody_saw_pass_for_good(
    capture: Capture, policy: Any, client: Any, server: ModelServer, decisions: Any
) -> None:
    answers, asked = decisions
    policy('tools = { deny = ["get_*"], on_refusal = "ask" }')
    calls = [{"id": "c1", "type": "function", "function": {"name": "get_x", "arguments": "{}"}}]
    told: Any = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    answers += [False, True]
    with pytest.raises(GuardrailRejected, match="the approver denies it"):
        client.chat.completions.create(model="m", messages=told)
    for _ in range(2):
        client.chat.completions.create(model="m", messages=told)
    assert [request.guardrail for request in asked] == ["policy.unseen_tools"] * 2


# --- what odd ends cost ---

PRICED = 'session.max_cost_usd = 0.001\nprices."*" = { input = 1.0, output = 100.0 }'


class Answer(pydantic.BaseModel):
    a: int


def test_an_answer_that_the_sdk_cannot_parse_costs_all_the_same(
    capture: Capture, policy: Any, client: Any, server: ModelServer
) -> None:
    policy(PRICED)
    with scope("agent", session="s"):
        with pytest.raises(pydantic.ValidationError):
            client.chat.completions.parse(model="m", messages=HELLO, response_format=Answer)
        with pytest.raises(GuardrailRejected, match="US dollars allowed"):
            client.chat.completions.parse(model="m", messages=HELLO, response_format=Answer)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "used",
    [
        {"prompt_tokens": -5000, "completion_tokens": -100_000},
        {"prompt_tokens": 60, "completion_tokens": 40, "cost": -1_000_000.0},
        {"prompt_tokens": 60, "completion_tokens": 40, "cost": float("nan")},
        {"prompt_tokens": 60},
    ],
)
def test_less_than_nothing_or_no_number_is_no_report_of_what_was_used(
    capture: Capture, policy: Any, client: Any, used: Any
) -> None:
    policy(PRICED)
    message = {"role": "assistant", "content": "x" * 400}
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "usage": used}
    body["choices"] = [{"index": 0, "finish_reason": "stop", "message": message}]
    with ModelServer(lambda request: raw(json.dumps(body).encode())) as odd:
        there = client.with_options(base_url=odd.url)
        ask(there)
        with pytest.raises(GuardrailRejected, match="US dollars allowed"):
            ask(there)


# --- calls under way ---

PRICED_LIMIT = """
process.{limit}
[plugins.policy.prices."m"]
input = 10_000.0
cached_input = 5_000.0
output = 1_000_000.0
"""


USED = {"prompt_tokens": 100, "completion_tokens": 100, "total_tokens": 200}
ANSWERED = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}], "usage": USED}


def ask_together(times: int, content: Any) -> list[str | None]:
    """Ask so often before any answer has come; return why each was refused, or None."""

    async def main() -> list[str | None]:
        under_way, all_judged = 0, asyncio.Event()

        def judged() -> None:
            nonlocal under_way
            under_way += 1
            if under_way == times:
                all_judged.set()

        async def send(_: Any) -> Any:
            judged()
            await all_judged.wait()
            return ANSWERED

        async def one() -> str | None:
            asked = {"model": "m", "messages": [{"role": "user", "content": content}]}
            try:
                await arun_model(send, asked, codec="openai_chat", provider="mine")
            except GuardrailRejected as refusal:
                judged()
                return refusal.reason
            return None

        return await asyncio.gather(*(one() for _ in range(times)))

    return asyncio.run(main())


# A request of 400 letters is some 110 tokens, of which each costs half a cent at the least.
@pytest.mark.parametrize(("limit", "admitted"), [("max_cost_usd = 1.5", 3), ("max_tokens = 300", 3)])
def test_calls_under_way_count_with_their_requests(capture: Capture, policy: Any, limit: str, admitted: int) -> None:
    policy(PRICED_LIMIT.format(limit=limit))
    reasons = ask_together(6, "x" * 400)
    assert reasons.count(None) == admitted
    assert reasons[-1] is not None and "allowed" in reasons[-1]


def test_calls_made_together_pass_a_budget_by_no_more_than_their_answers(capture: Capture, policy: Any) -> None:
    policy(PRICED_LIMIT.format(limit="max_cost_usd = 1.5"))
    ask_together(6, "x" * 400)
    # Three were sent: 100 tokens each of requests at a cent, and of answers at a dollar.
    [reason] = ask_together(1, "hi")
    assert reason == "this process has cost 303 of the 1.5 US dollars allowed"


def test_what_an_answer_has_used_takes_the_place_of_the_estimate(capture: Capture, policy: Any) -> None:
    policy(PRICED_LIMIT.format(limit="max_cost_usd = 102"))
    for _ in range(2):  # 101 dollars each, whatever the request was taken for
        assert ask_together(1, "x" * 40_000) == [None]
    [reason] = ask_together(1, "hi")
    assert reason == "this process has cost 202 of the 102 US dollars allowed"


@pytest.mark.parametrize("limit", ["max_cost_usd = 1.5", "max_tokens = 300"])
def test_a_picture_is_not_taken_for_text(capture: Capture, policy: Any, limit: str) -> None:
    policy(PRICED_LIMIT.format(limit=limit))
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0K" * 100_000}}
    assert ask_together(2, [picture]) == [None, None]


# --- stores ---


def test_an_abandoned_stream_that_is_collected_while_something_is_counted_waits_for_nobody() -> None:
    counts, shares = Counts(lambda: 0.0), [("k", Limits(max_tokens=100), "this session")]

    class Abandoned:
        def __del__(self) -> None:
            counts.correct(shares, Spent(), Spent(50), "m")

    def change(_: Any) -> bool:
        stream: Any = Abandoned()
        stream.itself = stream
        del stream
        gc.collect()
        return True

    counts.store.update(["k"], change, "once")
    assert counts.store.read(["k"])[0].tokens == 50


def test_who_waits_for_a_store_in_vain_waits_no_longer_than_it_is_told() -> None:
    lock, held, done = threading.RLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with pytest.raises(TimeoutError, match="other calls"), turn(lock, 0.01):
        pass
    done.set()
    thread.join()


def test_a_clock_that_is_put_back_an_hour_holds_up_calls_for_a_minute_at_most() -> None:
    now = 10_000.0
    counts, shares = Counts(lambda: now, MemoryStore()), [("k", Limits(max_calls_per_minute=1), "this session")]
    assert counts.admit(shares, tool=False) is None
    now -= 3600
    assert counts.admit(shares, tool=False) is not None
    now += MINUTE
    assert counts.admit(shares, tool=False) is None


# --- other doors ---


def test_an_execution_that_two_files_saw_stands_for_one_result(capture: Capture, tmp_path: Path) -> None:
    class Shelf:
        def __init__(self) -> None:
            self.plugin = PolicyPlugin()

        def take(self, name: str) -> Any:
            return self.plugin, []

    shelf, files = Shelf(), []
    for name, mode in (("one", "enforce"), ("two", "observe")):
        path = tmp_path / f"{name}.toml"
        path.write_text(f'[plugins.policy]\nmode = "{mode}"\ntools.deny = ["get_*"]\n')
        files.append(PolicyFile(str(path), "chosen"))
    activation = Activation(files, shelf)  # type: ignore[arg-type]
    activation.start()
    try:
        with pytest.raises(GuardrailRejected):
            run_tool("get_x", lambda: "ran")
        calls: Calls = shelf.plugin._calls
        assert calls.is_seen(ToolCallResponse("c1", "refused"), "get_x")
        assert not calls.is_seen(ToolCallResponse("c2", "what the tool gave"), "get_x")
    finally:
        activation.close()


@pytest.mark.parametrize("method", ["put", "patch", "get", "delete"])
def test_a_body_that_names_a_model_is_judged_whatever_the_method(
    capture: Capture, policy: Any, client: Any, server: ModelServer, method: str
) -> None:
    policy('models.deny = ["secret-*"]')

    for url in ("/chat/completions", "/agents/x"):
        options = FinalRequestOptions(method=method, url=url, json_data={"model": "secret-1", "messages": HELLO})
        with pytest.raises(GuardrailRejected, match="secret-1"):
            client.request(object, options)
    assert server.requests == []


@pytest.mark.parametrize("wanted", ["eq = 2024-01-01", "ne = 10:00:00", "eq = nan", "eq = inf", "in = [2024-01-01]"])
def test_a_value_that_no_argument_can_have_is_told(capture: Capture, policy: Any, wanted: str) -> None:
    with pytest.raises(ConfigurationError, match="is a value that no JSON argument can have"):
        policy(f'[[plugins.policy.tools.rules]]\ntool = "pay"\nargument = "/on"\n{wanted}')


def test_nothing_is_among_an_empty_list_and_that_is_told(capture: Capture, policy: Any) -> None:
    with pytest.raises(ConfigurationError, match="nothing is in it"):
        policy('[[plugins.policy.tools.rules]]\ntool = "pay"\nargument = "/on"\nin = []')


def test_arguments_that_name_a_member_twice_cannot_be_judged(capture: Capture, policy: Any) -> None:
    policy('[[plugins.policy.tools.rules]]\ntool = "pay"\nargument = "/amount"\ngt = 10')
    assert run_tool("pay", lambda given: "paid", '{"amount": 5}') == "paid"
    with pytest.raises(GuardrailRejected, match="it is given no '/amount'"):
        run_tool("pay", lambda given: "paid", '{"amount": 5000, "amount": 5}')
