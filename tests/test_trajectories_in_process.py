"""A program asks for its own trajectories: the document of its file, byte for byte, and also where there is no file."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from tests.programs import run

import spanrelay
from spanrelay import TrajectoryUnavailable, _guard, _json
from spanrelay.assembly import exporter
from spanrelay.assembly.atif import violations
from spanrelay.telemetry.worker import Errand

KEY = "sk-" + "a1B2" * 8
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


@contextmanager
def active(
    folder: Path, trajectories: str = "on", provider: TracerProvider | None = None, **settings: Any
) -> Iterator[spanrelay.Runtime]:
    given: dict[str, Any] = {"trajectory_directory": str(folder), "metrics": False, "quiet": True, **settings}
    runtime = spanrelay.activate(
        spanrelay.Settings(trajectories=trajectories, **given),  # type: ignore[arg-type]
        tracer_provider=provider or TracerProvider(shutdown_on_exit=False),
        instrument=False,
    )
    assert runtime is not None
    try:
        yield runtime
    finally:
        runtime.shutdown()


@pytest.fixture(params=["on", "memory"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[spanrelay.Runtime]:
    with active(tmp_path, request.param) as runtime:
        yield runtime


def ask(*words: Any) -> None:
    """Say all of `words` but the last, which the model answers."""
    answer = {"choices": [{"message": {"role": "assistant", "content": words[-1]}, "finish_reason": "stop"}]}
    roles = ("user", "assistant") * len(words)
    messages = [{"role": role, "content": text} for role, text in zip(roles, words[:-1], strict=False)]
    spanrelay.run_model(lambda wire: answer, {"model": "m", "messages": messages}, codec="openai_chat", provider="p")


def said(document: dict[str, Any]) -> list[str]:
    return [step["message"] for step in document["steps"]]


def test_an_open_scope_has_the_steps_so_far_and_all_once_it_has_ended(runtime: spanrelay.Runtime) -> None:
    with spanrelay.scope("bot", session="s1") as bot:
        ask("one", "two")
        assert said(bot.trajectory()) == ["one", "two"]
        ask("one", "two", "three", "four")
        assert said(bot.trajectory()) == ["one", "two", "three", "four"]
        spanrelay.run_tool("t", dict, {})
    assert len(bot.trajectory()["steps"]) == 5
    assert bot.trajectory() == spanrelay.trajectory("s1")


def test_every_scope_of_a_session_has_the_whole_of_it(runtime: spanrelay.Runtime) -> None:
    with spanrelay.scope("bot", session="s1"):
        ask("one", "two")
        with spanrelay.scope("step", kind="chain") as step:
            pass
    with spanrelay.scope("bot", session="s1") as again:
        ask("one", "two", "three", "four")
    assert said(step.trajectory()) == said(again.trajectory()) == ["one", "two", "three", "four"]


def test_a_session_within_another_trace_is_its_own(runtime: spanrelay.Runtime) -> None:
    with spanrelay.scope("server", kind="chain") as server:
        with spanrelay.scope("bot", session="a") as first:
            ask("one", "two")
        with spanrelay.scope("bot", session="b") as second:
            ask("three", "four")
    assert said(first.trajectory()) == ["one", "two"]
    assert said(second.trajectory()) == ["three", "four"]
    assert said(server.trajectory()) == ["one", "two"]


@pytest.mark.parametrize("ended", [True, False])
def test_it_is_byte_for_byte_what_the_file_says(tmp_path: Path, ended: bool) -> None:
    with active(tmp_path), spanrelay.scope("outer", session="s1", user="ann") as outer:
        with spanrelay.scope("bot"):
            ask("one", f"two {KEY}")
            spanrelay.run_tool("t", lambda: {"a": 2**70, "b": 0.1, "c": "é\n"}, {})
            ask([{"type": "text", "text": "look"}, PICTURE], "seen")
        if ended:
            outer._exit(None)
        assert spanrelay.flush(60)
        written = (tmp_path / "s1.json").read_bytes()
        assert _json.dumps(outer.trajectory()) == written
        assert _json.dumps(spanrelay.trajectory("s1")) == written
        assert KEY.encode() not in written


def test_memory_says_what_a_file_would_and_writes_none(tmp_path: Path) -> None:
    def work() -> dict[str, Any]:
        with spanrelay.scope("bot", session="s1") as bot:
            ask("one", f"two {KEY}")
            ask([{"type": "text", "text": "look"}, PICTURE], "seen")
        return bot.trajectory()

    with active(tmp_path / "disk"):
        written = work()
    with active(tmp_path / "none", "memory"):
        kept = work()
    assert anonymous(kept) == anonymous(written)
    assert violations(kept) == []
    assert not (tmp_path / "none").exists()


def anonymous(document: Any) -> Any:
    """Without ids and times, which are those of a run."""
    ids = (
        "trajectory_id",
        "tool_call_id",
        "source_call_id",
        "trace_id",
        "span_id",
        "parent_span_id",
        "timestamp",
        "duration_sec",
        "otel",
    )
    if isinstance(document, dict):
        return {name: anonymous(value) for name, value in document.items() if name not in ids}
    if isinstance(document, list):
        return [anonymous(value) for value in document]
    return document


def test_sanitizers_hold_as_for_the_file(runtime: spanrelay.Runtime) -> None:
    @spanrelay.sanitizer(fields=["request", "response"])
    def hides(field: spanrelay.Field) -> Any:
        return _json.loads(_json.dumps_text(field.value).replace("secret", "[hidden]"))

    with spanrelay.use(hides), spanrelay.scope("bot", session="s1") as bot:
        ask("a secret", "no secret")
        assert "secret" not in _json.dumps_text(bot.trajectory())


def test_what_is_returned_is_the_callers_own(runtime: spanrelay.Runtime) -> None:
    with spanrelay.scope("bot", session="s1") as bot:
        ask("one", "two")
    bot.trajectory()["steps"].clear()
    assert said(bot.trajectory()) == ["one", "two"]


def test_without_a_session_the_scope_and_the_id_of_the_document_find_it(runtime: spanrelay.Runtime) -> None:
    with spanrelay.scope("bot") as bot:
        ask("one", "two")
    document = bot.trajectory()
    assert spanrelay.trajectory(document["session_id"]) == document
    assert bot.span is not None
    assert spanrelay.trajectory(f"{bot.span.get_span_context().trace_id:032x}") == document


def test_all_of_them(runtime: spanrelay.Runtime) -> None:
    assert spanrelay.trajectories() == []
    for number in range(3):
        with spanrelay.scope("bot", session=f"s{number}"):
            ask(f"{number}", "two")
    assert [document["session_id"] for document in spanrelay.trajectories()] == ["s0", "s1", "s2"]
    assert spanrelay.trajectories("s1") == [spanrelay.trajectory("s1")]
    assert spanrelay.trajectories("s7") == []


def test_many_sessions_can_be_asked_for_when_they_are_no_longer_followed(runtime: spanrelay.Runtime) -> None:
    for number in range(520):
        with spanrelay.scope("bot", session=f"s{number}") as bot:
            ask(f"{number}", "two")
        if not number:
            first = bot
    assert said(spanrelay.trajectory("s0")) == ["0", "two"]
    assert said(first.trajectory()) == ["0", "two"]
    assert len(spanrelay.trajectories()) == 520


def test_runs_of_a_session_that_share_nothing_are_told_apart(runtime: spanrelay.Runtime) -> None:
    began = threading.Barrier(2)

    def work(words: str) -> tuple[list[str], list[str]]:
        with spanrelay.scope("bot", session="s1") as bot:
            began.wait(60)
            ask(words, "answer")
            began.wait(60)
        return [words, "answer"], said(bot.trajectory())

    with ThreadPoolExecutor(2) as pool:
        for expected, found in pool.map(work, ["one", "two"]):
            assert found == expected
    assert len(spanrelay.trajectories("s1")) == 2
    with pytest.raises(TrajectoryUnavailable, match=r"'s1' has 2 trajectories.*spanrelay\.trajectories\('s1'\)"):
        spanrelay.trajectory("s1")


# --- where there is none -----------------------------------------------------------------------------------


def test_an_unknown_session_is_told_with_those_that_are_known(runtime: spanrelay.Runtime) -> None:
    with pytest.raises(TrajectoryUnavailable, match="of session 's1'; nor of any other: a trajectory begins with"):
        spanrelay.trajectory("s1")
    for number in range(12):
        with spanrelay.scope("bot", session=f"case {number}"):
            ask("one", "two")
    with pytest.raises(TrajectoryUnavailable, match=r"'s1'; there are 'case 11', 'case 10', .* and 2 before") as raised:
        spanrelay.trajectory("s1")
    assert isinstance(raised.value, LookupError)


def test_a_scope_in_which_nothing_has_happened_says_so(runtime: spanrelay.Runtime) -> None:
    with (
        spanrelay.scope("bot", session="s1") as bot,
        pytest.raises(
            TrajectoryUnavailable, match="nothing has been recorded of scope 'bot' yet: no model has answered"
        ),
    ):
        bot.trajectory()
    with pytest.raises(TrajectoryUnavailable, match="'idle' has no trajectory: it has not been entered"):
        spanrelay.scope("idle").make().trajectory()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"trajectories": "off"}, "SPANRELAY_TRAJECTORIES is 'off'"),
        ({"content": "off"}, "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT is 'off'"),
    ],
)
def test_where_none_are_recorded_the_setting_is_named(tmp_path: Path, settings: dict[str, str], named: str) -> None:
    with active(tmp_path, **settings), spanrelay.scope("bot", session="s1") as bot:
        ask("one", "two")
        for find in (bot.trajectory, lambda: spanrelay.trajectory("s1"), spanrelay.trajectories):
            with pytest.raises(TrajectoryUnavailable, match=f"no trajectories are recorded: {named}"):
                find()
    assert list(tmp_path.iterdir()) == []


FIND = """
with spanrelay.scope("bot", session="s1") as bot:
    for find in (bot.trajectory, lambda: spanrelay.trajectory("s1"), spanrelay.trajectories):
        try:
            find()
        except spanrelay.TrajectoryUnavailable as error:
            print(error)
