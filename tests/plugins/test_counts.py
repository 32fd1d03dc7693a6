"""Counts that processes share: one budget for all of them, and no call where the counts cannot be reached."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.plugins.redis_server import RedisServer

from spanrelay import ConfigurationError, GuardrailRejected, arun_model, arun_tool, run_model, run_tool
from spanrelay.config import PolicyFile
from spanrelay.plugins.activation import Activation
from spanrelay.plugins.keeping import StoreError
from spanrelay.plugins.policy import PolicyPlugin, redis_store
from spanrelay.plugins.policy.counts import Counts
from spanrelay.plugins.policy.limits import Count, Limits, Spent
from spanrelay.plugins.policy.redis_store import RedisStore
from spanrelay.plugins.policy.sqlite_store import SqliteStore
from spanrelay.plugins.policy.stores import Store

WORKERS = 4
ALLOWED = 50

HAMMER = """
import sys
import spanrelay
from spanrelay.plugins.activation import Activation
from spanrelay.config import PolicyFile

Activation([PolicyFile(sys.argv[1], "chosen")]).start()
print("ready", flush=True)
sys.stdin.readline()
ran = []
for _ in range(40):
    try:
        with spanrelay.scope("agent", session="one", user="ann"):
            spanrelay.run_tool("t", lambda: ran.append(1))
    except spanrelay.GuardrailRejected as refusal:
        assert "tool calls allowed" in refusal.reason, refusal.reason
print(len(ran))
"""


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The key of `[plugins.policy.counts]` that names a store."""
    if request.param == "sqlite":
        return f'path = "{tmp_path / "counts.sqlite3"}"'
    return f'url = "{request.getfixturevalue("redis_server").url}"'


@pytest.fixture
def open_store(place: str) -> Iterator[Callable[[float], Store]]:
    """Opens the store of `place`, as often as one wants."""
    opened: list[Any] = []
    key, _, value = place.partition(" = ")

    def one(keep_s: float = 60.0) -> Store:
        value_ = value.strip('"')
        store: Any = SqliteStore(Path(value_), "p", keep_s) if key == "path" else RedisStore(value_, "p", keep_s)
        opened.append(store)
        return store

    yield one
    for store in opened:
        store.close()


@pytest.mark.parametrize("limit", ["session", "user", "process"])
def test_four_processes_have_one_budget(tmp_path: Path, place: str, limit: str) -> None:
    path = tmp_path / "spanrelay.toml"
    path.write_text(f"[plugins.policy]\n{limit}.max_tool_calls = {ALLOWED}\n[plugins.policy.counts]\n{place}\n")
    command = [sys.executable, "-c", HAMMER, str(path)]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(WORKERS)
    ]
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    said = [worker.stdin for worker in workers if worker.stdin is not None]
    for stdin in said:
        stdin.write("go\n")
        stdin.flush()
    ran = [int(worker.communicate()[0]) for worker in workers]
    assert sum(ran) == ALLOWED
    assert [worker.returncode for worker in workers] == [0] * WORKERS


def _spend(store: Store, times: int) -> int:
    counts = Counts(time.time, store)
    limits = Limits(max_calls=ALLOWED)
    reasons = [counts.admit([("k", limits, "this session")], tool=False) for _ in range(times)]
    return reasons.count(None)


