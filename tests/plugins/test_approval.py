"""What policy would refuse is put before an approver; whatever goes wrong with that refuses."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
import trio
from langchain_core.tools import tool as langchain_tool

from spanrelay import ConfigurationError, GuardrailRejected, arun_tool, run_model, run_tool, scope
from spanrelay.config import PolicyFile
from spanrelay.plugins.activation import make_plan
from spanrelay.plugins.loading import Shelf
from spanrelay.plugins.policy import ApprovalRequest, approve_with
from spanrelay.semconv import names
from spanrelay_langchain import LangChainInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.model_server import ModelServer

ASK = 'on_refusal = "ask"\nmodels.deny = ["secret-*"]\ntools.deny = ["delete_*"]\n'
DENIED = "tool 'delete_x' is denied by 'delete_*'"
HELLO: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture
def approver() -> Iterator[Callable[[Any], list[ApprovalRequest]]]:
    """Registers an approver that gives the answer; returns what it was asked."""
    handles: list[Any] = []

    def register(answer: Any) -> list[ApprovalRequest]:
        asked: list[ApprovalRequest] = []

        def decide(request: ApprovalRequest) -> Any:
            asked.append(request)
            if isinstance(answer, Exception):
                raise answer
            return answer

        handles.append(approve_with(decide))
        return asked

    yield register
    for handle in handles:
        handle.remove()


async def later() -> str:
    return "ran"


CALLS: list[Any] = [
    lambda: run_tool("delete_x", lambda **given: "ran", {"path": "/a"}),
    lambda: asyncio.run(arun_tool("delete_x", later)),
    lambda: trio.run(arun_tool, "delete_x", later),
]


SPELT = ["sync", "asyncio", "trio"]


@pytest.mark.parametrize("call", CALLS, ids=SPELT)
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (True, None),
        ({"decision": "allow", "reason": "fine"}, None),
        (False, "the approver denies it"),
        ({"decision": "deny", "reason": "not on a Friday"}, "the approver denies it: not on a Friday"),
        ({"decision": "maybe"}, "the approver's answer is neither 'allow' nor 'deny'"),
        (1, "the approver's answer is neither 'allow' nor 'deny'"),
        (LookupError("no such person"), "the approver could not be asked: LookupError"),
    ],
)
def test_an_approver_decides_in_every_colour(
    capture: Capture, policy: Any, approver: Any, call: Any, answer: Any, told: str | None
) -> None:
    policy(ASK)
    asked = approver(answer)
    if told is None:
        assert call() == "ran"
        [event] = [event for span in capture.spans for event in span.events if event.name == names.APPROVED_EVENT]
        assert (event.attributes or {})[names.GUARDRAIL_VERDICT_REASON] == DENIED
    else:
        with pytest.raises(GuardrailRejected) as refused:
            call()
        assert refused.value.reason == f"{DENIED}; {told}"
    [request] = asked
    assert (request.kind, request.name, request.guardrail) == ("tool", "delete_x", "policy.tools")


async def interrupted(_: ApprovalRequest) -> Any:
    raise asyncio.CancelledError


def leaves(_: ApprovalRequest) -> Any:
    raise SystemExit(3)


def exhausted(_: ApprovalRequest) -> Any:
    return next(iter(()))


def too_slow_itself(_: ApprovalRequest) -> Any:
    raise TimeoutError("the directory of people")


@pytest.mark.parametrize("call", CALLS[:2], ids=SPELT[:2])
@pytest.mark.parametrize(
    ("fails", "told"),
    [
        (interrupted, "CancelledError"),
        (leaves, "SystemExit"),
        (exhausted, "StopIteration"),
        (too_slow_itself, "TimeoutError"),
    ],
)
def test_whatever_an_approver_raises_refuses_at_once_and_says_so(
    capture: Capture, policy: Any, call: Any, fails: Any, told: str
) -> None:
    policy(ASK + "approval.timeout = 600.0\n")
    handle = approve_with(fails)
    with pytest.raises(GuardrailRejected) as refused:
        call()
    handle.remove()
    assert refused.value.reason == f"{DENIED}; the approver could not be asked: {told}"


@pytest.mark.parametrize("seconds", [60.0, 0.01])
def test_an_approver_of_trio_is_awaited_on_trio(capture: Capture, policy: Any, seconds: float) -> None:
    policy(f"{ASK}approval.timeout = {seconds}\n")

    async def decide(_: ApprovalRequest) -> bool:
        await (trio.lowlevel.checkpoint() if seconds > 1 else trio.sleep_forever())
        return True

    handle = approve_with(decide)
    if seconds > 1:
        assert CALLS[2]() == "ran"
    else:
        with pytest.raises(GuardrailRejected, match="nobody allowed it within 0\\.01 s"):
            CALLS[2]()
    handle.remove()


async def blocks_its_loop(_: ApprovalRequest) -> bool:
    return not threading.Event().wait(0.05)


@pytest.mark.parametrize("call", CALLS, ids=SPELT)
@pytest.mark.parametrize("approve", [blocks_its_loop, lambda request: blocks_its_loop(request)])
def test_an_approver_that_blocks_its_loop_allows_nothing_after_its_time(
    capture: Capture, policy: Any, call: Any, approve: Any
) -> None:
    policy(f"{ASK}approval.timeout = 0.01\n")
    with approve_with(approve), pytest.raises(GuardrailRejected, match="nobody allowed it within 0\\.01 s"):
        call()


def test_an_approver_is_told_what_the_call_is(capture: Capture, policy: Any, approver: Any) -> None:
    policy(ASK)
    asked = approver(True)
    with scope("agent", session="s-1", user="u-1"):
        CALLS[0]()
    [request] = asked
    assert (request.reason, request.arguments, request.session, request.user) == (DENIED, {"path": "/a"}, "s-1", "u-1")
    assert run_tool("get_x", lambda: 1) == 1
    assert len(asked) == 1


def test_time_that_runs_out_refuses(capture: Capture, policy: Any) -> None:
    over = threading.Event()
    policy(ASK + "approval.timeout = 0.05")
    with approve_with(lambda request: over.wait(30)), pytest.raises(GuardrailRejected, match=r"within 0\.05 s"):
        CALLS[0]()
    over.set()


def test_with_nobody_to_ask_a_call_is_refused(capture: Capture, policy: Any, client: Any, server: ModelServer) -> None:
    policy(ASK + "approval.terminal = false")
    with pytest.raises(GuardrailRejected, match="there is no approver to ask"):
        client.chat.completions.create(model="secret-1", messages=HELLO)
    with pytest.raises(GuardrailRejected, match="there is no approver to ask"):
        client.responses.create(model="m", input="x", tools=[{"type": "delete_all"}])
    assert server.requests == []


def test_the_calls_of_an_approver_are_neither_judged_nor_recorded(
    capture: Capture, policy: Any, client: openai.OpenAI, server: ModelServer
) -> None:
    def ask_a_model(request: ApprovalRequest) -> bool:
        answer = client.chat.completions.create(model="secret-1", messages=HELLO)
        return answer.choices[0].message.content == "ok"

    policy(ASK)
    with approve_with(ask_a_model):
        assert CALLS[0]() == "ran"
    assert len(server.requests) == 1
    assert [span.name for span in capture.spans if span.name.startswith("chat")] == []


def test_what_an_approver_leaves_running_is_judged_once_it_has_answered(capture: Capture, policy: Any) -> None:
    policy(ASK)
    answered, threads, became = threading.Event(), list[threading.Thread](), list[str]()

    def go_on() -> None:
        assert answered.wait(30)
        try:
            became.append(run_tool("delete_x", lambda: "ran"))
        except GuardrailRejected as refusal:
            became.append(refusal.reason)

    def decide(request: ApprovalRequest) -> bool:
        if threads:
            return False
        threads.append(threading.Thread(target=contextvars.copy_context().run, args=(go_on,)))
        threads[0].start()
        return True

    handle = approve_with(decide)
    try:
        assert run_tool("delete_x", lambda: "ran") == "ran"
        answered.set()
        threads[0].join()
    finally:
        handle.remove()
    assert became == [f"{DENIED}; the approver denies it"]


def test_nobody_is_asked_about_what_is_on_trial(capture: Capture, policy: Any, approver: Any) -> None:
    policy('mode = "observe"\n' + ASK)
    asked = approver(False)
    assert CALLS[0]() == "ran"
    assert asked == []


def test_one_rule_may_ask(capture: Capture, policy: Any, approver: Any) -> None:
    rules = "[[plugins.policy.tools.rules]]\ntool = 'pay'\nargument = '/amount'\ngt = {}\n"
    policy(rules.format(100) + rules.format(10) + "on_refusal = 'ask'")
    asked = approver(True)
    assert run_tool("pay", lambda amount: "paid", {"amount": 50}) == "paid"
    with pytest.raises(GuardrailRejected, match=r"rules\[0\]"):
        run_tool("pay", lambda amount: "paid", {"amount": 500})
    assert "'/amount' gt 10" in asked[0].reason


# --- by HTTP ---


@pytest.fixture
def endpoint() -> Iterator[Any]:
    """A server that gives `.answer`, a status and a body, and keeps what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            server.asked.append((self.path, self.headers["x-key"], json.loads(body)))
            status, answer = server.answer
            self.send_response(status)
            if status == 302:
                self.send_header("location", "/elsewhere")
            if server.length:
                self.send_header("content-length", str(server.length))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server: Any = HTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.answer, server.length = [], (200, b'{"decision": "allow"}'), 0
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def by_http(endpoint: Any) -> str:
    url = f"http://127.0.0.1:{endpoint.server_port}/ask"
    return f'{ASK}approval = {{ url = "{url}", headers = {{ x-key = "k" }} }}'