"""


def test_before_activate_it_says_what_to_call(tmp_path: Path) -> None:
    ran = run(f"import spanrelay\n{FIND}", tmp_path, launched=False)
    assert ran.out.splitlines() == [
        "scope 'bot' has no trajectory: nothing is recorded; call spanrelay.activate() first",
        *["no trajectories are recorded: call spanrelay.activate() first"] * 2,
    ]


def test_where_recording_is_disabled_it_says_by_what(tmp_path: Path) -> None:
    ran = run(f"import spanrelay\nspanrelay.activate()\n{FIND}", tmp_path, launched=False, OTEL_SDK_DISABLED="true")
    assert ran.out.splitlines() == ["no trajectories are recorded: OTEL_SDK_DISABLED is true"] * 3


def test_under_the_launcher_one_may_ask_before_the_first_span(tmp_path: Path) -> None:
    program = """
import spanrelay
print(spanrelay.trajectories(), spanrelay.flush())
with spanrelay.scope("bot", session="s1") as bot:
    spanrelay.run_tool("t", dict, {})
    print(len(bot.trajectory()["steps"]))
"""
    ran = run(program, tmp_path, SPANRELAY_QUIET="true")
    assert (ran.out, ran.err) == ("[] True\n1\n", "")


def test_a_scope_that_is_not_sampled_says_which_setting_records_it(tmp_path: Path) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    with active(tmp_path, provider=provider), spanrelay.scope("bot", session="s1") as bot:
        ask("one", "two")
        with pytest.raises(TrajectoryUnavailable, match="not sampled; SPANRELAY_TRAJECTORIES=all"):
            bot.trajectory()


def test_where_the_disk_cannot_be_written_it_is_there_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "file"
    folder.write_text("in the way")
    with active(folder):
        with spanrelay.scope("bot", session="s1") as bot:
            ask("one", "two")
            assert said(bot.trajectory()) == ["one", "two"]
        assert not spanrelay.flush(60)
        assert said(spanrelay.trajectory("s1")) == ["one", "two"]
        folder.unlink()


def test_a_document_that_somebody_has_removed_is_not_there(tmp_path: Path) -> None:
    with active(tmp_path):
        with spanrelay.scope("bot", session="s1"):
            ask("one", "two")
        assert spanrelay.flush(60)
        (tmp_path / "s1.json").unlink()
        assert spanrelay.trajectories("s1") == []


# --- what it may cost --------------------------------------------------------------------------------------


def test_what_memory_keeps_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guard, "strict", False)
    with active(tmp_path, "memory", trajectory_bytes=50_000):
        for number in range(100):
            with spanrelay.scope("bot", session=f"s{number}"):
                ask("x" * 1000, f"{number}")
        found = spanrelay.trajectories()
        assert said(found[-1])[1] == "99"
        assert 5 < len(found) < 40
        assert sum(len(_json.dumps(document)) for document in found) < 60_000
        lost = _guard.losses.take()
        assert lost == {"trajectories kept in memory until there was no more room": 100 - len(found)}


def test_a_session_that_is_larger_than_memory_may_grow_stops_growing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_guard, "strict", False)
    with active(tmp_path, "memory", trajectory_bytes=20_000), spanrelay.scope("bot", session="s1") as bot:
        words: list[str] = []
        for number in range(100):
            words += [f"{number} " + "x" * 1000, "y"]
            ask(*words)
        document = bot.trajectory()
        assert 10 < len(document["steps"]) < 100
        assert _guard.losses.take()["model calls beyond the size of a trajectory"] > 50


def test_the_default_of_what_memory_keeps_is_no_gigabyte() -> None:
    assert spanrelay.Settings().trajectory_bytes == 1 << 30
    assert exporter.TrajectoryKeeper(1 << 30)._assembler is not None
    assert exporter.KEPT_BYTES == 64 << 20


# --- where one may ask -------------------------------------------------------------------------------------


def test_a_subscriber_that_hears_of_the_end_may_ask(runtime: spanrelay.Runtime) -> None:
    found: list[list[str]] = []

    def keep(event: spanrelay.Event) -> None:
        if event.name == "invoke_agent bot" and getattr(event, "scope_category", "") == "end":
            found.append(said(spanrelay.trajectory("s1")))

    with spanrelay.subscribe(keep):
        with spanrelay.scope("bot", session="s1"):
            ask("one", "two")
        assert spanrelay.flush(60)
    assert found == [["one", "two"]]


@pytest.mark.parametrize("trajectories", ["on", "memory"])
def test_a_subscriber_may_ask_while_recording_ends_and_is_not_waited_for_in_vain(
    tmp_path: Path, trajectories: str
) -> None:
    found: list[list[str]] = []
    with active(tmp_path, trajectories) as runtime:

        def keep(event: spanrelay.Event) -> None:
            if event.name == "invoke_agent bot" and getattr(event, "scope_category", "") == "end":
                while not runtime.processor.closed:  # as where the program ends with what it is told of
                    time.sleep(0.001)
                found.append(said(spanrelay.trajectory("s1", None)))

        with spanrelay.subscribe(keep):
            with spanrelay.scope("bot", session="s1"):
                ask("one", "two")
            runtime.shutdown()
    assert found == [["one", "two"]]


def test_a_sanitizer_is_told_at_once_that_it_would_wait_for_itself(runtime: spanrelay.Runtime) -> None:
    refused: list[str] = []

    @spanrelay.sanitizer(fields=["response"])
    def asks(field: spanrelay.Field) -> Any:
        with pytest.raises(TrajectoryUnavailable, match="would wait for itself") as raised:
            spanrelay.trajectory("s1")
        refused.append(str(raised.value))
        return field.value

    with spanrelay.use(asks), spanrelay.scope("bot", session="s1") as bot:
        ask("one", "two")
        assert said(bot.trajectory()) == ["one", "two"]
    assert refused


async def test_the_loop_goes_on_while_a_thread_asks(runtime: spanrelay.Runtime) -> None:
    async with spanrelay.scope("bot", session="s1") as bot:
        ask("one", "two")
        document = await asyncio.to_thread(bot.trajectory)
    assert said(document) == ["one", "two"]


def test_threads_may_ask_at_the_same_time(runtime: spanrelay.Runtime) -> None:
    def work(number: int) -> bool:
        with spanrelay.scope("bot", session=f"s{number}") as bot:
            ask(f"{number}", "two")
            return said(bot.trajectory()) == [f"{number}", "two"] == said(spanrelay.trajectory(f"s{number}"))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(64)))


def test_one_may_ask_after_the_end(runtime: spanrelay.Runtime) -> None:
    with spanrelay.scope("bot", session="s1"):
        ask("one", "two")
    runtime.shutdown()
    assert [said(document) for document in runtime.trajectories("s1")] == [["one", "two"]]


def test_a_recorder_that_is_busy_is_waited_for_only_as_long_as_one_says(tmp_path: Path) -> None:
    go_on = threading.Event()
    with active(tmp_path) as runtime:
        assert runtime.worker is not None
        make: Callable[[], Any] = runtime.worker._make_sink
        runtime.worker._make_sink = lambda: go_on.wait(60) and make()
        with spanrelay.scope("bot", session="s1") as bot:
            ask("one", "two")
            with pytest.raises(TrajectoryUnavailable, match="within 0 s; allow more with timeout"):
                bot.trajectory(timeout=0)
            go_on.set()
            assert said(bot.trajectory()) == ["one", "two"]


@pytest.mark.parametrize("timeout", ["5", True, -1, float("nan"), [], b"1"])
def test_a_time_limit_that_is_none_is_named(runtime: spanrelay.Runtime, timeout: Any) -> None:
    with spanrelay.scope("bot", session="s1") as bot:
        ask("one", "two")
        for wait in (
            lambda: bot.trajectory(timeout),
            lambda: spanrelay.trajectory("s1", timeout),
            lambda: spanrelay.trajectories(timeout=timeout),
            lambda: spanrelay.flush(timeout),
            lambda: runtime.flush(timeout),
            lambda: runtime.sessions(timeout),
            lambda: runtime.trajectories(timeout=timeout),
        ):
            with pytest.raises((TypeError, ValueError)) as raised:
                wait()
            asked = f"timeout={timeout!r} must be seconds, 0 or more, or None to wait as long as it takes"
            assert str(raised.value) == asked


@pytest.mark.parametrize("timeout", [None, float("inf"), pytest.param(10**400, id="huge"), 1e300, 60])
def test_there_may_be_no_time_limit(runtime: spanrelay.Runtime, timeout: Any) -> None:
    with spanrelay.scope("bot", session="s1") as bot:
        ask("one", "two")
        assert said(bot.trajectory(timeout)) == ["one", "two"]
        assert said(spanrelay.trajectory("s1", timeout)) == ["one", "two"]
        assert spanrelay.trajectories(timeout=timeout) == [spanrelay.trajectory("s1")]
        assert runtime.sessions(timeout) == ["s1"]
        assert spanrelay.flush(timeout)
        assert runtime.flush(timeout)


def test_what_names_no_session_is_told_as_such(runtime: spanrelay.Runtime) -> None:
    given: Any
    with spanrelay.scope("bot", session="s1") as bot:
        ask("one", "two")
        with pytest.raises(
            TypeError, match=r"scope 'bot' is not the name of a session: ask it, with scope.trajectory\(\), or name its"
        ):
            spanrelay.trajectory(bot)  # type: ignore[arg-type]
        for given in (b"s1", 3, ["s1"]):
            for ask_for in (spanrelay.trajectory, spanrelay.trajectories, runtime.trajectories):
                with pytest.raises(
                    TypeError, match=r"must be the name of a session, as in scope\(session='ticket-42'\)"
                ):
                    ask_for(given)
        with pytest.raises(TypeError, match=r"session=None names no session; spanrelay.trajectories\(\) returns"):
            spanrelay.trajectory(None)  # type: ignore[arg-type]


@pytest.mark.swallows
def test_an_error_of_ours_is_not_told_as_want_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    with active(tmp_path) as runtime:
        with spanrelay.scope("bot", session="s1"):
            ask("one", "two")
        monkeypatch.setattr(exporter.TrajectoryWriter, "documents", broken)
        with pytest.raises(TrajectoryUnavailable, match="could not be read for an error of ours, which the log has"):
            runtime.trajectories("s1")


def test_a_forked_child_has_its_own(tmp_path: Path) -> None:
    program = """