def test_threads_of_one_process_have_one_budget(open_store: Any) -> None:
    store, passed = open_store(), list[int]()
    threads = [threading.Thread(target=lambda: passed.append(_spend(store, 20))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(passed) == ALLOWED


def test_a_forked_child_goes_on_with_the_same_counts(open_store: Any) -> None:
    store = open_store()
    assert _spend(store, 10) == 10
    read, write = os.pipe()
    child = get_context("fork").Process(target=lambda: os.write(write, b"%d" % _spend(store, 100)))
    child.start()
    child.join()
    assert (child.exitcode, os.read(read, 10)) == (0, b"40")
    assert _spend(store, 1) == 0
    os.close(read)
    os.close(write)


def test_everything_that_is_counted_comes_back(open_store: Any) -> None:
    one, other = open_store(), open_store()
    known = Count(calls=3, tool_calls=2, tokens=17, cost_usd=0.25, unpriced="o9")
    known.times.extend([1.5, 2.5])

    def put(counts: list[Count]) -> bool:
        for name in ("calls", "tool_calls", "tokens", "cost_usd", "unpriced", "times"):
            setattr(counts[0], name, getattr(known, name))
        return True

    one.update(["k"], put, "once")
    assert other.read(["k", "nobody"]) == [known, Count()]


def test_a_minute_is_one_of_all_processes(open_store: Any) -> None:
    limits = [("k", Limits(max_calls_per_minute=2), "this session")]
    now = [1000.0]
    one, other = (Counts(lambda: now[0], open_store()) for _ in range(2))
    assert one.admit(limits, tool=False) is None
    now[0] += 30
    assert other.admit(limits, tool=False) is None
    assert "within a minute" in (one.admit(limits, tool=False) or "")
    now[0] += 30
    assert one.admit(limits, tool=False) is None


def test_a_clock_that_is_put_back_is_waited_for_a_minute_alone(open_store: Any) -> None:
    limits = [("k", Limits(max_calls_per_minute=1), "this session")]
    now = [1e6]
    counts = Counts(lambda: now[0], open_store())
    assert counts.admit(limits, tool=False) is None
    now[0] -= 86_400.0
    assert counts.refusal(limits, tool=False) is not None
    now[0] += 59.0
    assert counts.refusal(limits, tool=False) is not None
    now[0] += 1.0
    assert counts.refusal(limits, tool=False) is None
    assert counts.admit(limits, tool=False) is None


def test_what_nothing_has_used_for_long_is_forgotten(tmp_path: Path) -> None:
    now = [1000.0]
    path = tmp_path / "counts.sqlite3"
    store = SqliteStore(path, "p", 3600.0, lambda: now[0])
    counts = Counts(lambda: now[0], store)
    limits = Limits(max_calls=1)
    assert counts.admit([("a", limits, "a")], tool=False) is None
    now[0] += 3599
    assert counts.admit([("a", limits, "a")], tool=False) is not None
    now[0] += 1
    assert counts.admit([("a", limits, "a")], tool=False) is None
    now[0] += 3600
    assert counts.admit([("b", limits, "b")], tool=False) is None
    store.close()
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT key FROM counts").fetchall() == [("p b",)]
    db.close()


def test_what_redis_keeps_has_an_end(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url, "p", 3600.0)
    _spend(store, 1)
    assert 0 < store.client.ttl("spanrelay:p:k") <= 3600
    store.close()


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "counts.sqlite3", "p", 60.0)
    _spend(store, 1)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    store.close()


def test_many_processes_may_make_the_file_at_once(tmp_path: Path) -> None:
    start = get_context("fork").Barrier(8)

    def make() -> None:
        start.wait()
        SqliteStore(tmp_path / "counts.sqlite3", "p", 60.0).close()

    children = [get_context("fork").Process(target=make) for _ in range(8)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 8


# --- where others hold up the counts ---


@pytest.fixture
def hold(place: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[], Callable[[], None]]]:
    """Holds up the store of `place`, and returns what lets it go."""
    if place.startswith("path"):
        db = sqlite3.connect(tmp_path / "counts.sqlite3", isolation_level=None, check_same_thread=False)

        def lock() -> Callable[[], None]:
            db.execute("BEGIN IMMEDIATE")
            return lambda: void(db.execute("ROLLBACK"))

        yield lock
        db.close()
        return
    server: RedisServer = request.getfixturevalue("redis_server")

    def stop() -> Callable[[], None]:
        server.send_signal(signal.SIGSTOP)
        return lambda: server.send_signal(signal.SIGCONT)

    yield stop


def void(_: object) -> None:
    """Return nothing."""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_store_that_is_held_up_holds_up_no_event_loop(policy: Any, place: str, hold: Any, backend: str) -> None:
    policy(f"[plugins.policy]\nprocess.max_tool_calls = 1\n[plugins.policy.counts]\n{place}\n")
    ran: list[str] = []

    async def tool() -> None:
        ran.append("ran")

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            release = hold()
            tasks.start_soon(arun_tool, "t", tool)
            await anyio.sleep(0)
            # On the loop, the call would have waited in vain for this to be reached.
            release()
        with pytest.raises(GuardrailRejected, match="1 of the 1 tool calls"):
            await arun_tool("t", tool)

    anyio.run(main, backend=backend)
    assert ran == ["ran"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_answer_is_counted_off_the_event_loop_too(policy: Any, place: str, hold: Any, backend: str) -> None:
    policy(f"[plugins.policy]\nprocess.max_tokens = 100\n[plugins.policy.counts]\n{place}\n")
    answer = {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}],
        "usage": {"prompt_tokens": 60, "completion_tokens": 40, "total_tokens": 100},
    }

    async def main() -> None:
        async with anyio.create_task_group() as tasks:

            async def let_go(release: Callable[[], None]) -> None:
                release()

            async def send(_: Any) -> Any:
                tasks.start_soon(let_go, hold())
                return answer

            asked = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
            assert await arun_model(send, asked, codec="openai_chat", provider="mine") == answer
        with pytest.raises(GuardrailRejected, match="100 of the 100 tokens"):
            await arun_model(send, asked, codec="openai_chat", provider="mine")

    anyio.run(main, backend=backend)