COLOURS = ["sync", "asyncio", "trio"]


@pytest.mark.parametrize("call", CALLS, ids=COLOURS)
def test_an_endpoint_is_posted_a_description_and_decides(
    capture: Capture, policy: Any, endpoint: Any, call: Any
) -> None:
    policy(by_http(endpoint))
    assert call() == "ran"
    [(path, key, asked)] = endpoint.asked
    assert (path, key, asked["name"], asked["reason"]) == ("/ask", "k", "delete_x", DENIED)
    endpoint.answer = (200, b'{"decision": "deny", "reason": "no"}')
    with pytest.raises(GuardrailRejected, match="the approver denies it: no"):
        call()


@pytest.mark.parametrize(
    "answer",
    [
        (500, b""),
        (302, b""),
        (200, b'{"decision": "allow"}' + b" " * 70_000),
        (200, b"yes"),
        (200, b"[]"),
        (200, b'{"decision": 1}'),
        (200, b"true"),
        (200, b'{"decision": "deny", "decision": "allow"}'),
    ],
)
def test_an_endpoint_that_does_not_answer_as_it_must_refuses(
    capture: Capture, policy: Any, endpoint: Any, answer: Any
) -> None:
    policy(by_http(endpoint))
    endpoint.answer = answer
    with pytest.raises(GuardrailRejected, match="; the approver"):
        CALLS[0]()
    assert len(endpoint.asked) == 1


