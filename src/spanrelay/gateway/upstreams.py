"""Whom requests are for: the first segment of a path names the upstream, or its shape does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from spanrelay.errors import ConfigurationError
from spanrelay.instrumentation.apis import BASES

_DEFAULTS = {name: base.url for name, base in BASES.items()}
_NAME = re.compile(r"(?!r$|v\d)[a-z][a-z0-9_-]*")
_GEMINI = re.compile(rb"^/(?:upload/)?v\d+(?:alpha|beta)\d*/|/(?:models|tunedModels)/[^/]+:[A-Za-z]+$")
_ANTHROPIC = re.compile(rb"/v1/messages(?:/|$)")


class Upstream(NamedTuple):
    """A server that answers.

    Attributes:
        name: What paths call it.
        root: Scheme, host and port of its base URL.
        path: The path of its base URL, without a slash at its end.
        host: Its host name.
        port: Its port, where the base URL names one.
    """

    name: str
    root: str
    path: str
    host: str
    port: int | None

    @property
    def base(self) -> str:
        """The base URL."""
        return self.root + self.path

    def url(self, below: str) -> str:
        """Return the address of `below`, a path beneath the base URL or one that repeats the end of the base URL's."""
        path = self.path
        at = 0
        while at >= 0:
            tail = path[at:]
            if tail and (below == tail or below.startswith(f"{tail}/")):
                return f"{self.root}{path[:at]}{below}"
            at = path.find("/", at + 1)
        return f"{self.root}{path}{below}"


class Upstreams:
    """The upstreams of a gateway.

    Args:
        given: Base URLs by name, as a provider's SDK takes them; those of `BASES` are there besides.

    Raises:
        ConfigurationError: a name or a URL is none.
    """

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        self._by_name = {name: _read(name, url) for name, url in {**_DEFAULTS, **(given or {})}.items()}

    def __iter__(self) -> Iterator[Upstream]:
        """All of them, the providers' own first."""
        return iter(self._by_name.values())

    def find(self, path: bytes, headers: Mapping[bytes, bytes]) -> tuple[Upstream, str]:
        """Return whom a request is for, and the path beneath the base URL."""
        first, slash, rest = path[1:].partition(b"/")
        named = self._by_name.get(first.decode("latin-1"))
        if named is not None:
            return named, f"/{rest.decode('latin-1')}" if slash else ""
        return self._by_name[_guessed(path, headers)], path.decode("latin-1")


def _guessed(path: bytes, headers: Mapping[bytes, bytes]) -> str:
    """Return the provider whose API a path is of; what several have, as `/v1/models`, is told by its headers."""
    if _ANTHROPIC.search(path) or b"anthropic-version" in headers:
        return "anthropic"
    return "gemini" if _GEMINI.search(path) or b"x-goog-api-key" in headers else "openai"


def _read(name: str, url: str) -> Upstream:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"upstream {name!r}: a name is lower-case letters, digits, '-' and '_', and neither 'r' nor a version"
        )
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.username is not None:
        raise ConfigurationError(f"upstream {name!r}: its URL has a user in it; clients send their own credentials")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or parts.query or parts.fragment:
        raise ConfigurationError(
            f"upstream {name!r}: {url!r} is not a base URL; expected one as the SDK takes it, {_DEFAULTS['openai']!r}"
        )
    return Upstream(name, f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/"), parts.hostname, port)
