"""Answers in a Redis server, for the processes of several machines.

A server that is down or slow is left alone for a while: no call waits for it more than a moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from spanrelay.errors import ConfigurationError
from spanrelay.plugins.keeping import StoreError, without_secrets

PATIENCE_S = 0.02
"""Seconds that a question to the server may take."""
PAUSE_S = 1.0
"""Seconds for which a server that did not answer is not asked again."""


class RedisStore:
    """Keeps answers in the Redis server at `url`, which says how much it keeps; it is asked at the first call.

    Raises:
        ConfigurationError: the package `redis` is not installed, or the URL is none.
    """

    shared = True

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        try:
            import redis  # an extra: only who names a server needs it
        except ImportError:
            raise ConfigurationError("url needs the package redis; pip install 'spanrelay[redis]'") from None
        self._errors = (redis.RedisError, OSError)
        self._place, self._clock = without_secrets(url), clock
        self._paused_until = 0.0
        try:
            # It makes connections of its own in each process.
            self.client: Any = redis.Redis.from_url(
                url, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S, retry=None
            )
        except ValueError:
            raise ConfigurationError(f"url {self._place!r} is not the URL of a Redis server") from None

    def get(self, key: bytes) -> bytes | None:
        """Return what is kept by a key."""
        return self._asked(lambda: self.client.get(_name(key)))

    def put(self, key: bytes, data: bytes, ttl_seconds: float) -> None:
        """Keep `data` for so long."""
        self._asked(lambda: self.client.set(_name(key), data, px=max(1, round(ttl_seconds * 1000))))

    def close(self) -> None:
        """Close the connections; they are opened again if they are needed."""
        self.client.close()

    def _asked(self, ask: Callable[[], Any]) -> Any:
        if self._clock() < self._paused_until:
            return None
        try:
            return ask()
        except self._errors as error:
            self._paused_until = self._clock() + PAUSE_S
            told = f"the answers in {self._place!r} cannot be read or written: {type(error).__name__}"
            raise StoreError(told) from error


def _name(key: bytes) -> str:
    return f"spanrelay:response_cache:{key.hex()}"
