"""Sends requests on: bytes, headers and status pass as they are, whatever they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from spanrelay import config
from spanrelay.gateway.limits import Limits
from spanrelay.gateway.upstreams import Upstream

Headers = list[tuple[bytes, bytes]]

_OF_ONE_CONNECTION = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Headers that speak of the connection that they came on, and not of what came (RFC 9110, 7.6.1)."""
_OURS = frozenset((b"host", b"expect", b"session.id", b"user.id", b"x-spanrelay-token"))
"""Headers of a request that are for the gateway."""
_SENT_AS_IS = frozenset(("accept", "accept-encoding", "content-type", "user-agent"))
"""Headers that the client library would add where a request has none."""


class Unreachable(Exception):
    """An upstream gave no answer.

    Attributes:
        status: 502, or 504 where it took too long.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = self.status_code = status


class Client:
    """Connections to upstreams; one for each event loop.

    Args:
        limits: How long upstreams may take.
        upstreams: Who will be asked; the environment names their proxies, as it does for the providers' SDKs.
    """

    def __init__(self, limits: Limits, upstreams: Iterable[Upstream]) -> None:
        # Asked of the client library, the environment is read on another thread for each request.
        self._proxies = {each.root: config.proxy_of(each.root) for each in upstreams}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # one upstream that hangs is to hold up no other
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=limits.connect_seconds, sock_read=limits.silence_seconds
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_SENT_AS_IS,
            max_line_size=1 << 16,
            max_field_size=1 << 16,
        )

    async def send(
        self, method: str, upstream: Upstream, path: str, query: bytes, headers: Iterable[tuple[str, str]], data: Any
    ) -> aiohttp.ClientResponse:
        """Send a request and return its answer, whose body is still to be read.

        Args:
            method: Of the request.
            upstream: Whom it is for.
            path: Beneath the base URL.
            query: As it came.
            headers: What `request_headers` left.
            data: Bytes, pieces of them, or None.

        Raises:
            Unreachable: there was no answer.
        """
        url = upstream.url(path) + (f"?{query.decode('latin-1')}" if query else "")
        try:
            return await self._session.request(
                method,
                URL(url, encoded=True),
                headers=CIMultiDict(headers),
                data=data,
                allow_redirects=False,
                proxy=self._proxies[upstream.root],
            )
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
            raise unreachable(error) from None  # its text may have the URL, whose query may have a key

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()


def unreachable(error: Exception) -> Unreachable:
    """Return what becomes of an error of the client library's."""
    late = isinstance(error, asyncio.TimeoutError)
    if isinstance(error, aiohttp.ClientResponseError):
        told = error.message  # its text has the URL
    else:
        told = type(error).__name__ if isinstance(error, ValueError) else str(error) or type(error).__name__
    return Unreachable(504 if late else 502, f"the upstream {'took too long' if late else 'gave no answer'}: {told}")


def request_headers(headers: Headers, *, remade: bool = False, counted: bool = False) -> list[tuple[str, str]]:
    """Return the headers to send on.

    Args:
        headers: Those that came.
        remade: Whether the body was made anew: what they say of the old one is left out.
        counted: Whether the body's length is known by them alone, since it is sent on as it comes.
    """
    dropped = _dropped(headers) | _OURS
    if not counted:
        dropped |= {b"content-length"}
    if remade:
        dropped |= {b"content-encoding", b"content-md5", b"digest", b"content-digest", b"repr-digest"}
    return [(name.decode("latin-1"), _text(value)) for name, value in headers if name not in dropped]


def _text(value: bytes) -> str:
    """Return a header's value such that the client library, which writes UTF-8, writes the same bytes."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def response_headers(response: aiohttp.ClientResponse) -> Headers:
    """Return the headers of an answer to pass on."""
    headers = [(name.lower(), value) for name, value in response.raw_headers]
    dropped = _dropped(headers)
    return [(name, value) for name, value in headers if name not in dropped]


def _dropped(headers: Headers) -> frozenset[bytes]:
    """Return which headers are of the connection: some always, and those that `connection` names."""
    named = [value for name, value in headers if name == b"connection"]
    if not named or named == [b"keep-alive"] or named == [b"close"]:
        return _OF_ONE_CONNECTION
    return _OF_ONE_CONNECTION.union(part.strip().lower() for value in named for part in value.split(b","))


def chunks_of(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Return the pieces of an answer's body as they come, and no faster than they are taken."""
    return response.content.iter_any()