# --- where the counts cannot be reached ---


class Shelf:
    def __init__(self) -> None:
        self._plugin = PolicyPlugin()

    def take(self, name: str) -> Any:
        return self._plugin, []


@pytest.fixture
def policy(tmp_path: Path, capture: Any) -> Iterator[Callable[..., Activation]]:
    activations: list[Activation] = []

    def put(text: str, origin: Any = "chosen") -> Activation:
        path = tmp_path / "spanrelay.toml"
        path.write_text(text)
        activation = Activation([PolicyFile(str(path), origin)], Shelf())  # type: ignore[arg-type]
        activation.start()
        activations.append(activation)
        return activation

    yield put
    for activation in activations:
        activation.close()


def test_without_its_server_no_call_is_made_and_with_it_they_are(policy: Any, redis_server: RedisServer) -> None:
    url = redis_server.url.replace("redis://", "redis://:hunter2@")
    policy(f'[plugins.policy]\nprocess.max_tool_calls = 2\ncounts.url = "{url}"\n')
    redis_server.stop()
    for _ in range(2):
        with pytest.raises(GuardrailRejected) as refused:
            run_tool("t", lambda: "ran")
        told = f"the counts in 'redis://127.0.0.1:{redis_server.port}/0' cannot be read or written"
        assert told in refused.value.reason
        assert "hunter2" not in refused.value.reason


def test_a_file_that_is_broken_later_lets_no_call_pass(policy: Any, tmp_path: Path) -> None:
    path = tmp_path / "counts.sqlite3"
    policy('[plugins.policy]\nprocess.max_tool_calls = 9\ncounts.path = "counts.sqlite3"\n')
    assert run_tool("t", lambda: "ran") == "ran"
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE counts")
    db.close()
    with pytest.raises(GuardrailRejected, match=r"the counts in '.*counts.sqlite3' cannot be read or written"):
        run_tool("t", lambda: "ran")


BROKEN_COUNTS = [
    "7",
    "null",
    "[]",
    '"text"',
    "{}",
    '{"calls": "many"}',
    '{"calls": true}',
    '{"tool_calls": null}',
    '{"tool_calls": 1.5}',
    '{"tokens": []}',
    '{"cost_usd": "much"}',
    '{"cost_usd": NaN}',
    '{"unpriced": 1}',
    '{"times": "abc"}',
    '{"times": ["now"]}',
    '{"times": {}}',
    '{"times": [NaN]}',
]


@pytest.mark.parametrize("broken", BROKEN_COUNTS)
def test_a_count_of_another_type_is_a_store_that_cannot_be_read(open_store: Any, broken: str) -> None:
    store = open_store()
    whole: dict[str, Any] = Count().to_json()
    known = json.loads(broken)
    text = json.dumps({**whole, **known}) if isinstance(known, dict) and known else broken
    if isinstance(store, SqliteStore):
        store.update(["k"], lambda counts: True, "once")
        with sqlite3.connect(store._file.path) as db:
            db.execute("UPDATE counts SET count = ?", (text,))
        db.close()
    else:
        store.client.set("spanrelay:p:k", text)
    for work in (lambda: store.read(["k"]), lambda: store.update(["k"], lambda counts: True, "once")):
        with pytest.raises(StoreError, match="cannot be read or written"):
            work()