def test_an_answer_that_is_cut_off_refuses(capture: Capture, policy: Any, endpoint: Any) -> None:
    policy(by_http(endpoint))
    endpoint.length = 500
    with pytest.raises(GuardrailRejected, match="the approver's answer is cut off"):
        CALLS[0]()


def test_an_endpoint_in_a_file_that_nobody_chose_is_not_trusted(tmp_path: Any) -> None:
    path = tmp_path / "spanrelay.toml"
    path.write_text(f'[plugins.policy]\n{ASK}approval = {{ url = "http://x", headers = {{ a = "b" }} }}')
    told = [str(error) for error in make_plan([PolicyFile(str(path), "directory")], Shelf()).errors]
    assert ["approval.url" in each or "approval.headers" in each for each in told] == [True, True]
    assert make_plan([PolicyFile(str(path), "chosen")], Shelf()).errors == []


def test_what_is_no_way_to_ask_is_told(capture: Capture, policy: Any) -> None:
    with pytest.raises(ConfigurationError) as error:
        policy(ASK + 'approval = { url = "ftp://x", timeout = 0.0 }')
    assert "approval.url: is not a URL that can be called" in str(error.value)
    assert "approval.timeout: is not a valid time to wait" in str(error.value)


# --- at a terminal ---


class Person:
    """Types an answer when the question is shown."""

    def __init__(self, screen: Any, keyboard: int, typed: str) -> None:
        self._screen, self._keyboard, self._typed = screen, keyboard, typed

    def write(self, text: str) -> int:
        return self._screen.write(text)

    def flush(self) -> None:
        self._screen.flush()
        os.write(self._keyboard, self._typed.encode())


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="terminals of this system are others")
@pytest.mark.parametrize(("typed", "allows"), [("y\n", True), ("no\n", False), ("", False)])
def test_a_person_at_the_terminal_decides(
    capture: Capture, policy: Any, monkeypatch: Any, capsys: Any, typed: str, allows: bool
) -> None:
    policy(ASK + f"approval.timeout = {30.0 if typed else 0.05}")
    ours, theirs = os.openpty()
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(sys, "stderr", Person(sys.stderr, ours, typed))
        os.write(ours, b"y\n")  # what was typed before the question is no answer to it
        if allows:
            assert CALLS[0]() == "ran"
        else:
            with pytest.raises(GuardrailRejected, match="denies it" if typed else "nobody allowed it within"):
                CALLS[0]()
    os.close(ours)
    told = capsys.readouterr().err
    assert "spanrelay: tool 'delete_x': " in told
    assert 'given {"path": "/a"}\nspanrelay:   allow this call? [y/N] ' in told


