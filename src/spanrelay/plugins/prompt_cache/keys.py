"""Providers that cache by themselves: OpenAI gets `prompt_cache_key`, and of Google it is told what was read.

A key says which requests begin alike, so that they are routed to where that is known; it costs nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, cast

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.codecs import gemini_generate_content, openai_chat, openai_responses
from spanrelay.plugins.prompt_cache.memory import Bounded, free_in_children
from spanrelay.plugins.prompt_cache.news import Decision, tell
from spanrelay.plugins.prompt_cache.outline import Unreadable
from spanrelay.records import PromptCache

OPENAI: dict[Any, str] = {openai_chat.decode_request: "messages", openai_responses.decode_request: "input"}
"""Where a request of each API has its conversation, by how its codec reads it."""
GOOGLE = gemini_generate_content.decode_request
MINIMUM_BYTES = 4 * 1024
"""What is shorter is not cached: 1 024 tokens; OpenAI's guide "Prompt caching", 2026-11."""
PER_MINUTE = 12
"""Requests a minute of one key, of which about 15 go to one machine before others get some; the same guide."""
_INSTRUCTIONS = ("system", "developer")


@dataclass(slots=True)
class _Scaffold:
    """What is known of one model with its tools and its instructions: its name, and when it was used of late."""

    name: str
    times: deque[float] = field(default_factory=lambda: deque[float](maxlen=PER_MINUTE * 64))
    shards: int = 1


class Keys:
    """Stands around the sending of calls of OpenAI, and of Google's.

    Args:
        applies: Whether keys are set; else it is only told which would be.
        clock: Seconds that only grow.
    """

    def __init__(self, *, applies: bool, clock: Callable[[], float]) -> None:
        self._applies = applies
        self._clock = clock
        self._scaffolds: Bounded[_Scaffold] = Bounded()
        self.free()
        free_in_children(self)

    def free(self) -> None:
        """Take a lock that nobody holds: a forked child has none of its parent's threads."""
        self._lock = threading.Lock()

    def govern(self, call: Any) -> Generator[Any, Any, None]:
        """Send `call`, with a key where that helps."""
        if call.codec.decode_request in OPENAI and call.record.provider != "openai":
            yield call  # others that speak its APIs may refuse what they do not know
            return
        told = PromptCache()
        try:
            self._mark(call, told)
        except Unreadable as reason:
            told.skipped = str(reason)
        except Exception as error:
            told.skipped = type(error).__name__
            with guarded("choosing the key of a prompt cache"):
                raise
        call.root.record.prompt_cache = told
        response = yield call
        with guarded("reading what a prompt cache did"):
            usage = response.record.usage
            if usage is not None and usage.input_tokens:
                told.hit_ratio = round((usage.cache_read_tokens or 0) / usage.input_tokens, 4)

    def _mark(self, call: Any, told: PromptCache) -> None:
        """Set the key of a request.

        Raises:
            Unreadable: why it has none.
        """
        place = OPENAI.get(call.codec.decode_request)
        if place is None:
            return
        wire = call.outgoing()
        if any(key.startswith("prompt_cache") for key in wire):
            raise Unreadable("callers_own")
        instructions, first = _opening(wire.get(place))
        begins = _json.dumps((wire.get("model"), wire.get("tools"), wire.get("instructions"), instructions))
        if len(begins) < MINIMUM_BYTES:
            told.missed = "below_minimum"
            return
        key, told.scaffold, reason = self._key_of(begins, first)
        told.marks = (f"prompt_cache_key {key}",)
        told.decision = "marked" if self._applies else "would_mark"
        if reason:
            tell(call, told, Decision(told.decision, reason))
        if self._applies:
            call.mark({**wire, "prompt_cache_key": key})

    def _key_of(self, begins: bytes, first: Any) -> tuple[str, str, str]:
        """Return the key of what a request begins with, its name, and why it is another than before.

        Conversations share keys that are used much.
        """
        now, digest, reason = self._clock(), hash(begins), ""
        with self._lock:
            scaffold = self._scaffolds.get(digest)
            if scaffold is None:
                scaffold, reason = _Scaffold(_digest(begins)), "first_use"
                self._scaffolds.put(digest, scaffold)
            times = scaffold.times
            times.append(now)
            while now - times[0] >= 60:
                times.popleft()
            while scaffold.shards * PER_MINUTE < len(times):
                scaffold.shards *= 2  # half of the conversations stay where they are
                reason = "busy"
            shards = scaffold.shards
        shard = int(_digest(_json.dumps(first)), 16) % shards if shards > 1 else 0
        return (f"{scaffold.name}-{shard}" if shard else scaffold.name), scaffold.name[:8], reason


def _opening(items: Any) -> tuple[list[Any], Any]:
    """Return the instructions that a conversation begins with, and the first item behind them."""
    if type(items) is not list:
        return [], items
    found: list[Any] = []
    for item in cast("list[Any]", items):
        if not (isinstance(item, Mapping) and cast("Mapping[str, Any]", item).get("role") in _INSTRUCTIONS):
            return found, item
        found.append(item)
    return found, None


def _digest(told: bytes) -> str:
    """Return sixteen digits that stand for bytes in every process."""
    return blake2b(told, digest_size=8).hexdigest()
