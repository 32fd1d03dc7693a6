"""Redirects of a POST: which are followed, and which are refused because they would lose or leak what is sent.

A redirect never takes what is sent, nor the headers beside it, to another host or from https to http.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple, TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

T = TypeVar("T")

MOST = 5
"""Redirects of one request that are followed."""

_KEEPING = (HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT)
"""The two that keep method and body; after the others a client asks with GET and without the body."""


class Reply(NamedTuple):
    """The head of an answer: its status, and where it leads if it is a redirect. No status where there is none."""

    status: int | None
    location: str | None


class Route:
    """Sends to a URL and follows it where it leads; remembers what has moved for good as long as that works."""

    def __init__(self) -> None:
        self._moved: dict[str, str] = {}

    def send(self, url: str, request: Callable[[str], T], reply_of: Callable[[T], Reply]) -> tuple[T, str]:
        """Return the last answer and, where that is a redirect which is not followed, what it is, in words.

        Args:
            url: The address that is configured.
            request: Sends to the address it is given.
            reply_of: Reads the head of what `request` returns.
        """
        target, permanent, hops = self._moved.get(url, url), True, 0
        while True:
            answer = request(target)
            reply = reply_of(answer)
            if not _is_redirect(reply.status):
                self._remember(url, target, reply.status, permanent)
                return answer, ""
            step, refusal = _next(target, reply)
            if not refusal and hops == MOST:
                refusal = f"{shown(url)} redirects more than {MOST} times"
            if refusal:
                self._moved.pop(url, None)
                return answer, refusal
            permanent = permanent and reply.status == HTTPStatus.PERMANENT_REDIRECT
            target, hops = step, hops + 1

    def _remember(self, url: str, target: str, status: int | None, permanent: bool) -> None:
        if status is None or not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            self._moved.pop(url, None)
        elif permanent and target != url:
            self._moved[url] = target


def _is_redirect(status: int | None) -> bool:
    return status is not None and HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST


def _next(url: str, reply: Reply) -> tuple[str, str]:
    """Return where a redirect leads, and why it is not followed, in words; "" where it is."""
    answered = f"{shown(url)} answered {status_text(reply.status)}"
    if not reply.location:
        return "", answered
    try:
        here, there = urlsplit(url), urlsplit(urljoin(url, reply.location))
        step, host, scheme = _with_user(there, here), there.hostname, there.scheme
    except ValueError:
        return "", f"{answered}, a redirect to something that is not a URL"
    leads = f"{answered}, a redirect to {shown(step)}"
    if reply.status not in _KEEPING:
        return "", f"{leads}, which would lose what is sent; if that is the right address, set the endpoint to it"
    if host != here.hostname or scheme not in ("http", "https"):
        return "", f"{leads}, another host; if that is the right address, set the endpoint to it"
    if (here.scheme, scheme) == ("https", "http"):
        return "", f"{leads}, which is not encrypted"
    return step, ""


def _with_user(there: SplitResult, here: SplitResult) -> str:
    """Return an address with the user and password of another one: a server says where, never as whom."""
    user, at, _ = here.netloc.rpartition("@")
    return urlunsplit(there._replace(netloc=user + at + there.netloc.rpartition("@")[2]))


def status_text(status: int | None) -> str:
    """Return `302 Found`; the number alone where HTTP has no name for it."""
    try:
        return f"{status} {HTTPStatus(status or 0).phrase}"
    except ValueError:
        return str(status)


def shown(url: str) -> str:
    """Return a URL as it may be shown: without user and password, and without anything like `?key=`."""
    scheme, separator, address = url.partition("?")[0].rpartition("://")
    return scheme + separator + address.rpartition("@")[2]
