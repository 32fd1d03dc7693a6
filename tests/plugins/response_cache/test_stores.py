"""Where the plugin `response_cache` keeps answers: an SQLite file, a real Redis server, and what is broken there."""

from __future__ import annotations

import base64
import contextlib
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.plugins.redis_server import RedisServer

from spanrelay.errors import ConfigurationError
from spanrelay.plugins.keeping import StoreError
from spanrelay.plugins.response_cache import redis_store
from spanrelay.plugins.response_cache.redis_store import RedisStore
from spanrelay.plugins.response_cache.sealing import Sealed
from spanrelay.plugins.response_cache.sqlite_store import SqliteStore
from spanrelay.plugins.response_cache.stores import MemoryStore, Store

KEY, OTHER = b"k" * 32, b"o" * 32
SECRET = base64.b64encode(b"s" * 32).decode()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made: Any = None
    if request.param == "memory":
        made = MemoryStore(10_000)
    elif request.param == "sqlite":
        made = SqliteStore(tmp_path / "answers.sqlite3", 10_000)
    else:
        made = RedisStore(request.getfixturevalue("redis_server").url)
    request.addfinalizer(made.close)
    return made


@pytest.mark.parametrize("secret", [None, SECRET], ids=["digest", "encrypted"])
def test_what_is_put_is_got_by_its_key_alone(store: Store, secret: str | None) -> None:
    sealed = Sealed(store, secret)
    assert sealed.get(KEY) is None
    sealed.put(KEY, b"hello", 60)
    sealed.put(KEY, b"hello again", 60)
    sealed.close()
    assert sealed.get(KEY) == b"hello again"
    assert sealed.get(OTHER) is None
    assert (b"hello" in (store.get(KEY) or b"")) == (secret is None)


@pytest.mark.parametrize("secret", [None, SECRET], ids=["digest", "encrypted"])
@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data[:-1] + b"?",
        lambda data: data[:5],
        lambda _: b"",
        lambda data: b"?" + data[1:],
    ],
    ids=["end", "cut", "empty", "beginning"],
)
def test_what_was_changed_or_moved_is_none(harm: Callable[[bytes], bytes], secret: str | None) -> None:
    store = MemoryStore(10_000)
    sealed = Sealed(store, secret)
    sealed.put(KEY, b"hello", 60)
    data = store.get(KEY) or b""
    store.put(OTHER, data, 60)
    assert sealed.get(OTHER) is None
    store.put(KEY, harm(data), 60)
    assert sealed.get(KEY) is None
    assert Sealed(store, base64.b64encode(b"t" * 32).decode()).get(OTHER) is None


def test_the_file_is_its_owners_alone_and_keeps_no_more_than_it_may(tmp_path: Path) -> None:
    now = 1000.0
    path = tmp_path / "answers.sqlite3"
    store = SqliteStore(path, 2500, lambda: now)
    for at in range(5):
        now += 20
        store.put(bytes([at]), b"x" * 1000, 50)
    assert [store.get(bytes([at])) is not None for at in range(5)] == [False, False, False, True, True]
    now += 45
    store.put(b"z", b"z", 50)
    assert store.get(bytes([3])) is None
    assert {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()} == {0o600}
    store.close()


def test_a_file_that_others_hold_is_left_alone_soon(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite3"
    store = SqliteStore(path, 1000)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        store.put(KEY, b"x", 60)
    assert store.get(KEY) is None
    holder.close()
    store.close()


def test_a_file_that_is_none_is_said_at_once(tmp_path: Path) -> None:
    (path := tmp_path / "answers.sqlite3").write_text("something else, and long enough to be seen as such" * 20)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        SqliteStore(path, 1000)


def test_a_server_that_does_not_answer_is_left_alone_for_a_while(redis_server: RedisServer) -> None:
    now = 0.0
    store = RedisStore(redis_server.url, lambda: now)
    store.put(KEY, b"x", 60)
    redis_server.send_signal(signal.SIGSTOP)
    before = time.monotonic()
    with pytest.raises(StoreError, match="TimeoutError"):
        store.get(KEY)
    assert store.get(KEY) is None
    assert time.monotonic() - before < 10 * redis_store.PATIENCE_S + 2
    redis_server.send_signal(signal.SIGCONT)
    now += redis_store.PAUSE_S
    answered = None
    while answered != b"x":  # a busy machine may be late once more
        now += redis_store.PAUSE_S
        with contextlib.suppress(StoreError):
            answered = store.get(KEY)
    store.close()


PROGRAM = """
import sys
from pathlib import Path
from spanrelay.plugins.response_cache import sqlite_store

sqlite_store.PATIENCE_S = 20.0  # nobody is to give up here
store = sqlite_store.SqliteStore(Path(sys.argv[1]), 10**6)
keys = [f"{sys.argv[2]} {at}".encode() for at in range(300)]
for key in keys:
    store.put(key, b"x" * 100, 60)
print(sum(store.get(key) == b"x" * 100 for key in keys))
"""


def test_processes_share_a_file(tmp_path: Path) -> None:
    path, program = tmp_path / "answers.sqlite3", [sys.executable, "-c", PROGRAM]
    running = [
        subprocess.Popen([*program, str(path), name], stdout=subprocess.PIPE, text=True) for name in ("one", "two")
    ]
    assert [process.communicate(timeout=60)[0] for process in running] == ["300\n", "300\n"]
    store = SqliteStore(path, 10**6)
    assert store.get(b"one 299") == store.get(b"two 299") == b"x" * 100
    store.close()
