"""Counts in a Redis server, for the processes of several machines.

The server compares and sets in one step, so that a change which somebody else was faster with is made again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from spanrelay import _json
from spanrelay.errors import ConfigurationError
from spanrelay.plugins.keeping import StoreError, renewed, turn, without_secrets
from spanrelay.plugins.policy.limits import Count

PATIENCE_S = 2.0
"""Seconds that one question to the server may take."""
WITHIN_S = 10.0
"""Seconds within which a change is made again; each time somebody else has made one."""
MADE = 10_000
"""Changes that the server remembers, the latest, so that one whose answer was lost is not made again."""
_COMPARE_AND_SET = """
local count = #KEYS - 1
local made = KEYS[count + 1]
local change, keep, now, most = unpack(ARGV, 2 * count + 1)
if redis.call('ZSCORE', made, change) then return 1 end
for i = 1, count do
  if (redis.call('GET', KEYS[i]) or '') ~= ARGV[i] then return 0 end
end
for i = 1, count do
  redis.call('SET', KEYS[i], ARGV[count + i], 'EX', keep)
end
redis.call('ZADD', made, now, change)
redis.call('ZREMRANGEBYRANK', made, 0, -1 - most)
redis.call('EXPIRE', made, keep)
return 1
"""


class RedisStore:
    """Keeps counts in the Redis server at `url`; it is asked at the first call, not before.

    Raises:
        ConfigurationError: the package `redis` is not installed, or the URL is none.
    """

    shared = True

    def __init__(self, url: str, name: str, keep_s: float) -> None:
        try:
            import redis  # an extra: only who names a server needs it
        except ImportError:
            raise ConfigurationError("counts.url needs the package redis; pip install 'spanrelay[redis]'") from None
        self._errors = (redis.RedisError, OSError)
        self._prefix, self._keep_s = f"spanrelay:{name}:", max(1, round(keep_s))
        self._place = without_secrets(url)
        try:
            # It makes connections of its own in each process.
            self.client: Any = redis.Redis.from_url(
                url, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S, retry=None
            )
        except ValueError:
            raise ConfigurationError(f"counts.url {self._place!r} is not the URL of a Redis server") from None
        self.after_fork()
        renewed.add(self)

    def after_fork(self) -> None:
        """Take a lock that nobody holds."""
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the connections; they are opened again if they are needed."""
        self.client.close()

    def read(self, keys: Sequence[str]) -> list[Count]:
        """Return the counts of `keys`."""
        try:
            return [_count(text) for text in self.client.mget(self._keys(keys))]
        except (*self._errors, ValueError, TypeError, KeyError) as error:
            raise self._failure(error) from error

    def update(self, keys: Sequence[str], change: Callable[[list[Count]], bool], once: str) -> None:
        """Let `change` change the counts of `keys`, again if somebody else has changed them meanwhile."""
        try:
            with turn(self._lock, PATIENCE_S):  # threads of one process need not race each other
                deadline = time.monotonic() + WITHIN_S
                while time.monotonic() < deadline:
                    if self._is_changed(keys, change, once):
                        return
        except (*self._errors, ValueError, TypeError, KeyError) as error:
            raise self._failure(error) from error
        raise self._failure(TimeoutError("other processes keep changing them"))

    def _is_changed(self, keys: Sequence[str], change: Callable[[list[Count]], bool], once: str) -> bool:
        names = self._keys(keys)
        before: list[bytes | None] = self.client.mget(names)
        counts = [_count(text) for text in before]
        if not change(counts):
            return True
        after = [_json.dumps(count.to_json()) for count in counts]
        known = [text or b"" for text in before]
        names.append(f"{self._prefix}made")
        about = (once, self._keep_s, time.time(), MADE)
        return bool(self.client.eval(_COMPARE_AND_SET, len(names), *names, *known, *after, *about))

    def _keys(self, keys: Sequence[str]) -> list[str]:
        return [self._prefix + key for key in keys]

    def _failure(self, error: Exception) -> StoreError:
        return StoreError(f"the counts in {self._place!r} cannot be read or written: {type(error).__name__}")


def _count(text: bytes | None) -> Count:
    return Count() if text is None else Count.from_json(_json.loads(text))