def test_a_row_of_another_type_refuses_the_call_with_the_reason_of_the_store(policy: Any, tmp_path: Path) -> None:
    path = tmp_path / "counts.sqlite3"
    policy('[plugins.policy]\nprocess.max_calls_per_minute = 9\ncounts.path = "counts.sqlite3"\n')
    ask = lambda: run_model(lambda wire: {"choices": []}, {"model": "m", "messages": []})  # noqa: E731 - asked twice
    ask()
    with sqlite3.connect(path) as db:
        db.execute('UPDATE counts SET count = replace(count, \'"times":[\', \'"times":["now",\')')
    db.close()
    with pytest.raises(GuardrailRejected, match=r"the counts in '.*counts.sqlite3' cannot be read or written"):
        ask()


@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
def test_a_file_that_is_deleted_or_replaced_is_opened_anew(tmp_path: Path, *, replaced: bool) -> None:
    path = tmp_path / "counts.sqlite3"
    one = SqliteStore(path, "p", 60.0)
    assert _spend(one, 30) == 30
    for each in tmp_path.iterdir():
        each.unlink()
    other = SqliteStore(path, "p", 60.0)
    if replaced:
        assert _spend(other, 45) == 45
    assert _spend(one, 30) + _spend(other, 30) == ALLOWED - 45 * replaced
    one.close()
    other.close()


def test_a_folder_that_is_gone_lets_no_call_pass(tmp_path: Path) -> None:
    folder = tmp_path / "counts"
    folder.mkdir()
    store = SqliteStore(folder / "counts.sqlite3", "p", 60.0)
    shutil.rmtree(folder)
    with pytest.raises(StoreError, match="cannot be read or written"):
        _spend(store, 1)
    store.close()


class Unreachable:
    """A store that cannot be reached for a while."""

    shared = True

    def __init__(self) -> None:
        self.there, self.count = True, Count()

    def read(self, keys: Any) -> list[Count]:
        return self._counts()

    def update(self, keys: Any, change: Any, once: str) -> None:
        change(self._counts())

    def close(self) -> None:
        """Nothing is open."""

    def _counts(self) -> list[Count]:
        if not self.there:
            raise StoreError("gone")
        return [self.count]


@pytest.mark.swallows
def test_what_an_answer_cost_while_the_store_was_away_is_counted_before_the_next_call() -> None:
    store = Unreachable()
    counts, shares = Counts(time.time, store), [("k", Limits(max_tokens=100), "this session")]
    assert counts.admit(shares, tool=False, estimate=Spent(10)) is None
    store.there = False
    counts.correct(shares, Spent(10), Spent(210), "m")
    with pytest.raises(StoreError, match="gone"):
        counts.admit(shares, tool=False, estimate=Spent(10))
    store.there = True
    assert counts.admit(shares, tool=False, estimate=Spent(10)) == "this session has used 210 of the 100 tokens allowed"


@pytest.mark.swallows
def test_a_change_whose_answer_the_server_was_too_late_with_is_made_once(redis_server: RedisServer) -> None:
    import redis

    store = RedisStore(redis_server.url, "p", 60.0)
    counts, shares = Counts(time.time, store), [("k", Limits(max_tokens=1_000), "this session")]
    assert counts.admit(shares, tool=False, estimate=Spent(10)) is None
    whole = store.client.eval

    def late(*arguments: Any) -> None:
        assert whole(*arguments) == 1
        raise redis.TimeoutError

    store.client.eval = late
    counts.correct(shares, Spent(10), Spent(210), "m")
    store.client.eval = lambda *arguments: whole(*arguments) and whole(*arguments)  # as a client that tries again
    assert counts.admit(shares, tool=False, estimate=Spent(10)) is None
    assert (store.read(["k"])[0].calls, store.read(["k"])[0].tokens) == (2, 220)
    store.close()


def test_redis_remembers_only_the_latest_changes(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_store, "MADE", 3)
    store = RedisStore(redis_server.url, "p", 60.0)
    for number in range(5):
        store.update(["k"], lambda counts: counts[0].add(False, Spent(1), None) or True, f"change {number}")
    assert store.client.zrange("spanrelay:p:made", 0, -1) == [b"change 2", b"change 3", b"change 4"]
    assert 0 < store.client.ttl("spanrelay:p:made") <= 60
    store.close()