class Interrupted(Exception):
    """What a handler of a signal raises."""


def interrupted_by_a_signal(shown: list[Callable[[], None]]) -> None:
    def interrupt(*_: Any) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    shown.append(lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1))
    try:
        with pytest.raises(Interrupted):
            CALLS[0]()
    finally:
        signal.signal(signal.SIGUSR1, before)


def cancelled(shown: list[Callable[[], None]]) -> None:
    async def ask() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(arun_tool("delete_x", later))
        shown.append(lambda: loop.call_soon_threadsafe(task.cancel) and None)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask())


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="terminals of this system are others")
@pytest.mark.parametrize("give_up", [interrupted_by_a_signal, cancelled])
def test_what_is_typed_once_nobody_waits_for_an_answer_is_the_applications(
    capture: Capture, policy: Any, monkeypatch: Any, give_up: Any
) -> None:
    policy(ASK)
    shown: list[Callable[[], None]] = []
    ours, theirs = os.openpty()
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        person = Person(sys.stderr, ours, "")
        monkeypatch.setattr(person, "flush", lambda: shown.pop()(), raising=False)
        monkeypatch.setattr(sys, "stderr", person)
        give_up(shown)
        for thread in threading.enumerate():
            if thread.name == "spanrelay-approver":
                thread.join(10)
                assert not thread.is_alive()
        os.write(ours, b"for the application\n")
        assert terminal.readline() == "for the application\n"
    os.close(ours)


# --- what the application does meanwhile ---


@dataclass
class Order:
    amount: int
    items: list[str]


ORDERS: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {
    "an object": (lambda: {"amount": 5}, lambda order: order.update(amount=5000)),
    "within an object": (lambda: {"items": [{"n": 1}]}, lambda order: order["items"][0].update(n=9)),
    "a list": (lambda: {"items": [1]}, lambda order: order["items"].append(2)),
    "a member that is new": (lambda: {"amount": 5}, lambda order: order.update(force=True)),
    "a dataclass": (lambda: Order(5, ["a"]), lambda order: (setattr(order, "amount", 9), order.items.clear())),
}


@pytest.mark.parametrize("case", ORDERS)
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_what_an_approver_was_shown_is_what_runs(capture: Capture, policy: Any, case: str, colour: str) -> None:
    make, change = ORDERS[case]
    order, ran = make(), []

    def meanwhile(request: ApprovalRequest) -> bool:
        change(order)
        return True

    policy('on_refusal = "ask"\ntools.deny = ["pay"]\n')
    with approve_with(meanwhile):
        if colour == "sync":
            run_tool("pay", lambda order: ran.append(copy.deepcopy(order)), {"order": order})
        else:

            async def pay(order: Any) -> None:
                ran.append(copy.deepcopy(order))

            asyncio.run(arun_tool("pay", pay, {"order": order}))
    assert ran == [make()]
    assert order != make()


