"""Recorded exchanges: what was asked, what the provider answered byte by byte, and the neutral truth of both."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from spanrelay_testkit.exchange import Answer, raw

NO_CONVERSATION = frozenset({"count_tokens", "embeddings", "images", "mcp", "rerank"})
"""The APIs whose calls are no step of a trajectory."""


@dataclass(frozen=True)
class Exchange:
    """One recorded HTTP exchange; `wire` is the whole record, whose format the folder's README explains."""

    wire: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The name of the exchange."""
        return self.wire["id"]

    @property
    def provider(self) -> str:
        """Who answered."""
        return self.wire["provider"]

    @property
    def api(self) -> str:
        """Which API was asked."""
        return self.wire["api"]

    @property
    def features(self) -> frozenset[str]:
        """What the exchange has, as `stream`, `tool_calls` and `cache_read`."""
        return frozenset(self.wire.get("features", ()))

    @property
    def truth(self) -> Mapping[str, Any]:
        """What the exchange says, read from its bodies alone."""
        return self.wire["truth"]

    @property
    def body(self) -> Any:
        """The request's JSON."""
        return self.wire["request"]["body"]

    @property
    def path(self) -> str:
        """The request's path, decoded, without its query."""
        return unquote(urlsplit(self.wire["request"]["path"]).path)

    @property
    def query(self) -> Mapping[str, str]:
        """The request's query."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.wire["request"]["path"]).query).items()}

    @property
    def streamed(self) -> bool:
        """Whether the answer was a stream."""
        return bool(self.truth["streamed"])

    @property
    def asks_for_stream(self) -> bool:
        """Whether a stream was asked for, which at Bedrock the path says: the answer may be an error all the same."""
        return self.streamed or self.path.endswith("-stream")

    @property
    def converses(self) -> bool:
        """Whether the call is a step of a trajectory."""
        return self.api not in NO_CONVERSATION

    @property
    def content(self) -> bytes:
        """The response's body as it went over the wire."""
        response = self.wire["response"]
        body = response["body"]
        if response.get("body_encoding") == "base64":
            return base64.b64decode(body)
        return (body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)).encode()

    @cached_property
    def answer(self) -> Answer:
        """What the provider answered, streams event by event."""
        response = self.wire["response"]
        headers = {name.lower(): value for name, value in response["headers"].items()}
        kind = headers.pop("content-type", "application/json")
        return raw(self.content, kind, response["status"], headers=headers, cuts=cuts_of(self.content, kind))


def cuts_of(content: bytes, kind: str) -> Sequence[int] | None:
    """Return where the frames or lines of a stream end; None for what the server takes apart, or does not."""
    if "amazon.eventstream" in kind:
        return [at for at in frame_ends(content) if at < len(content)]
    if "ndjson" in kind or "stream+json" in kind:
        return [found.end() for found in re.finditer(rb"\n", content) if found.end() < len(content)]
    return None


def frame_ends(content: bytes) -> Iterator[int]:
    """Yield where each frame of an AWS event stream ends; its first four bytes say how long it is."""
    at = 0
    while at + 4 <= len(content):
        at += max(struct.unpack_from(">I", content, at)[0], 4)
        yield at


def exchanges_in(folder: Path) -> list[Exchange]:
    """Return the exchanges of a folder's `*.jsonl` files, in the order of files and lines."""
    found: list[Exchange] = []
    for path in sorted(folder.glob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            found += [Exchange(json.loads(line)) for line in lines if line.strip()]
    return found


def runs_of(exchanges: Sequence[Exchange]) -> dict[str, list[Exchange]]:
    """Return the recorded runs of more than one exchange, by their group, each in the order it was recorded in."""

    def group(exchange: Exchange) -> str:
        return exchange.wire.get("group") or ""

    ordered = sorted(exchanges, key=lambda each: (group(each), each.wire.get("seq") or 0))
    runs = {name: list(members) for name, members in groupby(ordered, group) if name}
    return {name: members for name, members in runs.items() if len(members) > 1}
