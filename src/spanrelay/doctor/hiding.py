"""Takes out of what is told every value of this environment that may be a secret.

A value is a secret where its variable sounds like one, where it is in an address beside the host, or where it is
nothing that its variable could mean: people paste keys into the wrong line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from urllib.parse import parse_qsl, unquote, urlsplit

from opentelemetry.util._importlib_metadata import entry_points

from spanrelay import config
from spanrelay._masking import mask_text

HIDDEN = "(hidden)"

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CRED|AUTH|COOKIE|HEADERS|DSN|SIGNATURE|PRIVATE", re.IGNORECASE)
"""What names of variables have in them whose values nobody is to see."""

_PLACE = re.compile(r"(?:_DIR|_FILE|_CONFIG|_CERTIFICATE|_CLIENT_KEY|PATH|HOME)$")
"""How names of variables end whose values are files."""

_SHORTEST = 6
"""Characters below which a value is no secret: `none` and `true` would be hidden wherever they are."""

_LONGEST_SEGMENT = 15
"""Characters of a part of an address's path above which it may be a key."""

_NUMBER = re.compile(r"[0-9.]+\s*[a-zA-Z]{0,3}")

_HOST = re.compile(r"[A-Za-z0-9.-]+:[0-9]{1,5}")
"""A host with its port, as gRPC takes one."""

_WORDS = (
    "none",
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
    "jaeger_remote",
    "true",
    "false",
    "on",
    "off",
    "yes",
    "no",
    "all",
    "memory",
    "gzip",
    "deflate",
    "grpc",
    "http/protobuf",
    "http/json",
    "otlp",
    "console",
    "zipkin",
    "tracecontext",
    "baggage",
    "random",
    "cumulative",
    "delta",
    "lowmemory",
    "patch_all",
    "http",
    "http/dup",
    "database",
    "database/dup",
    "gen_ai_latest_experimental",
    "gen_ai_latest_experimental/dup",
    "*",
)
"""What OpenTelemetry's variables may hold beside names of what is installed."""

_GROUPS = ("traces_exporter", "metrics_exporter", "logs_exporter", "distro", "configurator", "instrumentor", "sampler")


class Hiding:
    """Returns a text without the secrets of an environment.

    Args:
        environment: The variables.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        meaningless = set(_meaningless(environment))
        # As `requests` is a word and a value too, only what has figures is hidden where it is not quoted.
        odd = {each for each in _long(meaningless) if any(letter.isdecimal() for letter in each)}
        self._anywhere = sorted({*_secrets(environment), *odd}, key=len, reverse=True)
        self._quoted = sorted(meaningless, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return `text` with `(hidden)` in the place of each secret."""
        for secret in self._anywhere:
            text = text.replace(secret, HIDDEN)
        for value in self._quoted:
            for shown in (repr(value), f'"{value}"'):
                text = text.replace(shown, HIDDEN)
        return mask_text(text)


def is_plain(name: str, value: str) -> bool:
    """Whether the value of a variable of ours or of OpenTelemetry's may be shown."""
    if _SECRET.search(name) and not _PLACE.search(name):
        return False
    if _PLACE.search(name):
        return True
    return all(_is_known(word) for word in re.split(r"[\s,;]+", value.strip()) if word)


def address(url: str) -> str:
    """Return an address as it may be shown: without user, password, query, and any part of its path that is long."""
    scheme, separator, rest = url.partition("?")[0].partition("#")[0].rpartition("://")
    host, *path = rest.rpartition("@")[2].split("/")
    kept = [part if len(part) <= _LONGEST_SEGMENT else "…" for part in path]
    return f"{scheme}{separator}{'/'.join([host, *kept])}"


def _secrets(environment: Mapping[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        if _SECRET.search(name) and not _PLACE.search(name):
            yield from _long(_parts(value))
        if "://" in value:
            yield from _long(_beside_hosts(value))


def _parts(value: str) -> Iterator[str]:
    """Yield a value, and each word of it that may be a key: `name=Bearer%20key,other=key`."""
    yield value
    for pair in value.split(","):
        given = pair.partition("=")[2] if "=" in pair else pair
        for form in (given.strip(), unquote(given).strip()):
            yield form
            yield form.rpartition(" ")[2]


def _beside_hosts(value: str) -> Iterator[str]:
    """Yield what addresses have in them that may be a key: user, password, query, and long parts of the path."""
    for word in value.split(","):
        try:
            parts = urlsplit(word.strip())
        except ValueError:
            continue
        for given in (parts.username, parts.password):
            if given:
                yield from (given, unquote(given))
        for name, given in parse_qsl(parts.query, keep_blank_values=True):
            yield from (given or name, given or name)
        yield from (part for part in parts.path.split("/") if len(part) > _LONGEST_SEGMENT)


def _long(values: Iterable[str]) -> Iterator[str]:
    return (value for value in values if len(value) >= _SHORTEST)


def _meaningless(environment: Mapping[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        if name.startswith(("OTEL_", "SPANRELAY_")) and value.strip() and not is_plain(name, value):
            for form in (value, value.strip(), *value.strip().split(",")):
                yield from (form, form.lower())


def _is_known(word: str) -> bool:
    if _NUMBER.fullmatch(word) or _HOST.fullmatch(word):
        return True
    if word.startswith(("http://", "https://")):
        return address(word) == word
    words = _vocabulary()
    # What is nearly a word is a slip that its owner is to see.
    return word.lower() in words or bool(get_close_matches(word.lower(), words, 1, 0.75))


@cache
def _vocabulary() -> frozenset[str]:
    found = set(_WORDS)
    for row in config.TABLE:
        found |= {word.strip(".,").lower() for word in row.choices.split()}
    for group in _GROUPS:
        for name in (f"opentelemetry_{group}", f"opentelemetry_traces_{group}"):
            found |= {entry.name.lower() for entry in entry_points(group=name)}
    return frozenset(found)