def test_what_an_approver_makes_of_what_it_is_shown_does_not_run(capture: Capture, policy: Any) -> None:
    def hides(request: ApprovalRequest) -> bool:
        request.arguments["order"]["items"].append("***")
        request.arguments["order"]["amount"] = 9
        return True

    ran: list[Any] = []
    policy('on_refusal = "ask"\ntools.deny = ["pay"]\n')
    with approve_with(hides):
        run_tool("pay", lambda order: ran.append(order), {"order": {"amount": 5, "items": []}})
    assert ran == [{"amount": 5, "items": []}]


def test_what_an_approver_was_shown_is_what_a_frameworks_tool_gets(capture: Capture, policy: Any) -> None:
    given: dict[str, Any] = {"amount": 5, "items": [1]}
    ran: list[Any] = []

    @langchain_tool
    def pay(amount: int, items: list[int]) -> None:
        """Pay."""
        ran.append((amount, list(items)))

    def meanwhile(request: ApprovalRequest) -> bool:
        given["amount"] = 5000
        given["items"].append(2)
        return True

    policy('on_refusal = "ask"\ntools.deny = ["pay"]\n')
    instrumentor = LangChainInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    with approve_with(meanwhile):
        pay.run(given)
    instrumentor.uninstrument()
    assert ran == [(5, [1])]


def test_what_an_approver_let_pass_is_what_a_model_is_sent(capture: Capture, policy: Any) -> None:
    wire: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    sent: list[Any] = []

    def meanwhile(request: ApprovalRequest) -> bool:
        wire["messages"][0]["content"] = "something else"
        return True

    def send(wire: Any) -> Any:
        sent.append(copy.deepcopy(wire))
        return {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}

    policy('on_refusal = "ask"\nmodels.deny = ["m"]\n')
    with approve_with(meanwhile):
        run_model(send, wire, codec="openai_chat", provider="mine")
    assert sent == [{"model": "m", "messages": [{"role": "user", "content": "hello"}]}]


def test_what_nobody_can_build_anew_is_the_applications_own(capture: Capture, policy: Any) -> None:
    class Connection:
        used = 0

        def __repr__(self) -> str:
            return f"used {self.used} times"

    connection, ran = Connection(), []

    def meanwhile(request: ApprovalRequest) -> bool:
        connection.used += 1
        return True

    policy('on_refusal = "ask"\ntools.deny = ["pay"]\n')
    with approve_with(meanwhile):
        run_tool("pay", lambda by: ran.append(by), {"by": connection})
    assert ran == [connection]


IN_THE_BACKGROUND = """
import fcntl, os, signal, sys, termios
import spanrelay
from spanrelay.config import PolicyFile
from spanrelay.plugins.activation import Activation

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
child = os.fork()
if not child:
    os.setpgid(0, 0)
    Activation([PolicyFile(sys.argv[1], "chosen")]).start()
    try:
        spanrelay.run_tool("t", lambda: 1)
    except spanrelay.GuardrailRejected as refused:
        print(refused.reason, flush=True)
    os._exit(0)
_, status = os.waitpid(child, os.WUNTRACED)
if os.WIFSTOPPED(status):
    print("stopped")
    os.kill(child, signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="terminals of this system are others")
def test_a_program_in_the_background_of_a_shell_is_not_stopped_by_asking_at_its_terminal(tmp_path: Path) -> None:
    path = tmp_path / "spanrelay.toml"
    path.write_text(
        "[plugins.policy]\nprocess.max_tool_calls = 0\nprocess.on_refusal = 'ask'\napproval.terminal = true\n"
    )
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", IN_THE_BACKGROUND, str(path)]
    ran = subprocess.run(command, stdin=theirs, capture_output=True, text=True, start_new_session=True)
    os.close(ours)
    os.close(theirs)
    assert "there is no approver to ask" in ran.stdout, ran