# --- several files ---


def test_each_file_keeps_its_counts_whichever_others_are_read_beside_it(tmp_path: Path, place: str) -> None:
    for name, limit in (("system", 3), ("team", 2), ("program", 9)):
        include = 'include = ["team.toml"]\n' if name == "program" else ""
        (tmp_path / f"{name}.toml").write_text(
            f"{include}[plugins.policy]\nprocess.max_tool_calls = {limit}\n[plugins.policy.counts]\n{place}\n"
        )
    program = PolicyFile(str(tmp_path / "program.toml"), "chosen")
    system = PolicyFile(str(tmp_path / "system.toml"), "system")
    ways = (([system], None), ([program], None), ([system, program], None), ([program], "2 of the 2"))
    for files, reason in ways:
        activation = Activation(files, Shelf())  # type: ignore[arg-type]
        activation.start()
        try:
            run_tool("t", lambda: "ran")
            assert reason is None
        except GuardrailRejected as refusal:
            assert reason is not None and reason in refusal.reason
        finally:
            activation.close()


def test_files_that_give_a_name_keep_counts_apart_or_together(tmp_path: Path, place: str) -> None:
    def run(name: str, file: str) -> str:
        (tmp_path / file).write_text(
            f'[plugins.policy]\nprocess.max_tool_calls = 1\n[plugins.policy.counts]\nname = "{name}"\n{place}\n'
        )
        activation = Activation([PolicyFile(str(tmp_path / file), "chosen")], Shelf())  # type: ignore[arg-type]
        activation.start()
        try:
            return run_tool("t", lambda: "ran")
        except GuardrailRejected:
            return "refused"
        finally:
            activation.close()

    assert [run("a", "one.toml"), run("b", "one.toml"), run("a", "two.toml")] == ["ran", "ran", "refused"]


def test_two_files_do_not_count_the_same_twice(tmp_path: Path, place: str) -> None:
    table = f'[plugins.policy]\nprocess.max_tool_calls = 9\n[plugins.policy.counts]\nname = "a"\n{place}\n'
    (tmp_path / "team.toml").write_text(table)
    (tmp_path / "program.toml").write_text('include = ["team.toml"]\n' + table)
    with pytest.raises(ConfigurationError, match=r"team.toml' keeps its counts there by the same name; write another"):
        Activation([PolicyFile(str(tmp_path / "program.toml"), "chosen")], Shelf()).start()  # type: ignore[arg-type]


# --- what is wrong is told ---


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ('path = "no/where.sqlite3"', "counts.path: is in a folder that does not exist; create the folder"),
        ('url = "http://127.0.0.1"', "counts.url: is not the URL of a Redis server; write redis://"),
        ('path = "c"\nurl = "redis://h"', "counts: has both path and url; remove one"),
        ('name = "a b"', "counts.name: is not a valid name; write letters, digits"),
        ("keep_hours = 0", "counts.keep_hours: is not a number above 0"),
        ('file = "x"', "counts.file: is not known"),
    ],
)
def test_what_cannot_be_a_place_for_counts_is_told(policy: Any, counts: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        policy(f"[plugins.policy]\nprocess.max_calls = 1\n[plugins.policy.counts]\n{counts}\n")
    assert said in str(error.value)


def test_a_file_that_is_something_else_stops_the_program(policy: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, " * 100)
    with pytest.raises(ConfigurationError, match=r"counts.path '.*notes.txt' cannot be used: file is not a database"):
        policy('[plugins.policy]\nprocess.max_calls = 1\ncounts.path = "notes.txt"\n')


def test_a_file_that_nobody_chose_sends_counts_nowhere(policy: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"counts\.url: sends data somewhere"):
        policy('[plugins.policy]\nprocess.max_calls = 1\ncounts.url = "redis://h"\n', "directory")


def test_counts_of_nothing_are_doubtful(policy: Any) -> None:
    [doubt] = policy('[plugins.policy]\ntools.deny = ["x"]\ncounts.path = "c.sqlite3"\n').diagnostics
    assert (doubt.level, doubt.key) == ("warning", "plugins.policy.counts")