import os, spanrelay
spanrelay.activate(spanrelay.Settings(quiet=True, trajectories="memory"), instrument=False)

def ask(session):
    with spanrelay.scope("bot", session=session) as bot:
        spanrelay.run_tool("t", dict, {})
    return bot

import warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded")  # Python 3.12 warns; on purpose
ask("parent").trajectory()
child = os.fork()
if not child:
    ask("child").trajectory()
    os._exit([each["session_id"] for each in spanrelay.trajectories()] != ["child"])
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print([each["session_id"] for each in spanrelay.trajectories()], os.path.exists(".spanrelay"))
"""
    ran = run(program, tmp_path, launched=False)
    assert (ran.code, ran.out, ran.err) == (0, "['parent'] False\n", "")


@pytest.mark.swallows  # payloads find no room
@pytest.mark.parametrize("trajectories", ["on", "memory"])
def test_a_session_that_is_faster_than_the_recorder_has_every_word_once(tmp_path: Path, trajectories: str) -> None:
    calls, words = 30, ["question 0", "answer 0"]
    with active(tmp_path, trajectories, pending_bytes=64_000) as runtime, spanrelay.scope("bot", session="s") as bot:
        ask(*words)
        assert len(said(bot.trajectory())) == 2
        busy, free = threading.Event(), threading.Event()
        runtime.worker.send(Errand(lambda sink: (busy.set(), free.wait()), (), ()))
        assert busy.wait(30)
        for number in range(1, calls):
            words += [f"question {number}", f"answer {number}"]
            ask(*words)
        free.set()
        assert runtime.worker.flush(30)
        words += ["the last question", "the last answer"]
        ask(*words)
        assert said(bot.trajectory()) == words
    assert _guard.losses.take()["payloads not recorded because too many were waiting"] > calls // 3


@pytest.mark.parametrize(
    ("calls", "length", "room"),
    [(150, 2000, 3_000_000), pytest.param(3000, 300, 64 << 20, marks=pytest.mark.slow)],
)
def test_a_session_that_does_not_pause_needs_room_only_for_what_is_new(
    tmp_path: Path, calls: int, length: int, room: int
) -> None:
    words = [f"{number}: {'x' * length}" for number in range(2 * calls)]
    sent = sum(map(len, words)) * calls // 2
    assert sent > 10 * room
    with active(tmp_path, "memory", pending_bytes=room) as runtime, spanrelay.scope("bot", session="s") as bot:
        busy, free = threading.Event(), threading.Event()
        runtime.worker.send(Errand(lambda sink: (busy.set(), free.wait()), (), ()))
        for number in range(calls):
            ask(*words[: 2 * number + 2])
            if not number:
                assert busy.wait(30)
        free.set()
        assert said(bot.trajectory(timeout=600)) == words
    assert not _guard.losses.take()
